//! The publish queue: publishers on any thread push encoded events, the event loop takes them.
//!
//! The queue is an [`EventBuffer`] under a lock. The event loop swaps it for an empty one and reads
//! it without the lock. The queue is bounded in events and in bytes. A publisher makes the system
//! call that wakes the event loop only if the event loop sleeps.
//!
//! All shared state is under the one lock and none is atomic: an atomic operation per event would
//! wait until all writes before it are visible to other cores.

pub(crate) mod buffer;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::event_stream::frame::FrameRef;

use buffer::{EncodedEvent, EventBuffer};

/// Under load, senders that can wait may queue the bytes that the event loop handles in this time.
const TARGET_WAIT: Duration = Duration::from_millis(2);
/// How often that number of bytes, the soft limit, is computed.
const PACE_INTERVAL: Duration = Duration::from_millis(10);
/// The smallest soft limit, in bytes, and the one before the first measurement.
const MIN_SOFT_LIMIT: usize = 4096;
const FIRST_SOFT_LIMIT: usize = 16 << 10;
/// The event loop reports free space after this fraction of the queue, and when a buffer is empty.
const RELEASES_PER_QUEUE: usize = 64;

/// Creates a queue of at most `max_events` events and `max_bytes` bytes of encoded events.
pub(crate) fn channel(max_events: usize, max_bytes: usize) -> (Arc<Queue>, QueueReader) {
    let queue = Arc::new(Queue {
        state: Mutex::new(QueueState {
            soft_limit: max_bytes.min(FIRST_SOFT_LIMIT),
            ..QueueState::default()
        }),
        max_events,
        max_bytes,
        released: Condvar::new(),
        waker: OnceLock::new(),
        reader: OnceLock::new(),
    });
    let reader = QueueReader {
        buffer: EventBuffer::default(),
        consumed: Consumed::default(),
        window: RateWindow::default(),
        queue: Arc::clone(&queue),
    };
    (queue, reader)
}

/// How long [`Queue::push`] waits while the queue is full, and which limit of bytes applies.
#[derive(Clone, Copy)]
pub(crate) enum WaitPolicy {
    /// It does not wait. The limit is that of the queue.
    DontWait,
    /// It waits until this time. The limit is the soft limit.
    Until(Instant),
    /// It waits without a time limit. The limit is the soft limit.
    Forever,
}

/// The reason why an event was not put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The queue was full until the end of the wait.
    Full,
    /// The event loop has ended.
    Closed,
}

/// The senders' end of the queue.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    max_events: usize,
    max_bytes: usize,
    /// Senders wait here for room.
    released: Condvar,
    waker: OnceLock<mio::Waker>,
    /// The thread of the event loop, on which no sender may wait for room.
    reader: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The events that the event loop has not taken.
    buffer: EventBuffer,
    /// The number of events that count against the limits, and their bytes: those in `buffer`, and
    /// those that the event loop has taken and not yet released.
    events: usize,
    bytes: usize,
    /// The limit of bytes for senders that can wait.
    soft_limit: usize,
    /// The number of senders that wait for room.
    blocked_senders: usize,
    /// Whether one of them has not been notified since it last checked for room.
    waiting: bool,
    /// Whether the event loop sleeps, or is about to sleep, until the queue has `wake_at` bytes.
    asleep: bool,
    wake_at: usize,
    closed: bool,
}

impl QueueState {
    /// Marks the event loop as awake. Returns whether it slept, so that the caller must wake it.
    fn take_wakeup(&mut self) -> bool {
        std::mem::take(&mut self.asleep)
    }
}

impl Queue {
    /// Adds an event once there is room for it. Wakes the event loop if the queue now has the bytes
    /// that the event loop waits for.
    pub(crate) fn push(
        &self,
        event: EncodedEvent<'_>,
        policy: WaitPolicy,
    ) -> Result<(), PushError> {
        let bytes = event.event_bytes();
        let mut state = self.lock_when_room(bytes, policy)?;
        state.events += 1;
        state.bytes += bytes;
        state.buffer.push(event);
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

    /// The number of events that count against the limit.
    pub(crate) fn events(&self) -> usize {
        self.lock().events
    }

    fn wake_loop(&self) {
        if let Some(waker) = self.waker.get() {
            // Waking fails only if the event loop has ended.
            let _ = waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for an event of `bytes` bytes. An empty queue takes an event of any
    /// size.
    fn has_room(&self, state: &QueueState, bytes: usize, policy: WaitPolicy) -> bool {
        let max_bytes = match policy {
            WaitPolicy::DontWait => self.max_bytes,
            WaitPolicy::Until(_) | WaitPolicy::Forever => state.soft_limit,
        };
        let fits = state.bytes == 0 || state.bytes + bytes <= max_bytes;
        fits && state.events < self.max_events
    }

    /// Waits for room as `policy` specifies, and returns the locked queue.
    fn lock_when_room(
        &self,
        bytes: usize,
        policy: WaitPolicy,
    ) -> Result<MutexGuard<'_, QueueState>, PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        if self.has_room(&state, bytes, policy) {
            return Ok(state);
        }
        if self.reader.get() == Some(&thread::current().id()) {
            // A hook: the event loop cannot make room before it returns.
            return match self.has_room(&state, bytes, WaitPolicy::DontWait) {
                true => Ok(state),
                false => Err(PushError::Full),
            };
        }
        if matches!(policy, WaitPolicy::DontWait) {
            return Err(PushError::Full);
        }
        if state.take_wakeup() {
            // The event loop waits for more bytes than the queue has room for.
            self.wake_loop();
        }
        state.blocked_senders += 1;
        let (mut state, waited) = self.wait_for_room(state, bytes, policy);
        state.blocked_senders -= 1;
        waited.map(|()| state)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a sender's deadline is checked on its own thread"
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
            if self.has_room(&state, bytes, policy) {
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

    /// Frees the space of consumed events. Returns whether a sender was waiting for it.
    fn release(&self, Consumed { events, bytes }: Consumed) -> bool {
        let mut state = self.lock();
        state.events -= events;
        state.bytes -= bytes;
        // Senders are notified only when half of the queue is free, because a notification per
        // event would cost more than the event; and only once, because a sender that still finds no
        // room waits again.
        let half_free = state.bytes <= state.soft_limit / 2 && state.events <= self.max_events / 2;
        let notify = half_free && std::mem::take(&mut state.waiting);
        if notify {
            drop(state);
            self.released.notify_all();
        }
        notify
    }
}

/// The event loop's end of the queue. Dropping it closes the queue.
pub(crate) struct QueueReader {
    /// The events that the event loop has taken.
    buffer: EventBuffer,
    /// The events that were returned by `next` and whose space has not been released.
    consumed: Consumed,
    /// The load since the soft limit was last computed.
    window: RateWindow,
    queue: Arc<Queue>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Consumed {
    events: usize,
    bytes: usize,
}

/// The load in one [`PACE_INTERVAL`].
#[derive(Default)]
struct RateWindow {
    /// When the interval began.
    since: Option<Instant>,
    /// Bytes of the events that the event loop took.
    bytes: usize,
    /// Whether the queue was empty at some time.
    ran_empty: bool,
    /// Whether a sender had to wait for room.
    waited: bool,
}

impl QueueReader {
    /// The senders' end.
    pub(crate) fn sender(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Makes the current thread that of the event loop, on which senders do not wait for room.
    pub(crate) fn set_thread(&self) {
        // It is set once, because a server runs once.
        let _ = self.queue.reader.set(thread::current().id());
    }

    /// Sets the waker of the event loop. Without one, senders do not wake it.
    pub(crate) fn set_waker(&self, waker: mio::Waker) {
        // It is set once, because a server runs once.
        let _ = self.queue.waker.set(waker);
    }

    /// Takes the next event.
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

    /// Adjusts the soft limit to the load, once per [`PACE_INTERVAL`]. The event loop calls it in
    /// each turn.
    ///
    /// If the queue never ran empty, the limit becomes the bytes that the event loop takes in
    /// [`TARGET_WAIT`], because more would only wait longer. If the queue ran empty while senders
    /// waited, the limit was too small, and doubles.
    pub(crate) fn pace(&mut self, now: Instant) {
        let since = *self.window.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < PACE_INTERVAL {
            return;
        }
        let needed = self.window.bytes as f64 * TARGET_WAIT.as_secs_f64() / elapsed.as_secs_f64();
        let mut state = self.queue.lock();
        let soft_limit = match (self.window.ran_empty, self.window.waited) {
            (false, _) => needed as usize,
            (true, true) => 2 * state.soft_limit,
            (true, false) => state.soft_limit,
        };
        let max_bytes = self.queue.max_bytes;
        state.soft_limit = soft_limit.clamp(MIN_SOFT_LIMIT.min(max_bytes), max_bytes);
        self.window = RateWindow {
            since: Some(now),
            ..RateWindow::default()
        };
    }

    /// The number of events that have not been taken.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().events - self.consumed.events
    }

    /// The bytes of the events that have not been taken.
    #[cfg(feature = "admin")]
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes - self.consumed.bytes
    }

    /// Whether the queue is empty and a blocked sender is about to fill it again.
    pub(crate) fn is_refilled(&self) -> bool {
        let state = self.queue.lock();
        state.blocked_senders > 0 && state.bytes == 0
    }

    /// Announces that the event loop is about to sleep. Returns whether it must not sleep, because
    /// the queue has enough events: half the soft limit if the event loop `gathers` events before
    /// it writes, otherwise one event.
    ///
    /// After this call the event loop must check its other sources of work once more.
    pub(crate) fn prepare_to_sleep(&self, gathers: bool) -> bool {
        let mut state = self.queue.lock();
        let enough = if gathers { state.soft_limit / 2 } else { 0 };
        state.wake_at = enough.max(1);
        state.asleep = true;
        state.bytes >= state.wake_at
    }

    /// Announces that the event loop is awake, so that senders do not wake it.
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
        let thread =
            thread::spawn(move || (0..100).all(|_| push(&sender, 10, WaitPolicy::Forever).is_ok()));
        let mut taken = 0;
        while taken < 100 {
            taken += usize::from(reader.next().is_some());
        }
        assert!(thread.join().unwrap());
        try_push(&queue, 10).unwrap();
        let sender = Arc::clone(&queue);
        let thread = thread::spawn(move || push(&sender, 10, WaitPolicy::Forever));
        while !queue.lock().waiting {
            thread::yield_now();
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
            // Emptying the queue must not count in the next interval.
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
        assert!(!reader.is_refilled(), "the queue is not empty");
    }
}
