//! Roll-ups: many small changes, one event an interval.
//!
//! Owns the thread that publishes and its clock; what gathers in between is a [`PendingCounts`](pending::PendingCounts).

mod pending;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::publisher::{Publisher, SendError};

use pending::{PendingCounts, json_object};

/// Merges changes by key and publishes what has gathered as one event an interval, from a thread of its own.
///
/// The event is due an interval after the first change that it holds: so there are never two within an interval, and none while nothing
/// changes. Its data is a JSON object from key to count, or to last value, keys sorted. Clones gather into the same roll-up; when the last
/// one is dropped, what it holds is published at once and the thread ends.
///
/// There are at most as many keys at a time as it was made for. A change of one more waits until the event is published, as
/// [`Publisher::send`] waits for room in the queue: nothing is lost, and memory is bounded.
///
/// ```
/// use std::time::Duration;
/// use fanfare::{Event, Rollup, Server};
///
/// let server = Server::new();
/// let interval = Duration::from_millis(17);
/// let votes = Rollup::counts(server.publisher(), interval, 1_000, |json| Event::new("/votes", json))?;
/// for name in ["Corgi", "Persian", "Corgi"] {
///     votes.add(name, 1)?;
/// }
/// votes.flush()?; // Subscribers of `/votes` get `data:{"Corgi":2,"Persian":1}`.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Rollup<V> {
    shared: Arc<Shared<V>>,
    /// Tells the thread when the last clone is gone.
    _closer: Arc<Closer<V>>,
}

impl<V> Clone for Rollup<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            _closer: Arc::clone(&self._closer),
        }
    }
}

impl<V> fmt::Debug for Rollup<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollup").finish_non_exhaustive()
    }
}

/// Why a change was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollupError {
    /// Its key would be one too many until the next event is published.
    Full,
    /// Nothing more is published: the last event was refused or the server has ended, as given here, or what makes events panicked.
    Ended(Option<SendError>),
}

impl Display for RollupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the roll-up has as many keys as it may have"),
            Self::Ended(Some(error)) => write!(f, "the roll-up has ended: {error}"),
            Self::Ended(None) => f.write_str("the roll-up has ended: its events cannot be made"),
        }
    }
}

impl std::error::Error for RollupError {}

impl Rollup<u64> {
    /// Adds up counts by key. `event` makes an event of the JSON object; `interval` is a day at the most, `max_keys` one at the least.
    ///
    /// # Errors
    /// Those of starting a thread.
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
    /// Keeps the last value of each key, which is JSON text such as `21.5` or `"on"` and is not checked. All else is as with
    /// [`Rollup::counts`].
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn latest(
        publisher: Publisher,
        interval: Duration,
        max_keys: usize,
        event: impl FnMut(String) -> Event + Send + 'static,
    ) -> io::Result<Self> {
        let pending = PendingCounts::new(|held, value| *held = value, interval, max_keys);
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
        let ending = Ending(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("fanfare-rollup".into())
            .spawn(move || {
                while let Some(entries) = ending.0.next() {
                    let published = publisher.send(event(json_object(&entries)));
                    if !ending.0.note(published) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            _closer: Arc::new(Closer(Arc::clone(&shared))),
            shared,
        })
    }
}

impl<V> Rollup<V> {
    /// Merges a change, and waits while its key would be one too many.
    ///
    /// # Errors
    /// [`RollupError::Ended`].
    pub fn add(&self, key: &str, value: V) -> Result<(), RollupError> {
        let mut value = value;
        let mut state = self.shared.lock();
        loop {
            state.check()?;
            value = match self.shared.add(&mut state, key, value) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            state = wait(&self.shared.progress, state);
        }
    }

    /// Merges a change if its key is not one too many.
    ///
    /// # Errors
    /// [`RollupError::Full`], or as [`Rollup::add`].
    pub fn try_add(&self, key: &str, value: V) -> Result<(), RollupError> {
        let mut state = self.shared.lock();
        state.check()?;
        let added = self.shared.add(&mut state, key, value);
        added.map_err(|_| RollupError::Full)
    }

    /// Has what has gathered published now, whenever it is due, and waits until it is: in the server's queue, before whatever is
    /// sent from then on.
    ///
    /// # Errors
    /// [`RollupError::Ended`].
    pub fn flush(&self) -> Result<(), RollupError> {
        let mut state = self.shared.lock();
        let mut target = state.taken;
        if state.pending.due().is_some() {
            target += 1;
            state.hurry = true;
            self.shared.work.notify_one();
        }
        while state.published < target {
            state.check()?;
            state = wait(&self.shared.progress, state);
        }
        state.check()
    }
}

/// What those who add and the thread that publishes share.
struct Shared<V> {
    state: Mutex<State<V>>,
    /// Something gathered in an empty pending, or cannot wait.
    work: Condvar,
    /// The pending was taken or published, or nothing will be any more.
    progress: Condvar,
}

struct State<V> {
    pending: PendingCounts<V>,
    /// What has gathered is published now.
    hurry: bool,
    /// Nobody is left to add anything.
    closed: bool,
    ended: Option<RollupError>,
    /// Tallies taken, and those of them published.
    taken: u64,
    published: u64,
}

impl<V> State<V> {
    fn check(&self) -> Result<(), RollupError> {
        self.ended.clone().map_or(Ok(()), Err)
    }
}

impl<V> Shared<V> {
    fn new(pending: PendingCounts<V>) -> Self {
        Self {
            state: Mutex::new(State {
                pending,
                hurry: false,
                closed: false,
                ended: None,
                taken: 0,
                published: 0,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a change is dated by the thread that makes it"
    )]
    fn add(&self, state: &mut State<V>, key: &str, value: V) -> Result<(), V> {
        let first = state.pending.due().is_none();
        state.pending.add(key, value, Instant::now())?;
        if first {
            self.work.notify_one();
        }
        Ok(())
    }

    /// What is to be published next, once it is due; `None` when there is nobody left to add anything.
    #[expect(clippy::disallowed_methods, reason = "roll-ups keep their own time")]
    fn next(&self) -> Option<BTreeMap<String, V>> {
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
            if left.is_zero() || state.hurry || state.closed {
                state.hurry = false;
                state.taken += 1;
                self.progress.notify_all();
                return Some(state.pending.take());
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes what became of what was taken last; returns whether to go on.
    fn note(&self, published: Result<(), SendError>) -> bool {
        let mut state = self.lock();
        state.published = state.taken;
        state.ended = published.err().map(|error| RollupError::Ended(Some(error)));
        self.progress.notify_all();
        state.ended.is_none()
    }
}

fn wait<'a, V>(condvar: &Condvar, state: MutexGuard<'a, State<V>>) -> MutexGuard<'a, State<V>> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Dropped with the last clone of a [`Rollup`].
struct Closer<V>(Arc<Shared<V>>);

impl<V> Drop for Closer<V> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

/// Dropped when the thread ends, however it does.
struct Ending<V>(Arc<Shared<V>>);

impl<V> Drop for Ending<V> {
    fn drop(&mut self) {
        self.0.lock().ended.get_or_insert(RollupError::Ended(None));
        self.0.progress.notify_all();
    }
}
