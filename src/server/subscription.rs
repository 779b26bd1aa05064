//! Subscriptions: how an application receives the events of a server in the same process.
//!
//! A [`Subscription`] reads from a [`Pipe`]. The engine writes the same bytes to the pipe as to a
//! socket, and treats a full pipe as a full socket.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::ConnId;
use crate::event_stream::decode::{Decoded, Decoder, StreamEvent};
use crate::status::DisconnectReason;

use super::command::{Command, Control};
use super::pipe::{Pipe, PipeBytes};

/// Receives the events of some namespaces in the server's process.
/// [`Handle::subscribe`](crate::Handle::subscribe) creates it.
///
/// It is an iterator that blocks until the next event, and ends when the server ends the
/// subscription; [`Subscription::reason`] then returns the reason. Dropping the subscription also
/// ends it.
///
/// ```
/// use std::time::Duration;
/// use fanfare::{DisconnectReason, Event, Namespace, Server};
///
/// let server = Server::new().spawn("127.0.0.1:0")?;
/// let mut pets = server.handle().subscribe(&[Namespace::parse("/pets")?])?;
/// server.publisher().send(Event::new("/pets/dogs", "Corgi").event("new-dog"))?;
///
/// let event = pets.recv().expect("the server runs");
/// assert_eq!((&*event.event_type, &*event.data), ("new-dog", "Corgi"));
///
/// server.handle().shutdown(Duration::ZERO);
/// assert_eq!(pets.recv(), None);
/// assert_eq!(pets.reason(), Some(DisconnectReason::Shutdown));
/// server.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
/// A subscription counts as a connection, and the same limits apply to it as to any event stream.
/// Its buffer holds [`send_buffer`](crate::Config::send_buffer) bytes (64 KiB if that is 0). The
/// server ends the subscription
///
/// - with [`DisconnectReason::Lagged`] when more than [`max_lag`](crate::Config::max_lag) bytes of
///   events wait outside the buffer,
/// - with [`DisconnectReason::Stalled`] when the full buffer is not read for
///   [`write_timeout`](crate::Config::write_timeout).
///
/// Events that are in the buffer can still be received.
#[derive(Debug)]
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    pipe: Arc<Pipe>,
    control: Control,
    conn: ConnId,
    id: u64,
    decoder: Decoder,
    /// Decoded events that have not been received.
    decoded: VecDeque<StreamEvent>,
    /// Whether the decoder has failed.
    failed: bool,
}

/// The reason why [`Subscription::recv_timeout`] returned without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No event arrived before the end of the timeout.
    Timeout,
    /// The subscription has ended for this reason, and all its events have been received.
    Ended(DisconnectReason),
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no event arrived before the end of the timeout"),
            Self::Ended(reason) => write!(f, "the subscription has ended: {reason}"),
        }
    }
}

impl Error for RecvTimeoutError {}

/// The reason why [`Subscription::try_recv`] returned without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// No further event has arrived yet.
    Empty,
    /// The subscription has ended for this reason, and all its events have been received.
    Ended(DisconnectReason),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no event has arrived"),
            Self::Ended(reason) => write!(f, "the subscription has ended: {reason}"),
        }
    }
}

impl Error for TryRecvError {}

impl Subscription {
    pub(super) fn new(
        pipe: Arc<Pipe>,
        control: Control,
        conn: ConnId,
        id: u64,
        max_frame_bytes: usize,
    ) -> Self {
        let decoder = Decoder::with_limit(max_frame_bytes);
        Self {
            pipe,
            control,
            conn,
            id,
            decoder,
            decoded: VecDeque::new(),
            failed: false,
        }
    }

    /// Returns the connection ID, for [`Handle::disconnect`](crate::Handle::disconnect).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the next event. Returns `None` when the subscription has ended.
    pub fn recv(&mut self) -> Option<StreamEvent> {
        self.next_event(|pipe| pipe.read(None)).ok().flatten()
    }

    /// Waits for the next event, for `timeout` at most.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if none arrives in time, [`RecvTimeoutError::Ended`] if the
    /// subscription has ended.
    #[expect(
        clippy::disallowed_methods,
        reason = "a reader's deadline is checked on its own thread"
    )]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<StreamEvent, RecvTimeoutError> {
        let deadline = Instant::now().checked_add(timeout);
        self.next_event(|pipe| pipe.read(deadline))
            .map_err(RecvTimeoutError::Ended)?
            .ok_or(RecvTimeoutError::Timeout)
    }

    /// Returns the next event if it has arrived.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if it has not arrived, [`TryRecvError::Ended`] if the subscription
    /// has ended.
    pub fn try_recv(&mut self) -> Result<StreamEvent, TryRecvError> {
        self.next_event(Pipe::try_read)
            .map_err(TryRecvError::Ended)?
            .ok_or(TryRecvError::Empty)
    }

    /// Returns why the server ended the subscription; `None` while it runs.
    ///
    /// Events that arrived before the end can still be received.
    pub fn reason(&self) -> Option<DisconnectReason> {
        let failed = self.failed.then_some(DisconnectReason::Protocol);
        failed.or_else(|| self.pipe.reason())
    }

    /// Reads until an event is complete. `None` if a read returns nothing.
    fn next_event(
        &mut self,
        read: impl Fn(&Pipe) -> Result<Option<PipeBytes>, DisconnectReason>,
    ) -> Result<Option<StreamEvent>, DisconnectReason> {
        loop {
            if let Some(event) = self.decoded.pop_front() {
                return Ok(Some(event));
            }
            if self.failed {
                return Err(DisconnectReason::Protocol);
            }
            let Some(chunk) = read(&self.pipe)? else {
                return Ok(None);
            };
            if chunk.was_full {
                self.control.send(Command::PipeEmptied(self.conn));
            }
            let decoded = &mut self.decoded;
            let result = self.decoder.push(&chunk.bytes, &mut |item| {
                if let Decoded::Event(event) = item {
                    decoded.push_back(event);
                }
            });
            // Only bytes that an application encoded itself can exceed the limit of an event.
            self.failed = result.is_err();
        }
    }
}

impl Iterator for Subscription {
    type Item = StreamEvent;

    fn next(&mut self) -> Option<StreamEvent> {
        self.recv()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.control.send(Command::Unsubscribe(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::queue;

    const MAX_EVENT: usize = 20;

    fn subscription(capacity: usize) -> (Subscription, crossbeam_channel::Receiver<Command>) {
        let (sender, _) = queue::channel(1, 1);
        let (control, commands) = Control::new(sender);
        let pipe = Arc::new(Pipe::new(capacity));
        (
            Subscription::new(pipe, control, ConnId::from_index(7), 1, MAX_EVENT),
            commands,
        )
    }

    fn write(subscription: &Subscription, bytes: &str) -> usize {
        subscription.pipe.write(&[IoSlice::new(bytes.as_bytes())])
    }

    #[test]
    fn try_recv_returns_events_that_have_arrived() {
        let (mut subscription, _commands) = subscription(100);
        assert_eq!(subscription.try_recv(), Err(TryRecvError::Empty));
        write(&subscription, ":\n\ndata:1\n\ndata:2\n\ndata:");
        assert_eq!(subscription.try_recv().unwrap().data, "1");
        assert_eq!(subscription.try_recv().unwrap().data, "2");
        assert_eq!(subscription.try_recv(), Err(TryRecvError::Empty));
        write(&subscription, "3\n\n");
        subscription.pipe.end(DisconnectReason::Lagged);
        assert_eq!(subscription.try_recv().unwrap().data, "3");
        let ended = TryRecvError::Ended(DisconnectReason::Lagged);
        assert_eq!(subscription.try_recv(), Err(ended));
    }

    #[test]
    fn the_event_loop_is_notified_when_a_full_pipe_was_emptied() {
        let (mut subscription, commands) = subscription(8);
        assert_eq!(write(&subscription, "data:1\n\n"), 8);
        assert_eq!(subscription.try_recv().unwrap().data, "1");
        assert!(commands.is_empty());
        assert_eq!(write(&subscription, "data:2\n\ndata:3\n\n"), 8);
        assert_eq!(subscription.try_recv().unwrap().data, "2");
        let emptied = commands.try_recv();
        assert!(matches!(emptied, Ok(Command::PipeEmptied(conn)) if conn.index() == 7));
        drop(subscription);
        assert!(matches!(commands.try_recv(), Ok(Command::Unsubscribe(1))));
    }

    #[test]
    fn an_event_over_the_limit_ends_the_subscription_after_those_before_it() {
        let (mut subscription, _commands) = subscription(100);
        let large = format!("data:1\n\ndata:{}\n\n", "x".repeat(2 * MAX_EVENT));
        write(&subscription, &large);
        assert_eq!(subscription.reason(), None);
        assert_eq!(subscription.recv().unwrap().data, "1");
        for _ in 0..2 {
            assert_eq!(subscription.recv(), None);
            assert_eq!(subscription.reason(), Some(DisconnectReason::Protocol));
        }
    }
}
