//! HTTP/1.1 and 1.0 as bytes: request heads and bodies, routes, and responses.
//!
//! Owns the strictness. A request that two implementations could read differently is refused here,
//! so the rest of the server never sees a request that a proxy may have read in another way ([RFC
//! 9112, section 11.2]). Knows no socket, no clock and no engine, so a test can be the network.
//!
//! [RFC 9112, section 11.2]: https://www.rfc-editor.org/rfc/rfc9112#section-11.2

#[cfg(feature = "publish")]
pub(crate) mod access;
pub mod body;
#[cfg(feature = "publish")]
pub(crate) mod event_json;
pub(crate) mod header;
pub(crate) mod proxy;
pub mod request;
pub mod response;
pub mod route;

use std::borrow::Cow;

/// How far a reader has come. Incomplete input is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// The reader needs more bytes.
    Incomplete,
    /// The reader has read it all.
    Complete(T),
}

/// A refused request: the status, the message and at most one header of the error response.
///
/// If the server could not read the request to its end, the connection ends with the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The HTTP status of the response.
    pub status: u16,
    /// The problem, which the response has as `error`.
    pub message: String,
    /// A header of the response, for example `Allow` with 405.
    pub header: Option<(&'static str, Cow<'static, str>)>,
}

impl Reject {
    /// Creates a refusal with this status and message.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            header: None,
        }
    }

    /// 400: the request is malformed.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 404: the path is unknown.
    pub fn not_found() -> Self {
        Self::new(404, "unknown path")
    }

    /// 405: the path takes only the methods in `allow`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(405, format!("this path takes {allow}")).with_header("Allow", allow)
    }

    /// Sets the header of the response.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}
