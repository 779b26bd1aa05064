//! One accepted connection and its phases.
//!
//! There are two rules. A connection is in exactly one [`Phase`], which holds only what is valid in
//! it. A response, the head of a stream or a keepalive waits in [`Outgoing`] and is written in full
//! before any event.
//!
//! ```text
//! Request -> (Upload ->) Responding -> Request ...   a request, its body, its response, the next
//! Request -> Streaming                               an event stream, until its end
//! Request -> Watching                                the status, each second
//! any     -> Closing                                 the last bytes, then the end
//! ```

use core::net::SocketAddr;

use crate::cidr::masked;
use crate::http::request::RequestReader;
use crate::status::DisconnectReason;

use super::groups::Membership;
use super::telemetry::ClientInfo;
#[cfg(feature = "publish")]
use super::uploads::Upload;

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its number. Unlike its key, it is never used again.
    pub(super) id: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) phase: Phase,
    pub(super) outgoing: Outgoing,
    /// The socket has taken all bytes of the last write.
    pub(super) writable: bool,
    /// It is on a list of connections with bytes to write.
    pub(super) listed: bool,
    /// It was accepted beyond `max_connections`, and gets a response that says so.
    pub(super) surplus: bool,
    /// The client will send no more bytes.
    pub(super) half_closed: bool,
    /// It came to the listener that serves the status page and the metrics only.
    pub(super) for_admin: bool,
    pub(super) ended: Option<DisconnectReason>,
    /// When it was accepted, in milliseconds of the engine's time.
    pub(super) since_ms: u64,
    /// When it last took bytes other than events, or when its socket last became full of them, in
    /// milliseconds of the engine's time. For events, see
    /// [`SubscriberState`](super::fan_out::SubscriberState).
    pub(super) active_ms: u64,
    /// Bytes it took other than events.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Waiting for a request; its head must be complete `head_timeout` after `since_ms`.
    Request {
        reader: Box<RequestReader>,
        since_ms: u64,
    },
    /// Receiving the body of a publish request.
    #[cfg(feature = "publish")]
    Upload(Box<Upload>),
    /// Sending one response; pipelined bytes wait in the reader.
    Responding { reader: Box<RequestReader> },
    /// Receiving an event stream.
    Streaming(Box<Stream>),
    /// Receiving the status each second. Bytes after the request are ignored.
    #[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "never made"))]
    Watching { ignored: u32 },
    /// Sending the last bytes. A client that may still be sending then has until
    /// `linger_until_ms` to close: if the server closed first, the system would drop the response.
    Closing {
        reason: DisconnectReason,
        linger_until_ms: Option<u64>,
        discarded: u32,
    },
}

/// One event stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) membership: Membership,
    /// Bytes received after the request, which are ignored.
    pub(super) ignored: u32,
    pub(super) closing_notice: ClosingNotice,
    pub(super) client: ClientInfo,
}

/// The last bytes of a stream that the server ends.
#[derive(Debug, Default)]
pub(super) enum ClosingNotice {
    /// The stream continues.
    #[default]
    None,
    /// These bytes are written once no event is partly written.
    Pending(Box<[u8]>, DisconnectReason),
    /// The bytes are being written. No event follows them, and then the stream ends.
    Sent(DisconnectReason),
}

/// Bytes that are written before any event.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes written bytes. Returns how many of the written bytes came after these.
    pub(super) fn advance(&mut self, written: usize) -> usize {
        let own = written.min(self.rest().len());
        self.written += own;
        if self.written == self.bytes.len() {
            // A stream needs no such memory for most of its life, so it is freed.
            *self = Self::default();
        }
        written - own
    }
}

impl Connection {
    pub(super) fn new(id: u64, peer: Option<SocketAddr>, surplus: bool, now_ms: u64) -> Self {
        Self {
            id,
            peer,
            phase: Phase::Request {
                reader: Box::default(),
                since_ms: now_ms,
            },
            outgoing: Outgoing::default(),
            writable: true,
            listed: false,
            surplus,
            half_closed: false,
            for_admin: false,
            ended: None,
            since_ms: now_ms,
            active_ms: now_ms,
            bytes: 0,
        }
    }

    /// Takes the bytes that were received and not consumed, to put them into the next phase.
    pub(super) fn take_reader(&mut self) -> Box<RequestReader> {
        match &mut self.phase {
            Phase::Request { reader, .. } | Phase::Responding { reader } => std::mem::take(reader),
            #[cfg(feature = "publish")]
            Phase::Upload(upload) => std::mem::take(&mut upload.reader),
            _ => Box::default(),
        }
    }

    /// Bytes that were received after the head of the request and not consumed.
    pub(super) fn buffered_bytes(&self) -> usize {
        match &self.phase {
            Phase::Request { reader, .. } => reader.buffered().len(),
            _ => 0,
        }
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        match &self.phase {
            Phase::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        self.stream().map(|stream| stream.membership)
    }

    /// Whether it is a stream that may receive events. None follows a closing notice.
    pub(super) fn receives_events(&self) -> bool {
        let sent = |stream: &Stream| matches!(stream.closing_notice, ClosingNotice::Sent(_));
        self.stream().is_some_and(|stream| !sent(stream))
    }

    /// The client's address, without its last part and its port if `mask`.
    pub(super) fn shown_peer(&self, mask: bool) -> Option<SocketAddr> {
        self.peer.map(|peer| match mask {
            true => SocketAddr::new(masked(peer.ip()), 0),
            false => peer,
        })
    }

    /// Records how many bytes its socket took, and whether those were all.
    pub(super) fn record_taken(&mut self, bytes: usize, all: bool, now_ms: u64) {
        self.writable = all;
        self.active_ms = now_ms;
        let of_events = self.outgoing.advance(bytes);
        self.bytes += (bytes - of_events) as u64;
    }
}
