//! An event source on a thread of its own, for applications that wait on several channels.

use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::close::CloseHandle;
use super::error::Error;
use super::source::EventSource;
use super::{ReadyState, Update};

/// An [`EventSource`] that reads on a separate thread and sends its updates through a channel.
///
/// The channel holds [`buffer`](super::EventSourceBuilder::buffer) updates. While it is full, the
/// thread stops reading, and the server notices a slow client.
///
/// It is also an iterator over the updates. Dropping it closes the event source.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fanfare::client::EventSource;
///
/// let source = EventSource::builder("http://127.0.0.1:8001/subscribe/pets").spawn()?;
/// crossbeam_channel::select! {
///     recv(source.receiver()) -> update => println!("{update:?}"),
///     default(Duration::from_secs(5)) => println!("no update within five seconds"),
/// }
/// # Ok::<(), fanfare::client::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it closes the event source"]
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
            .spawn(move || forward(source, &sender))
            .map_err(Error::from_io)?;
        Ok(Self {
            updates,
            close_handle,
        })
    }

    /// The channel of updates, for use with `select!`. It is disconnected when the event source
    /// has ended or is closed.
    pub fn receiver(&self) -> &Receiver<Update> {
        &self.updates
    }

    /// A handle that closes the event source from any thread.
    pub fn close_handle(&self) -> CloseHandle {
        self.close_handle.clone()
    }

    /// Closes the event source; see [`CloseHandle::close`].
    pub fn close(&self) {
        self.close_handle.close();
    }

    /// The state of the event source, which can be ahead of the updates in the channel.
    pub fn state(&self) -> ReadyState {
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

/// Sends the updates of an event source until it ends or is closed.
fn forward(source: EventSource, sender: &Sender<Update>) {
    let closed = source.closed().clone();
    for update in source {
        // `select!` costs more than `try_send`, so it is used only when the channel is full.
        let Err(TrySendError::Full(update)) = sender.try_send(update) else {
            continue;
        };
        select! {
            send(sender, update) -> _ => {}
            recv(closed) -> _ => return,
        }
    }
}
