//! HTTP/1.1 and 1.0 as bytes: reading a request's head and body, writing a response, and naming what a request asks
//! for.
//!
//! Owns the strictness: what is ambiguous between two implementations is refused here, so nothing behind this module
//! meets a request that a proxy may have read differently. Knows no socket, no clock and no engine; a test can be the
//! network.

#[cfg(feature = "publish")]
pub(crate) mod access;
pub(crate) mod app_response;
pub mod body;
#[cfg(feature = "publish")]
pub(crate) mod event_json;
pub(crate) mod header;
pub(crate) mod proxy;
pub mod request;
pub mod response;
pub mod route;

/// How far a reader is: "not yet" is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// More bytes are needed.
    Incomplete,
    /// It is all there.
    Complete(T),
}

/// Why a request is refused: a status, and the sentence for the error's body. The connection ends after it when the
/// request could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The HTTP status to answer with.
    pub status: u16,
    /// What was wrong, for people.
    pub message: String,
}

impl Reject {
    /// A refusal with this status and message.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400: the request is not what the protocol allows.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }
}
