//! Client addresses from `Forwarded` ([RFC 7239, section 4]), `X-Forwarded-For` and `X-Real-IP`.
//!
//! Any client can send these headers ([section 8.1]), so they count only on connections from a
//! trusted proxy. Each proxy appends the address of its peer ([section 5.2]). The client is
//! therefore the right-most address that is not itself a trusted proxy.
//!
//! [RFC 7239, section 4]: https://www.rfc-editor.org/rfc/rfc7239#section-4
//! [section 5.2]: https://www.rfc-editor.org/rfc/rfc7239#section-5.2
//! [section 8.1]: https://www.rfc-editor.org/rfc/rfc7239#section-8.1

use core::net::{IpAddr, SocketAddr};

use crate::cidr::Cidr;
use crate::http::request::RequestHead;

/// The address of the client that sent a request on a connection from `peer`.
///
/// It is `peer` itself unless that is one of the `trusted` proxies. If `Forwarded` and
/// `X-Forwarded-For` disagree, it is `peer` too: a proxy writes one of them and passes the other on
/// unchanged, so either may come from the client.
pub(crate) fn client_address(head: &RequestHead, peer: IpAddr, trusted: &[Cidr]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let last_untrusted = |chain: Vec<Option<IpAddr>>| {
        let mut client = peer;
        for address in chain.into_iter().rev() {
            // The proxy that sent an unreadable address is unknown, so addresses before it do not
            // count.
            let Some(address) = address else { break };
            client = address;
            if !is_trusted(address) {
                break;
            }
        }
        client
    };
    let forwarded = joined(head, "forwarded").map(|text| {
        let elements = split_quoted(&text, ',');
        last_untrusted(elements.map(forwarded_for).collect())
    });
    let x_forwarded_for = joined(head, "x-forwarded-for")
        .map(|text| last_untrusted(text.split(',').map(address).collect()));
    match (forwarded, x_forwarded_for) {
        (Some(one), Some(other)) if one == other => one,
        (Some(_), Some(_)) => peer,
        (Some(client), None) | (None, Some(client)) => client,
        (None, None) => {
            joined(head, "x-real-ip").map_or(peer, |text| last_untrusted(vec![address(&text)]))
        }
    }
}

/// Whether a client speaks HTTPS to the trusted proxy that sent a request on a connection from
/// `peer`.
#[cfg(feature = "admin")]
pub(crate) fn is_https(head: &RequestHead, peer: IpAddr, trusted: &[Cidr]) -> bool {
    if !trusted.iter().any(|network| network.contains(peer)) {
        return false;
    }
    let last = |text: &String, parameter: fn(&str) -> Option<&str>| {
        let element = split_quoted(text, ',').last();
        element
            .and_then(parameter)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    };
    joined(head, "x-forwarded-proto")
        .is_some_and(|text| last(&text, |element| Some(element.trim())))
        || joined(head, "forwarded")
            .is_some_and(|text| last(&text, |element| parameter(element, "proto")))
}

/// The values of all headers of this name, as one list; `None` if there are none (RFC 9110, section
/// 5.3).
fn joined(head: &RequestHead, name: &str) -> Option<String> {
    let values: Vec<_> = head.values(name).map(String::from_utf8_lossy).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    address(parameter(element, "for")?)
}

/// A parameter of an element of `Forwarded`, without its quotes (RFC 7239, section 4).
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    split_quoted(element, ';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        let unquoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(unquoted.unwrap_or(value))
    })
}

/// Splits a text at the separators outside of quotes.
fn split_quoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// Parses an address with or without a port, and with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Progress;
    use crate::http::request::RequestReader;

    fn head(headers: &str) -> RequestHead {
        let mut reader = RequestReader::default();
        reader.push(format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes());
        match reader.head() {
            Ok(Progress::Complete(head)) => head,
            other => panic!("{headers:?}: {other:?}"),
        }
    }

    fn proxies() -> Vec<Cidr> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        for (peer, headers, expected) in [
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"),
            ("9.9.9.9", "X-Forwarded-For: 1.2.3.4\r\n", "9.9.9.9"),
            (
                "9.9.9.9",
                "Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n",
                "9.9.9.9",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.2\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n",
                "10.0.0.3",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 6.6.6.6, junk, 10.0.0.2\r\n",
                "10.0.0.2",
            ),
            ("10.0.0.1", "X-Forwarded-For: unknown\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.2.3.4:567\r\n", "1.2.3.4"),
            (
                "10.0.0.1",
                "X-Forwarded-For: 2001:db8::1\r\n",
                "2001:db8::1",
            ),
            (
                "fd00::1",
                "X-Forwarded-For: [2001:db8::1]:80\r\n",
                "2001:db8::1",
            ),
            (
                "::ffff:10.0.0.1",
                "X-Forwarded-For: ::ffff:1.2.3.4\r\n",
                "1.2.3.4",
            ),
            ("10.0.0.1", "X-Real-IP: 1.2.3.4\r\n", "1.2.3.4"),
            (
                "10.0.0.1",
                "X-Real-IP: 5.5.5.5\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "Forwarded: for=1.2.3.4;proto=https;by=10.0.0.1\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "Forwarded: For=\"[2001:db8::1]:4711\"\r\n",
                "2001:db8::1",
            ),
            (
                "10.0.0.1",
                "Forwarded: for=\"6.6.6.6, for=7.7.7.7\", for=1.2.3.4\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "Forwarded: for=6.6.6.6, for=_hidden\r\n",
                "10.0.0.1",
            ),
            (
                "10.0.0.1",
                "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "10.0.0.1",
            ),
        ] {
            let found = client_address(&head(headers), peer.parse().unwrap(), &proxies());
            assert_eq!(found.to_string(), expected, "{peer} {headers}");
        }
    }

    #[cfg(feature = "admin")]
    #[test]
    fn the_last_proxy_decides_what_is_https() {
        for (peer, headers, expected) in [
            ("10.0.0.1", "", false),
            ("10.0.0.1", "X-Forwarded-Proto: https\r\n", true),
            ("10.0.0.1", "X-Forwarded-Proto: https, http\r\n", false),
            ("9.9.9.9", "X-Forwarded-Proto: https\r\n", false),
            ("10.0.0.1", "Forwarded: for=1.2.3.4;proto=HTTPS\r\n", true),
            ("10.0.0.1", "Forwarded: for=1.2.3.4\r\n", false),
        ] {
            assert_eq!(
                is_https(&head(headers), peer.parse().unwrap(), &proxies()),
                expected,
                "{headers}"
            );
        }
    }
}
