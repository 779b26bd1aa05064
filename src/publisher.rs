//! The way in: publishers on any thread, and the queue between them and the event loop.
//!
//! The queue is a run of frames under a lock, which the event loop takes away whole, leaving an empty one, and works off without the lock. It is
//! bounded in events and in bytes. A publisher wakes the event loop only when it sleeps, not with a system call per event. There is nothing atomic
//! beside the lock, whose cost for each event would be that of waiting for all that was written before it.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::EventLimits;
use crate::event::{Event, EventError};
use crate::event_stream::frame::{Frame, FrameRef};
use crate::queue::buffer::{EncodedEvent, EventBuffer};

/// How long what is in the queue is to last under load, if those who put it in can wait.
const TARGET_WAIT: Duration = Duration::from_millis(2);
/// How often that is reckoned anew.
const PACE_INTERVAL: Duration = Duration::from_millis(10);
/// The least that may wait then, in bytes, and how much may before anything is known.
const MIN_SOFT_LIMIT: usize = 4096;
const FIRST_SOFT_LIMIT: usize = 16 << 10;

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
            .field("queued", &self.queue.lock().events)
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
enum WaitPolicy {
    DontWait,
    Until(Instant),
    Forever,
}

impl Publisher {
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
            |event, limits, _| Frame::broadcast(event, limits).map(EncodedEvent::Whole);
        self.enqueue(event, encode, WaitPolicy::Forever)
    }

    fn enqueue(&self, event: Event, encode: Encode, policy: WaitPolicy) -> Result<(), SendError> {
        // A thread that is ending has no memory of its own any more.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let encoded = encode(&event, &self.limits, &mut scratch).map_err(SendError::Refused)?;
        let bytes = encoded.event_bytes();
        let mut state = match self.queue.lock_for(bytes, policy) {
            Ok(state) => state,
            Err(PushError::Full) => return Err(SendError::Full(Box::new(event))),
            Err(PushError::Closed) => return Err(SendError::Closed(Box::new(event))),
        };
        state.events += 1;
        state.bytes += bytes;
        state.buffer.push(encoded);
        let wake = state.bytes >= state.wake_at && state.take_wakeup();
        drop(state);
        if wake {
            self.queue.wake_loop();
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
enum PushError {
    Full,
    Closed,
}

/// The queue, and who waits for what of it.
#[derive(Debug, Default)]
struct QueueState {
    /// What the event loop has not consumed away.
    buffer: EventBuffer,
    /// Events and their bytes, those included that the event loop has consumed away and not yet worked off.
    events: usize,
    bytes: usize,
    /// Bytes up to which those put events in who can wait.
    soft_limit: usize,
    /// How many publishers found no room and have not gone on yet.
    blocked_senders: usize,
    /// Some of them were not told of room since they looked.
    waiting: bool,
    /// The event loop sleeps or is about to, until there are so many bytes.
    asleep: bool,
    wake_at: usize,
    closed: bool,
}

impl QueueState {
    /// Notes that the event loop is to be woken; returns whether it sleeps.
    fn take_wakeup(&mut self) -> bool {
        std::mem::take(&mut self.asleep)
    }
}

/// What publishers, handles and the event loop share.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    max_events: usize,
    max_bytes: usize,
    /// Publishers wait here for room.
    released: Condvar,
    waker: OnceLock<mio::Waker>,
}

impl Queue {
    /// Wakes the event loop if it sleeps.
    pub(crate) fn wake(&self) {
        let asleep = self.lock().take_wakeup();
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

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &QueueState, bytes: usize, policy: WaitPolicy) -> bool {
        let most = match policy {
            WaitPolicy::DontWait => self.max_bytes,
            WaitPolicy::Until(_) | WaitPolicy::Forever => state.soft_limit,
        };
        let fits = state.bytes == 0 || state.bytes + bytes <= most;
        fits && state.events < self.max_events
    }

    /// Locks the queue when there is room in it.
    fn lock_for(
        &self,
        bytes: usize,
        policy: WaitPolicy,
    ) -> Result<MutexGuard<'_, QueueState>, PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        if self.fits(&state, bytes, policy) {
            return Ok(state);
        }
        if matches!(policy, WaitPolicy::DontWait) {
            return Err(PushError::Full);
        }
        if state.take_wakeup() {
            // It waits for more bytes than there is room for.
            self.wake_loop();
        }
        state.blocked_senders += 1;
        let (mut state, waited) = self.wait_for_room(state, bytes, policy);
        state.blocked_senders -= 1;
        waited.map(|()| state)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a publisher measures its waiting time on its own thread"
    )]
    fn wait_for_room<'a>(
        &self,
        mut state: MutexGuard<'a, QueueState>,
        bytes: usize,
        policy: WaitPolicy,
    ) -> (MutexGuard<'a, QueueState>, Result<(), PushError>) {
        loop {
            if state.closed {
                return (state, Err(PushError::Closed));
            }
            if self.fits(&state, bytes, policy) {
                return (state, Ok(()));
            }
            state.waiting = true;
            state = match policy {
                WaitPolicy::Until(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return (state, Err(PushError::Full));
                    }
                    self.released
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                _ => self
                    .released
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Notes that events were worked off; returns whether somebody waited for that.
    fn release(&self, Consumed { events, bytes }: Consumed) -> bool {
        let mut state = self.lock();
        state.events -= events;
        state.bytes -= bytes;
        // Not before half is free: a wake for each event would cost more than the event. And once: whoever was woken may
        // not run for a while, and those who still find no room wait again.
        let half = state.bytes <= state.soft_limit / 2 && state.events <= self.max_events / 2;
        let told = half && std::mem::take(&mut state.waiting);
        if told {
            drop(state);
            self.released.notify_all();
        }
        told
    }
}

/// The event loop's end of the queue.
pub(crate) struct QueueReader {
    /// What it has consumed away.
    buffer: EventBuffer,
    /// What it has worked off of that, and the publishers do not know of yet.
    consumed: Consumed,
    /// What there was to do window.
    window: RateWindow,
    pub(crate) queue: Arc<Queue>,
}

/// Events that were worked off, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Consumed {
    events: usize,
    bytes: usize,
}

/// What the event loop has worked off since a moment.
#[derive(Default)]
struct RateWindow {
    since: Option<Instant>,
    bytes: usize,
    /// There was nothing more at some time.
    ran_empty: bool,
    /// Somebody had to wait for room.
    waited: bool,
}

/// A queue of at most `events` events and `bytes` bytes.
pub(crate) fn queue(events: usize, bytes: usize, limits: EventLimits) -> (Publisher, QueueReader) {
    let queue = Arc::new(Queue {
        state: Mutex::new(QueueState {
            soft_limit: bytes.min(FIRST_SOFT_LIMIT),
            ..QueueState::default()
        }),
        max_events: events,
        max_bytes: bytes,
        released: Condvar::new(),
        waker: OnceLock::new(),
    });
    let reader = QueueReader {
        buffer: EventBuffer::default(),
        consumed: Consumed::default(),
        window: RateWindow::default(),
        queue: Arc::clone(&queue),
    };
    (Publisher { queue, limits }, reader)
}

impl QueueReader {
    /// The next event, if there is one.
    pub(crate) fn next(&mut self) -> Option<FrameRef<'_>> {
        if self.buffer.is_empty() {
            self.buffer.clear();
            std::mem::swap(&mut self.buffer, &mut self.queue.lock().buffer);
        }
        let Some((frame, last)) = self.buffer.next() else {
            self.window.ran_empty = true;
            return None;
        };
        self.consumed.events += 1;
        self.consumed.bytes += frame.bytes.len();
        self.window.bytes += frame.bytes.len();
        if last || self.consumed.bytes >= self.queue.max_bytes / RELEASES_PER_QUEUE {
            self.window.waited |= self.queue.release(std::mem::take(&mut self.consumed));
        }
        Some(frame)
    }

    /// Lets those who can wait put in what lasts the event loop for a moment: whatever else waited would only wait longer. Called in each turn.
    pub(crate) fn pace(&mut self, now: Instant) {
        let since = *self.window.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < PACE_INTERVAL {
            return;
        }
        let needed = self.window.bytes as f64 * TARGET_WAIT.as_secs_f64() / elapsed.as_secs_f64();
        let mut state = self.queue.lock();
        let room = match (self.window.ran_empty, self.window.waited) {
            (false, _) => needed as usize,
            (true, true) => 2 * state.soft_limit,
            (true, false) => state.soft_limit,
        };
        let most = self.queue.max_bytes;
        state.soft_limit = room.clamp(MIN_SOFT_LIMIT.min(most), most);
        self.window = RateWindow {
            since: Some(now),
            ..RateWindow::default()
        };
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().events - self.consumed.events
    }

    /// Bytes of events that wait.
    #[cfg(feature = "admin")]
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes - self.consumed.bytes
    }

    /// Whether the queue is empty only until publishers go on that waited for room in it.
    pub(crate) fn is_refilled(&self) -> bool {
        let state = self.queue.lock();
        state.blocked_senders > 0 && state.bytes == 0
    }

    /// Says that the event loop is about to sleep, and returns whether there are events enough to keep it from that. If it only waits a while for
    /// events to gather, half a queue is enough, else any. It must look at everything else that wakes it once more after this.
    pub(crate) fn prepare_to_sleep(&self, gathers: bool) -> bool {
        let mut state = self.queue.lock();
        let enough = if gathers { state.soft_limit / 2 } else { 0 };
        state.wake_at = enough.max(1);
        state.asleep = true;
        state.bytes >= state.wake_at
    }

    pub(crate) fn awake(&self) {
        self.queue.lock().asleep = false;
    }
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.released.notify_all();
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
        let (publisher, mut reader) = queue(2, 100, EventLimits::default());
        assert_eq!(publisher.try_send(event(500)), Ok(()));
        assert_eq!(
            publisher.try_send(event(10)),
            Err(SendError::Full(Box::new(event(10))))
        );
        assert_eq!(reader.next().unwrap().bytes.len(), 500);
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
        assert_eq!((reader.len(), reader.queue.lock().bytes), (2, 60));
        drop(reader);
        assert_eq!(
            publisher.send(event(10)),
            Err(SendError::Closed(Box::new(event(10))))
        );
    }

    #[test]
    fn who_waits_for_bytes_is_woken_by_room_and_by_the_end() {
        let (publisher, mut reader) = queue(100, 10, EventLimits::default());
        let sender = publisher.clone();
        let thread = std::thread::spawn(move || (0..100).all(|_| sender.send(event(10)).is_ok()));
        let mut consumed = 0;
        while consumed < 100 {
            consumed += usize::from(reader.next().is_some());
        }
        assert!(thread.join().unwrap());
        publisher.send(event(10)).unwrap();
        let thread = std::thread::spawn(move || publisher.send(event(10)));
        while !reader.queue.lock().waiting {
            std::thread::yield_now();
        }
        assert_eq!(reader.queue.lock().blocked_senders, 1);
        drop(reader);
        assert!(matches!(thread.join().unwrap(), Err(SendError::Closed(_))));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had only from the clock; the others are this one and a number"
    )]
    #[test]
    fn who_can_wait_puts_in_no_more_than_is_soon_worked_off() {
        let (publisher, mut reader) = queue(10_000, 1 << 20, EventLimits::default());
        let fill = || {
            let put = || publisher.send_timeout(event(1000), Duration::ZERO);
            while put().is_ok() {}
            publisher.queue.lock().bytes
        };
        let start = Instant::now();
        reader.pace(start);
        assert_eq!(fill(), 16_000);
        // Who was so fast that nothing was left gets more the next time, but only if more was to be had.
        let mut passed = Duration::ZERO;
        for filled in [32_000, 65_000, 131_000] {
            while reader.next().is_some() {}
            passed += PACE_INTERVAL;
            reader.pace(start + passed);
            assert_eq!(fill(), filled);
        }
        while reader.next().is_some() {}
        passed += PACE_INTERVAL;
        reader.pace(start + passed);
        assert!(reader.next().is_none());
        passed += PACE_INTERVAL;
        reader.pace(start + passed);
        assert_eq!(fill(), 262_000);
        // Who is slow gets as much as lasts for a moment, or the least.
        for (consumed, filled) in [(100, 20_000), (250, 50_000), (10, 4_000)] {
            while publisher.try_send(event(1000)).is_ok() {}
            assert_eq!(fill(), 1_048_000, "who cannot wait has all the room");
            for _ in 0..consumed {
                reader.next().unwrap();
            }
            passed += PACE_INTERVAL;
            reader.pace(start + passed);
            while publisher.queue.lock().bytes > 0 {
                reader.next().unwrap();
            }
            // That was in no time, as far as is known here.
            reader.window = RateWindow {
                since: Some(start + passed),
                ..RateWindow::default()
            };
            assert_eq!(fill(), filled);
        }
    }

    #[test]
    fn few_events_do_not_wake_an_event_loop_that_waits_for_more() {
        let (publisher, mut reader) = queue(100, 100, EventLimits::default());
        let asleep = |reader: &QueueReader| reader.queue.lock().asleep;
        assert!(!reader.prepare_to_sleep(true));
        publisher.send(event(49)).unwrap();
        assert!(asleep(&reader));
        publisher.send(event(10)).unwrap();
        assert!(!asleep(&reader));
        assert!(reader.prepare_to_sleep(true));
        assert!(reader.next().is_some() && reader.next().is_some());
        assert!(!reader.prepare_to_sleep(false));
        publisher.send(event(10)).unwrap();
        assert!(!asleep(&reader));
        // Nor does it sleep on when somebody finds no room.
        assert!(!reader.prepare_to_sleep(true));
        let refused = publisher.send_timeout(event(91), Duration::ZERO);
        assert_eq!(refused, Err(SendError::Full(Box::new(event(91)))));
        assert!(!asleep(&reader));
        assert_eq!(reader.queue.lock().blocked_senders, 0);
    }

    #[test]
    fn a_queue_is_refilled_while_somebody_who_waited_for_room_has_not_gone_on() {
        let (publisher, reader) = queue(100, 10, EventLimits::default());
        assert!(!reader.is_refilled());
        reader.queue.lock().blocked_senders = 1;
        assert!(reader.is_refilled());
        publisher.send(event(10)).unwrap();
        assert!(!reader.is_refilled(), "it is not empty");
    }

    #[test]
    fn an_event_that_may_not_be_is_refused_at_the_call() {
        let (publisher, reader) = queue(1, 1, EventLimits::default());
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
