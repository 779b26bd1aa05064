//! Roll-ups: many small changes, published as one event per interval.
//!
//! Owns the thread that publishes, and its clock. [`PendingCounts`] holds the pending changes.

mod pending;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::publisher::{Publisher, SendError};

use pending::{PendingCounts, json_object};

/// Merges changes by key and publishes them as one event per interval, on a separate thread.
///
/// An event is published one interval after the first change that it contains. So there is at most
/// one event per interval, and none while nothing changes. The event's data is a JSON object that
/// maps each key to its count or last value; keys are sorted.
///
/// ```
/// use std::time::Duration;
/// use fanfare::{Event, Rollup, Server};
///
/// let server = Server::new();
/// let interval = Duration::from_millis(17);
/// let to_event = |json| Event::new("/votes", json);
/// let votes = Rollup::counts(server.publisher(), interval, 1_000, to_event)?;
/// for name in ["Corgi", "Persian", "Corgi"] {
///     votes.add(name, 1)?;
/// }
/// votes.flush()?; // Subscribers of `/votes` receive `data:{"Corgi":2,"Persian":1}`.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
/// A roll-up holds at most `max_keys` keys (at least 1). With a further key, [`Rollup::add`] waits
/// until the next event is published, and [`Rollup::try_add`] returns [`RollupError::Full`]. The
/// interval is at most one day; a longer one counts as one day. The size of the event is not
/// limited here: an event over [`max_event`](crate::Config::max_event) is refused and ends the
/// roll-up.
///
/// # The end
/// Clones add to the same roll-up. When the last clone is dropped, the pending changes are
/// published at once and the thread ends. Dropping does not wait for this; [`Rollup::flush`] does.
///
/// If the server ends or refuses an event, or the function that makes events panics, the roll-up
/// ends too. Its pending changes are lost, and all methods return [`RollupError::Ended`].
#[must_use = "a roll-up ends when its last clone is dropped"]
pub struct Rollup<V> {
    shared: Arc<Shared<V>>,
    _close: Arc<CloseOnDrop<V>>,
}

impl<V> Clone for Rollup<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            _close: Arc::clone(&self._close),
        }
    }
}

impl<V> fmt::Debug for Rollup<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollup").finish_non_exhaustive()
    }
}

/// The reason why a change was not added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollupError {
    /// The roll-up holds `max_keys` keys, and this is a further one. There is room again after the
    /// next event.
    Full,
    /// The roll-up has ended. Contains the error of its last event: the event was refused, or the
    /// server has ended. Contains `None` if the function that makes events panicked.
    Ended(Option<SendError>),
}

impl Display for RollupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the roll-up holds its maximum number of keys",
            Self::Ended(Some(_)) => "the roll-up has ended: its last event was not sent",
            Self::Ended(None) => "the roll-up has ended: the function that makes events panicked",
        })
    }
}

impl Error for RollupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ended(Some(error)) => Some(error),
            Self::Full | Self::Ended(None) => None,
        }
    }
}

impl Rollup<u64> {
    /// Starts a roll-up that adds up the counts of each key. A sum over [`u64::MAX`] stays there.
    ///
    /// `event` makes an event of the JSON object. It runs on the roll-up's thread.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn counts(
        publisher: Publisher,
        interval: Duration,
        max_keys: usize,
        event: impl FnMut(String) -> Event + Send + 'static,
    ) -> io::Result<Self> {
        let pending = PendingCounts::new(
            |total: &mut u64, more| *total = total.saturating_add(more),
            interval,
            max_keys,
        );
        Self::start(publisher, pending, event)
    }
}

impl Rollup<String> {
    /// Starts a roll-up that keeps the last value of each key.
    ///
    /// A value is JSON text, such as `21.5` or `"on"`. It is copied into the JSON object unchecked.
    /// `event` makes an event of the object. It runs on the roll-up's thread.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn latest(
        publisher: Publisher,
        interval: Duration,
        max_keys: usize,
        event: impl FnMut(String) -> Event + Send + 'static,
    ) -> io::Result<Self> {
        let pending = PendingCounts::new(|last, value| *last = value, interval, max_keys);
        Self::start(publisher, pending, event)
    }
}

impl<V: Display + Send + 'static> Rollup<V> {
    fn start(
        publisher: Publisher,
        pending: PendingCounts<V>,
        mut event: impl FnMut(String) -> Event + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(pending));
        let thread = EndOnDrop(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("fanfare-rollup".into())
            .spawn(move || {
                while let Some(entries) = thread.0.wait_until_due() {
                    let published = publisher.send(event(json_object(&entries)));
                    if !thread.0.record_result(published) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            _close: Arc::new(CloseOnDrop(Arc::clone(&shared))),
            shared,
        })
    }
}

impl<V> Rollup<V> {
    /// Merges a change. Blocks while a new key would exceed `max_keys`.
    ///
    /// # Errors
    /// [`RollupError::Ended`] if the roll-up has ended.
    pub fn add(&self, key: &str, value: V) -> Result<(), RollupError> {
        let mut value = value;
        let mut state = self.shared.lock();
        loop {
            state.check_running()?;
            value = match self.shared.add(&mut state, key, value) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            state = wait(&self.shared.progress, state);
        }
    }

    /// Merges a change unless a new key would exceed `max_keys`.
    ///
    /// # Errors
    /// [`RollupError::Full`] if a new key would exceed `max_keys`, [`RollupError::Ended`] if the
    /// roll-up has ended.
    pub fn try_add(&self, key: &str, value: V) -> Result<(), RollupError> {
        let mut state = self.shared.lock();
        state.check_running()?;
        let added = self.shared.add(&mut state, key, value);
        added.map_err(|_| RollupError::Full)
    }

    /// Publishes the pending changes now, and waits until their event is in the server's queue.
    ///
    /// Events that are sent after this call are delivered after it. The call returns at once if
    /// nothing is pending.
    ///
    /// # Errors
    /// [`RollupError::Ended`] if the roll-up has ended.
    pub fn flush(&self) -> Result<(), RollupError> {
        let mut state = self.shared.lock();
        let mut target = state.taken;
        if state.pending.due().is_some() {
            target += 1;
            state.flush_requested = true;
            self.shared.work.notify_one();
        }
        while state.published < target {
            state.check_running()?;
            state = wait(&self.shared.progress, state);
        }
        state.check_running()
    }
}

/// The data that the clones of a roll-up and its thread share.
struct Shared<V> {
    state: Mutex<RollupState<V>>,
    /// Wakes the thread: the first change is pending, a flush was requested, or the last clone was
    /// dropped.
    work: Condvar,
    /// Wakes callers: changes were taken or published, or the roll-up has ended.
    progress: Condvar,
}

struct RollupState<V> {
    pending: PendingCounts<V>,
    /// Whether to publish the pending changes without waiting for the interval.
    flush_requested: bool,
    /// Whether the last clone was dropped.
    closed: bool,
    /// The error with which the roll-up has ended.
    ended: Option<RollupError>,
    /// How often the pending changes were taken, and how often they were published.
    taken: u64,
    published: u64,
}

impl<V> RollupState<V> {
    fn check_running(&self) -> Result<(), RollupError> {
        self.ended.clone().map_or(Ok(()), Err)
    }
}

impl<V> Shared<V> {
    fn new(pending: PendingCounts<V>) -> Self {
        Self {
            state: Mutex::new(RollupState {
                pending,
                flush_requested: false,
                closed: false,
                ended: None,
                taken: 0,
                published: 0,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RollupState<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the calling thread reads the time of the first change"
    )]
    fn add(&self, state: &mut RollupState<V>, key: &str, value: V) -> Result<(), V> {
        let first = state.pending.due().is_none();
        state.pending.add(key, value, Instant::now())?;
        if first {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until changes are due and takes them. Returns `None` when the last clone was dropped
    /// and nothing is pending.
    #[expect(clippy::disallowed_methods, reason = "a roll-up has its own clock")]
    fn wait_until_due(&self) -> Option<BTreeMap<String, V>> {
        let mut state = self.lock();
        loop {
            let Some(due) = state.pending.due() else {
                if state.closed {
                    return None;
                }
                state = wait(&self.work, state);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || state.flush_requested || state.closed {
                state.flush_requested = false;
                state.taken += 1;
                self.progress.notify_all();
                return Some(state.pending.take());
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Records whether the changes that were last taken were published. Returns whether the roll-up
    /// continues.
    fn record_result(&self, published: Result<(), SendError>) -> bool {
        let mut state = self.lock();
        state.published = state.taken;
        state.ended = published.err().map(|error| RollupError::Ended(Some(error)));
        self.progress.notify_all();
        state.ended.is_none()
    }
}

fn wait<'a, V>(
    condvar: &Condvar,
    state: MutexGuard<'a, RollupState<V>>,
) -> MutexGuard<'a, RollupState<V>> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Owned by all clones of a [`Rollup`]. Makes the thread end when the last clone is dropped.
struct CloseOnDrop<V>(Arc<Shared<V>>);

impl<V> Drop for CloseOnDrop<V> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

/// Owned by the thread. Marks the roll-up as ended when the thread returns or panics.
struct EndOnDrop<V>(Arc<Shared<V>>);

impl<V> Drop for EndOnDrop<V> {
    fn drop(&mut self) {
        self.0.lock().ended.get_or_insert(RollupError::Ended(None));
        self.0.progress.notify_all();
    }
}
