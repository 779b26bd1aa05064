//! The commands of other threads to the event loop, and the channel that carries them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::engine::ConnId;
use crate::namespace::{Namespace, Namespaces};
use crate::queue::Queue;
use crate::status::Status;

use super::pipe::Pipe;

/// A request to the event loop.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Sender<Status>),
    /// Replies with the number of connections that it ended.
    Disconnect(Disconnect, Sender<usize>),
    /// Replies with the connection's key and id.
    Subscribe(
        Namespaces,
        Arc<Pipe>,
        Sender<Result<(ConnId, u64), SubscribeError>>,
    ),
    /// Ends the subscription with this connection id.
    Unsubscribe(u64),
    /// The pipe of this connection was full and has been emptied.
    PipeEmptied(ConnId),
    /// Drains the server within this time.
    Shutdown(Duration),
}

/// Which connections [`Handle::disconnect`](crate::Handle::disconnect) ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The connection with this id.
    Connection(u64),
    /// All event streams of this namespace and of the namespaces below it.
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

/// Why there is no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The list of namespaces is empty.
    NoNamespace,
    /// [`max_namespaces`](crate::Config::max_namespaces) namespaces are in use.
    TooManyNamespaces,
    /// The server has ended or is shutting down.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNamespace => "the list of namespaces is empty",
            Self::TooManyNamespaces => "too many namespaces are in use",
            Self::Closed => "the server has ended",
        })
    }
}

impl Error for SubscribeError {}

/// Sends commands to the event loop and wakes it.
///
/// The channel is unbounded, so that neither a signal handler's thread nor `Drop` blocks on it. In practice it is
/// bounded: a caller of a command with a reply waits for the reply, so there is one of these per
/// thread; there is one [`Command::Unsubscribe`] per subscription, and one [`Command::PipeEmptied`]
/// each time the event loop fills a pipe. Only [`Command::Shutdown`] can be sent without limit, by an
/// application that calls `shutdown` in a loop.
#[derive(Clone)]
pub(crate) struct Control {
    sender: Sender<Command>,
    queue: Arc<Queue>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    pub(super) fn new(queue: Arc<Queue>) -> (Self, Receiver<Command>) {
        let (sender, receiver) = unbounded();
        (Self { sender, queue }, receiver)
    }

    /// Sends a command. Does nothing if the server has ended.
    pub(super) fn send(&self, command: Command) {
        if self.sender.send(command).is_ok() {
            self.queue.wake();
        }
    }
}
