//! The server: what is set before it runs, and running it.

pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod event_loop;
pub(crate) mod handle;
pub(crate) mod hooks;
pub(crate) mod pipe;
#[cfg(target_os = "linux")]
pub(crate) mod sendfile;
pub(crate) mod socket;
pub(crate) mod store_thread;
pub(crate) mod subscription;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use crossbeam_channel::Receiver;

use crate::config::Config;
use crate::engine::Engine;
use crate::publisher::Publisher;
use crate::queue::{self, QueueReader};
use crate::status::Status;
use crate::store::EventStore;
#[cfg(feature = "disk")]
use crate::store::disk::Disk;

use command::{Command, Control};
use event_loop::{EventLoop, Listeners};
use handle::{Handle, Run};
use hooks::Hooks;

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

/// What a server begins with: its engine, and the store of its events, if there is one.
struct Startup {
    engine: Engine,
    event_store: Option<Box<dyn EventStore>>,
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
        let run = Arc::new(Run::default());
        run.set_at_rest(Some(Status::default()));
        let pipe_bytes = if config.send_buffer > 0 {
            config.send_buffer
        } else {
            Config::default().send_buffer
        };
        let handle = Handle {
            control,
            run,
            pipe_bytes,
            max_event: config.max_event,
        };
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

    /// Opens the store of events, if there is one, and takes in what it retains. [`Server::run`] does that if it was not done before; it may
    /// take a second for each million of events.
    ///
    /// # Errors
    /// The store cannot be used: `data_dir` cannot be made, written or read, or another process has it; or whatever the application's own
    /// [`EventStore`] says.
    #[expect(
        clippy::disallowed_methods,
        reason = "the ages of events are counted from now on"
    )]
    pub fn recover(&mut self) -> io::Result<()> {
        if self.startup.is_some() {
            return Ok(());
        }
        let random = RandomState::new();
        // Eight digits in base 36: no two starts have the same.
        let epoch = random.hash_one(1) >> 23;
        let most = self.config.max_connections;
        let mut engine = Engine::new(
            self.config.clone(),
            self.config.access(&[]),
            most.unwrap_or_else(socket::connection_limit),
            self.hooks.route.take(),
            random.hash_one(0),
            epoch,
            Instant::now(),
        );
        let mut event_store = self.hooks.event_store.take();
        #[cfg(feature = "disk")]
        if event_store.is_none() {
            let open = |path: &std::path::PathBuf| {
                Disk::open(path, self.config.fsync, Disk::SEGMENT_BYTES)
            };
            let disk = self.config.data_dir.as_ref().map(open).transpose()?;
            event_store = disk.map(|disk| Box::new(disk) as Box<dyn EventStore>);
        }
        if let Some(event_store) = &mut event_store {
            let now = SystemTime::now();
            engine.set_epoch(event_store.epoch(epoch)?);
            engine.set_last_events(event_store.last_events()?);
            let recovered = event_store.recover(&mut |record, at| {
                engine.restore(&record, now.duration_since(at).unwrap_or_default());
            })?;
            engine.use_store(recovered.next, Instant::now());
            if let Some(dropped) = recovered.dropped {
                let warning = format!("history could not be recovered in full: {dropped}");
                self.hooks.warn(&warning);
            }
        }
        self.startup = Some(Startup {
            engine,
            event_store,
        });
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
                        .run
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
            self.handle.run.set_admin_address(listener.local_addr()?);
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
        let listeners = Listeners {
            common: listeners,
            admin: admin_listener,
        };
        EventLoop::new(
            config, listeners, queue, commands, hooks, handle.run, startup,
        )?
        .run()
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
