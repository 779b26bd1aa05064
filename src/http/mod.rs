//! HTTP/1.1 and 1.0 as bytes: reading a request's head and body, writing a response, and naming what a request asks
//! for.
//!
//! Owns the strictness: what is ambiguous between two implementations is refused here, so nothing behind this module
//! meets a request that a proxy may have read differently. Knows no socket, no clock and no engine; a test can be the
//! network.

pub mod body;
pub(crate) mod custom;
pub(crate) mod proxy;
#[cfg(feature = "publish")]
pub(crate) mod publish;
pub mod request;
pub mod response;
pub mod route;
