//! The format `text/event-stream` of the [WHATWG
//! specification](https://html.spec.whatwg.org/multipage/server-sent-events.html): encoding and
//! decoding.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frame;
