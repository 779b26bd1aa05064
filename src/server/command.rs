//! Commands from other threads to the event loop, and the channel that carries them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::namespace::{Namespace, Namespaces};
use crate::queue::Queue;
use crate::status::Status;

use super::pipe::Pipe;

/// What a handle asks of the event loop.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Sender<Status>),
    Disconnect(Disconnect, Sender<usize>),
    Subscribe(
        Namespaces,
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
    pub(super) fn new(queue: Arc<Queue>) -> (Self, Receiver<Command>) {
        let (sender, receiver) = unbounded();
        (Self { sender, queue }, receiver)
    }

    /// Does nothing when the server has ended.
    pub(super) fn send(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            self.queue.wake();
        }
    }
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
