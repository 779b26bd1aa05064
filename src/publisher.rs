//! Publishers: how an application sends events to a server, from any thread.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Event, EventError, EventLimits};
use crate::queue::buffer::EncodedEvent;
use crate::queue::{PushError, Queue, WaitPolicy};

/// Sends events to a server, from any thread. Clones share the server's queue.
///
/// ```
/// use fanfare::{Event, SendError, Server};
///
/// let server = Server::builder().queue(1).build()?;
/// let publisher = server.publisher();
/// publisher.send(Event::new("/pets/dogs", "Corgi").event("new-dog"))?;
///
/// // The server does not run yet, so the first event is still in the queue.
/// let second = publisher.try_send(Event::new("/pets/dogs", "Poodle"));
/// assert!(matches!(second, Err(SendError::Full(_))));
///
/// // An invalid event is refused by the call that sends it.
/// let invalid = publisher.send(Event::new("/pets/../dogs", "Corgi"));
/// assert!(matches!(invalid, Err(SendError::Refused(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # The queue
/// The queue holds up to [`queue`](crate::Config::queue) events (default 16,384) and
/// [`queue_bytes`](crate::Config::queue_bytes) bytes of encoded events (default 1 MiB). When it is
/// empty it accepts one event of any size that [`max_event`](crate::Config::max_event) permits.
/// Events can be sent before the server runs; they wait in the queue.
///
/// Under sustained load, [`Publisher::send`] and the other methods that wait block earlier: once
/// the queue holds what the event loop handles in about two milliseconds. So a publisher that sends
/// as fast as it can sees the same latency as any other. [`Publisher::try_send`] may use the whole
/// queue.
///
/// # Order
/// The server takes all events in one total order, and each subscriber receives its events in this
/// order. Events of one thread keep the order in which that thread sent them. The order of events
/// of different threads is unspecified, and so is which of several waiting threads continues first.
///
/// # What success means
/// `Ok` means that the event is valid and in the queue. It does not mean that a subscriber has
/// received it: the event goes to the subscribers that are connected when the event loop takes it.
/// [`Handle::shutdown`] delivers the events that are in the queue when it is called, as far as its
/// grace permits. A server that ends otherwise, for example by a panic in a hook, discards them.
///
/// Hooks run on the event loop's thread, which empties the queue. A hook must only use
/// [`Publisher::try_send`]: a method that waits for room could wait forever.
///
/// [`Handle::shutdown`]: crate::Handle::shutdown
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

/// The reason why an event was not sent.
///
/// ```
/// use fanfare::{Event, Publisher, SendError};
///
/// /// Sends an event and returns whether the server still takes events.
/// fn offer(publisher: &Publisher, event: Event) -> bool {
///     match publisher.try_send(event) {
///         Ok(()) => true,
///         Err(SendError::Full(event)) => {
///             eprintln!("the queue is full, discarding {event:?}");
///             true
///         }
///         Err(SendError::Closed(_)) => false,
///         Err(error) => {
///             eprintln!("{error}");
///             true
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The event is invalid. Sending it again fails again.
    Refused(EventError),
    /// The queue is full, or was full until the end of the timeout. Contains the event.
    Full(Box<Event>),
    /// The server has ended. Contains the event.
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

impl Error for SendError {
    /// Returns the source of the [`EventError`], whose text this error displays as its own.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(error) => error.source(),
            Self::Full(_) | Self::Closed(_) => None,
        }
    }
}

impl Publisher {
    pub(crate) fn new(queue: Arc<Queue>, limits: EventLimits) -> Self {
        Self { queue, limits }
    }

    /// Sends an event. Blocks while the queue is full.
    ///
    /// In a [hook](crate::Builder#hooks) it does not block, since only the thread that runs the hook
    /// can make room.
    ///
    /// # Errors
    /// [`SendError::Refused`] if the event is invalid, [`SendError::Closed`] if the server has
    /// ended, and in a hook [`SendError::Full`] if the queue is full.
    pub fn send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, WaitPolicy::Forever)
    }

    /// Sends an event if the queue has room for it now.
    ///
    /// The event is checked and encoded first, so a call that fails on a full queue is not free.
    ///
    /// # Errors
    /// [`SendError::Full`] if the queue is full; otherwise as [`Publisher::send`].
    pub fn try_send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, WaitPolicy::DontWait)
    }

    /// Sends an event. Blocks while the queue is full, for `timeout` at most.
    ///
    /// # Errors
    /// [`SendError::Full`] if the queue is still full after `timeout`; otherwise as
    /// [`Publisher::send`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a sender's deadline is checked on its own thread"
    )]
    pub fn send_timeout(&self, event: Event, timeout: Duration) -> Result<(), SendError> {
        let policy = Instant::now()
            .checked_add(timeout)
            .map_or(WaitPolicy::Forever, WaitPolicy::Until);
        self.enqueue(event, policy)
    }

    /// Sends an event to every subscriber of every namespace: short for [`Publisher::send`] with
    /// [`Event::to_all`].
    ///
    /// # Errors
    /// As [`Publisher::send`].
    pub fn broadcast(&self, event: Event) -> Result<(), SendError> {
        self.send(event.to_all())
    }

    fn enqueue(&self, event: Event, policy: WaitPolicy) -> Result<(), SendError> {
        let pushed = with_scratch(|scratch| {
            let encoded = EncodedEvent::new(&event, &self.limits, scratch);
            let encoded = encoded.map_err(SendError::Refused)?;
            Ok(self.queue.push(encoded, policy))
        })?;
        pushed.map_err(|error| match error {
            PushError::Full => SendError::Full(Box::new(event)),
            PushError::Closed => SendError::Closed(Box::new(event)),
        })
    }
}

thread_local! {
    /// The buffer in which this thread encodes small events, so that the queue copies each in one
    /// piece.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

/// Calls a function with the thread's scratch buffer, which keeps its memory.
fn with_scratch<T>(encode_and_push: impl FnOnce(&mut String) -> T) -> T {
    // A thread that is ending may have destroyed its buffer; the event then gets a new one.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let result = encode_and_push(&mut scratch);
    let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    result
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
        let closed = Err(SendError::Closed(Box::new(event().to_all())));
        assert_eq!(publisher.broadcast(event()), closed);
    }

    #[test]
    fn the_scratch_buffer_survives_events_that_are_not_sent() {
        let capacity = || {
            let scratch = SCRATCH.take();
            let capacity = scratch.capacity();
            SCRATCH.set(scratch);
            capacity
        };
        let (queue, reader) = channel(1, 10_000);
        let publisher = Publisher::new(queue, EventLimits::default());
        let event = || Event::new("/", "x".repeat(1000));
        publisher.try_send(event()).unwrap();
        let before = capacity();
        assert!(before >= 1000);
        assert!(matches!(
            publisher.try_send(event()),
            Err(SendError::Full(_))
        ));
        assert_eq!(capacity(), before);
        assert!(matches!(
            publisher.try_send(event().id("\n")),
            Err(SendError::Refused(_))
        ));
        assert_eq!(capacity(), before);
        drop(reader);
        assert!(matches!(
            publisher.try_send(event()),
            Err(SendError::Closed(_))
        ));
        assert_eq!(capacity(), before);
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
