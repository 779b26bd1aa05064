//! Encoded events: the bytes of an event and the namespaces that it goes to.
//!
//! Owns the types that carry an event from its encoder to the logs. `encode` makes a [`Frame`].

use bytes::Bytes;

use crate::namespace::{Namespace, NamespaceRef};

/// The size in bytes from which logs and queues share the memory of a frame. Below it, copying the
/// frame costs less than an additional slice in each write.
pub(crate) const SHARE_FROM: usize = 4 << 10;

/// An encoded event and its target, made once for all subscribers.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The namespaces that the event is published to.
    pub target: Target,
    /// The bytes of the event on the wire.
    pub bytes: Bytes,
    /// Whether the application encoded the event. Then the bytes may be several events, and an ID
    /// may be in any line.
    pub encoded: bool,
}

/// The namespaces that an event is published to.
#[derive(Debug, Clone)]
pub enum Target {
    /// One namespace and its ancestors.
    One(Namespace),
    /// Several namespaces and their ancestors. Each subscriber gets the event once.
    Many(Vec<Namespace>),
    /// All namespaces: every subscriber gets the event.
    Everyone,
}

/// A borrowed [`Frame`].
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// The namespaces that the event is published to.
    pub target: TargetRef<'a>,
    /// The bytes of the event on the wire.
    pub bytes: BytesRef<'a>,
    /// Whether the application encoded the event, as in [`Frame::encoded`].
    pub encoded: bool,
}

/// A borrowed [`Target`].
#[derive(Debug, Clone, Copy)]
pub enum TargetRef<'a> {
    /// One namespace and its ancestors.
    One(NamespaceRef<'a>),
    /// Several namespaces and their ancestors. Each subscriber gets the event once.
    Many(&'a [Namespace]),
    /// All namespaces: every subscriber gets the event.
    Everyone,
}

/// Borrowed bytes of an event, which a log keeps by copying or by sharing.
#[derive(Debug, Clone, Copy)]
pub enum BytesRef<'a> {
    /// Part of a larger buffer; keeping it means copying it.
    Slice(&'a [u8]),
    /// Reference-counted bytes; keeping them means cloning the handle.
    Bytes(&'a Bytes),
}

impl std::ops::Deref for BytesRef<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Slice(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl BytesRef<'_> {
    /// Owned bytes. Only a slice is copied.
    pub fn to_bytes(self) -> Bytes {
        match self {
            Self::Slice(bytes) => Bytes::copy_from_slice(bytes),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Frame {
    /// Borrows the frame.
    pub fn by_ref(&self) -> FrameRef<'_> {
        FrameRef {
            target: self.target.by_ref(),
            bytes: BytesRef::Bytes(&self.bytes),
            encoded: self.encoded,
        }
    }
}

impl Target {
    /// Borrows the target.
    pub fn by_ref(&self) -> TargetRef<'_> {
        match self {
            Self::One(namespace) => TargetRef::One(namespace.by_ref()),
            Self::Many(namespaces) => TargetRef::Many(namespaces),
            Self::Everyone => TargetRef::Everyone,
        }
    }
}

impl TargetRef<'_> {
    /// An owned copy.
    pub fn to_target(self) -> Target {
        match self {
            Self::One(namespace) => Target::One(namespace.to_namespace()),
            Self::Many(namespaces) => Target::Many(namespaces.to_vec()),
            Self::Everyone => Target::Everyone,
        }
    }
}

impl FrameRef<'_> {
    /// Calls `each` with each event of the frame, which has several only if the application encoded
    /// them.
    pub fn for_each_event(&self, mut each: impl FnMut(BytesRef<'_>)) {
        if !self.encoded {
            return each(self.bytes);
        }
        let mut start = 0;
        while start < self.bytes.len() {
            let end = start + first_event_end(&self.bytes[start..]);
            match self.bytes {
                BytesRef::Slice(bytes) => each(BytesRef::Slice(&bytes[start..end])),
                BytesRef::Bytes(bytes) => each(BytesRef::Bytes(&bytes.slice(start..end))),
            }
            start = end;
        }
    }
}

/// The event's own ID: the value of its last `id` line; `None` if that is empty or missing.
pub(crate) fn own_id(event: &[u8]) -> Option<&str> {
    // An ID with a NUL is ignored (WHATWG HTML, section 9.2.6).
    let ids = ids(event).filter(|id| !id.contains(&0));
    let id = ids.last().and_then(|id| std::str::from_utf8(id).ok());
    id.filter(|id| !id.is_empty())
}

/// The values of all `id` lines.
pub(crate) fn ids(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event;
    let lines = std::iter::from_fn(move || {
        let (line, after) = (!rest.is_empty()).then(|| split_line(rest))?;
        rest = after;
        Some(line)
    });
    lines.filter_map(|line| match line.strip_prefix(b"id")? {
        [b':', b' ', value @ ..] | [b':', value @ ..] | value @ [] => Some(value),
        _ => None,
    })
}

/// The end of the first of several events, after the empty lines that follow it.
fn first_event_end(bytes: &[u8]) -> usize {
    let (mut rest, mut begun, mut ended) = (bytes, false, false);
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        match line {
            [] => ended = begun,
            _ if ended => break,
            _ => begun = true,
        }
        rest = after;
    }
    bytes.len() - rest.len()
}

/// The first line, without its line end, and the rest.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return (bytes, &[]);
    };
    let end = match bytes[at..] {
        [b'\r', b'\n', ..] => 2,
        _ => 1,
    };
    (&bytes[..at], &bytes[at + end..])
}
