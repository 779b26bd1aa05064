//! Closing an event source from any thread, and observing its state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::Agent;

use super::{ReadyState, Update};

/// Closes an [`EventSource`](super::EventSource) from any thread.
///
/// Clones close the same event source. Dropping a handle does not close it.
#[derive(Debug, Clone)]
pub struct CloseHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agent: Agent,
    /// The state that the event source last set; `is_closed` takes precedence.
    state: Mutex<ReadyState>,
    is_closed: AtomicBool,
    /// Dropped to disconnect the receiver that `new` returned.
    close_signal: Mutex<Option<Sender<()>>>,
    /// The channel of an event source on a thread of its own, which closing empties.
    updates: OnceLock<Receiver<Update>>,
}

impl CloseHandle {
    /// A handle for an event source that uses this agent, and a receiver that is disconnected when
    /// the event source is closed.
    pub(super) fn new(agent: Agent) -> (Self, Receiver<()>) {
        let (close_signal, closed) = bounded(0);
        let inner = Inner {
            agent,
            state: Mutex::new(ReadyState::Connecting),
            is_closed: AtomicBool::new(false),
            close_signal: Mutex::new(Some(close_signal)),
            updates: OnceLock::new(),
        };
        (Self(Arc::new(inner)), closed)
    }

    /// Closes the event source: it returns no more updates and its connection is shut down.
    ///
    /// Returns without waiting, and does nothing if the event source is closed already. A thread
    /// that is just receiving an update may still get it.
    pub fn close(&self) {
        self.end();
        if let Some(updates) = self.0.updates.get() {
            updates.try_iter().for_each(drop);
        }
    }

    /// Closes the event source but keeps the updates that are already in the channel.
    pub(super) fn end(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        if lock(&self.0.close_signal).take().is_some() {
            self.0.agent.clone().shutdown();
        }
    }

    /// The state of the event source.
    pub fn state(&self) -> ReadyState {
        if self.is_closed() {
            return ReadyState::Closed;
        }
        *lock(&self.0.state)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn set_state(&self, state: ReadyState) {
        *lock(&self.0.state) = state;
    }

    pub(super) fn set_updates(&self, updates: Receiver<Update>) {
        let _ = self.0.updates.set(updates);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
