//! Encoded events: the bytes of each and where it is published.
//!
//! Owns the types that carry an event from its encoding to the logs. How a [`Frame`] is made is up to `encode`.

use bytes::Bytes;

use crate::namespace::{Namespace, NamespaceRef};

/// Bytes from which on logs and queues share a frame's memory: copying it would cost more than one
/// more slice in a write.
pub(crate) const SHARE_FROM: usize = 4 << 10;

/// One encoded event and where it goes: made once, shared by all.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where the event is published.
    pub target: Target,
    /// The whole event as it goes over the wire.
    pub bytes: Bytes,
    /// It is in the application's own wire form, so it may be several events, and have its id in any line.
    pub encoded: bool,
}

/// Where an event is published.
#[derive(Debug, Clone)]
pub enum Target {
    /// To one namespace and those above it.
    One(Namespace),
    /// To several namespaces and those above them, each subscriber once.
    Many(Vec<Namespace>),
    /// To every subscriber of every namespace.
    Everyone,
}

/// A [`Frame`] that is kept elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// Where the event is published.
    pub target: TargetRef<'a>,
    /// The whole event as it goes over the wire.
    pub bytes: BytesRef<'a>,
    /// As that of a [`Frame`].
    pub encoded: bool,
}

/// A [`Target`] that is kept elsewhere.
#[derive(Debug, Clone, Copy)]
pub enum TargetRef<'a> {
    /// To one namespace and those above it.
    One(NamespaceRef<'a>),
    /// To several namespaces and those above them, each subscriber once.
    Many(&'a [Namespace]),
    /// To every subscriber of every namespace.
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
    /// The same bytes, to keep.
    pub fn to_bytes(self) -> Bytes {
        match self {
            Self::Slice(bytes) => Bytes::copy_from_slice(bytes),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Frame {
    /// A borrowed view of it.
    pub fn by_ref(&self) -> FrameRef<'_> {
        FrameRef {
            target: self.target.by_ref(),
            bytes: BytesRef::Bytes(&self.bytes),
            encoded: self.encoded,
        }
    }
}

impl Target {
    /// A borrowed view of it.
    pub fn by_ref(&self) -> TargetRef<'_> {
        match self {
            Self::One(namespace) => TargetRef::One(namespace.by_ref()),
            Self::Many(namespaces) => TargetRef::Many(namespaces),
            Self::Everyone => TargetRef::Everyone,
        }
    }
}

impl TargetRef<'_> {
    /// The same, to keep.
    pub fn to_target(self) -> Target {
        match self {
            Self::One(namespace) => Target::One(namespace.to_namespace()),
            Self::Many(namespaces) => Target::Many(namespaces.to_vec()),
            Self::Everyone => Target::Everyone,
        }
    }
}

impl FrameRef<'_> {
    /// Calls `each` with every event that it is.
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

/// An event's own id: the value of its last `id` line, unless it is empty.
pub(crate) fn own_id(event: &[u8]) -> Option<&str> {
    let mut id = None;
    let mut rest = event;
    while !rest.is_empty() {
        let (line, behind) = split_line(rest);
        rest = behind;
        let Some([b':', b' ', value @ ..] | [b':', value @ ..] | value @ []) =
            line.strip_prefix(b"id")
        else {
            continue;
        };
        // The specification ignores an id with a NUL.
        if !value.contains(&0) {
            id = std::str::from_utf8(value).ok();
        }
    }
    id.filter(|id| !id.is_empty())
}

/// Where the first of some whole events ends, with the empty lines that follow it.
fn first_event_end(bytes: &[u8]) -> usize {
    let (mut rest, mut begun, mut ended) = (bytes, false, false);
    while !rest.is_empty() {
        let (line, behind) = split_line(rest);
        match line {
            [] => ended = begun,
            _ if ended => break,
            _ => begun = true,
        }
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// The first line, without its end, and what follows it.
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
