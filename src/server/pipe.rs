//! The buffer between the event loop and one in-process subscription.

use std::io::IoSlice;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::status::DisconnectReason;

/// Bytes of an event stream on their way to a subscription, as in the send buffer of a socket.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct PipeState {
    bytes: Vec<u8>,
    /// Whether a write found too little room since the last read.
    full: bool,
    ended: Option<DisconnectReason>,
}

/// All bytes that were in a pipe.
#[derive(Debug)]
pub(super) struct PipeBytes {
    pub(super) bytes: Vec<u8>,
    /// Whether the event loop has more bytes and waits for [`Command::PipeEmptied`].
    ///
    /// [`Command::PipeEmptied`]: super::command::Command::PipeEmptied
    pub(super) was_full: bool,
}

impl PipeState {
    /// Takes all bytes, or nothing if there are none yet.
    fn take(&mut self) -> Result<Option<PipeBytes>, DisconnectReason> {
        if !self.bytes.is_empty() {
            return Ok(Some(PipeBytes {
                bytes: std::mem::take(&mut self.bytes),
                was_full: std::mem::take(&mut self.full),
            }));
        }
        self.ended.map_or(Ok(None), Err)
    }
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

    /// Writes the bytes that there is room for, and returns their number.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> usize {
        let mut state = self.lock();
        let before = state.bytes.len();
        for slice in slices {
            let room = self.capacity - state.bytes.len();
            let count = room.min(slice.len());
            state.bytes.extend_from_slice(&slice[..count]);
            if count < slice.len() {
                state.full = true;
                break;
            }
        }
        let written = state.bytes.len() - before;
        drop(state);
        self.changed.notify_one();
        written
    }

    /// Ends the pipe. Bytes that are in it can still be read.
    pub(super) fn end(&self, reason: DisconnectReason) {
        self.lock().ended = Some(reason);
        self.changed.notify_one();
    }

    /// Why the pipe has ended; `None` while it has not.
    pub(super) fn reason(&self) -> Option<DisconnectReason> {
        self.lock().ended
    }

    /// Reads all bytes; `None` if there are none now.
    ///
    /// # Errors
    /// The pipe has ended and is empty.
    pub(super) fn try_read(&self) -> Result<Option<PipeBytes>, DisconnectReason> {
        self.lock().take()
    }

    /// Waits for bytes and reads them all; `None` if there are none at the deadline.
    ///
    /// # Errors
    /// The pipe has ended and is empty.
    #[expect(
        clippy::disallowed_methods,
        reason = "a reader's deadline is checked on its own thread"
    )]
    pub(super) fn read(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<PipeBytes>, DisconnectReason> {
        let mut state = self.lock();
        loop {
            if let Some(chunk) = state.take()? {
                return Ok(Some(chunk));
            }
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
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
