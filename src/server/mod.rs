//! The server: what is set before it runs, and running it.

pub(crate) mod event_loop;
pub(crate) mod handle;
#[cfg(target_os = "linux")]
pub(crate) mod sendfile;
pub(crate) mod socket;
pub(crate) mod store;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use crate::config::{Config, ConfigError};
#[cfg(feature = "disk")]
use crate::disk::Disk;
use crate::engine::{Engine, RouteHook, Routing};
use crate::history::History;
use crate::http::request::RequestHead;
use crate::network::Network;
use crate::publisher::{self, Intake, Publisher};
use crate::stats::{ConnectionInfo, DisconnectReason, Status};

use event_loop::{EventLoop, Listeners};
use handle::{Command, Control, Handle, Run};

type ConnectHook = Box<dyn FnMut(&ConnectionInfo) + Send>;
type DisconnectHook = Box<dyn FnMut(&ConnectionInfo, DisconnectReason) + Send>;
type WarningHook = Box<dyn FnMut(&str) + Send>;

/// What the application wants to be told, and asked.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) route: Option<RouteHook>,
    pub(crate) on_connect: Option<ConnectHook>,
    pub(crate) on_disconnect: Option<DisconnectHook>,
    pub(crate) on_warning: Option<WarningHook>,
    pub(crate) history: Option<Box<dyn History>>,
}

impl Hooks {
    pub(crate) fn warn(&mut self, message: &str) {
        if let Some(hook) = &mut self.on_warning {
            hook(message);
        }
    }
}

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
    intake: Intake,
    handle: Handle,
    commands: Receiver<Command>,
    recovered: Option<Recovered>,
}

/// What a server begins with: its engine, and the store of its events, if there is one.
struct Recovered {
    engine: Engine,
    history: Option<Box<dyn History>>,
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

    /// A server to be configured first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn with(config: Config, hooks: Hooks) -> Self {
        let (publisher, intake) =
            publisher::queue(config.queue, config.queue_bytes, config.event_limits());
        let (control, commands) = Control::new(Arc::clone(&intake.shared));
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
            intake,
            handle,
            commands,
            recovered: None,
        }
    }

    /// Opens the store of events, if there is one, and takes in what it retains. [`Server::run`] does that if it was not done before; it may
    /// take a second for each million of events.
    ///
    /// # Errors
    /// The store cannot be used: `data_dir` cannot be made, written or read, or another process has it; or whatever the application's own
    /// [`History`] says.
    #[expect(
        clippy::disallowed_methods,
        reason = "the ages of events are counted from now on"
    )]
    pub fn recover(&mut self) -> io::Result<()> {
        if self.recovered.is_some() {
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
        let mut history = self.hooks.history.take();
        #[cfg(feature = "disk")]
        if history.is_none() {
            let open = |path: &std::path::PathBuf| {
                Disk::open(path, self.config.fsync, Disk::SEGMENT_BYTES)
            };
            let disk = self.config.data_dir.as_ref().map(open).transpose()?;
            history = disk.map(|disk| Box::new(disk) as Box<dyn History>);
        }
        if let Some(history) = &mut history {
            let now = SystemTime::now();
            engine.set_epoch(history.epoch(epoch)?);
            engine.set_forgotten(history.forgotten()?);
            let recovered = history.recover(&mut |record, at| {
                engine.restore(&record, now.duration_since(at).unwrap_or_default());
            })?;
            engine.use_store(recovered.next, Instant::now());
            if let Some(dropped) = recovered.dropped {
                let warning = format!("history could not be recovered in full: {dropped}");
                self.hooks.warn(&warning);
            }
        }
        self.recovered = Some(Recovered { engine, history });
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
            intake,
            handle,
            commands,
            publisher,
            recovered,
        } = self;
        let recovered = recovered.expect("it has just been done");
        // Others may hold publishers and handles; the event loop needs none.
        drop(publisher);
        let listeners = Listeners {
            common: listeners,
            admin: admin_listener,
        };
        EventLoop::new(
            config, listeners, intake, commands, hooks, handle.run, recovered,
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

/// Sets a server's options and hooks.
///
/// ```
/// use std::time::Duration;
/// use fanfare::Server;
///
/// let server = Server::builder().keepalive(Duration::from_secs(30)).max_lag(4 << 20).build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Builder {
    config: Config,
    hooks: Hooks,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One setter for each option, named and documented as in [`Config`].
macro_rules! setters {
    ($($option:ident: $type:ty),* $(,)?) => {$(
        #[doc = concat!("Sets [`Config::", stringify!($option), "`].")]
        pub fn $option(mut self, $option: $type) -> Self {
            self.config.$option = $option;
            self
        }
    )*};
}

impl Builder {
    /// Sets every option at once.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    setters! {
        keepalive: Duration,
        retry: Duration,
        max_lag: usize,
        write_timeout: Duration,
        head_timeout: Duration,
        max_namespaces: usize,
        namespace_limits: crate::namespace::NamespaceLimits,
        max_event: usize,
        queue: usize,
        queue_bytes: usize,
        send_buffer: usize,
        write_budget: usize,
        coalesce: Duration,
        history_events: usize,
        history_age: Duration,
        history_bytes: usize,
        history_total: usize,
        drain: Duration,
        mask_addresses: bool,
    }

    /// Sets [`Config::keepalive_text`].
    pub fn keepalive_text(mut self, text: impl Into<String>) -> Self {
        self.config.keepalive_text = text.into();
        self
    }

    /// Sets [`Config::gap_event`].
    pub fn gap_event(mut self, event_type: impl Into<String>) -> Self {
        self.config.gap_event = event_type.into();
        self
    }

    /// Sets [`Config::data_dir`].
    #[cfg(feature = "disk")]
    pub fn data_dir(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.config.data_dir = Some(path.into());
        self
    }

    /// Sets [`Config::fsync`].
    #[cfg(feature = "disk")]
    pub fn fsync(mut self, fsync: crate::config::Fsync) -> Self {
        self.config.fsync = fsync;
        self
    }

    /// Sets [`Config::max_connections`].
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = Some(connections);
        self
    }

    /// Sets [`Config::cors_origins`].
    pub fn cors_origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.config.cors_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`Config::headers`].
    pub fn headers<N: Into<String>, V: Into<String>>(
        mut self,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.config.headers = headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self
    }

    /// Sets [`Config::publish_token`].
    pub fn publish_token(mut self, token: impl Into<String>) -> Self {
        self.config.publish_token = Some(token.into());
        self
    }

    /// Sets [`Config::trusted_proxies`].
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.config.trusted_proxies = proxies.into_iter().collect();
        self
    }

    /// Sets [`Config::admin`].
    #[cfg(feature = "admin")]
    pub fn admin(mut self, admin: crate::config::Admin) -> Self {
        self.config.admin = admin;
        self
    }

    /// Sets [`Config::admin_token`].
    #[cfg(feature = "admin")]
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.config.admin_token = Some(token.into());
        self
    }

    /// Is asked what each request is for, before the server's own routes and whatever the method, `OPTIONS` aside. It runs on the event
    /// loop's thread, so it must not wait: a response is one that is there already, or made in microseconds.
    ///
    /// ```
    /// use fanfare::{Namespace, Routing, Server};
    ///
    /// let server = Server::builder()
    ///     .route(|head| match head.path() {
    ///         "/time" => Routing::Subscribe(vec![Namespace::parse("/clock").expect("a namespace")]),
    ///         path if path.starts_with("/subscribe/private") => Routing::Refuse(403, "not for you".into()),
    ///         _ => Routing::Default,
    ///     })
    ///     .build()?;
    /// # Ok::<(), fanfare::ConfigError>(())
    /// ```
    pub fn route(mut self, hook: impl FnMut(&RequestHead) -> Routing + Send + 'static) -> Self {
        self.hooks.route = Some(Box::new(hook));
        self
    }

    /// Is told of each event stream that begins. It runs on the event loop's thread, so it must not wait.
    pub fn on_connect(mut self, hook: impl FnMut(&ConnectionInfo) + Send + 'static) -> Self {
        self.hooks.on_connect = Some(Box::new(hook));
        self
    }

    /// Is told of each connection that ended, event stream or not, and why. It runs on the event loop's thread, so it must not wait.
    pub fn on_disconnect(
        mut self,
        hook: impl FnMut(&ConnectionInfo, DisconnectReason) + Send + 'static,
    ) -> Self {
        self.hooks.on_disconnect = Some(Box::new(hook));
        self
    }

    /// Keeps events in a store of the application's own, beyond the end of the process; see [`History`]. `data_dir` is for the server's own.
    pub fn history(mut self, history: impl History + 'static) -> Self {
        self.hooks.history = Some(Box::new(history));
        self
    }

    /// Is told what an operator should know, such as that descriptors have run out. It runs on the event loop's thread.
    pub fn on_warning(mut self, hook: impl FnMut(&str) + Send + 'static) -> Self {
        self.hooks.on_warning = Some(Box::new(hook));
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// The first option that may not be as it is, by name.
    pub fn build(self) -> Result<Server, ConfigError> {
        self.config.check()?;
        Ok(Server::with(self.config, self.hooks))
    }
}
