//! Responses: from a status, headers and a body to bytes.
//!
//! Owns how heads are written, and the CORS headers. Must not know what was asked: of a request it sees the method and
//! version, and nothing else of it gets into a head, save an `Origin` that the configuration lists word for word.

use crate::http::request::RequestHead;
use crate::json::json_string;

/// Headers as they are collected for a response.
pub type Headers = Vec<(&'static str, String)>;

/// The headers of every event stream; the configuration may override them.
const STREAM_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// What a request is answered with, when that is no event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Headers beside those for the body and the connection.
    pub headers: Headers,
    /// The body; empty with 204.
    pub body: Vec<u8>,
    /// Pages of the origins that may read streams may read this too.
    pub shared: bool,
}

impl Answer {
    /// An answer without a body.
    pub fn new(status: u16) -> Self {
        Self::text(status, "")
    }

    /// An answer in plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: Headers::new(),
            body: text.into(),
            shared: true,
        }
    }

    /// An answer in JSON, as given.
    pub fn json(status: u16, json: String) -> Self {
        Self {
            status,
            content_type: "application/json",
            headers: Headers::new(),
            body: json.into(),
            shared: true,
        }
    }

    /// An error, `{"error":"…"}`.
    pub fn error(status: u16, message: &str) -> Self {
        let mut body = String::from(r#"{"error":"#);
        json_string(message, &mut body);
        body.push('}');
        Self::json(status, body)
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            status: self.status,
            content_type: self.content_type,
            body: &self.body,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What a response is made of beside its headers.
pub(super) struct Parts<'a> {
    pub(super) status: u16,
    pub(super) content_type: &'a str,
    pub(super) body: &'a [u8],
}

/// A complete response to the request with this head: the answer's status and body with `headers`, which stand in for
/// the answer's own. The body of an answer to `HEAD` is only measured; 204 and 304 have neither body nor length.
pub fn response(
    answer: &Answer,
    headers: &[(&'static str, String)],
    keep_alive: bool,
    head: &RequestHead,
) -> Vec<u8> {
    encode(&answer.parts(), texts(headers), keep_alive, head)
}

/// As [`response`], whoever owns what it is made of.
pub(super) fn encode<'a>(
    parts: &Parts<'_>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    keep_alive: bool,
    head: &RequestHead,
) -> Vec<u8> {
    let connection = match keep_alive {
        false => Some("close"),
        // What is the rule in HTTP/1.1, an HTTP/1.0 peer that asked for it waits to be told.
        true => head.is_http_10().then_some("keep-alive"),
    };
    write_response(parts, headers, connection, head.method() == "HEAD")
}

/// A complete response to what is no request; the connection ends with it.
pub fn rejection(status: u16, message: &str) -> Vec<u8> {
    let answer = Answer::error(status, message);
    write_response(&answer.parts(), texts(&[]), Some("close"), false)
}

/// The head of an event stream, whose body ends with the connection.
///
/// Headers in `configured`, which the configuration has checked, extend the others or override them by name, in any
/// case. What they cannot do is hide that a response varies with its `Origin`.
pub fn stream_head(configured: &[(String, String)], cors: &[(&'static str, String)]) -> Vec<u8> {
    let is_configured = |name: &str| {
        configured
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let cors = cors.iter().map(|(name, value)| (*name, value.as_str()));
    let mut out = status_line(200);
    for (name, value) in STREAM_HEADERS.into_iter().chain(cors) {
        if name == "Vary" || !is_configured(name) {
            write_header(&mut out, name, value);
        }
    }
    for (name, value) in configured {
        write_header(&mut out, name, value);
    }
    write_header(&mut out, "Connection", "close");
    out.extend_from_slice(b"\r\n");
    out
}

/// The CORS headers for a request with this `Origin`. `allowed` lists origins word for word, or holds `*` for any; never
/// with credentials.
pub fn cors_headers(allowed: &[String], origin: Option<&str>) -> Headers {
    if allowed.iter().any(|allowed| allowed == "*") {
        return vec![("Access-Control-Allow-Origin", "*".into())];
    }
    // Also where the origin is not allowed or absent: a cache must not hand that response to one that is.
    let mut headers = vec![("Vary", "Origin".into())];
    if let Some(origin) = origin.filter(|origin| allowed.iter().any(|allowed| allowed == origin)) {
        headers.push(("Access-Control-Allow-Origin", origin.into()));
    }
    headers
}

/// What the answer to a preflight says beside [`cors_headers`].
pub fn preflight_headers() -> [(&'static str, String); 3] {
    [
        (
            "Access-Control-Allow-Methods",
            "GET, HEAD, POST, OPTIONS".into(),
        ),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Cache-Control, Content-Type, Last-Event-ID".into(),
        ),
        ("Access-Control-Max-Age", "86400".into()),
    ]
}

/// The words that go with a status; empty for one that has none here.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

fn write_response<'a>(
    parts: &Parts<'_>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    connection: Option<&str>,
    head_only: bool,
) -> Vec<u8> {
    let bodiless = matches!(parts.status, 204 | 304);
    let mut out = status_line(parts.status);
    if !bodiless {
        write_header(&mut out, "Content-Type", parts.content_type);
        write_header(&mut out, "Content-Length", &parts.body.len().to_string());
    }
    for (name, value) in headers {
        write_header(&mut out, name, value);
    }
    if let Some(connection) = connection {
        write_header(&mut out, "Connection", connection);
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless && !head_only {
        out.extend_from_slice(parts.body);
    }
    out
}

fn texts<'a>(headers: &'a [(&'static str, String)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str()))
}

fn status_line(status: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    out
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(
        !name.contains(['\r', '\n']) && !value.contains(['\r', '\n']),
        "headers are ours or were checked"
    );
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Progress;
    use crate::http::request::RequestReader;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn request(line: &str) -> RequestHead {
        let mut reader = RequestReader::default();
        reader.push(format!("{line}\r\nHost: h\r\n\r\n").as_bytes());
        match reader.head() {
            Ok(Progress::Complete(head)) => head,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn responses_are_whole() {
        let ok = Answer::json(200, "{}".into());
        for (line, answer, keep_alive, expected) in [
            (
                "GET / HTTP/1.1",
                &ok,
                true,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX: y\r\n\r\n{}",
            ),
            (
                "GET / HTTP/1.0",
                &ok,
                true,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX: y\r\n\
                 Connection: keep-alive\r\n\r\n{}",
            ),
            (
                "HEAD / HTTP/1.1",
                &ok,
                false,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX: y\r\n\
                 Connection: close\r\n\r\n",
            ),
            (
                "OPTIONS / HTTP/1.1",
                &Answer::new(204),
                true,
                "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1",
                &Answer::new(299),
                true,
                "HTTP/1.1 299 \r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\nX: y\r\n\r\n",
            ),
        ] {
            let bytes = response(answer, &[("X", "y".into())], keep_alive, &request(line));
            assert_eq!(text(bytes), expected);
        }
    }

    #[test]
    fn rejections_are_json_and_the_last_word() {
        assert_eq!(
            text(rejection(400, "no \"x\"")),
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\
             Connection: close\r\n\r\n{\"error\":\"no \\\"x\\\"\"}"
        );
    }

    #[test]
    fn stream_heads_take_configured_headers() {
        let any = cors_headers(&["*".to_owned()], None);
        assert_eq!(
            text(stream_head(&[], &any)),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
             Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n\
             Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
        );
        let configured = [
            ("cache-control", "no-store"),
            ("access-control-allow-origin", "x"),
            ("vary", "Cookie"),
            ("X", "1"),
            ("X", "2"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let listed = cors_headers(&["http://a".to_owned()], Some("http://a"));
        assert_eq!(
            text(stream_head(&configured, &listed)),
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
             X-Accel-Buffering: no\r\nVary: Origin\r\ncache-control: no-store\r\n\
             access-control-allow-origin: x\r\nvary: Cookie\r\nX: 1\r\nX: 2\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn only_listed_origins_are_echoed() {
        let any = ["*".to_owned()];
        let list = ["http://a".to_owned(), "http://b:1".to_owned()];
        let vary = || ("Vary", "Origin".to_owned());
        let allow = |origin: &str| ("Access-Control-Allow-Origin", origin.to_owned());
        for (allowed, origin, expected) in [
            (&any[..], None, vec![allow("*")]),
            (&any, Some("http://a"), vec![allow("*")]),
            (&list, None, vec![vary()]),
            (&list, Some("http://c"), vec![vary()]),
            (&list, Some("http://a:1"), vec![vary()]),
            (&list, Some("http://b:1"), vec![vary(), allow("http://b:1")]),
            (&[], Some("http://a"), vec![vary()]),
        ] {
            assert_eq!(cors_headers(allowed, origin), expected, "{origin:?}");
        }
    }
}
