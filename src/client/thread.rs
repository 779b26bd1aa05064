//! An event source on a thread of its own, for those who wait for several things at once.

use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::error::Error;
use super::source::{CloseHandle, EventSource};
use super::{State, Update};

/// An [`EventSource`] that reads on a thread of its own; its updates wait in a channel.
///
/// It is an iterator too. Dropping it closes it.
#[derive(Debug)]
pub struct EventSourceThread {
    updates: Receiver<Update>,
    close_handle: CloseHandle,
}

impl EventSourceThread {
    pub(super) fn start(source: EventSource, buffer: usize) -> Result<Self, Error> {
        let (sender, updates) = bounded(buffer.max(1));
        let close_handle = source.close_handle();
        close_handle.set_updates(updates.clone());
        thread::Builder::new()
            .name("event-source".into())
            .spawn(move || hand_out(source, &sender))
            .map_err(|error| Error::Network(error.to_string()))?;
        Ok(Self {
            updates,
            close_handle,
        })
    }

    /// The channel of updates, to select on; it ends when the event source does.
    pub fn receiver(&self) -> &Receiver<Update> {
        &self.updates
    }

    /// What closes it from another thread.
    pub fn close_handle(&self) -> CloseHandle {
        self.close_handle.clone()
    }

    /// Ends it; see [`CloseHandle::close`].
    pub fn close(&self) {
        self.close_handle.close();
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.close_handle.state()
    }
}

impl Iterator for EventSourceThread {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        self.updates.recv().ok()
    }
}

impl Drop for EventSourceThread {
    fn drop(&mut self) {
        self.close();
    }
}

fn hand_out(source: EventSource, sender: &Sender<Update>) {
    let closed = source.closed().clone();
    for update in source {
        // Selecting costs more than sending, so it is left for when there is no room.
        let Err(TrySendError::Full(update)) = sender.try_send(update) else {
            continue;
        };
        select! {
            send(sender, update) -> _ => {}
            recv(closed) -> _ => return,
        }
    }
}
