//! The way in: publishers on any thread, and the queue between them and the event loop.
//!
//! The queue is bounded in events by its channel and in bytes by a count beside it. A publisher wakes the event loop only
//! when it sleeps: a flag that the loop sets before its last look at the queue, not a system call per event.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use crate::event::{Event, EventError};
use crate::event_stream::encode::{EventLimits, Frame};

/// Hands events to a server, from any thread; clones share the server's queue.
///
/// The queue holds [`queue`](crate::Config::queue) events and [`queue_bytes`](crate::Config::queue_bytes) bytes, and always has room
/// for one event. An event that may not be is refused by the call that sends it; every event that was accepted is
/// delivered to the subscribers connected when the event loop takes it, in the one order in which it takes them all.
#[derive(Clone)]
pub struct Publisher {
    sender: Sender<Frame>,
    shared: Arc<Shared>,
    limits: EventLimits,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("queued", &self.sender.len())
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

/// How long a publisher waits for room.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Publisher {
    /// Sends an event, and waits while the queue is full.
    ///
    /// # Errors
    /// [`SendError::Refused`] or [`SendError::Closed`].
    pub fn send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, Frame::new, Patience::Endless)
    }

    /// Sends an event if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] gives the event back; or as [`Publisher::send`].
    pub fn try_send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, Frame::new, Patience::None)
    }

    /// Sends an event, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::try_send`].
    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher's patience is measured on its own thread"
    )]
    pub fn send_timeout(&self, event: Event, timeout: Duration) -> Result<(), SendError> {
        let patience = Instant::now()
            .checked_add(timeout)
            .map_or(Patience::Endless, Patience::Until);
        self.enqueue(event, Frame::new, patience)
    }

    /// Sends an event to every subscriber of every namespace, whatever its own namespace; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Publisher::send`].
    pub fn broadcast(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, Frame::broadcast, Patience::Endless)
    }

    fn enqueue(
        &self,
        event: Event,
        encode: fn(&Event, &EventLimits) -> Result<Frame, EventError>,
        patience: Patience,
    ) -> Result<(), SendError> {
        let frame = encode(&event, &self.limits).map_err(SendError::Refused)?;
        let bytes = frame.bytes.len();
        if !self.shared.reserve(bytes, patience) {
            let event = Box::new(event);
            return Err(if self.shared.closed.load(Ordering::Acquire) {
                SendError::Closed(event)
            } else {
                SendError::Full(event)
            });
        }
        let sent = match patience {
            Patience::None => self
                .sender
                .try_send(frame)
                .map_err(|error| matches!(error, TrySendError::Full(_))),
            Patience::Until(at) => self
                .sender
                .send_deadline(frame, at)
                .map_err(|error| matches!(error, SendTimeoutError::Timeout(_))),
            Patience::Endless => self.sender.send(frame).map_err(|_| false),
        };
        sent.map_err(|full| {
            self.shared.release(bytes);
            if full {
                SendError::Full(Box::new(event))
            } else {
                SendError::Closed(Box::new(event))
            }
        })?;
        self.shared.wake();
        Ok(())
    }
}

/// What publishers, handles and the event loop share.
pub(crate) struct Shared {
    /// Bytes of events in the queue, or about to be.
    bytes: AtomicUsize,
    most_bytes: usize,
    /// Publishers wait for bytes to be released and were not yet told of any.
    waiting: AtomicBool,
    lock: Mutex<()>,
    released: Condvar,
    /// The event loop sleeps or is about to.
    asleep: AtomicBool,
    closed: AtomicBool,
    waker: OnceLock<mio::Waker>,
}

impl Shared {
    /// Wakes the event loop if it sleeps.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `prepare_to_sleep`: either the loop sees what was sent, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.waker.get()
        {
            // A waker that fails has lost its event loop, and with it everyone who would listen.
            let _ = waker.wake();
        }
    }

    pub(crate) fn set_waker(&self, waker: mio::Waker) {
        // Set once: a server runs once.
        let _ = self.waker.set(waker);
    }

    fn has_room(&self, bytes: usize) -> bool {
        let admit =
            |used: usize| (used == 0 || used + bytes <= self.most_bytes).then_some(used + bytes);
        self.bytes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, admit)
            .is_ok()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher's patience is measured on its own thread"
    )]
    fn reserve(&self, bytes: usize, patience: Patience) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        if matches!(patience, Patience::None) {
            return false;
        }
        let mut guard = self.guard();
        loop {
            // Set before the last look, so that whatever is released after that is told.
            self.waiting.store(true, Ordering::SeqCst);
            if self.closed.load(Ordering::Acquire) {
                return false;
            }
            if self.has_room(bytes) {
                return true;
            }
            guard = match patience {
                Patience::Until(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.released
                        .wait_timeout(guard, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                _ => self
                    .released
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn guard(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, bytes: usize) {
        let used = self.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        // Not before half is free: a wake for each event would cost more than the event. And once: whoever was woken may
        // not run for a while, and those who still find no room wait again.
        if self.waiting.load(Ordering::SeqCst)
            && used <= self.most_bytes / 2
            && self.waiting.swap(false, Ordering::SeqCst)
        {
            drop(self.guard());
            self.released.notify_all();
        }
    }
}

/// The event loop's end of the queue.
pub(crate) struct Intake {
    receiver: Receiver<Frame>,
    pub(crate) shared: Arc<Shared>,
}

/// A queue of at most `events` events and `bytes` bytes.
pub(crate) fn queue(events: usize, bytes: usize, limits: EventLimits) -> (Publisher, Intake) {
    let (sender, receiver) = bounded(events);
    let shared = Arc::new(Shared {
        bytes: AtomicUsize::new(0),
        most_bytes: bytes,
        waiting: AtomicBool::new(false),
        lock: Mutex::new(()),
        released: Condvar::new(),
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        waker: OnceLock::new(),
    });
    (
        Publisher {
            sender,
            shared: Arc::clone(&shared),
            limits,
        },
        Intake { receiver, shared },
    )
}

impl Intake {
    /// The next event, if there is one.
    pub(crate) fn next(&self) -> Option<Frame> {
        match self.receiver.try_recv() {
            Ok(frame) => {
                self.shared.release(frame.bytes.len());
                Some(frame)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Bytes of events that wait.
    #[cfg(feature = "admin")]
    pub(crate) fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Says that the event loop is about to sleep. It must look at everything that wakes it once more after this.
    pub(crate) fn prepare_to_sleep(&self) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        drop(self.shared.guard());
        self.shared.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Event {
        Event::new("/", "x".repeat(bytes - "data:\n\n".len()))
    }

    #[test]
    fn the_queue_is_bounded_in_events_and_in_bytes_and_has_room_for_one() {
        let (publisher, intake) = queue(2, 100, EventLimits::default());
        assert_eq!(publisher.try_send(event(500)), Ok(()));
        assert_eq!(
            publisher.try_send(event(10)),
            Err(SendError::Full(Box::new(event(10))))
        );
        assert_eq!(intake.next().unwrap().bytes.len(), 500);
        assert_eq!(publisher.try_send(event(50)), Ok(()));
        assert_eq!(
            publisher.try_send(event(51)),
            Err(SendError::Full(Box::new(event(51))))
        );
        assert_eq!(publisher.try_send(event(10)), Ok(()));
        assert_eq!(
            publisher.try_send(event(10)),
            Err(SendError::Full(Box::new(event(10))))
        );
        let refused = publisher.send_timeout(event(10), Duration::from_millis(1));
        assert_eq!(refused, Err(SendError::Full(Box::new(event(10)))));
        assert_eq!(
            (intake.len(), intake.shared.bytes.load(Ordering::SeqCst)),
            (2, 60)
        );
        drop(intake);
        assert_eq!(
            publisher.send(event(10)),
            Err(SendError::Closed(Box::new(event(10))))
        );
    }

    #[test]
    fn who_waits_for_bytes_is_woken_by_room_and_by_the_end() {
        let (publisher, intake) = queue(100, 10, EventLimits::default());
        let sender = publisher.clone();
        let thread = std::thread::spawn(move || (0..100).all(|_| sender.send(event(10)).is_ok()));
        let mut taken = 0;
        while taken < 100 {
            taken += usize::from(intake.next().is_some());
        }
        assert!(thread.join().unwrap());
        publisher.send(event(10)).unwrap();
        let thread = std::thread::spawn(move || publisher.send(event(10)));
        while !intake.shared.waiting.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(intake);
        assert!(matches!(thread.join().unwrap(), Err(SendError::Closed(_))));
    }

    #[test]
    fn an_event_that_may_not_be_is_refused_at_the_call() {
        let (publisher, intake) = queue(1, 1, EventLimits::default());
        assert!(matches!(
            publisher.send(Event::new("/../x", "")),
            Err(SendError::Refused(EventError::Namespace(_)))
        ));
        assert!(matches!(
            publisher.broadcast(Event::new("/", "").event("a\n")),
            Err(SendError::Refused(_))
        ));
        assert_eq!(intake.len(), 0);
    }
}
