//! The queue between publishers on any thread and the event loop.
//!
//! The queue is a run of frames under a lock, which the event loop takes away whole, leaving an empty one, and works off without the lock. It is
//! bounded in events and in bytes. A publisher wakes the event loop only when it sleeps, not with a system call per event. There is nothing atomic
//! beside the lock, whose cost for each event would be that of waiting for all that was written before it.

pub(crate) mod buffer;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event_stream::frame::FrameRef;

use buffer::{EncodedEvent, EventBuffer};

/// How long what is in the queue is to last under load, if those who put it in can wait.
const TARGET_WAIT: Duration = Duration::from_millis(2);
/// How often that is reckoned anew.
const PACE_INTERVAL: Duration = Duration::from_millis(10);
/// The least that may wait then, in bytes, and how much may before anything is known.
const MIN_SOFT_LIMIT: usize = 4096;
const FIRST_SOFT_LIMIT: usize = 16 << 10;

/// The event loop tells publishers of room when it has worked off this part of the queue, and at the end of a run.
const RELEASES_PER_QUEUE: usize = 64;

/// How long a publisher waits for room.
#[derive(Clone, Copy)]
pub(crate) enum WaitPolicy {
    DontWait,
    Until(Instant),
    Forever,
}

/// Why an event was not put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
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
    /// Puts an event in, and wakes the event loop if it sleeps until there is so much.
    pub(crate) fn push(
        &self,
        encoded: EncodedEvent<'_>,
        policy: WaitPolicy,
    ) -> Result<(), PushError> {
        let bytes = encoded.event_bytes();
        let mut state = self.lock_for(bytes, policy)?;
        state.events += 1;
        state.bytes += bytes;
        state.buffer.push(encoded);
        let wake = state.bytes >= state.wake_at && state.take_wakeup();
        drop(state);
        if wake {
            self.wake_loop();
        }
        Ok(())
    }

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

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events are in the queue, including those that the event loop has taken and not reported.
    pub(crate) fn events(&self) -> usize {
        self.lock().events
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
    queue: Arc<Queue>,
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
pub(crate) fn channel(events: usize, bytes: usize) -> (Arc<Queue>, QueueReader) {
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
    (queue, reader)
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

    /// The publishers' end.
    pub(crate) fn sender(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Lets publishers and handles wake the event loop.
    pub(crate) fn set_waker(&self, waker: mio::Waker) {
        // Set once: a server runs once.
        let _ = self.queue.waker.set(waker);
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
    use crate::event::{Event, EventLimits};

    /// Pushes an event whose frame has `bytes` bytes.
    fn push(queue: &Queue, bytes: usize, policy: WaitPolicy) -> Result<(), PushError> {
        let event = Event::new("/", "x".repeat(bytes - "data:\n\n".len()));
        let mut scratch = String::new();
        let encoded = EncodedEvent::new(&event, &EventLimits::default(), &mut scratch).unwrap();
        queue.push(encoded, policy)
    }

    fn try_push(queue: &Queue, bytes: usize) -> Result<(), PushError> {
        push(queue, bytes, WaitPolicy::DontWait)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the clock is the only source of an Instant"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_queue_is_bounded_in_events_and_bytes_and_accepts_one_event_of_any_size() {
        let (queue, mut reader) = channel(2, 100);
        assert_eq!(try_push(&queue, 500), Ok(()));
        assert_eq!(try_push(&queue, 10), Err(PushError::Full));
        assert_eq!(reader.next().unwrap().bytes.len(), 500);
        assert_eq!(try_push(&queue, 50), Ok(()));
        assert_eq!(try_push(&queue, 51), Err(PushError::Full));
        assert_eq!(try_push(&queue, 10), Ok(()));
        assert_eq!(try_push(&queue, 10), Err(PushError::Full));
        let deadline = WaitPolicy::Until(now() + Duration::from_millis(1));
        assert_eq!(push(&queue, 10, deadline), Err(PushError::Full));
        assert_eq!((reader.len(), queue.lock().bytes), (2, 60));
        drop(reader);
        assert_eq!(try_push(&queue, 10), Err(PushError::Closed));
    }

    #[test]
    fn blocked_senders_are_woken_by_room_and_by_the_end() {
        let (queue, mut reader) = channel(100, 10);
        let sender = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            (0..100).all(|_| push(&sender, 10, WaitPolicy::Forever).is_ok())
        });
        let mut taken = 0;
        while taken < 100 {
            taken += usize::from(reader.next().is_some());
        }
        assert!(thread.join().unwrap());
        try_push(&queue, 10).unwrap();
        let sender = Arc::clone(&queue);
        let thread = std::thread::spawn(move || push(&sender, 10, WaitPolicy::Forever));
        while !queue.lock().waiting {
            std::thread::yield_now();
        }
        assert_eq!(queue.lock().blocked_senders, 1);
        drop(reader);
        assert_eq!(thread.join().unwrap(), Err(PushError::Closed));
    }

    #[test]
    fn the_soft_limit_follows_the_rate_of_the_event_loop() {
        let (queue, mut reader) = channel(10_000, 1 << 20);
        let start = now();
        let fill = || {
            while push(&queue, 1000, WaitPolicy::Until(start)).is_ok() {}
            queue.lock().bytes
        };
        reader.pace(start);
        assert_eq!(fill(), 16_000);
        // The limit doubles when the queue ran empty although senders were blocked.
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
        // A slow event loop gets two milliseconds of work, or the minimum.
        for (taken, filled) in [(100, 20_000), (250, 50_000), (10, 4_000)] {
            while try_push(&queue, 1000).is_ok() {}
            assert_eq!(fill(), 1_048_000, "`try_send` may fill the whole queue");
            for _ in 0..taken {
                reader.next().unwrap();
            }
            passed += PACE_INTERVAL;
            reader.pace(start + passed);
            while queue.lock().bytes > 0 {
                reader.next().unwrap();
            }
            // As far as the reader knows, this took no time.
            reader.window = RateWindow {
                since: Some(start + passed),
                ..RateWindow::default()
            };
            assert_eq!(fill(), filled);
        }
    }

    #[test]
    fn few_events_do_not_wake_an_event_loop_that_waits_for_more() {
        let (queue, mut reader) = channel(100, 100);
        let asleep = || queue.lock().asleep;
        assert!(!reader.prepare_to_sleep(true));
        try_push(&queue, 49).unwrap();
        assert!(asleep());
        try_push(&queue, 10).unwrap();
        assert!(!asleep());
        assert!(reader.prepare_to_sleep(true));
        assert!(reader.next().is_some() && reader.next().is_some());
        assert!(!reader.prepare_to_sleep(false));
        try_push(&queue, 10).unwrap();
        assert!(!asleep());
        // A sender that finds no room wakes it too.
        assert!(!reader.prepare_to_sleep(true));
        let refused = push(&queue, 91, WaitPolicy::Until(now()));
        assert_eq!(refused, Err(PushError::Full));
        assert!(!asleep());
        assert_eq!(queue.lock().blocked_senders, 0);
    }

    #[test]
    fn an_empty_queue_is_about_to_be_refilled_while_a_sender_is_blocked() {
        let (queue, reader) = channel(100, 10);
        assert!(!reader.is_refilled());
        queue.lock().blocked_senders = 1;
        assert!(reader.is_refilled());
        try_push(&queue, 10).unwrap();
        assert!(!reader.is_refilled(), "it is not empty");
    }
}
