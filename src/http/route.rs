//! Routes: what a request asks for, by its method, path and query.
//!
//! Owns the table of paths, percent decoding, and the checks of a request's origin and host. It
//! must not know access rules, nor how a route is answered.

use crate::http::Reject;
use crate::http::request::{RequestHead, decimal, split_authority};
use crate::loopback::is_loopback_host;
use crate::namespace::{Namespace, NamespaceLimits, Namespaces};

/// The limit of namespaces that a request may name for one stream.
pub const MAX_STREAM_NAMESPACES: usize = 128;

/// The endpoint that a request is for, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// An event stream, or with `HEAD` its head.
    Subscribe {
        /// The namespaces that path and query name.
        namespaces: Namespaces,
    },
    /// Publishing the event or events in the body.
    Publish {
        /// The namespace in the path; without one, the body names it.
        namespace: Option<Namespace>,
        /// The fields of the event in the query.
        query: PublishQuery,
    },
    /// Whether the event loop runs.
    Healthz,
    /// Whether the server accepts new subscribers.
    Readyz,
}

/// The start of a stream that its request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// With the next event.
    Live,
    /// After the event with this ID.
    After(String),
    /// With all retained events.
    All,
    /// With this number of the last retained events.
    Last(u64),
}

/// The fields of an event in a query. An empty field, as in `?event=&id=7`, counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishQuery {
    /// The event type.
    pub event: Option<String>,
    /// The ID.
    pub id: Option<String>,
    /// The reconnection time in milliseconds.
    pub retry: Option<u64>,
    /// Whether the event goes to every subscriber of every namespace.
    pub broadcast: bool,
}

/// The route of a request. The engine answers `OPTIONS` before routing.
///
/// The first segment is matched without percent-decoding, so that a proxy that guards `/publish`
/// sees the same word.
///
/// # Errors
/// 404 for an unknown path, then 405 for a wrong method, then 400 for an invalid path or query.
pub fn route(head: &RequestHead, limits: &NamespaceLimits) -> Result<Route, Reject> {
    let path = head.path();
    if let Some(rest) = under(path, "/subscribe") {
        allow(head, &["GET", "HEAD"], "GET, HEAD, OPTIONS")?;
        let namespaces = stream_namespaces(rest, head.query(), limits)?;
        return Ok(Route::Subscribe { namespaces });
    }
    if let Some(rest) = under(path, "/publish") {
        allow(head, &["POST"], "POST, OPTIONS")?;
        let namespace = path_namespace(rest, limits)?;
        let query = publish_query(head.query())?;
        return Ok(Route::Publish { namespace, query });
    }
    let route = match path {
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        _ => return Err(Reject::not_found()),
    };
    allow(head, &["GET", "HEAD"], "GET, HEAD, OPTIONS")?;
    Ok(route)
}

/// The start of the stream that a request asks for.
///
/// The header `Last-Event-ID` wins over `lastEventId` in the query, and both over `replay`: a
/// browser repeats the URL with each reconnect, so the header is newer.
///
/// # Errors
/// 400 for an invalid `replay` or a malformed query.
pub fn replay(head: &RequestHead) -> Result<Replay, Reject> {
    let id = head.values("last-event-id").next().unwrap_or_default();
    if !id.is_empty() {
        return Ok(Replay::After(String::from_utf8_lossy(id).into_owned()));
    }
    let mut replay = Replay::Live;
    for pair in query_pairs(head.query()) {
        let (key, value) = pair?;
        match key.as_str() {
            "lastEventId" if !value.is_empty() => {
                return Ok(Replay::After(decode_form(value)?));
            }
            "replay" => replay = replay_of(&decode_form(value)?)?,
            _ => {}
        }
    }
    Ok(replay)
}

fn replay_of(value: &str) -> Result<Replay, Reject> {
    match value {
        "" => Ok(Replay::Live),
        "all" => Ok(Replay::All),
        count => decimal(count.as_bytes())
            .map(Replay::Last)
            .ok_or_else(|| Reject::bad("replay must be `all` or a number of events")),
    }
}

/// The fields of a query. Keys are decoded and values are not, so that the values of unknown keys
/// need not be valid.
pub fn query_pairs(query: &str) -> impl Iterator<Item = Result<(String, &str), Reject>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(key)?, value))
        })
}

/// Percent-decodes a key or value of a query, where `+` is a space (WHATWG URL, section 5.1).
///
/// # Errors
/// 400 as for [`decode_path`].
pub fn decode_form(text: &str) -> Result<String, Reject> {
    decode(text, true)
}

/// Percent-decodes a part of a path, where `+` is a plus ([RFC 3986, section 2.1]).
///
/// # Errors
/// 400 for a `%` without two hexadecimal digits, and for text that is not UTF-8.
///
/// [RFC 3986, section 2.1]: https://www.rfc-editor.org/rfc/rfc3986#section-2.1
pub fn decode_path(text: &str) -> Result<String, Reject> {
    decode(text, false)
}

/// Whether a browser sent a request on behalf of another site: `Origin` differs from `Host`, or
/// `Sec-Fetch-Site` is `cross-site`. Other clients send neither header.
pub fn is_foreign(head: &RequestHead) -> bool {
    let cross_site = head
        .values("sec-fetch-site")
        .any(|site| site.eq_ignore_ascii_case(b"cross-site"));
    cross_site
        || head
            .values("origin")
            .any(|origin| !is_own_origin(origin, head.host()))
}

/// Whether the host of a request is a loopback name or address.
///
/// This stops DNS rebinding: a page whose own name resolves to a loopback address still sends that
/// name as `Host`.
pub fn host_is_loopback(head: &RequestHead) -> bool {
    let authority = head.host().and_then(split_authority);
    authority.is_some_and(|(host, _)| is_loopback_host(host))
}

/// The rest of `path` after the endpoint `at`; `None` if `at` is not a prefix in whole segments.
fn under<'a>(path: &'a str, at: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(at)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn allow(head: &RequestHead, methods: &[&str], allow: &'static str) -> Result<(), Reject> {
    if methods.contains(&head.method()) {
        Ok(())
    } else {
        Err(Reject::method_not_allowed(allow))
    }
}

/// The namespaces in the path and the query; the root if there is none.
fn stream_namespaces(
    rest: &str,
    query: &str,
    limits: &NamespaceLimits,
) -> Result<Namespaces, Reject> {
    let mut namespaces = Vec::from_iter(path_namespace(rest, limits)?);
    for pair in query_pairs(query) {
        let (key, value) = pair?;
        if key != "ns" {
            continue;
        }
        if namespaces.len() == MAX_STREAM_NAMESPACES {
            return Err(Reject::bad(format!(
                "stream exceeds the maximum of {MAX_STREAM_NAMESPACES} namespaces"
            )));
        }
        namespaces.push(namespace(&decode_form(value)?, limits)?);
    }
    Ok(Namespaces::new(namespaces).unwrap_or_else(|| Namespace::root().into()))
}

/// The namespace in the rest of a path; `None` if the rest is empty or `/`.
fn path_namespace(rest: &str, limits: &NamespaceLimits) -> Result<Option<Namespace>, Reject> {
    match rest {
        "" | "/" => Ok(None),
        rest => namespace(&decode_path(rest)?, limits).map(Some),
    }
}

fn namespace(path: &str, limits: &NamespaceLimits) -> Result<Namespace, Reject> {
    Namespace::parse_within(path, limits).map_err(|error| Reject::bad(error.to_string()))
}

fn publish_query(text: &str) -> Result<PublishQuery, Reject> {
    let mut query = PublishQuery::default();
    for pair in query_pairs(text) {
        let (key, value) = pair?;
        if !matches!(key.as_str(), "event" | "id" | "retry" | "broadcast") {
            continue;
        }
        let value = Some(decode_form(value)?).filter(|value| !value.is_empty());
        match key.as_str() {
            "event" => query.event = value,
            "id" => query.id = value,
            "retry" => query.retry = value.map(|value| milliseconds(&value)).transpose()?,
            _ => query.broadcast = flag(value.as_deref())?,
        }
    }
    Ok(query)
}

fn milliseconds(value: &str) -> Result<u64, Reject> {
    decimal(value.as_bytes()).ok_or_else(|| Reject::bad("retry must be a number of milliseconds"))
}

fn flag(value: Option<&str>) -> Result<bool, Reject> {
    match value {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(Reject::bad("broadcast must be 0 or 1")),
    }
}

fn decode(text: &str, plus_is_space: bool) -> Result<String, Reject> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (hex_digit(bytes.next()), hex_digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(Reject::bad(
                        "malformed percent escape: `%` must be followed by two hexadecimal digits",
                    ));
                };
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| Reject::bad("percent-decoded text must be UTF-8"))
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?).to_digit(16).map(|digit| digit as u8)
}

/// Whether an `Origin` names `host`, in which a missing port is the default port of the origin's
/// scheme. The scheme itself is not compared, since a proxy may terminate TLS.
fn is_own_origin(origin: &[u8], host: Option<&str>) -> bool {
    let split = || {
        let (scheme, authority) = std::str::from_utf8(origin).ok()?.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let (origin, origin_port) = split_authority(authority)?;
        let (host, host_port) = split_authority(host?)?;
        let same_port = origin_port.unwrap_or(default_port) == host_port.unwrap_or(default_port);
        Some(same_port && origin.eq_ignore_ascii_case(host))
    };
    split().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Progress;
    use crate::http::request::RequestReader;

    fn head(text: &str) -> RequestHead {
        let mut reader = RequestReader::default();
        reader.push(text.as_bytes());
        match reader.head() {
            Ok(Progress::Complete(head)) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn ask(line: &str) -> Result<Route, Reject> {
        let head = head(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        route(&head, &NamespaceLimits::default())
    }

    fn status(line: &str) -> u16 {
        ask(line).map_or_else(|reject| reject.status, |_| 200)
    }

    #[test]
    fn streams_have_the_namespaces_of_path_and_query() {
        for (target, expected) in [
            ("/subscribe", &["/"][..]),
            ("/subscribe/", &["/"]),
            ("/subscribe/pets/dogs", &["/pets/dogs"]),
            ("/subscribe/pets/?x=1", &["/pets"]),
            ("/subscribe//pets//dogs", &["/pets/dogs"]),
            ("/subscribe/a%2fb%2Fc", &["/a/b/c"]),
            ("/subscribe/a+b%20c%2Bd", &["/a+b c+d"]),
            ("/subscribe/%C3%BC/ü", &["/ü/ü"]),
            ("/subscribe/a%2541", &["/a%41"]),
            ("/subscribe?ns=/a&ns=%2Fb", &["/a", "/b"]),
            ("/subscribe/?ns=a+b%2Bc", &["/a b+c"]),
            ("/subscribe?%6es=a&&x=%zz", &["/a"]),
            ("/subscribe/c?ns=/a", &["/a", "/c"]),
            ("/subscribe?ns=/a/b&ns=/a", &["/a"]),
            ("/subscribe?ns=", &["/"]),
            ("/subscribe/a?ns", &["/"]),
            ("http://h/subscribe/a", &["/a"]),
        ] {
            for method in ["GET", "HEAD"] {
                let namespaces = match ask(&format!("{method} {target}")) {
                    Ok(Route::Subscribe { namespaces }) => namespaces,
                    other => panic!("{target}: {other:?}"),
                };
                let names: Vec<_> = namespaces
                    .as_slice()
                    .iter()
                    .map(Namespace::as_str)
                    .collect();
                assert_eq!(names, expected, "{target}");
            }
        }
    }

    #[test]
    fn publishing_has_a_namespace_and_a_query() {
        let root = Some("/");
        let none = PublishQuery::default();
        let some = |event: &str, id: &str, retry, broadcast| PublishQuery {
            event: Some(event.into()),
            id: Some(id.into()),
            retry: Some(retry),
            broadcast,
        };
        for (target, namespace, expected) in [
            ("/publish", None, none.clone()),
            ("/publish/", None, none.clone()),
            ("/publish/a/b", Some("/a/b"), none.clone()),
            ("/publish//", root, none.clone()),
            ("/publish/%2F", root, none.clone()),
            (
                "/publish/a?event=&id=&retry=&broadcast=",
                Some("/a"),
                none.clone(),
            ),
            ("/publish?other=%zz&broadcast=0", None, none),
            (
                "/publish?event=a+b%0a&id=%2B&retry=0100&broadcast=1",
                None,
                some("a b\n", "+", 100, true),
            ),
            (
                "/publish?event=x&event=y&id=1&retry=18446744073709551615",
                None,
                some("y", "1", u64::MAX, false),
            ),
        ] {
            let namespace = namespace.map(|path| Namespace::parse(path).unwrap());
            let expected = Route::Publish {
                namespace,
                query: expected,
            };
            assert_eq!(ask(&format!("POST {target}")), Ok(expected), "{target}");
        }
    }

    #[test]
    fn paths_come_before_methods_and_methods_before_the_rest() {
        let with = |count| format!("GET /subscribe/x?{}", "ns=a&".repeat(count));
        for (line, expected) in [
            ("GET /healthz", 200),
            ("HEAD /readyz?x", 200),
            ("GET /", 404),
            ("GET /healthz/", 404),
            ("GET /subscribers", 404),
            ("GET /Subscribe", 404),
            ("GET //subscribe", 404),
            ("GET /%73ubscribe", 404),
            ("GET /subscribe%2Fa", 404),
            ("POST /publishers", 404),
            ("OPTIONS *", 404),
            ("POST /healthz", 405),
            ("POST /subscribe/..", 405),
            ("get /subscribe", 405),
            ("PUT /publish/a", 405),
            ("GET /subscribe/%", 400),
            ("GET /subscribe/%4", 400),
            ("GET /subscribe/%+4", 400),
            ("GET /subscribe/%zz", 400),
            ("GET /subscribe/%ff", 400),
            ("GET /subscribe/%00", 400),
            ("GET /subscribe/a/../b", 400),
            ("GET /subscribe/%2e%2e/b", 400),
            ("GET /subscribe?ns=%ff", 400),
            ("GET /subscribe?%zz=a", 400),
            (&with(MAX_STREAM_NAMESPACES - 1), 200),
            (&with(MAX_STREAM_NAMESPACES), 400),
            ("POST /publish?retry=-1", 400),
            ("POST /publish?retry=1s", 400),
            ("POST /publish?retry=18446744073709551616", 400),
            ("POST /publish?event=%ff", 400),
            ("POST /publish?broadcast=false", 400),
        ] {
            assert_eq!(status(line), expected, "{line}");
        }
        for (line, allow) in [
            ("DELETE /subscribe", Some("GET, HEAD, OPTIONS")),
            ("POST /readyz", Some("GET, HEAD, OPTIONS")),
            ("GET /publish", Some("POST, OPTIONS")),
            ("GET /", None),
        ] {
            let expected = allow.map(|allow| ("Allow", allow.into()));
            assert_eq!(ask(line).unwrap_err().header, expected, "{line}");
        }
    }

    #[test]
    fn configured_limits_apply() {
        let limits = NamespaceLimits {
            segments: 1,
            ..NamespaceLimits::default()
        };
        let head = head("GET /subscribe/a%2Fb HTTP/1.0\r\n\r\n");
        let error = Reject::bad("namespace exceeds the maximum of 1 segments");
        assert_eq!(route(&head, &limits), Err(error));
    }

    #[test]
    fn requests_of_other_sites_are_recognized() {
        for (headers, foreign) in [
            ("Host: h:1", false),
            ("Host: h:1\r\nOrigin: http://h:1", false),
            ("Host: H:1\r\nOrigin: https://h:1", false),
            ("Host: h\r\nOrigin: http://h", false),
            ("Host: h:443\r\nOrigin: https://h", false),
            ("Host: [::1]:1\r\nOrigin: http://[::1]:1", false),
            ("Host: h:1\r\nSec-Fetch-Site: same-origin", false),
            ("Host: h:1\r\nSec-Fetch-Site: none", false),
            ("Host: h:1\r\nOrigin: http://h", true),
            ("Host: h:1\r\nOrigin: http://h:2", true),
            ("Host: h\r\nOrigin: http://x.h", true),
            ("Host: h\r\nOrigin: null", true),
            ("Host: h\r\nOrigin:", true),
            ("Host: h\r\nOrigin: ftp://h", true),
            ("Host: h\r\nOrigin: h", true),
            ("Host: h\r\nOrigin: http://h/x", true),
            ("Host: h\r\nOrigin: http://h\r\nOrigin: http://x", true),
            (
                "Host: h\r\nOrigin: http://h\r\nSec-Fetch-Site: cross-site",
                true,
            ),
        ] {
            let head = head(&format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n"));
            assert_eq!(is_foreign(&head), foreign, "{headers:?}");
        }
        assert!(is_foreign(&head(
            "POST / HTTP/1.0\r\nOrigin: http://h\r\n\r\n"
        )));
    }

    #[test]
    fn an_origin_that_is_not_utf8_is_foreign() {
        let mut reader = RequestReader::default();
        reader.push(b"POST / HTTP/1.0\r\nHost: h\r\nOrigin: http://h\xff\r\n\r\n");
        let Ok(Progress::Complete(head)) = reader.head() else {
            panic!("a head");
        };
        assert!(is_foreign(&head));
    }

    #[test]
    fn loopback_hosts_are_recognized() {
        for (host, loopback) in [
            ("localhost", true),
            ("LOCALHOST:8001", true),
            ("localhost.", true),
            ("a.localhost:1", true),
            ("127.0.0.1", true),
            ("127.9.9.9:1", true),
            ("[::1]", true),
            ("[::1]:8001", true),
            ("[::ffff:127.0.0.1]", true),
            ("[::2]", false),
            ("128.0.0.1", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("0.0.0.0", false),
        ] {
            let head = head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(host_is_loopback(&head), loopback, "{host}");
        }
        assert!(!host_is_loopback(&head("GET / HTTP/1.0\r\n\r\n")));
        let absolute = "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(!host_is_loopback(&head(absolute)));
    }
}
