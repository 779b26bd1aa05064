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
    /// Replies with the connection's key and ID.
    Subscribe(
        Namespaces,
        Arc<Pipe>,
        Sender<Result<(ConnId, u64), SubscribeError>>,
    ),
    /// Ends the subscription with this connection ID.
    Unsubscribe(u64),
    /// The pipe of this connection was full and has been emptied.
    PipeEmptied(ConnId),
    /// Drains the server within this time.
    Shutdown(Duration),
}

/// The connections that [`Handle::disconnect`](crate::Handle::disconnect) ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The connection with this ID.
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

/// The reason why [`Handle::subscribe`](crate::Handle::subscribe) failed.
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
/// The channel is unbounded, so that neither a thread that handles signals nor `Drop` blocks on it.
/// The number of commands in it has other bounds:
///
/// - a caller that expects a reply waits for it, so each thread has at most one such command;
/// - each subscription sends one [`Command::Unsubscribe`], and one [`Command::PipeEmptied`] each
///   time the event loop has filled its pipe;
/// - only an application that calls `shutdown` in a loop sends many [`Command::Shutdown`].
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
