//! The event loop: one thread that owns every socket and the clock, and drives the engine.
//!
//! A turn has an order, and each step a budget, so that none starves another:
//! `poll → now → accept and read → commands → take events → tick → flush → reap`. Whatever a budget leaves over is
//! remembered, since readiness is reported once, and the next poll does not wait.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::Config;
#[cfg(feature = "admin")]
use crate::engine::AdminSetup;
use crate::engine::{ConnId, Engine, ReadInterest};
#[cfg(feature = "admin")]
use crate::loopback::is_loopback_address;
use crate::namespace::Namespaces;
use crate::queue::QueueReader;
use crate::server::command::{Command, Disconnect, SubscribeError};
use crate::server::handle::ServerInfo;
use crate::server::hooks::Hooks;
use crate::server::pipe::Pipe;
use crate::server::socket::{Peer, Peers, Remote};
use crate::server::startup::Startup;
use crate::server::store_thread::{Batch, Reply, StoreThread};
use crate::status::{DisconnectReason, State, Status, StoreState};

const WAKER: Token = Token(usize::MAX);
/// The listeners have the tokens below the waker's, connections those from zero up.
const LISTENERS: usize = usize::MAX - 1;

/// Connections accepted in one turn.
const ACCEPTS: usize = 64;
/// Reads from one connection in one turn.
const READS: usize = 4;
/// Bytes read at once.
const SCRATCH: usize = 64 << 10;
/// Events taken from the queue before an upload has its turn, and how often that is repeated in one turn.
const BATCH: usize = 64;
const BATCHES: usize = 64;
/// Commands carried out in one turn.
const COMMANDS: usize = 1024;
/// How long to wait before accepting again when descriptors or memory have run out and no connection has ended.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct EventLoop {
    poll: Poll,
    listeners: Vec<Listener>,
    peers: Peers,
    engine: Engine,
    queue: QueueReader,
    commands: Receiver<Command>,
    hooks: Hooks,
    info: Arc<ServerInfo>,
    scratch: Box<[u8]>,
    /// Connections with something left to read.
    backlog: Vec<ConnId>,
    /// Accepting waits until then.
    accept_again: Option<Instant>,
    draining: Option<Draining>,
    store: Option<StoreThread>,
    /// It was said that the store fails.
    store_fails: bool,
}

/// A drain that waits for the events that were in the queue when it was asked for.
struct Draining {
    /// How many of them are left.
    queued: usize,
    until: Instant,
}

/// The listeners of a server, with one for the status page if it has one of its own.
pub(super) struct Listeners {
    pub(super) common: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

struct Listener {
    socket: TcpListener,
    /// It serves the status page and its like, and nothing else.
    #[cfg(feature = "admin")]
    for_admin: bool,
    /// Somebody may be waiting to be accepted.
    pending: bool,
}

impl EventLoop {
    pub(super) fn new(
        config: Config,
        sockets: Listeners,
        queue: QueueReader,
        commands: Receiver<Command>,
        hooks: Hooks,
        info: Arc<ServerInfo>,
        startup: Startup,
    ) -> io::Result<Self> {
        let Startup {
            mut engine,
            event_store,
        } = startup;
        let poll = Poll::new()?;
        queue.set_waker(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let common = sockets.common.len();
        for (index, mut socket) in sockets.common.into_iter().chain(sockets.admin).enumerate() {
            poll.registry()
                .register(&mut socket, Token(LISTENERS - index), Interest::READABLE)?;
            if index < common {
                addresses.push(socket.local_addr()?);
            }
            listeners.push(Listener {
                socket,
                #[cfg(feature = "admin")]
                for_admin: index >= common,
                pending: true,
            });
        }
        #[cfg(feature = "admin")]
        set_admin(&mut engine, &config, &addresses, listeners.len() > common);
        engine.set_access(config.access(&addresses));
        let store = event_store.map(|event_store| {
            let queue = queue.sender();
            StoreThread::spawn(event_store, move || queue.wake())
        });
        info.set_offline_status(None);
        Ok(Self {
            poll,
            listeners,
            peers: Peers::default(),
            engine,
            queue,
            commands,
            hooks,
            info,
            scratch: vec![0; SCRATCH].into(),
            backlog: Vec::new(),
            accept_again: None,
            draining: None,
            store: store.transpose()?,
            store_fails: false,
        })
    }

    /// Runs until a drain is over.
    #[expect(
        clippy::disallowed_methods,
        reason = "the event loop is where the clock is read, at both ends of a turn"
    )]
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut readiness = Events::with_capacity(1024);
        let mut busy = true;
        let mut now = Instant::now();
        while !self.engine.is_drained() {
            let timeout = self.timeout(busy, now);
            match self.poll.poll(&mut readiness, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => readiness.clear(),
                Ok(()) => {}
            }
            self.queue.awake();
            now = Instant::now();
            for ready in &readiness {
                self.note(ready, now);
            }
            self.accept(now);
            self.read_backlog(now);
            self.carry_out_commands(now);
            let idle = self.take_events(now);
            self.queue.pace(now);
            self.engine
                .end_intake(idle && !self.queue.is_refilled(), now);
            self.drain(now);
            self.engine.tick(now);
            let unfinished = self.engine.flush(&mut self.peers, now);
            // What expired in this turn is known now.
            self.feed_store();
            self.call_on_connect();
            self.resume_reading();
            self.reap();
            #[cfg(feature = "admin")]
            {
                let queued = (self.queue.len(), self.queue.bytes());
                self.engine.record_turn(now, Instant::now(), queued);
            }
            let events = (!idle || self.engine.has_stored()) && !self.engine.is_paused();
            busy = unfinished || events || self.has_backlog();
        }
        let status = Status {
            state: State::Stopped,
            ..self.engine.status(now)
        };
        self.info.set_offline_status(Some(status));
        Ok(())
    }

    /// How long the next poll may wait.
    fn timeout(&self, busy: bool, now: Instant) -> Option<Duration> {
        if busy {
            return Some(Duration::ZERO);
        }
        // In a pause, which is short, nobody wakes the loop.
        if !self.engine.is_paused() {
            let enough = self.queue.prepare_to_sleep(self.engine.is_batching());
            let events = enough && self.engine.accepting_events();
            let reply = self.store.as_ref().is_some_and(StoreThread::has_reply);
            if events || reply || !self.commands.is_empty() {
                return Some(Duration::ZERO);
            }
        }
        let next = [self.engine.next_deadline(), self.accept_again]
            .into_iter()
            .flatten()
            .min();
        next.map(|at| at.saturating_duration_since(now))
    }

    fn has_backlog(&self) -> bool {
        let accepting =
            self.accept_again.is_none() && self.listeners.iter().any(|listener| listener.pending);
        accepting || !self.backlog.is_empty()
    }

    fn note(&mut self, ready: &mio::event::Event, now: Instant) {
        let Token(token) = ready.token();
        if ready.token() == WAKER {
            return;
        }
        if token > LISTENERS - self.listeners.len() {
            self.listeners[LISTENERS - token].pending = true;
            return;
        }
        let conn = token as ConnId;
        let Some(remote) = self.peers.remote(conn) else {
            return;
        };
        remote.readable |= ready.is_readable() || ready.is_read_closed() || ready.is_error();
        remote.closing |= ready.is_read_closed() || ready.is_error();
        if ready.is_writable() {
            self.engine.writable(conn, now);
        }
        self.list_for_reading(conn);
    }

    fn list_for_reading(&mut self, conn: ConnId) {
        if let Some(remote) = self.peers.remote(conn)
            && remote.readable
            && !remote.paused
            && !remote.listed
        {
            remote.listed = true;
            self.backlog.push(conn);
        }
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_again.is_some_and(|at| now < at) {
            return;
        }
        self.accept_again = None;
        let mut left = ACCEPTS;
        for index in 0..self.listeners.len() {
            while self.listeners[index].pending && left > 0 {
                left -= 1;
                match self.listeners[index].socket.accept() {
                    Ok((stream, address)) => self.take_in(index, stream, address, now),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.listeners[index].pending = false
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        // Descriptors or memory have run out: a connection's end or the next try will tell.
                        self.accept_again = Some(now + ACCEPT_PAUSE);
                        return self
                            .hooks
                            .warn(&format!("cannot accept connections for a moment: {error}"));
                    }
                }
            }
        }
    }

    fn take_in(
        &mut self,
        #[cfg_attr(
            not(feature = "admin"),
            expect(unused_variables, reason = "all are alike")
        )]
        listener: usize,
        mut stream: mio::net::TcpStream,
        address: SocketAddr,
        now: Instant,
    ) {
        let Some(conn) = self.engine.accept(address, now) else {
            return;
        };
        #[cfg(feature = "admin")]
        if self.listeners[listener].for_admin {
            self.engine.set_for_admin(conn);
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        match self
            .poll
            .registry()
            .register(&mut stream, Token(conn as usize), both)
        {
            Ok(()) => self.peers.insert(conn, Peer::Remote(Remote::new(stream))),
            Err(error) => {
                self.hooks
                    .warn(&format!("cannot watch a connection: {error}"));
                self.engine.disconnect(conn, DisconnectReason::Error);
            }
        }
    }

    fn read_backlog(&mut self, now: Instant) {
        for conn in std::mem::take(&mut self.backlog) {
            if let Some(remote) = self.peers.remote(conn) {
                remote.listed = false;
                self.read(conn, now);
                self.list_for_reading(conn);
            }
        }
    }

    fn read(&mut self, conn: ConnId, now: Instant) {
        for _ in 0..READS {
            let Some(remote) = self.peers.remote(conn) else {
                return;
            };
            if !remote.readable || remote.paused {
                return;
            }
            match remote.read(&mut self.scratch) {
                Ok(None) => {}
                Ok(Some(0)) => self.engine.hang_up(conn, now),
                Ok(Some(count)) => {
                    remote.paused = self.engine.receive(conn, &self.scratch[..count], now)
                        == ReadInterest::Pause
                }
                Err(reason) => {
                    remote.readable = false;
                    self.engine.disconnect(conn, reason);
                }
            }
        }
    }

    /// Reads on where the engine had enough and now wants more.
    fn resume_reading(&mut self) {
        for conn in self.engine.take_readable_again() {
            if let Some(remote) = self.peers.remote(conn) {
                remote.paused = false;
                self.list_for_reading(conn);
            }
        }
    }

    /// Hears what the store has to say, and gives it the next batch.
    fn attend_to_store(&mut self, now: Instant) {
        self.hear_store(now);
        self.feed_store();
    }

    fn hear_store(&mut self, now: Instant) {
        let Some(store) = &mut self.store else {
            return;
        };
        while let Some(reply) = store.try_reply() {
            let trouble = match reply {
                Reply::Stored => {
                    self.engine.stored(Ok(()), now);
                    None
                }
                Reply::Failed(problem) => {
                    self.engine.stored(Err(problem.clone()), now);
                    Some(problem)
                }
                Reply::SyncFailed(problem) => {
                    self.engine.synced(false, now);
                    Some(problem)
                }
                Reply::SyncRecovered => {
                    self.engine.synced(true, now);
                    None
                }
            };
            let fails = self.engine.status(now).store == StoreState::Failing;
            if fails != std::mem::replace(&mut self.store_fails, fails) {
                self.hooks.warn(&match trouble {
                    Some(problem) => format!(
                        "events cannot be stored, so publishing over HTTP is refused: {problem}"
                    ),
                    None => "events can be stored again".into(),
                });
            }
        }
    }

    fn feed_store(&mut self) {
        if let Some(store) = &mut self.store
            && !store.is_busy()
            && let Some((records, prune_before)) = self.engine.take_batch()
        {
            store.send(Batch {
                records,
                prune_before,
            });
        }
    }

    /// Takes events from the store, from the queue and from uploads in turn; returns whether there are no more.
    fn take_events(&mut self, now: Instant) -> bool {
        self.attend_to_store(now);
        let idle = self.take_some_events(now);
        self.attend_to_store(now);
        idle
    }

    fn take_some_events(&mut self, now: Instant) -> bool {
        for _ in 0..BATCHES {
            let mut taken = false;
            for _ in 0..BATCH {
                if self.engine.deliver_stored(now) {
                    taken = true;
                    continue;
                }
                if !self.engine.accepting_events() {
                    // With all there is on the way to the store, its reply will wake the loop.
                    return self.store.is_some() && !self.engine.has_stored();
                }
                let Some(frame) = self.queue.next() else {
                    break;
                };
                self.engine.publish_ref(frame, now);
                taken = true;
                if let Some(waits) = &mut self.draining {
                    waits.queued = waits.queued.saturating_sub(1);
                }
            }
            #[cfg(feature = "publish")]
            {
                taken |= self.engine.work_on_upload(now);
            }
            if !taken {
                return true;
            }
        }
        false
    }

    fn drain(&mut self, now: Instant) {
        if let Some(Draining { until, .. }) = self
            .draining
            .take_if(|waits| (waits.queued == 0 && self.engine.all_stored()) || now >= waits.until)
        {
            self.engine.drain(until.saturating_duration_since(now), now);
        }
    }

    fn carry_out_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS {
            let Ok(command) = self.commands.try_recv() else {
                return;
            };
            match command {
                // Whoever asked and no longer waits for the answer needs none.
                Command::Status(reply) => drop(reply.try_send(self.status(now))),
                Command::Disconnect(whom, reply) => {
                    let count = match whom {
                        Disconnect::Connection(id) => self
                            .engine
                            .disconnect_id(id, DisconnectReason::Kicked)
                            .into(),
                        Disconnect::Namespace(namespace) => self.engine.kick_namespace(&namespace),
                    };
                    let _ = reply.try_send(count);
                }
                Command::Subscribe(namespaces, pipe, reply) => {
                    let _ = reply.try_send(self.subscribe(&namespaces, pipe, now));
                }
                Command::Unsubscribe(id) => {
                    self.engine.disconnect_id(id, DisconnectReason::Client);
                }
                Command::PipeEmptied(conn) => self.engine.writable(conn, now),
                Command::Shutdown(grace) => {
                    self.listeners.clear();
                    self.engine.announce_drain();
                    // Centuries of grace are as good as one.
                    let until = now + grace.min(Duration::from_secs(100 * 365 * 86_400));
                    self.draining = Some(Draining {
                        queued: self.queue.len(),
                        until,
                    });
                }
            }
        }
    }

    fn subscribe(
        &mut self,
        namespaces: &Namespaces,
        pipe: Arc<Pipe>,
        now: Instant,
    ) -> Result<(u32, u64), SubscribeError> {
        if self.engine.is_draining() {
            return Err(SubscribeError::Closed);
        }
        let conn = self
            .engine
            .subscribe(namespaces, now)
            .map_err(|_| SubscribeError::TooManyNamespaces)?;
        self.peers.insert(conn, Peer::Local(pipe));
        Ok((conn, self.engine.info(conn).id))
    }

    fn status(&self, now: Instant) -> Status {
        Status {
            queued: self.queue.len(),
            ..self.engine.status(now)
        }
    }

    fn call_on_connect(&mut self) {
        for conn in self.engine.take_opened() {
            if let Some(hook) = &mut self.hooks.on_connect
                && self.engine.is_stream(conn)
            {
                hook(&self.engine.info(conn));
            }
        }
    }

    fn reap(&mut self) {
        let (peers, hooks) = (&mut self.peers, &mut self.hooks);
        let accept_again = &mut self.accept_again;
        self.engine.reap(|conn, info, reason| {
            if let Some(Peer::Local(pipe)) = peers.remove(conn) {
                pipe.end(reason);
            }
            // A descriptor is free again.
            *accept_again = None;
            if let Some(hook) = &mut hooks.on_disconnect {
                hook(&info, reason);
            }
        });
    }
}

/// Tells the engine what it is to know for the status page.
#[cfg(feature = "admin")]
#[expect(
    clippy::disallowed_methods,
    reason = "the event loop is where the clock is read"
)]
fn set_admin(engine: &mut Engine, config: &Config, addresses: &[SocketAddr], own_listener: bool) {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    // The one that others can reach decides.
    let public = addresses
        .iter()
        .find(|address| !is_loopback_address(address.ip()));
    let bound = public.or(addresses.first()).unwrap_or(&unspecified);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let setup = AdminSetup {
        access: config.admin_access(bound),
        own_listener,
        node: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        // A clock before 1970 is not set at all.
        unix_ms: since.map_or(0, |since| since.as_millis() as u64),
    };
    engine.set_admin(setup, Instant::now());
}

/// Whether accepting failed because of the connection that was next, which is gone, and not of anything that lasts.
fn is_of_one_connection(error: &io::Error) -> bool {
    !matches!(
        rustix::io::Errno::from_io_error(error),
        Some(
            rustix::io::Errno::MFILE
                | rustix::io::Errno::NFILE
                | rustix::io::Errno::NOBUFS
                | rustix::io::Errno::NOMEM
        )
    )
}
