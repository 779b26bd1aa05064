//! Where a command goes: a server's URL, and the namespaces in it.

use fanfare::Namespace;
use serde::Deserialize;
use ureq::http::uri::Authority;
use ureq::http::{HeaderValue, Uri};

use super::Failure;

/// The server that a command talks to.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// The server's URL
    #[arg(long, env = "FANFARE_URL", default_value = "http://127.0.0.1:8001")]
    pub(super) url: String,
    /// What to show it as `Authorization: Bearer TOKEN`
    #[arg(long, env = "FANFARE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

impl Target {
    /// The URL of an event stream: of these namespaces of the server, or the one that is given in full.
    pub(super) fn stream(&self, namespaces: &[String]) -> Result<String, Failure> {
        match namespaces {
            [url] if is_url(url) => Ok(url.clone()),
            [one] => self.at("subscribe", &namespace(one)?),
            several => {
                let mut url = self.at("subscribe", &Namespace::root())?;
                for (index, one) in several.iter().enumerate() {
                    url.push_str(if index == 0 { "?ns=" } else { "&ns=" });
                    url.push_str(&encode(namespace(one)?.as_str()));
                }
                Ok(url)
            }
        }
    }

    /// The URL of this endpoint for a namespace.
    pub(super) fn at(&self, endpoint: &str, namespace: &Namespace) -> Result<String, Failure> {
        parse_url(&self.url)?;
        let base = self.url.trim_end_matches('/');
        Ok(format!("{base}/{endpoint}{}", encode(namespace.as_str())))
    }

    /// The token, if there is one and a header can carry it.
    pub(super) fn token(&self) -> Result<Option<&str>, Failure> {
        match &self.token {
            Some(token) if HeaderValue::from_str(token).is_err() => Err(Failure::Usage(
                "the token has characters that no header can carry".into(),
            )),
            token => Ok(token.as_deref()),
        }
    }
}

pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

pub(super) fn namespace(text: &str) -> Result<Namespace, Failure> {
    if is_url(text) {
        return Err(Failure::Usage(format!(
            "`{text}` is a URL, which has to stand alone"
        )));
    }
    Namespace::parse(text).map_err(|error| Failure::Usage(format!("`{text}`: {error}")))
}

/// The URL, if it can be one of a server.
pub(super) fn parse_url(text: &str) -> Result<Uri, Failure> {
    let wrong = || Failure::Usage(format!("`{text}` is no URL such as http://127.0.0.1:8001"));
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    if !is_http || url.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    // A port that is none would otherwise be passed over for that of the scheme.
    let authority = url.authority().map_or("", Authority::as_str);
    if url.port().is_none() && !authority.ends_with(url.host().unwrap_or_default()) {
        return Err(wrong());
    }
    Ok(url)
}

/// What a refusal's body says: a fanfare server says it as JSON.
pub(super) fn refusal(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_str(body).map_or_else(|_| body.trim().into(), |refusal: Refusal| refusal.error)
}

/// Whether it is on this machine, where no proxy leads.
pub(super) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Percent-encodes a namespace, or a value of a query; slashes stay.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_urls() {
        let target = |url: &str| Target {
            url: url.into(),
            token: None,
        };
        for (url, namespaces, expected) in [
            ("http://a:1", &["/"][..], "http://a:1/subscribe/"),
            (
                "http://a:1/",
                &["pets/dogs"],
                "http://a:1/subscribe/pets/dogs",
            ),
            (
                "http://a/b/",
                &["/c d/é?"],
                "http://a/b/subscribe/c%20d/%C3%A9%3F",
            ),
            (
                "http://a",
                &["/b", "/c&d"],
                "http://a/subscribe/?ns=/b&ns=/c%26d",
            ),
            ("http://a", &["https://b/c?d"], "https://b/c?d"),
        ] {
            let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            assert_eq!(target(url).stream(&names).unwrap(), expected);
        }
        for namespaces in [&["/a/../b"][..], &["/a", "http://b/"], &["a\nb"]] {
            let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            assert!(matches!(
                target("http://a").stream(&names),
                Err(Failure::Usage(_))
            ));
        }
    }

    #[test]
    fn servers_have_urls() {
        for url in ["http://a", "https://a:1/b", "http://[::1]:80/"] {
            assert!(parse_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "a",
            "a:80",
            "/a",
            "ftp://a",
            "http://",
            "http://a b",
            "http://a:65536",
            "http://a:b",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }
}
