//! The way in: publishers on any thread, and the queue between them and the event loop.
//!
//! The queue is a run of frames under a lock, which the event loop takes away whole, leaving an empty one, and works off without the lock. It is
//! bounded in events and in bytes. A publisher wakes the event loop only when it sleeps: a flag that the loop sets before its last look at
//! the queue, not a system call per event.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventError};
use crate::event_stream::encode::{EventLimits, Frame, FrameRef};
use crate::frame_run::FrameRun;

/// Hands events to a server, from any thread; clones share the server's queue.
///
/// The queue holds [`queue`](crate::Config::queue) events and [`queue_bytes`](crate::Config::queue_bytes) bytes, and always has room
/// for one event. An event that may not be is refused by the call that sends it; every event that was accepted is
/// delivered to the subscribers connected when the event loop takes it, in the one order in which it takes them all.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    limits: EventLimits,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("queued", &self.shared.len())
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
        let Some(mut queued) = self.shared.lock_with_room(frame.bytes.len(), patience) else {
            let event = Box::new(event);
            return Err(if self.shared.closed.load(Ordering::Acquire) {
                SendError::Closed(event)
            } else {
                SendError::Full(event)
            });
        };
        queued.events += 1;
        self.shared
            .bytes
            .fetch_add(frame.bytes.len(), Ordering::SeqCst);
        queued.run.push(frame);
        drop(queued);
        self.shared.wake();
        Ok(())
    }
}

/// What publishers have put in.
#[derive(Debug, Default)]
struct Queued {
    /// What the event loop has not taken away.
    run: FrameRun,
    /// How many events there ever were.
    events: usize,
}

/// What publishers, handles and the event loop share.
pub(crate) struct Shared {
    queued: Mutex<Queued>,
    /// Bytes of events in the queue, those included that the event loop has taken away and not yet worked off. Raised under the lock.
    bytes: AtomicUsize,
    /// How many events the event loop ever worked off.
    taken: AtomicUsize,
    most_events: usize,
    most_bytes: usize,
    /// Publishers wait for room and were not yet told of any.
    waiting: AtomicBool,
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

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.events_in(&self.lock())
    }

    fn events_in(&self, queued: &Queued) -> usize {
        queued.events - self.taken.load(Ordering::SeqCst)
    }

    fn has_room(&self, queued: &Queued, bytes: usize) -> bool {
        let used = self.bytes.load(Ordering::SeqCst);
        (used == 0 || used + bytes <= self.most_bytes) && self.events_in(queued) < self.most_events
    }

    /// Waits for room in the queue, and keeps it locked; `None` when there was none in time or the event loop has ended.
    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher's patience is measured on its own thread"
    )]
    fn lock_with_room(&self, bytes: usize, patience: Patience) -> Option<MutexGuard<'_, Queued>> {
        let mut queued = self.lock();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            if self.has_room(&queued, bytes) {
                return Some(queued);
            }
            if matches!(patience, Patience::None) {
                return None;
            }
            // Set before the last look, so that whatever is released after that is told.
            self.waiting.store(true, Ordering::SeqCst);
            if self.has_room(&queued, bytes) {
                return Some(queued);
            }
            queued = match patience {
                Patience::Until(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.released
                        .wait_timeout(queued, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                _ => self
                    .released
                    .wait(queued)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Notes that an event was worked off.
    fn release(&self, bytes: usize) {
        // The event loop alone writes it.
        let taken = self.taken.load(Ordering::Relaxed) + 1;
        self.taken.store(taken, Ordering::SeqCst);
        let used = self.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        // Not before half is free: a wake for each event would cost more than the event. And once: whoever was woken may
        // not run for a while, and those who still find no room wait again.
        if self.waiting.load(Ordering::SeqCst)
            && used <= self.most_bytes / 2
            && self.len() <= self.most_events / 2
            && self.waiting.swap(false, Ordering::SeqCst)
        {
            // Whoever looked before that and found no room waits by now.
            drop(self.lock());
            self.released.notify_all();
        }
    }
}

/// The event loop's end of the queue.
pub(crate) struct Intake {
    /// What it has taken away.
    run: FrameRun,
    pub(crate) shared: Arc<Shared>,
}

/// A queue of at most `events` events and `bytes` bytes.
pub(crate) fn queue(events: usize, bytes: usize, limits: EventLimits) -> (Publisher, Intake) {
    let shared = Arc::new(Shared {
        queued: Mutex::default(),
        bytes: AtomicUsize::new(0),
        taken: AtomicUsize::new(0),
        most_events: events,
        most_bytes: bytes,
        waiting: AtomicBool::new(false),
        released: Condvar::new(),
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        waker: OnceLock::new(),
    });
    let intake = Intake {
        run: FrameRun::default(),
        shared: Arc::clone(&shared),
    };
    (Publisher { shared, limits }, intake)
}

impl Intake {
    /// The next event, if there is one.
    pub(crate) fn next(&mut self) -> Option<FrameRef<'_>> {
        if self.run.is_empty() {
            self.run.clear();
            std::mem::swap(&mut self.run, &mut self.shared.lock().run);
        }
        let frame = self.run.next()?;
        self.shared.release(frame.bytes.len());
        Some(frame)
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.len()
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
        drop(self.shared.lock());
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
        let (publisher, mut intake) = queue(2, 100, EventLimits::default());
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
        let (publisher, mut intake) = queue(100, 10, EventLimits::default());
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
