//! The way in: publishers on any thread, and the queue between them and the event loop.
//!
//! The queue is a run of frames under a lock, which the event loop takes away whole, leaving an empty one, and works off without the lock. It is
//! bounded in events and in bytes. A publisher wakes the event loop only when it sleeps, not with a system call per event. There is nothing atomic
//! beside the lock, whose cost for each event would be that of waiting for all that was written before it.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, EventError};
use crate::event_stream::encode::{EventLimits, Frame, FrameRef};
use crate::frame_run::{EncodedEvent, EventBuffer};

/// How long what is in the queue is to last under load, if those who put it in can wait.
const QUEUED_FOR: Duration = Duration::from_millis(2);
/// How often that is reckoned anew.
const PACE_EVERY: Duration = Duration::from_millis(10);
/// The least that may wait then, in bytes, and how much may before anything is known.
const ROOM_LEAST: usize = 4096;
const ROOM_AT_FIRST: usize = 16 << 10;

/// Hands events to a server, from any thread; clones share the server's queue.
///
/// The queue holds [`queue`](crate::Config::queue) events and [`queue_bytes`](crate::Config::queue_bytes) bytes, and always has room
/// for one event. While the event loop has as much to do as it can, those who wait for room wait until what is queued lasts
/// it no longer than some milliseconds, so that an event is as fast from a publisher that sends all it can as from any other. An event that may not be is refused by the call that sends it; every event that was accepted is
/// delivered to the subscribers connected when the event loop takes it, in the one order in which it takes them all.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    limits: EventLimits,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("queued", &self.shared.lock().events)
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

/// The event loop tells publishers of room when it has worked off this part of the queue, and at the end of a run.
const RELEASES_PER_QUEUE: usize = 64;

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
        self.enqueue(event, EncodedEvent::new, Patience::Endless)
    }

    /// Sends an event if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] gives the event back; or as [`Publisher::send`].
    pub fn try_send(&self, event: Event) -> Result<(), SendError> {
        self.enqueue(event, EncodedEvent::new, Patience::None)
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
        self.enqueue(event, EncodedEvent::new, patience)
    }

    /// Sends an event to every subscriber of every namespace, whatever its own namespace; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Publisher::send`].
    pub fn broadcast(&self, event: Event) -> Result<(), SendError> {
        let encode: Encode =
            |event, limits, _| Frame::broadcast(event, limits).map(EncodedEvent::Whole);
        self.enqueue(event, encode, Patience::Endless)
    }

    fn enqueue(&self, event: Event, encode: Encode, patience: Patience) -> Result<(), SendError> {
        // A thread that is ending has no memory of its own any more.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let encoded = encode(&event, &self.limits, &mut scratch).map_err(SendError::Refused)?;
        let bytes = encoded.event_bytes();
        let mut queued = match self.shared.lock_with_room(bytes, patience) {
            Ok(queued) => queued,
            Err(NoRoom::Full) => return Err(SendError::Full(Box::new(event))),
            Err(NoRoom::Closed) => return Err(SendError::Closed(Box::new(event))),
        };
        queued.events += 1;
        queued.bytes += bytes;
        queued.buffer.push(encoded);
        let wake = queued.bytes >= queued.wake_at && queued.rouse();
        drop(queued);
        if wake {
            self.shared.wake_loop();
        }
        let _ = SCRATCH.try_with(|it| it.set(scratch));
        Ok(())
    }
}

/// Encodes an event, with memory to encode it in.
type Encode =
    for<'s> fn(&Event, &EventLimits, &'s mut String) -> Result<EncodedEvent<'s>, EventError>;

thread_local! {
    /// Where a thread encodes its small events, so that each is copied under the lock in one go.
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

/// Why an event was not put into the queue.
enum NoRoom {
    Full,
    Closed,
}

/// The queue, and who waits for what of it.
#[derive(Debug, Default)]
struct Queued {
    /// What the event loop has not taken away.
    buffer: EventBuffer,
    /// Events and their bytes, those included that the event loop has taken away and not yet worked off.
    events: usize,
    bytes: usize,
    /// Bytes up to which those put events in who can wait.
    room: usize,
    /// How many publishers found no room and have not gone on yet.
    held_up: usize,
    /// Some of them were not told of room since they looked.
    waiting: bool,
    /// The event loop sleeps or is about to, until there are so many bytes.
    asleep: bool,
    wake_at: usize,
    closed: bool,
}

impl Queued {
    /// Notes that the event loop is to be woken; returns whether it sleeps.
    fn rouse(&mut self) -> bool {
        std::mem::take(&mut self.asleep)
    }
}

/// What publishers, handles and the event loop share.
pub(crate) struct Shared {
    queued: Mutex<Queued>,
    most_events: usize,
    most_bytes: usize,
    /// Publishers wait here for room.
    released: Condvar,
    waker: OnceLock<mio::Waker>,
}

impl Shared {
    /// Wakes the event loop if it sleeps.
    pub(crate) fn wake(&self) {
        let asleep = self.lock().rouse();
        if asleep {
            self.wake_loop();
        }
    }

    fn wake_loop(&self) {
        if let Some(waker) = self.waker.get() {
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

    fn has_room(&self, queued: &Queued, bytes: usize, patience: Patience) -> bool {
        let most = match patience {
            Patience::None => self.most_bytes,
            Patience::Until(_) | Patience::Endless => queued.room,
        };
        let fits = queued.bytes == 0 || queued.bytes + bytes <= most;
        fits && queued.events < self.most_events
    }

    /// Locks the queue when there is room in it.
    fn lock_with_room(
        &self,
        bytes: usize,
        patience: Patience,
    ) -> Result<MutexGuard<'_, Queued>, NoRoom> {
        let mut queued = self.lock();
        if queued.closed {
            return Err(NoRoom::Closed);
        }
        if self.has_room(&queued, bytes, patience) {
            return Ok(queued);
        }
        if matches!(patience, Patience::None) {
            return Err(NoRoom::Full);
        }
        if queued.rouse() {
            // It waits for more bytes than there is room for.
            self.wake_loop();
        }
        queued.held_up += 1;
        let (mut queued, waited) = self.wait_for_room(queued, bytes, patience);
        queued.held_up -= 1;
        waited.map(|()| queued)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher's patience is measured on its own thread"
    )]
    fn wait_for_room<'a>(
        &self,
        mut queued: MutexGuard<'a, Queued>,
        bytes: usize,
        patience: Patience,
    ) -> (MutexGuard<'a, Queued>, Result<(), NoRoom>) {
        loop {
            if queued.closed {
                return (queued, Err(NoRoom::Closed));
            }
            if self.has_room(&queued, bytes, patience) {
                return (queued, Ok(()));
            }
            queued.waiting = true;
            queued = match patience {
                Patience::Until(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return (queued, Err(NoRoom::Full));
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

    /// Notes that events were worked off; returns whether somebody waited for that.
    fn release(&self, Taken { events, bytes }: Taken) -> bool {
        let mut queued = self.lock();
        queued.events -= events;
        queued.bytes -= bytes;
        // Not before half is free: a wake for each event would cost more than the event. And once: whoever was woken may
        // not run for a while, and those who still find no room wait again.
        let half = queued.bytes <= queued.room / 2 && queued.events <= self.most_events / 2;
        let told = half && std::mem::take(&mut queued.waiting);
        if told {
            drop(queued);
            self.released.notify_all();
        }
        told
    }
}

/// The event loop's end of the queue.
pub(crate) struct Intake {
    /// What it has taken away.
    buffer: EventBuffer,
    /// What it has worked off of that, and the publishers do not know of yet.
    taken: Taken,
    /// What there was to do lately.
    lately: Lately,
    pub(crate) shared: Arc<Shared>,
}

/// Events that were worked off, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    events: usize,
    bytes: usize,
}

/// What the event loop has worked off since a moment.
#[derive(Default)]
struct Lately {
    since: Option<Instant>,
    bytes: usize,
    /// There was nothing more at some time.
    ran_empty: bool,
    /// Somebody had to wait for room.
    waited: bool,
}

/// A queue of at most `events` events and `bytes` bytes.
pub(crate) fn queue(events: usize, bytes: usize, limits: EventLimits) -> (Publisher, Intake) {
    let shared = Arc::new(Shared {
        queued: Mutex::new(Queued {
            room: bytes.min(ROOM_AT_FIRST),
            ..Queued::default()
        }),
        most_events: events,
        most_bytes: bytes,
        released: Condvar::new(),
        waker: OnceLock::new(),
    });
    let intake = Intake {
        buffer: EventBuffer::default(),
        taken: Taken::default(),
        lately: Lately::default(),
        shared: Arc::clone(&shared),
    };
    (Publisher { shared, limits }, intake)
}

impl Intake {
    /// The next event, if there is one.
    pub(crate) fn next(&mut self) -> Option<FrameRef<'_>> {
        if self.buffer.is_empty() {
            self.buffer.clear();
            std::mem::swap(&mut self.buffer, &mut self.shared.lock().buffer);
        }
        let Some((frame, last)) = self.buffer.next() else {
            self.lately.ran_empty = true;
            return None;
        };
        self.taken.events += 1;
        self.taken.bytes += frame.bytes.len();
        self.lately.bytes += frame.bytes.len();
        if last || self.taken.bytes >= self.shared.most_bytes / RELEASES_PER_QUEUE {
            self.lately.waited |= self.shared.release(std::mem::take(&mut self.taken));
        }
        Some(frame)
    }

    /// Lets those who can wait put in what lasts the event loop for a moment: whatever else waited would only wait longer. Called in each turn.
    pub(crate) fn pace(&mut self, now: Instant) {
        let since = *self.lately.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < PACE_EVERY {
            return;
        }
        let needed = self.lately.bytes as f64 * QUEUED_FOR.as_secs_f64() / elapsed.as_secs_f64();
        let mut queued = self.shared.lock();
        let room = match (self.lately.ran_empty, self.lately.waited) {
            (false, _) => needed as usize,
            (true, true) => 2 * queued.room,
            (true, false) => queued.room,
        };
        let most = self.shared.most_bytes;
        queued.room = room.clamp(ROOM_LEAST.min(most), most);
        self.lately = Lately {
            since: Some(now),
            ..Lately::default()
        };
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.lock().events - self.taken.events
    }

    /// Bytes of events that wait.
    #[cfg(feature = "admin")]
    pub(crate) fn bytes(&self) -> usize {
        self.shared.lock().bytes - self.taken.bytes
    }

    /// Whether the queue is empty only until publishers go on that waited for room in it.
    pub(crate) fn is_refilled(&self) -> bool {
        let queued = self.shared.lock();
        queued.held_up > 0 && queued.bytes == 0
    }

    /// Says that the event loop is about to sleep, and returns whether there are events enough to keep it from that. If it only waits a while for
    /// events to gather, half a queue is enough, else any. It must look at everything else that wakes it once more after this.
    pub(crate) fn prepare_to_sleep(&self, gathers: bool) -> bool {
        let mut queued = self.shared.lock();
        let enough = if gathers { queued.room / 2 } else { 0 };
        queued.wake_at = enough.max(1);
        queued.asleep = true;
        queued.bytes >= queued.wake_at
    }

    pub(crate) fn awake(&self) {
        self.shared.lock().asleep = false;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
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
        assert_eq!((intake.len(), intake.shared.lock().bytes), (2, 60));
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
        while !intake.shared.lock().waiting {
            std::thread::yield_now();
        }
        assert_eq!(intake.shared.lock().held_up, 1);
        drop(intake);
        assert!(matches!(thread.join().unwrap(), Err(SendError::Closed(_))));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had only from the clock; the others are this one and a number"
    )]
    #[test]
    fn who_can_wait_puts_in_no_more_than_is_soon_worked_off() {
        let (publisher, mut intake) = queue(10_000, 1 << 20, EventLimits::default());
        let fill = || {
            let put = || publisher.send_timeout(event(1000), Duration::ZERO);
            while put().is_ok() {}
            publisher.shared.lock().bytes
        };
        let start = Instant::now();
        intake.pace(start);
        assert_eq!(fill(), 16_000);
        // Who was so fast that nothing was left gets more the next time, but only if more was to be had.
        let mut passed = Duration::ZERO;
        for filled in [32_000, 65_000, 131_000] {
            while intake.next().is_some() {}
            passed += PACE_EVERY;
            intake.pace(start + passed);
            assert_eq!(fill(), filled);
        }
        while intake.next().is_some() {}
        passed += PACE_EVERY;
        intake.pace(start + passed);
        assert!(intake.next().is_none());
        passed += PACE_EVERY;
        intake.pace(start + passed);
        assert_eq!(fill(), 262_000);
        // Who is slow gets as much as lasts for a moment, or the least.
        for (taken, filled) in [(100, 20_000), (250, 50_000), (10, 4_000)] {
            while publisher.try_send(event(1000)).is_ok() {}
            assert_eq!(fill(), 1_048_000, "who cannot wait has all the room");
            for _ in 0..taken {
                intake.next().unwrap();
            }
            passed += PACE_EVERY;
            intake.pace(start + passed);
            while publisher.shared.lock().bytes > 0 {
                intake.next().unwrap();
            }
            // That was in no time, as far as is known here.
            intake.lately = Lately {
                since: Some(start + passed),
                ..Lately::default()
            };
            assert_eq!(fill(), filled);
        }
    }

    #[test]
    fn few_events_do_not_wake_an_event_loop_that_waits_for_more() {
        let (publisher, mut intake) = queue(100, 100, EventLimits::default());
        let asleep = |intake: &Intake| intake.shared.lock().asleep;
        assert!(!intake.prepare_to_sleep(true));
        publisher.send(event(49)).unwrap();
        assert!(asleep(&intake));
        publisher.send(event(10)).unwrap();
        assert!(!asleep(&intake));
        assert!(intake.prepare_to_sleep(true));
        assert!(intake.next().is_some() && intake.next().is_some());
        assert!(!intake.prepare_to_sleep(false));
        publisher.send(event(10)).unwrap();
        assert!(!asleep(&intake));
        // Nor does it sleep on when somebody finds no room.
        assert!(!intake.prepare_to_sleep(true));
        let refused = publisher.send_timeout(event(91), Duration::ZERO);
        assert_eq!(refused, Err(SendError::Full(Box::new(event(91)))));
        assert!(!asleep(&intake));
        assert_eq!(intake.shared.lock().held_up, 0);
    }

    #[test]
    fn a_queue_is_refilled_while_somebody_who_waited_for_room_has_not_gone_on() {
        let (publisher, intake) = queue(100, 10, EventLimits::default());
        assert!(!intake.is_refilled());
        intake.shared.lock().held_up = 1;
        assert!(intake.is_refilled());
        publisher.send(event(10)).unwrap();
        assert!(!intake.is_refilled(), "it is not empty");
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
