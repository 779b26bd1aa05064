//! The event loop: one thread that owns all sockets and the clock, and drives the engine.
//!
//! A turn has a fixed order:
//! `poll → now → accept and read → commands → take events → tick → flush → reap`.
//! Each step has a budget, so that none starves another. The poller reports readiness only once, so
//! the loop records what exceeded a budget, and does not sleep before that is done.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::Config;
use crate::engine::{ConnId, Engine, ReadInterest};
use crate::namespace::Namespaces;
use crate::queue::QueueReader;
use crate::status::{DisconnectReason, State, Status, StoreState};

use super::command::{Command, Disconnect, SubscribeError};
use super::handle::ServerInfo;
use super::hooks::Hooks;
use super::listeners::{Accepted, Listeners, Sockets};
use super::pipe::Pipe;
use super::socket::{Peer, Peers, Remote};
use super::startup::Startup;
use super::store_thread::{Batch, Reply, StoreThread};

/// The waker's token. Listeners have the tokens below it, connections those from zero up.
const WAKER: Token = Token(usize::MAX);

/// Attempts to accept a connection in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Reads from one connection in one turn, and bytes in each.
const READS_PER_TURN: usize = 4;
const READ_BYTES: usize = 64 << 10;
/// Events that are taken from the queue before an upload has its turn.
const EVENTS_PER_BATCH: usize = 64;
/// Batches of events in one turn.
const BATCHES_PER_TURN: usize = 64;
/// Commands in one turn.
const COMMANDS_PER_TURN: usize = 1024;
/// The longest grace of a shutdown: a century. Adding a much longer one to an `Instant` would
/// panic.
const MAX_GRACE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The state of a running server.
pub(super) struct EventLoop {
    poll: Poll,
    listeners: Listeners,
    peers: Peers,
    engine: Engine,
    inputs: Inputs,
    read_buffer: Box<[u8]>,
    /// Connections with bytes that have not been read.
    unread: Vec<ConnId>,
    drain: Option<PendingDrain>,
    store: Option<StoreThread>,
    /// Whether the last warning about the store reported a failure.
    store_failing: bool,
}

/// The inputs of the event loop other than sockets.
pub(super) struct Inputs {
    pub(super) queue: QueueReader,
    pub(super) commands: Receiver<Command>,
    pub(super) hooks: Hooks,
    pub(super) info: Arc<ServerInfo>,
}

/// A drain that begins when the events that were in the queue at its command have been taken.
struct PendingDrain {
    /// How many of these events have not been taken.
    queued: usize,
    /// When the drain must be complete. It begins at this time at the latest.
    deadline: Instant,
}

impl EventLoop {
    /// Registers the sockets, passes their addresses to the engine, and starts the store's thread.
    ///
    /// # Errors
    /// The poller or the thread cannot be created, or a socket cannot be registered.
    pub(super) fn new(
        config: &Config,
        sockets: Sockets,
        inputs: Inputs,
        mut startup: Startup,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        inputs.queue.set_waker(waker);
        let listeners = Listeners::register(sockets, poll.registry())?;
        startup.set_addresses(
            config,
            &listeners.addresses()?,
            listeners.has_own_for_admin(),
        );
        let spawn = |event_store| {
            let queue = inputs.queue.sender();
            StoreThread::spawn(event_store, move || queue.wake())
        };
        let store = startup.event_store.map(spawn).transpose()?;
        inputs.info.set_offline_status(None);
        Ok(Self {
            poll,
            listeners,
            peers: Peers::default(),
            engine: startup.engine,
            inputs,
            read_buffer: vec![0; READ_BYTES].into(),
            unread: Vec::new(),
            drain: None,
            store,
            store_failing: false,
        })
    }

    /// Runs until a drain is complete.
    ///
    /// # Errors
    /// The poller fails.
    #[expect(
        clippy::disallowed_methods,
        reason = "the event loop reads the clock, at both ends of a turn"
    )]
    pub(super) fn run(mut self) -> io::Result<()> {
        self.inputs.queue.set_thread();
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
            self.inputs.queue.awake();
            now = Instant::now();
            for ready in &readiness {
                self.on_ready(ready, now);
            }
            self.accept(now);
            self.read_scheduled(now);
            self.run_commands(now);
            let idle = self.take_events(now);
            self.inputs.queue.pace(now);
            self.engine
                .end_intake(idle && !self.inputs.queue.is_refilled(), now);
            self.start_drain(now);
            self.engine.tick(now);
            let unfinished = self.engine.flush(&mut self.peers, now);
            // Retention in this turn decides which events the store can prune.
            self.send_batch();
            self.call_on_connect();
            self.resume_reading();
            self.reap();
            self.engine.debug_check();
            #[cfg(feature = "admin")]
            {
                let queue = &self.inputs.queue;
                self.engine.record_queue(queue.len(), queue.bytes());
                self.engine.record_turn(now, Instant::now());
            }
            let events = (!idle || self.engine.has_stored()) && !self.engine.is_paused();
            busy = unfinished || events || self.has_unread();
        }
        let status = Status {
            state: State::Stopped,
            ..self.engine.status(now)
        };
        self.inputs.info.set_offline_status(Some(status));
        Ok(())
    }

    /// How long the next poll may wait.
    fn timeout(&self, busy: bool, now: Instant) -> Option<Duration> {
        if busy {
            return Some(Duration::ZERO);
        }
        // A pause is short, and senders do not wake the loop in it.
        if !self.engine.is_paused() {
            let queue = &self.inputs.queue;
            let enough = queue.prepare_to_sleep(self.engine.is_batching());
            let events = enough && self.engine.accepting_events();
            let reply = self.store.as_ref().is_some_and(StoreThread::has_reply);
            if events || reply || !self.inputs.commands.is_empty() {
                return Some(Duration::ZERO);
            }
        }
        let deadlines = [self.engine.next_deadline(), self.listeners.retry_at()];
        let next = deadlines.into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Whether a listener or a connection has more than the budgets of this turn allowed.
    fn has_unread(&self) -> bool {
        self.listeners.has_pending() || !self.unread.is_empty()
    }

    fn on_ready(&mut self, ready: &mio::event::Event, now: Instant) {
        let token = ready.token();
        if token == WAKER || self.listeners.on_ready(token) {
            return;
        }
        let conn = ConnId::from_index(token.0);
        let Some(remote) = self.peers.remote(conn) else {
            return;
        };
        remote.readable |= ready.is_readable() || ready.is_read_closed() || ready.is_error();
        remote.closing |= ready.is_read_closed() || ready.is_error();
        if ready.is_writable() {
            self.engine.writable(conn, now);
        }
        self.schedule_read(conn);
    }

    fn accept(&mut self, now: Instant) {
        let mut budget = ACCEPTS_PER_TURN;
        loop {
            match self.listeners.accept(&mut budget, now) {
                Ok(Some(accepted)) => self.add_connection(accepted, now),
                Ok(None) => return,
                Err(error) => {
                    let warning = format!("cannot accept connections, retrying in 100 ms: {error}");
                    return self.inputs.hooks.warn(&warning);
                }
            }
        }
    }

    fn add_connection(&mut self, accepted: Accepted, now: Instant) {
        let Some(conn) = self.engine.accept(accepted.address, now) else {
            return;
        };
        #[cfg(feature = "admin")]
        if accepted.for_admin {
            self.engine.set_for_admin(conn);
        }
        let mut stream = accepted.stream;
        let registered = self.poll.registry().register(
            &mut stream,
            Token(conn.index()),
            Interest::READABLE | Interest::WRITABLE,
        );
        match registered {
            Ok(()) => self.peers.insert(conn, Peer::Remote(Remote::new(stream))),
            Err(error) => {
                let warning = format!("cannot register a connection: {error}");
                self.inputs.hooks.warn(&warning);
                self.engine.disconnect(conn, DisconnectReason::Error);
            }
        }
    }

    /// Lists a connection for reading if it is readable and the engine wants its bytes.
    fn schedule_read(&mut self, conn: ConnId) {
        if let Some(remote) = self.peers.remote(conn)
            && remote.readable
            && !remote.paused
            && !remote.scheduled
        {
            remote.scheduled = true;
            self.unread.push(conn);
        }
    }

    fn read_scheduled(&mut self, now: Instant) {
        for conn in std::mem::take(&mut self.unread) {
            if let Some(remote) = self.peers.remote(conn) {
                remote.scheduled = false;
                self.read(conn, now);
                self.schedule_read(conn);
            }
        }
    }

    fn read(&mut self, conn: ConnId, now: Instant) {
        for _ in 0..READS_PER_TURN {
            let Some(remote) = self.peers.remote(conn) else {
                return;
            };
            if !remote.readable || remote.paused {
                return;
            }
            match remote.read(&mut self.read_buffer) {
                Ok(None) => {}
                Ok(Some(0)) => self.engine.hang_up(conn, now),
                Ok(Some(count)) => {
                    let bytes = &self.read_buffer[..count];
                    remote.paused = self.engine.receive(conn, bytes, now) == ReadInterest::Pause;
                }
                Err(reason) => {
                    remote.readable = false;
                    self.engine.disconnect(conn, reason);
                }
            }
        }
    }

    /// Continues to read connections whose bytes the engine wants again.
    fn resume_reading(&mut self) {
        for conn in self.engine.take_readable_again() {
            if let Some(remote) = self.peers.remote(conn) {
                remote.paused = false;
                self.schedule_read(conn);
            }
        }
    }

    /// Takes the replies of the store's thread, and sends it the next batch.
    fn exchange_with_store(&mut self, now: Instant) {
        self.receive_replies(now);
        self.send_batch();
    }

    fn receive_replies(&mut self, now: Instant) {
        while let Some(reply) = self.store.as_mut().and_then(StoreThread::try_reply) {
            let problem = self.apply_reply(reply, now);
            let failing = self.engine.status(now).store == StoreState::Failing;
            if failing == std::mem::replace(&mut self.store_failing, failing) {
                continue;
            }
            self.inputs.hooks.warn(&match problem {
                Some(problem) => {
                    format!(
                        "events cannot be stored, so publishing over HTTP is refused: {problem}"
                    )
                }
                None => "events can be stored again".into(),
            });
        }
    }

    /// Passes a reply on to the engine. Returns the problem that it reports.
    fn apply_reply(&mut self, reply: Reply, now: Instant) -> Option<String> {
        match reply {
            Reply::Stored => self.engine.stored(Ok(()), now),
            Reply::Failed(problem) => {
                self.engine.stored(Err(problem.clone()), now);
                return Some(problem);
            }
            Reply::SyncFailed(problem) => {
                self.engine.synced(false, now);
                return Some(problem);
            }
            Reply::SyncRecovered => self.engine.synced(true, now),
        }
        None
    }

    fn send_batch(&mut self) {
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

    /// Takes events from the store's thread, the queue and uploads. Returns whether all have been
    /// taken.
    fn take_events(&mut self, now: Instant) -> bool {
        self.exchange_with_store(now);
        let idle = self.take_batches(now);
        self.exchange_with_store(now);
        idle
    }

    fn take_batches(&mut self, now: Instant) -> bool {
        for _ in 0..BATCHES_PER_TURN {
            let mut taken = false;
            for _ in 0..EVENTS_PER_BATCH {
                if self.engine.deliver_stored(now) {
                    taken = true;
                    continue;
                }
                if !self.engine.accepting_events() {
                    // If all events are on their way to the store, its reply will wake the loop.
                    return self.store.is_some() && !self.engine.has_stored();
                }
                let Some(frame) = self.inputs.queue.next() else {
                    break;
                };
                self.engine.publish_ref(frame, now);
                taken = true;
                if let Some(drain) = &mut self.drain {
                    drain.queued = drain.queued.saturating_sub(1);
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

    /// Starts a pending drain once the events before it are delivered and stored, or time is up.
    fn start_drain(&mut self, now: Instant) {
        let engine = &mut self.engine;
        let ready = |drain: &mut PendingDrain| {
            (drain.queued == 0 && engine.all_stored()) || now >= drain.deadline
        };
        if let Some(drain) = self.drain.take_if(ready) {
            let grace = drain.deadline.saturating_duration_since(now);
            engine.drain(grace, now);
        }
    }

    fn run_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.inputs.commands.try_recv() else {
                return;
            };
            self.run_command(command, now);
        }
    }

    fn run_command(&mut self, command: Command, now: Instant) {
        // A reply fails only if its caller is gone.
        match command {
            Command::Status(reply) => {
                let _ = reply.try_send(self.status(now));
            }
            Command::Disconnect(target, reply) => {
                let _ = reply.try_send(self.disconnect(target));
            }
            Command::Subscribe(namespaces, pipe, reply) => {
                let _ = reply.try_send(self.subscribe(&namespaces, pipe, now));
            }
            Command::Unsubscribe(id) => {
                self.engine.disconnect_id(id, DisconnectReason::Client);
            }
            Command::PipeEmptied(conn) => self.engine.writable(conn, now),
            Command::Shutdown(grace) => {
                self.listeners.close();
                self.engine.announce_drain();
                self.drain = Some(PendingDrain {
                    queued: self.inputs.queue.len(),
                    deadline: now + grace.min(MAX_GRACE),
                });
            }
        }
    }

    fn status(&self, now: Instant) -> Status {
        Status {
            queued: self.inputs.queue.len(),
            ..self.engine.status(now)
        }
    }

    fn disconnect(&mut self, target: Disconnect) -> usize {
        match target {
            Disconnect::Connection(id) => self
                .engine
                .disconnect_id(id, DisconnectReason::Kicked)
                .into(),
            Disconnect::Namespace(namespace) => self.engine.kick_namespace(&namespace),
        }
    }

    fn subscribe(
        &mut self,
        namespaces: &Namespaces,
        pipe: Arc<Pipe>,
        now: Instant,
    ) -> Result<(ConnId, u64), SubscribeError> {
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

    fn call_on_connect(&mut self) {
        for conn in self.engine.take_opened() {
            if let Some(hook) = &mut self.inputs.hooks.on_connect
                && self.engine.is_stream(conn)
            {
                hook(&self.engine.info(conn));
            }
        }
    }

    fn reap(&mut self) {
        let (peers, hooks) = (&mut self.peers, &mut self.inputs.hooks);
        let listeners = &mut self.listeners;
        self.engine.reap(|conn, info, reason| {
            if let Some(Peer::Local(pipe)) = peers.remove(conn) {
                pipe.end(reason);
            }
            // A descriptor has become free.
            listeners.retry_now();
            if let Some(hook) = &mut hooks.on_disconnect {
                hook(&info, reason);
            }
        });
    }
}
