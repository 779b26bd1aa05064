//! The buffer between the event loop and one in-process subscription.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::status::DisconnectReason;

/// Why no event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// None came in time.
    Timeout,
    /// The subscription is over, for this reason.
    Ended(DisconnectReason),
}

impl std::fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no event came in time"),
            Self::Ended(reason) => write!(f, "the subscription is over: {reason}"),
        }
    }
}

impl std::error::Error for RecvTimeoutError {}

/// Bytes on their way from the event loop to a subscription: a socket's buffer without the socket.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct PipeState {
    bytes: Vec<u8>,
    full: bool,
    ended: Option<DisconnectReason>,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what there is room for; returns how much that was.
    pub(super) fn put(&self, slices: &[std::io::IoSlice<'_>]) -> usize {
        let mut state = self.lock();
        let before = state.bytes.len();
        for slice in slices {
            let room = self.capacity - state.bytes.len();
            let taken = room.min(slice.len());
            state.bytes.extend_from_slice(&slice[..taken]);
            if taken < slice.len() {
                state.full = true;
                break;
            }
        }
        let put = state.bytes.len() - before;
        drop(state);
        self.changed.notify_one();
        put
    }

    pub(super) fn end(&self, reason: DisconnectReason) {
        self.lock().ended = Some(reason);
        self.changed.notify_one();
    }

    /// Why it ended; `None` while it has not.
    pub(super) fn reason(&self) -> Option<DisconnectReason> {
        self.lock().ended
    }

    /// Waits for bytes and takes them all; says too whether there was no room for more.
    #[expect(
        clippy::disallowed_methods,
        reason = "a reader's patience is measured on its own thread"
    )]
    pub(super) fn take(
        &self,
        deadline: Option<Instant>,
    ) -> Result<(Vec<u8>, bool), RecvTimeoutError> {
        let mut state = self.lock();
        loop {
            if !state.bytes.is_empty() {
                return Ok((
                    std::mem::take(&mut state.bytes),
                    std::mem::take(&mut state.full),
                ));
            }
            if let Some(reason) = state.ended {
                return Err(RecvTimeoutError::Ended(reason));
            }
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(RecvTimeoutError::Timeout);
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}
