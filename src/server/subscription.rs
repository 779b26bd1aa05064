//! Subscribers in this process: an iterator over events, under the same rules as any stream.
//!
//! A [`Subscription`] stands behind a [`Pipe`] where others stand behind a socket: the engine gives it the same bytes, and
//! a pipe that is full is a socket that is full.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event_stream::decode::{Decoded, Decoder, StreamEvent};
use crate::status::DisconnectReason;

use super::command::{Command, Control};
use super::pipe::{Pipe, RecvTimeoutError};

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
        self.pipe.reason()
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
