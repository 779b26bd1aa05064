//! Subscribers in this process: an iterator over events, under the same rules as any stream.
//!
//! A [`Subscription`] stands behind a [`Pipe`] where others stand behind a socket: the engine gives it the same bytes, and
//! a pipe that is full is a socket that is full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event_stream::decode::{Decoded, Decoder, StreamEvent};
use crate::server::handle::{Command, Control};
use crate::status::DisconnectReason;

/// Events of some namespaces, received in this process.
///
/// It is an iterator that waits for the next event and ends when the server ends the subscription: when it shuts down, or
/// when more than [`max_lag`](crate::Config::max_lag) bytes were left waiting. [`Subscription::reason`] tells which.
/// Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pipe: Arc<Pipe>,
    control: Control,
    conn: u32,
    id: u64,
    decoder: Decoder,
    decoded: VecDeque<StreamEvent>,
}

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

impl Subscription {
    pub(crate) fn new(
        pipe: Arc<Pipe>,
        control: Control,
        conn: u32,
        id: u64,
        max_frame_bytes: usize,
    ) -> Self {
        let decoder = Decoder::with_limit(max_frame_bytes);
        Self {
            pipe,
            control,
            conn,
            id,
            decoder,
            decoded: VecDeque::new(),
        }
    }

    /// Its connection's number, as [`Handle::disconnect`](crate::Handle::disconnect) takes it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the next event; `None` when the subscription is over.
    pub fn recv(&mut self) -> Option<StreamEvent> {
        self.recv_until(None).ok()
    }

    /// Waits for the next event, no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] when none came in time, [`RecvTimeoutError::Ended`] when none will.
    #[expect(
        clippy::disallowed_methods,
        reason = "a reader's patience is measured on its own thread"
    )]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<StreamEvent, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Why the subscription is over; `None` while it is not.
    pub fn reason(&self) -> Option<DisconnectReason> {
        self.pipe.lock().ended
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<StreamEvent, RecvTimeoutError> {
        loop {
            if let Some(event) = self.decoded.pop_front() {
                return Ok(event);
            }
            let (bytes, was_full) = self.pipe.take(deadline)?;
            if was_full {
                self.control.send(Command::Drained(self.conn));
            }
            let decoded = &mut self.decoded;
            let whole = self.decoder.push(&bytes, &mut |item| {
                if let Decoded::Event(event) = item {
                    decoded.push_back(event);
                }
            });
            if whole.is_err() {
                // Only bytes that an application encoded itself can be larger than the largest event.
                return Err(RecvTimeoutError::Ended(DisconnectReason::Protocol));
            }
        }
    }
}

impl Iterator for Subscription {
    type Item = StreamEvent;

    fn next(&mut self) -> Option<StreamEvent> {
        self.recv()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.control.send(Command::Unsubscribe(self.id));
    }
}

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
    pub(crate) fn new(capacity: usize) -> Self {
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
    pub(crate) fn put(&self, slices: &[std::io::IoSlice<'_>]) -> usize {
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

    pub(crate) fn end(&self, reason: DisconnectReason) {
        self.lock().ended = Some(reason);
        self.changed.notify_one();
    }

    /// Waits for bytes and takes them all; says too whether there was no room for more.
    #[expect(
        clippy::disallowed_methods,
        reason = "a reader's patience is measured on its own thread"
    )]
    fn take(&self, deadline: Option<Instant>) -> Result<(Vec<u8>, bool), RecvTimeoutError> {
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
