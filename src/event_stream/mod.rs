//! The `text/event-stream` format of the WHATWG specification, in both directions.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frame;
