//! One accepted connection and the states it goes through.
//!
//! Two rules. A connection is in exactly one [`Phase`], and the phase holds what is valid in it and nothing else. And nothing is
//! written around [`Outgoing`]: a response, a stream's head or a keepalive waits there and goes out whole before any event.
//!
//! ```text
//! Request -> (Upload ->) Responding -> Request ...      a request, its body, its response, the next request
//! Request -> Streaming                                  an event stream, until the end
//! any     -> Closing                                    the last bytes go out, then it ends for the reason given
//! ```

use core::net::SocketAddr;

use crate::cidr::masked;
use crate::http::request::RequestReader;
use crate::status::DisconnectReason;

#[cfg(feature = "admin")]
use super::client_info::ClientInfo;
use super::groups::Membership;
#[cfg(feature = "publish")]
use super::upload::Upload;

#[derive(Debug)]
pub(super) struct Connection {
    /// Never used again, unlike its key.
    pub(super) id: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) phase: Phase,
    pub(super) outgoing: Outgoing,
    /// The socket takes bytes, as far as we know.
    pub(super) writable: bool,
    /// On one of the engine's lists of those with something to write.
    pub(super) listed: bool,
    /// Accepted beyond `max_connections`: it gets an answer that says so, and nothing else.
    pub(super) surplus: bool,
    /// The other side will send no more.
    pub(super) half_closed: bool,
    /// It came to the listener that serves nothing but the status page and its like.
    #[cfg(feature = "admin")]
    pub(super) for_admin: bool,
    pub(super) ended: Option<DisconnectReason>,
    /// When it was accepted, in milliseconds of the engine's time.
    pub(super) since_ms: u64,
    /// When it last took bytes other than events, or when its socket last became full of them. For events, see
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
    /// Receiving the status each second; bytes received after the request mean nothing.
    #[cfg(feature = "admin")]
    Watching { ignored: u32 },
    /// Sending the last bytes, then, where the other side may still be sending, waiting until `linger_until_ms` for it to
    /// close: closing at once would let the system throw the answer away.
    Closing {
        reason: DisconnectReason,
        linger: bool,
        linger_until_ms: Option<u64>,
        discarded: u32,
    },
}

/// One event stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) membership: Membership,
    /// Bytes received after the request, which mean nothing.
    pub(super) ignored: u32,
    pub(super) closing_notice: ClosingNotice,
    #[cfg(feature = "admin")]
    pub(super) client: ClientInfo,
}

/// How a stream that the server ends is brought to its end.
#[derive(Debug, Default)]
pub(super) enum ClosingNotice {
    /// It goes on.
    #[default]
    None,
    /// These bytes go out as soon as no event is in the way.
    Pending(Box<[u8]>, DisconnectReason),
    /// They are on their way, no event follows them, and then the stream ends.
    Sent(DisconnectReason),
}

/// Bytes that go out before any event.
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

    /// Counts off what was written, as far as it was of these bytes; returns how much was of what came after them.
    pub(super) fn advance(&mut self, written: usize) -> usize {
        let own = written.min(self.rest().len());
        self.written += own;
        if self.written == self.bytes.len() {
            // The memory goes too: a stream needs none for years.
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
            #[cfg(feature = "admin")]
            for_admin: false,
            ended: None,
            since_ms: now_ms,
            active_ms: now_ms,
            bytes: 0,
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

    /// Whether it is a stream that may still be given events: none follows a closing notice.
    pub(super) fn receives_events(&self) -> bool {
        let sent = |stream: &Stream| matches!(stream.closing_notice, ClosingNotice::Sent(_));
        self.stream().is_some_and(|stream| !sent(stream))
    }

    /// The client's address as it may be shown: without its last part and port if `mask`.
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
