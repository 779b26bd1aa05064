//! The handle: how an application controls a server from any thread.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::event::max_frame_bytes;
use crate::namespace::{Namespace, Namespaces};
use crate::status::{State, Status};

use super::command::{Command, Control, Disconnect, SubscribeError};
use super::pipe::Pipe;
use super::subscription::Subscription;

/// The properties of a server that handles know without asking the event loop.
#[derive(Debug, Default)]
pub(crate) struct ServerInfo {
    addresses: Mutex<Vec<SocketAddr>>,
    #[cfg(feature = "admin")]
    admin_address: std::sync::OnceLock<SocketAddr>,
    /// The status of a server that does not run: zeros before it runs, the last counters after.
    /// `None` while it runs.
    offline_status: Mutex<Option<Status>>,
}

impl ServerInfo {
    pub(super) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        *lock(&self.addresses) = addresses;
    }

    #[cfg(feature = "admin")]
    pub(super) fn set_admin_address(&self, address: SocketAddr) {
        // Set once: it is bound once.
        let _ = self.admin_address.set(address);
    }

    pub(super) fn set_offline_status(&self, status: Option<Status>) {
        *lock(&self.offline_status) = status;
    }

    fn offline_status(&self) -> Option<Status> {
        *lock(&self.offline_status)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Controls a server from any thread, before, while and after it runs. Clones control the same
/// server.
///
/// ```
/// use std::time::Duration;
/// use fanfare::{Namespace, Server, State};
///
/// let server = Server::new().spawn("127.0.0.1:0")?;
/// let handle = server.handle().clone();
/// println!("listening on {:?}", handle.local_addr());
/// assert_eq!(handle.status().connections, 0);
///
/// // End all event streams of `/pets` and of the namespaces below it.
/// let ended = handle.disconnect(Namespace::parse("/pets")?);
/// assert_eq!(ended, 0);
///
/// handle.shutdown(Duration::from_secs(10));
/// server.join()?;
/// assert_eq!(handle.status().state, State::Stopped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
/// [`Handle::status`], [`Handle::disconnect`] and [`Handle::subscribe`] wait for the event loop's
/// reply, which takes one turn of the loop. Do not call them in a hook: a hook runs on the event
/// loop's thread, so the call would wait forever. [`Handle::shutdown`] does not wait.
#[derive(Debug, Clone)]
pub struct Handle {
    control: Control,
    info: Arc<ServerInfo>,
    /// The size of a subscription's buffer.
    pipe_bytes: usize,
    max_event: usize,
}

impl Handle {
    pub(super) fn new(control: Control, pipe_bytes: usize, max_event: usize) -> Self {
        let info = Arc::new(ServerInfo::default());
        info.set_offline_status(Some(Status::default()));
        Self {
            control,
            info,
            pipe_bytes,
            max_event,
        }
    }

    pub(super) fn info(&self) -> &Arc<ServerInfo> {
        &self.info
    }

    /// Returns the address of the server's first listener; `None` before
    /// [`Server::bind`](crate::Server::bind).
    pub fn local_addr(&self) -> Option<SocketAddr> {
        lock(&self.info.addresses).first().copied()
    }

    /// Returns the address of the status page's own listener; `None` if the page has none, or it is
    /// not bound yet.
    #[cfg(feature = "admin")]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.info.admin_address.get().copied()
    }

    /// Returns the server's state and counters.
    ///
    /// Counters are zero before the server runs. After it has ended they keep their last values; if
    /// a hook panicked, they are zero, and the state is [`State::Stopped`].
    pub fn status(&self) -> Status {
        if let Some(status) = self.info.offline_status() {
            return status;
        }
        // A server that neither replies nor leaves a status was ended by a panic in a hook.
        self.request(Command::Status)
            .or_else(|| self.info.offline_status())
            .unwrap_or(Status {
                state: State::Stopped,
                ..Status::default()
            })
    }

    /// Ends one connection by its ID, or all event streams of a namespace and of the namespaces
    /// below it. Returns the number of connections that it ended.
    ///
    /// Their [`DisconnectReason`](crate::DisconnectReason) is `Kicked`. Clients may reconnect at
    /// once. If the server does not run yet, the call waits until it does. If the server has ended,
    /// it returns 0.
    pub fn disconnect(&self, target: impl Into<Disconnect>) -> usize {
        let target = target.into();
        self.request(|reply| Command::Disconnect(target, reply))
            .unwrap_or(0)
    }

    /// Subscribes to namespaces in this process. The subscription receives events that the server
    /// takes from its queue after this call.
    ///
    /// If the server does not run yet, the call waits until it does.
    ///
    /// # Errors
    /// The list is empty, too many namespaces are in use, or the server has ended or is shutting
    /// down.
    pub fn subscribe(&self, namespaces: &[Namespace]) -> Result<Subscription, SubscribeError> {
        let namespaces = Namespaces::new(namespaces.to_vec()).ok_or(SubscribeError::NoNamespace)?;
        let pipe = Arc::new(Pipe::new(self.pipe_bytes));
        let reply = self.request(|reply| Command::Subscribe(namespaces, Arc::clone(&pipe), reply));
        let (conn, id) = reply.ok_or(SubscribeError::Closed)??;
        Ok(Subscription::new(
            pipe,
            self.control.clone(),
            conn,
            id,
            max_frame_bytes(self.max_event),
        ))
    }

    /// Drains the server, and returns at once.
    ///
    /// The server stops accepting connections and delivers the events that are in the queue. Within
    /// `grace` it ends its streams, in random order and at an even rate, each after a reconnection
    /// time. Then [`Server::run`](crate::Server::run) returns.
    ///
    /// A further call with a shorter grace ends the server sooner; with zero, at once.
    pub fn shutdown(&self, grace: Duration) {
        self.control.send(Command::Shutdown(grace));
    }

    /// Sends a command and waits for the reply. Returns `None` if the server has ended.
    fn request<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.control.send(command(reply));
        answer.recv().ok()
    }
}
