//! The server: binding, recovering, and running the event loop.

pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod event_loop;
pub(crate) mod handle;
pub(crate) mod hooks;
pub(crate) mod listeners;
pub(crate) mod pipe;
#[cfg(target_os = "linux")]
pub(crate) mod sendfile;
pub(crate) mod socket;
mod startup;
pub(crate) mod store_thread;
pub(crate) mod subscription;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use crate::config::Config;
use crate::publisher::Publisher;
use crate::queue::{self, QueueReader};

use command::{Command, Control};
use event_loop::{EventLoop, Inputs};
use handle::Handle;
use hooks::Hooks;
use listeners::Sockets;
use startup::Startup;

/// A broadcast server for event streams.
///
/// ```no_run
/// use fanfare::{Event, Server};
///
/// let server = Server::new();
/// let publisher = server.publisher();
/// std::thread::spawn(move || publisher.send(Event::new("/time", "6:07:17 pm")));
/// server.serve("127.0.0.1:8001")?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Subscribers connect to `/subscribe/<namespace>` and receive every event published to that
/// namespace or to one below it. [`Server::serve`] and [`Server::run`] occupy the thread that calls
/// them until [`Handle::shutdown`]. Any number of servers can run in one process.
///
/// # Panics in hooks
/// If a [hook](crate::Builder#hooks) panics, the server ends at once: connections and subscriptions
/// end without a drain, and queued events are lost. The panic continues in the caller of
/// [`Server::run`] or [`ServerThread::join`]. Handles then report
/// [`State::Stopped`](crate::State::Stopped), and publishers fail with
/// [`SendError::Closed`](crate::SendError::Closed).
///
/// # SIGPIPE
/// The process must ignore, block or catch SIGPIPE, which a write to a closed connection can raise.
/// Rust programs ignore it from their start. On Linux, the server also uses `sendfile`, and for
/// that checks `/proc/thread-self/status`: if the signal would end the process, or the file cannot
/// be read, it copies the bytes for each socket instead.
#[must_use = "a server does nothing until `run`, `serve` or `spawn`"]
pub struct Server {
    config: Config,
    hooks: Hooks,
    listeners: Vec<mio::net::TcpListener>,
    /// The listener that serves only the status page and the metrics.
    admin_listener: Option<mio::net::TcpListener>,
    publisher: Publisher,
    queue: QueueReader,
    handle: Handle,
    commands: Receiver<Command>,
    startup: Option<Startup>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Creates a server with the default [`Config`].
    pub fn new() -> Self {
        Self::with(Config::default(), Hooks::default())
    }

    fn with(config: Config, hooks: Hooks) -> Self {
        let (sender, queue) = queue::channel(config.queue, config.queue_bytes);
        let publisher = Publisher::new(Arc::clone(&sender), config.event_limits());
        let (control, commands) = Control::new(sender);
        let pipe_bytes = if config.send_buffer > 0 {
            config.send_buffer
        } else {
            Config::default().send_buffer
        };
        let handle = Handle::new(control, pipe_bytes, config.max_event);
        Self {
            config,
            hooks,
            listeners: Vec::new(),
            admin_listener: None,
            publisher,
            queue,
            handle,
            commands,
            startup: None,
        }
    }

    /// Opens the event store, if there is one, and restores its events. This takes about a second
    /// per million events.
    ///
    /// [`Server::run`] calls it if the application has not.
    ///
    /// # Errors
    /// The directory `data_dir` cannot be created, read or written, or another process uses
    /// it; or the error of the application's own [`EventStore::open`](crate::EventStore::open).
    pub fn recover(&mut self) -> io::Result<()> {
        if self.startup.is_none() {
            self.startup = Some(Startup::new(&self.config, &mut self.hooks)?);
        }
        Ok(())
    }

    /// A publisher, which sends events to this server from any thread.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// A handle, which controls this server from any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Listens on an address, and returns the address with its actual port. Port 0 chooses a free
    /// port.
    ///
    /// Each call adds a listener. Connections wait until the server runs. The first call also binds
    /// the listener of the status page, if it has an address of its own (the option `admin`).
    ///
    /// # Errors
    /// The name cannot be resolved, or the error of `bind(2)` or `listen(2)`: for
    /// example, the port is in use, or the address does not belong to this machine.
    pub fn bind(&mut self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let no_address = "the host name must have an address";
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, no_address);
        for address in address.to_socket_addrs()? {
            match socket::listen(address, &self.config) {
                Ok(listener) => {
                    let bound = listener.local_addr()?;
                    #[cfg(feature = "admin")]
                    self.bind_admin()?;
                    self.listeners.push(listener);
                    let addresses = self.listeners.iter().map(mio::net::TcpListener::local_addr);
                    self.handle
                        .info()
                        .set_addresses(addresses.collect::<io::Result<_>>()?);
                    return Ok(bound);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    #[cfg(feature = "admin")]
    fn bind_admin(&mut self) -> io::Result<()> {
        if let crate::config::Admin::At(address) = self.config.admin
            && self.admin_listener.is_none()
        {
            let listener = socket::listen(address, &self.config)
                .map_err(|error| io::Error::new(error.kind(), AdminBindError { address, error }))?;
            self.handle.info().set_admin_address(listener.local_addr()?);
            self.admin_listener = Some(listener);
        }
        Ok(())
    }

    /// Runs the event loop on this thread until [`Handle::shutdown`].
    ///
    /// # Errors
    /// As [`Server::recover`]; or the operating system's poller cannot be created, or fails while
    /// the server runs.
    pub fn run(mut self) -> io::Result<()> {
        self.recover()?;
        let Self {
            config,
            hooks,
            listeners,
            admin_listener,
            queue,
            handle,
            commands,
            publisher,
            startup,
        } = self;
        let startup = startup.expect("`recover` has set it");
        drop(publisher);
        let sockets = Sockets {
            common: listeners,
            admin: admin_listener,
        };
        let inputs = Inputs {
            queue,
            commands,
            hooks,
            info: Arc::clone(handle.info()),
        };
        EventLoop::new(&config, sockets, inputs, startup)?.run()
    }

    /// Calls [`Server::bind`], then [`Server::run`].
    ///
    /// # Errors
    /// As these methods.
    pub fn serve(mut self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.bind(address)?;
        self.run()
    }

    /// Calls [`Server::bind`] and [`Server::recover`], then [`Server::run`] on a separate thread.
    ///
    /// # Errors
    /// As [`Server::bind`] and [`Server::recover`]; or the thread cannot be started.
    pub fn spawn(mut self, address: impl ToSocketAddrs) -> io::Result<ServerThread> {
        self.bind(address)?;
        self.recover()?;
        let handle = self.handle();
        let publisher = self.publisher();
        let thread = std::thread::Builder::new()
            .name("fanfare".into())
            .spawn(move || self.run())?;
        Ok(ServerThread {
            handle,
            publisher,
            thread,
        })
    }
}

/// The error of binding the status page's own listener.
#[cfg(feature = "admin")]
#[derive(Debug)]
struct AdminBindError {
    address: SocketAddr,
    error: io::Error,
}

#[cfg(feature = "admin")]
impl fmt::Display for AdminBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        write!(f, "the status page cannot listen on {address}: {error}")
    }
}

#[cfg(feature = "admin")]
impl std::error::Error for AdminBindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A server that runs on a separate thread, started by [`Server::spawn`].
///
/// Dropping it neither ends the server nor waits for it.
#[derive(Debug)]
#[must_use = "`join` reports how the server ended"]
pub struct ServerThread {
    handle: Handle,
    publisher: Publisher,
    thread: JoinHandle<io::Result<()>>,
}

impl ServerThread {
    /// A handle, which controls the server.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A publisher, which sends events to the server.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Waits until the server ends. [`Handle::shutdown`] ends it.
    ///
    /// # Errors
    /// As [`Server::run`].
    ///
    /// # Panics
    /// Continues the panic of a hook on the server's thread.
    pub fn join(self) -> io::Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(all(test, feature = "admin"))]
mod tests {
    use super::*;
    use crate::Admin;

    #[test]
    fn the_error_of_the_status_pages_listener_has_its_address_and_source() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let builder = Server::builder().admin(Admin::At(address));
        let error = builder.build().unwrap().bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let source = error.get_ref().and_then(std::error::Error::source);
        let source = source.and_then(|source| source.downcast_ref::<io::Error>());
        assert!(source.is_some_and(|source| source.raw_os_error().is_some()));
    }
}
