//! HTTP/1.1 and 1.0 as bytes: reading a request's head and body, writing a response, and naming what a request asks
//! for.
//!
//! Owns the strictness: what is ambiguous between two implementations is refused here, so nothing behind this module
//! meets a request that a proxy may have read differently. Knows no socket, no clock and no engine; a test can be the
//! network.

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

/// How far a reader is: "not yet" is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// More bytes are needed.
    Incomplete,
    /// It is all there.
    Complete(T),
}

/// A refused request: the status, the message and at most one header of the error response.
///
/// If the request could not be read to its end, the connection ends with the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The HTTP status of the response.
    pub status: u16,
    /// What was wrong; the text of the response's `error`.
    pub message: String,
    /// What else the response has to say, such as `Allow` with 405.
    pub header: Option<(&'static str, Cow<'static, str>)>,
}

impl Reject {
    /// A refusal with this status and message.
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

    /// 404: nothing has this path.
    pub fn not_found() -> Self {
        Self::new(404, "unknown path")
    }

    /// 405: the path takes other methods, which `allow` lists.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(405, format!("this path takes {allow}")).with_header("Allow", allow)
    }

    /// Sets the header of the response.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}
