//! Publishers: an application's way to send events to a server, from any thread.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, EventError, EventLimits};
use crate::event_stream::frame::Frame;
use crate::queue::buffer::EncodedEvent;
use crate::queue::{PushError, Queue, WaitPolicy};

/// Hands events to a server, from any thread; clones share the server's queue.
///
/// The queue holds [`queue`](crate::Config::queue) events and [`queue_bytes`](crate::Config::queue_bytes) bytes, and always has room
/// for one event. While the event loop has as much to do as it can, those who wait for room wait until what is queued lasts
/// it no longer than some milliseconds, so that an event is as fast from a publisher that sends all it can as from any other. An event that may not be is refused by the call that sends it; every event that was accepted is
/// delivered to the subscribers connected when the event loop takes it, in the one order in which it takes them all.
#[derive(Clone)]
pub struct Publisher {
    queue: Arc<Queue>,
    limits: EventLimits,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("queued", &self.queue.events())
            .finish_non_exhaustive()
    }
}

/// Why an event was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// It may not be; nothing but another event will help.
    Refused(EventError),
    /// The queue is full, and still was after the time given. The event comes back.
    Full(Box<Event>),
    /// The server has ended. The event comes back.
    Closed(Box<Event>),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Full(_) => f.write_str("the publish queue is full"),
            Self::Closed(_) => f.write_str("the server has ended"),
        }
    }
}

impl std::error::Error for SendError {}

impl Publisher {
    pub(crate) fn new(queue: Arc<Queue>, limits: EventLimits) -> Self {
        Self { queue, limits }
    }

    /// Sends an event, and waits while the queue is full.
    ///
    /// # Errors
    /// [`SendError::Refused`] or [`SendError::Closed`].
    pub fn send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, EncodedEvent::new, WaitPolicy::Forever)
    }

    /// Sends an event if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] gives the event back; or as [`Publisher::send`].
    pub fn try_send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, EncodedEvent::new, WaitPolicy::DontWait)
    }

    /// Sends an event, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::try_send`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher measures its waiting time on its own thread"
    )]
    pub fn send_timeout(&self, event: Event, timeout: Duration) -> Result<(), SendError> {
        let policy = Instant::now()
            .checked_add(timeout)
            .map_or(WaitPolicy::Forever, WaitPolicy::Until);
        self.enqueue(event, EncodedEvent::new, policy)
    }

    /// Sends an event to every subscriber of every namespace, whatever its own namespace; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Publisher::send`].
    pub fn broadcast(&self, event: Event) -> Result<(), SendError> {
        let encode: Encode =
            |event, limits, _| Frame::broadcast(event, limits).map(EncodedEvent::Frame);
        self.enqueue(event, encode, WaitPolicy::Forever)
    }

    fn enqueue(&self, event: Event, encode: Encode, policy: WaitPolicy) -> Result<(), SendError> {
        // A thread that is ending has no memory of its own any more.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let encoded = encode(&event, &self.limits, &mut scratch).map_err(SendError::Refused)?;
        let pushed = self.queue.push(encoded, policy);
        let _ = SCRATCH.try_with(|it| it.set(scratch));
        pushed.map_err(|error| match error {
            PushError::Full => SendError::Full(Box::new(event)),
            PushError::Closed => SendError::Closed(Box::new(event)),
        })
    }
}

/// Encodes an event, with memory to encode it in.
type Encode =
    for<'s> fn(&Event, &EventLimits, &'s mut String) -> Result<EncodedEvent<'s>, EventError>;

thread_local! {
    /// Where a thread encodes its small events, so that each is copied under the lock in one go.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::channel;

    #[test]
    fn full_and_closed_queues_return_the_event() {
        let (queue, reader) = channel(1, 100);
        let publisher = Publisher::new(queue, EventLimits::default());
        let event = || Event::new("/", "x");
        assert_eq!(publisher.try_send(event()), Ok(()));
        let full = Err(SendError::Full(Box::new(event())));
        assert_eq!(publisher.try_send(event()), full);
        assert_eq!(
            publisher.send_timeout(event(), Duration::from_millis(1)),
            full
        );
        drop(reader);
        let closed = Err(SendError::Closed(Box::new(event())));
        assert_eq!(publisher.send(event()), closed);
        assert_eq!(publisher.broadcast(event()), closed);
    }

    #[test]
    fn invalid_events_are_refused_by_the_call_that_sends_them() {
        let (queue, reader) = channel(1, 1);
        let publisher = Publisher::new(queue, EventLimits::default());
        assert!(matches!(
            publisher.send(Event::new("/../x", "")),
            Err(SendError::Refused(EventError::Namespace(_)))
        ));
        assert!(matches!(
            publisher.broadcast(Event::new("/", "").event("a\n")),
            Err(SendError::Refused(_))
        ));
        assert_eq!(reader.len(), 0);
    }
}
