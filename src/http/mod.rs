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
