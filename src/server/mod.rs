//! The server: what is set before it runs, and running it.

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
/// Subscribers connect to `/subscribe/<namespace>` and get every event published to that namespace or to one below it. The
/// thread that calls [`Server::serve`] or [`Server::run`] is the event loop's until [`Handle::shutdown`]; any number
/// of servers can run in one process.
pub struct Server {
    config: Config,
    hooks: Hooks,
    listeners: Vec<mio::net::TcpListener>,
    /// Where nothing but the status page and its like is served.
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
    /// A server with the default [`Config`].
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

    /// Opens the event store, if there is one, and restores the events that it keeps. [`Server::run`] calls it, unless it
    /// was called before. It takes about a second per million events.
    ///
    /// # Errors
    /// `data_dir` cannot be created, read or written, or another process uses it; or the error of the application's
    /// own [`EventStore::open`](crate::EventStore::open).
    pub fn recover(&mut self) -> io::Result<()> {
        if self.startup.is_none() {
            self.startup = Some(Startup::new(&self.config, &mut self.hooks)?);
        }
        Ok(())
    }

    /// A way to send events, from any thread.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// A remote control, for any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Listens on an address, port 0 for any free one, and returns the one it got. Called again, the server
    /// listens on several. Connections wait until it runs.
    ///
    /// # Errors
    /// Those of resolving the address and of `bind(2)` and `listen(2)`: the port is taken, the address is not this machine's,
    /// it may not be used. Likewise of the address of the status page, if it has one of its own.
    pub fn bind(&mut self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
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
            let about = |error: io::Error| {
                io::Error::new(
                    error.kind(),
                    format!("the status page's address {address}: {error}"),
                )
            };
            let listener = socket::listen(address, &self.config).map_err(about)?;
            self.handle.info().set_admin_address(listener.local_addr()?);
            self.admin_listener = Some(listener);
        }
        Ok(())
    }

    /// Runs the event loop on this thread until [`Handle::shutdown`].
    ///
    /// # Errors
    /// Those of [`Server::recover`]; or when the system has no means to watch sockets, at the start or, which should never be, later.
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
        let startup = startup.expect("it has just been done");
        // Others may hold publishers and handles; the event loop needs none.
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

    /// [`Server::bind`], then [`Server::run`].
    ///
    /// # Errors
    /// As those.
    pub fn serve(mut self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.bind(address)?;
        self.run()
    }

    /// [`Server::bind`], then [`Server::run`] on a thread of its own.
    ///
    /// # Errors
    /// Those of [`Server::bind`] and [`Server::recover`], and of starting a thread.
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

/// A server that runs on a thread of its own.
#[derive(Debug)]
pub struct ServerThread {
    handle: Handle,
    publisher: Publisher,
    thread: JoinHandle<io::Result<()>>,
}

impl ServerThread {
    /// Its remote control.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A way to send it events.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Waits until it ends, which [`Handle::shutdown`] brings about.
    ///
    /// # Errors
    /// As [`Server::run`].
    ///
    /// # Panics
    /// When a hook panicked on its thread, with what it panicked with.
    pub fn join(self) -> io::Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
