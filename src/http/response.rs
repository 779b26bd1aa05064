//! Responses: from a status, headers and a body to bytes.
//!
//! Owns the form of a response, how its head is written, and the CORS headers. Of a request it
//! reads the method, the version and `If-None-Match`; the only text of a request that gets into a
//! head is an `Origin` that the configuration lists.

use std::borrow::Cow;

use bytes::Bytes;

use crate::http::Reject;
use crate::http::header::check_header;
use crate::http::request::RequestHead;
use crate::json::json_string;

/// The CORS headers of a response, as [`cors_headers`] makes them.
pub type CorsHeaders = Vec<(&'static str, String)>;

/// The headers of every event stream; the configuration may override them.
const STREAM_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// A complete HTTP response, with which a [`route`](crate::Builder::route) hook answers a request.
///
/// The server adds `Content-Length` and `Connection`, and its CORS headers unless the response has
/// them. It leaves out the body for `HEAD` and for the statuses 204 and 304.
///
/// A response with the status 200 and an `ETag` becomes a 304 without a body for a `GET` or `HEAD`
/// request whose `If-None-Match` lists the tag ([RFC 9110, section 13.1.2]).
///
/// ```
/// use fanfare::{Response, Routing, Server};
///
/// let server = Server::builder()
///     .route(|head| match (head.method(), head.path()) {
///         ("GET" | "HEAD", "/") => Routing::Respond(
///             Response::new("text/html; charset=utf-8", "<!doctype html><title>Hello</title>")
///                 .header("Cache-Control", "no-cache")
///                 .header("ETag", "\"1\""),
///         ),
///         _ => Routing::Default,
///     })
///     .build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
///
/// [RFC 9110, section 13.1.2]: https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a response does nothing until a `route` hook returns it"]
pub struct Response {
    status: u16,
    content_type: Cow<'static, str>,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Bytes,
    /// Whether pages of the allowed origins may read it.
    cors: bool,
}

impl Response {
    /// Creates a response with the status 200 and a body of this media type.
    ///
    /// Clones share the body. While a connection sends the response, it holds a copy of its own.
    pub fn new(content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: content_type.into(),
            headers: Vec::new(),
            body: body.into(),
            cors: true,
        }
    }

    /// Sets the status, limited to the range from 200 to 599. With 204 and 304 the body is left
    /// out.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status.clamp(200, 599);
        self
    }

    /// Adds a header.
    ///
    /// If the name is not a token ([RFC 9110, section 5.6.2]), the value is not visible ASCII, or
    /// the server sets the header itself, the server answers 500 and names the header.
    ///
    /// [RFC 9110, section 5.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A response without a body.
    pub(crate) fn empty(status: u16) -> Self {
        Self::text(status, "")
    }

    /// A response in plain text.
    pub(crate) fn text(status: u16, text: &'static str) -> Self {
        Self::new("text/plain; charset=utf-8", text).status(status)
    }

    /// A response in JSON.
    pub(crate) fn json(status: u16, json: String) -> Self {
        Self::new("application/json", json).status(status)
    }

    /// An error, `{"error":"…"}`.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let mut body = String::from(r#"{"error":"#);
        json_string(message, &mut body);
        body.push('}');
        Self::json(status, body)
    }

    /// Keeps pages of other origins from reading the response.
    #[cfg(feature = "admin")]
    pub(crate) fn same_origin_only(mut self) -> Self {
        self.cors = false;
        self
    }

    /// The value of the first header of this name, in any case.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Checks the headers that the application set: returns the response, or a 500 that names a
    /// header which cannot be sent.
    pub(crate) fn checked(self) -> Self {
        match self.problem() {
            Some(problem) => Self::error(500, &format!("the application's {problem}")),
            None => self,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.value("content-type").is_some() {
            return Some("header `Content-Type` comes with the body and cannot be added".into());
        }
        let content_type = ("Content-Type", &*self.content_type);
        let mut headers = std::iter::once(content_type).chain(self.headers());
        headers.find_map(|(name, value)| {
            let problem = check_header(name, value).err()?;
            Some(format!("header `{}` {problem}", name.escape_debug()))
        })
    }

    /// The bytes that answer the request with this head.
    pub(crate) fn encode(
        &self,
        head: &RequestHead,
        cors: &CorsHeaders,
        keep_alive: bool,
    ) -> Vec<u8> {
        let connection = match keep_alive {
            false => Some("close"),
            // HTTP/1.1 connections persist by default; an HTTP/1.0 client waits for this
            // confirmation.
            true => head.is_http_10().then_some("keep-alive"),
        };
        let cors = cors
            .iter()
            .filter(|(name, _)| self.cors && (*name == "Vary" || self.value(name).is_none()))
            .map(|(name, value)| (*name, value.as_str()));
        if self.is_known_to(head) {
            // RFC 9110, section 15.4.5: a 304 describes no content.
            let own = self
                .headers()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("content-encoding"));
            return self.write(304, own.chain(cors), connection, true);
        }
        let is_head = head.method() == "HEAD";
        self.write(self.status, self.headers().chain(cors), connection, is_head)
    }

    /// Whether the client has this response already: `If-None-Match` lists its tag, compared
    /// weakly.
    fn is_known_to(&self, head: &RequestHead) -> bool {
        let is_conditional = self.status == 200 && matches!(head.method(), "GET" | "HEAD");
        let Some(tag) = self.value("etag").filter(|_| is_conditional) else {
            return false;
        };
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        head.values("if-none-match")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
    }

    fn write<'a>(
        &self,
        status: u16,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        connection: Option<&str>,
        head_only: bool,
    ) -> Vec<u8> {
        let has_body = !matches!(status, 204 | 304);
        let mut out = status_line(status);
        if has_body {
            write_header(&mut out, "Content-Type", &self.content_type);
            write_header(&mut out, "Content-Length", &self.body.len().to_string());
        }
        for (name, value) in headers {
            write_header(&mut out, name, value);
        }
        if let Some(connection) = connection {
            write_header(&mut out, "Connection", connection);
        }
        out.extend_from_slice(b"\r\n");
        if has_body && !head_only {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

impl From<Reject> for Response {
    fn from(reject: Reject) -> Self {
        let response = Self::error(reject.status, &reject.message);
        reject
            .header
            .into_iter()
            .fold(response, |response, (name, value)| {
                response.header(name, value)
            })
    }
}

/// The response to bytes that are not a request. The connection ends with it.
pub(crate) fn rejection(reject: Reject) -> Vec<u8> {
    let response = Response::from(reject);
    response.write(response.status, response.headers(), Some("close"), false)
}

/// The head of an event stream, whose body ends with the connection.
///
/// Headers in `configured`, which the configuration has checked, extend the others or override them
/// by name, in any case. They cannot remove `Vary: Origin`.
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

/// The CORS headers for a request with this `Origin` (WHATWG Fetch, section 3.3). `allowed` lists
/// origins, or holds `*` for any. Credentials are never allowed.
pub fn cors_headers(allowed: &[String], origin: Option<&str>) -> CorsHeaders {
    if allowed.iter().any(|allowed| allowed == "*") {
        return vec![("Access-Control-Allow-Origin", "*".into())];
    }
    // `Vary` is also needed if the origin is absent or not allowed: a cache must not serve that
    // response to an allowed origin.
    let mut headers = vec![("Vary", "Origin".into())];
    if let Some(origin) = origin.filter(|origin| allowed.iter().any(|allowed| allowed == origin)) {
        headers.push(("Access-Control-Allow-Origin", origin.into()));
    }
    headers
}

/// The response to a CORS preflight, to which the engine adds [`cors_headers`].
pub(crate) fn preflight() -> Response {
    Response::empty(204)
        .header("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
        .header(
            "Access-Control-Allow-Headers",
            "Authorization, Cache-Control, Content-Type, Last-Event-ID",
        )
        .header("Access-Control-Max-Age", "86400")
}

/// The reason phrase of a status; empty for a status that is not in this table.
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
        "the server's own headers have no line ends, and others were checked"
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
    fn responses_are_complete() {
        let ok = Response::json(200, "{}".into()).header("X", "y");
        for (line, response, keep_alive, expected) in [
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
                &Response::empty(204).header("X", "y"),
                true,
                "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1",
                &Response::empty(299).header("X", "y"),
                true,
                "HTTP/1.1 299 \r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\nX: y\r\n\r\n",
            ),
        ] {
            let bytes = response.encode(&request(line), &CorsHeaders::new(), keep_alive);
            assert_eq!(text(bytes), expected);
        }
    }

    #[test]
    fn a_known_entity_tag_is_answered_with_304() {
        let response = Response::new("text/css", "x")
            .header("Content-Encoding", "gzip")
            .header("ETag", "\"a\"");
        for (line, if_none_match, known) in [
            ("GET / HTTP/1.1", "\"a\"", true),
            ("HEAD / HTTP/1.1", "\"b\", W/\"a\"", true),
            ("GET / HTTP/1.1", "*", true),
            ("GET / HTTP/1.1", "\"b\"", false),
            ("GET / HTTP/1.1", "a", false),
            ("POST / HTTP/1.1", "\"a\"", false),
        ] {
            let head = request(&format!("{line}\r\nIf-None-Match: {if_none_match}"));
            let bytes = text(response.encode(&head, &CorsHeaders::new(), true));
            let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n";
            assert_eq!(bytes == unchanged, known, "{line} {if_none_match}");
        }
        let other = response.status(404).header("X", "y");
        let head = request("GET / HTTP/1.1\r\nIf-None-Match: *");
        let bytes = text(other.encode(&head, &CorsHeaders::new(), true));
        assert!(bytes.starts_with("HTTP/1.1 404"), "{bytes}");
    }

    #[test]
    fn rejections_are_json_and_end_the_connection() {
        assert_eq!(
            text(rejection(Reject::bad("no \"x\""))),
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
