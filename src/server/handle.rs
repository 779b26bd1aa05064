//! The remote control of a running server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::event::max_frame_bytes;
use crate::namespace::{Namespace, Namespaces};
use crate::status::{State, Status};

use super::command::{Command, Control, Disconnect, SubscribeError};
use super::pipe::Pipe;
use super::subscription::Subscription;

/// What a server and its handles know of its run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    addresses: Mutex<Vec<SocketAddr>>,
    #[cfg(feature = "admin")]
    admin_address: std::sync::OnceLock<SocketAddr>,
    /// The last status of a server that has ended, or that of one that has not begun; `None` while it runs.
    at_rest: Mutex<Option<Status>>,
}

impl Run {
    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    #[cfg(feature = "admin")]
    pub(crate) fn set_admin_address(&self, address: SocketAddr) {
        // Set once: it is bound once.
        let _ = self.admin_address.set(address);
    }

    pub(crate) fn set_at_rest(&self, status: Option<Status>) {
        *self.at_rest.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// A remote control of a server: clonable, and usable from any thread, before, while and after it runs.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) control: Control,
    pub(crate) run: Arc<Run>,
    pub(crate) pipe_bytes: usize,
    pub(crate) max_event: usize,
}

impl Handle {
    /// The address of the server's first listener; `None` before it is bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.run
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .first()
            .copied()
    }

    /// The address of the listener that serves the status page and nothing else; `None` if there is none.
    #[cfg(feature = "admin")]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.run.admin_address.get().copied()
    }

    /// The counters now. Those of a server that has ended stay; those of one that has not begun are all zero.
    pub fn status(&self) -> Status {
        let at_rest = || {
            *self
                .run
                .at_rest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(status) = at_rest() {
            return status;
        }
        // A server that neither answers nor left a status was ended by a panic of the application's own.
        self.ask(Command::Status)
            .or_else(at_rest)
            .unwrap_or(Status {
                state: State::Stopped,
                ..Status::default()
            })
    }

    /// Ends one connection by its id, or every event stream of a namespace and of those below it, for the reason `kicked`.
    /// Returns how many; waits for a server that is bound to run.
    pub fn disconnect(&self, whom: impl Into<Disconnect>) -> usize {
        let whom = whom.into();
        self.ask(|reply| Command::Disconnect(whom, reply))
            .unwrap_or(0)
    }

    /// Subscribes in this process to the events of some namespaces, from the next one on; waits for a server
    /// that is bound to run.
    ///
    /// # Errors
    /// When no namespace is given, when too many are in use, or when the server has ended.
    pub fn subscribe(&self, namespaces: &[Namespace]) -> Result<Subscription, SubscribeError> {
        let namespaces = Namespaces::new(namespaces.to_vec()).ok_or(SubscribeError::NoNamespace)?;
        let pipe = Arc::new(Pipe::new(self.pipe_bytes));
        let answer = self.ask(|reply| Command::Subscribe(namespaces, Arc::clone(&pipe), reply));
        let (conn, id) = answer.ok_or(SubscribeError::Closed)??;
        Ok(Subscription::new(
            pipe,
            self.control.clone(),
            conn,
            id,
            max_frame_bytes(self.max_event),
        ))
    }

    /// Drains the server: it stops accepting, gives out what is queued, ends its streams within `grace` in random order, each with a
    /// reconnection time, and then its run ends. Called again, with a shorter grace, it ends sooner; with zero, at once.
    pub fn shutdown(&self, grace: Duration) {
        self.control.send(Command::Shutdown(grace));
    }

    /// Sends a command and waits for the answer; `None` when the server has ended.
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.control.send(command(reply));
        answer.recv().ok()
    }
}
