//! The remote control of a running server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::event::max_frame_bytes;
use crate::namespace::Namespace;
use crate::queue::Queue;
use crate::status::{State, Status};
use crate::subscription::{Pipe, Subscription};

/// What a handle asks of the event loop.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Sender<Status>),
    Disconnect(Disconnect, Sender<usize>),
    Subscribe(
        Vec<Namespace>,
        Arc<Pipe>,
        Sender<Result<(u32, u64), SubscribeError>>,
    ),
    Unsubscribe(u64),
    /// The pipe of this subscription has room again.
    Drained(u32),
    Shutdown(Duration),
}

/// Which connections to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disconnect {
    /// The one with this id.
    Connection(u64),
    /// Every event stream of this namespace or of one below it.
    Namespace(Namespace),
}

impl From<u64> for Disconnect {
    fn from(id: u64) -> Self {
        Self::Connection(id)
    }
}

impl From<Namespace> for Disconnect {
    fn from(namespace: Namespace) -> Self {
        Self::Namespace(namespace)
    }
}

/// Sends commands, and wakes the event loop for each.
#[derive(Clone)]
pub(crate) struct Control {
    sender: Sender<Command>,
    queue: Arc<Queue>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    pub(crate) fn new(queue: Arc<Queue>) -> (Self, Receiver<Command>) {
        let (sender, receiver) = unbounded();
        (Self { sender, queue }, receiver)
    }

    /// Does nothing when the server has ended.
    pub(crate) fn send(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            self.queue.wake();
        }
    }
}

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

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// No namespace was given.
    NoNamespace,
    /// [`max_namespaces`](crate::Config::max_namespaces) are in use.
    TooManyNamespaces,
    /// The server has ended, or is about to.
    Closed,
}

impl std::fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoNamespace => "no namespace to subscribe to",
            Self::TooManyNamespaces => "too many namespaces are in use",
            Self::Closed => "the server has ended",
        })
    }
}

impl std::error::Error for SubscribeError {}

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
        if namespaces.is_empty() {
            return Err(SubscribeError::NoNamespace);
        }
        let pipe = Arc::new(Pipe::new(self.pipe_bytes));
        let answer =
            self.ask(|reply| Command::Subscribe(namespaces.to_vec(), Arc::clone(&pipe), reply));
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
