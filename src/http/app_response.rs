//! Responses of the application's own, as its route hook gives them.
//!
//! Owns what they may say: how a body is framed and whether the connection goes on is not theirs to decide. Must not know how
//! they came about.

use std::borrow::Cow;

use bytes::Bytes;

use crate::http::header::check_header;
use crate::http::request::RequestHead;
use crate::http::response::{self, Answer, Headers, Parts};

/// A response of the application's own, which a [`route`](crate::Builder::route) hook answers a request with.
///
/// `Content-Length` and `Connection` are the server's to add, and its CORS headers where the response has none. The body of an answer to
/// `HEAD` is only measured. With an `ETag` among its headers, a response with status 200 becomes 304 without a body for a request
/// whose `If-None-Match` names it.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    content_type: Cow<'static, str>,
    headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Bytes,
}

impl Response {
    /// A response with status 200 and a body of this media type. Clones share the body; each connection that is sent it
    /// holds a copy until it has taken it.
    pub fn new(content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: content_type.into(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Sets the status, 200 to 599; with 204 and 304 the body is left out.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status.clamp(200, 599);
        self
    }

    /// Adds a header. One that may not be, as its value is no visible ASCII or as it is the server's to set, makes the response a 500
    /// that names it.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
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

    /// The bytes for the request with this head.
    pub(crate) fn encode(&self, head: &RequestHead, cors: &Headers, keep_alive: bool) -> Vec<u8> {
        if let Some(problem) = self.problem() {
            let answer = Answer::error(500, &format!("the application's {problem}"));
            return response::response(&answer, cors, keep_alive, head);
        }
        let unchanged = self.status == 200
            && matches!(head.method(), "GET" | "HEAD")
            && self.value("etag").is_some_and(|tag| is_known(head, tag));
        let cors = cors
            .iter()
            .filter(|(name, _)| *name == "Vary" || self.value(name).is_none())
            .map(|(name, value)| (*name, value.as_str()));
        let parts = Parts {
            status: if unchanged { 304 } else { self.status },
            content_type: &self.content_type,
            body: &self.body,
        };
        response::encode(&parts, self.headers().chain(cors), keep_alive, head)
    }
}

/// Whether the request says that it has what this tag stands for, compared weakly.
fn is_known(head: &RequestHead, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    head.values("if-none-match")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}
