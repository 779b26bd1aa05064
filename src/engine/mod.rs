//! The engine: the one owner of all mutable state except sockets and the clock.
//!
//! It does no I/O. A driver reports events of sockets with the time, and takes bytes to write: the
//! event loop of [`Server`](crate::Server) with real sockets, the simulator with scripted ones. The
//! verbs, in the order of a turn:
//!
//! - [`accept`](Engine::accept), [`receive`](Engine::receive), [`writable`](Engine::writable),
//!   [`hang_up`](Engine::hang_up): events of sockets;
//! - [`publish`](Engine::publish) while [`accepting_events`](Engine::accepting_events), then
//!   [`end_intake`](Engine::end_intake);
//! - [`tick`](Engine::tick): timers;
//! - [`flush`](Engine::flush): gives bytes to an [`Outlet`];
//! - [`reap`](Engine::reap): frees what ended in this turn. Nothing is freed earlier, so a key
//!   stays valid for the whole turn.
//!
//! The state has owners with private fields: [`Topics`], [`Groups`], [`Schedule`], [`Retention`],
//! [`EventIds`], [`PendingWrites`], [`Connections`] and [`Meters`]. They do not know the engine.
//! The verbs are `impl Engine` in `publish`, `subscribe`, `flush`, `requests`, `upload`, `store`,
//! `timers`, `drain` and `admin`.

#[cfg(feature = "admin")]
mod admin;
#[cfg(not(feature = "admin"))]
mod admin_off;
#[cfg(feature = "admin")]
mod client_info;
mod clock;
mod connection;
mod connections;
mod drain;
mod event_ids;
mod fan_out;
mod flow;
mod flush;
mod groups;
mod ids;
mod merge;
mod meters;
mod pending_writes;
mod publish;
mod random;
mod recovery;
mod requests;
mod resume;
mod retention;
mod schedule;
mod store;
mod subscribe;
#[cfg(feature = "admin")]
mod telemetry;
#[cfg(test)]
mod tests;
mod timers;
mod topic_usage;
mod topics;
#[cfg(feature = "publish")]
mod upload;
#[cfg(feature = "publish")]
mod uploads;

use std::fmt;
use std::time::{Duration, Instant};

use crate::config::{Access, Config};
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::log::{Seq, Slices};
use crate::namespace::Namespace;
use crate::status::{ConnectionInfo, DisconnectReason, Status};

#[cfg(feature = "admin")]
pub use admin::AdminSetup;
#[cfg(not(feature = "admin"))]
use {admin_off as admin, admin_off as telemetry};

use clock::Clock;
use connections::Connections;
pub use connections::SURPLUS;
use event_ids::EventIds;
use fan_out::Limits;
use groups::Groups;
pub use ids::ConnId;
use meters::Meters;
use pending_writes::PendingWrites;
pub use recovery::Recovery;
use retention::Retention;
pub use schedule::SLICE;
use schedule::Schedule;
use topics::Topics;

/// Debug builds check an engine with fewer connections and topics than this after each turn.
const MAX_CHECKED: usize = 1_000;

/// The sockets, as the engine sees them.
pub trait Outlet {
    /// Gives bytes to a connection. Returns how many it took. If they are fewer than all, it takes
    /// no more until [`Engine::writable`] is called.
    ///
    /// # Errors
    /// The reason for which the connection ends.
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason>;

    /// Announces bytes of a log that `readers` subscribers will receive, in one write or several.
    /// The slices have an [`Extent`](crate::log::Extent), by which later writes of these bytes are
    /// recognized.
    fn publish_pages(&mut self, slices: &Slices<'_>, readers: usize);

    /// Shuts down the sending side of a connection. Bytes from the client are still read.
    fn finish(&mut self, conn: ConnId);
}

/// Whether the engine wants more bytes of a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadInterest {
    /// Continue reading.
    More,
    /// Leave the bytes in the socket until [`Engine::take_readable_again`] returns the connection.
    Pause,
}

/// The result of publishing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number in the total order.
    pub seq: Seq,
    /// How many subscribers receive it.
    pub subscribers: usize,
}

/// The answer of a [`route`](crate::Builder::route) hook to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routing {
    /// The server's own routing.
    Default,
    /// An event stream of these namespaces. Namespaces below another one of the list are dropped.
    Subscribe(Vec<Namespace>),
    /// A response of the application. A request body is not read: after a request with a body, the
    /// connection ends with the response.
    Respond(Response),
    /// An error response with this status, 400 to 599, and message.
    Refuse(u16, String),
}

/// The application's routing of requests.
pub(crate) type RouteHook = Box<dyn FnMut(&RequestHead) -> Routing + Send>;

/// Who may publish, and the application's routing.
struct Rules {
    access: Access,
    route: Option<RouteHook>,
}

/// The broadcast engine: see the module's documentation.
pub struct Engine {
    clock: Clock,
    config: Config,
    rules: Rules,
    topics: Topics,
    groups: Groups,
    schedule: Schedule,
    retention: Retention,
    ids: EventIds,
    store: Option<PendingWrites>,
    connections: Connections,
    meters: Meters,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.meters.status)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for a checked configuration, with a history that begins now. `seed` decides jitter
    /// and the order of a drain, and nothing else. `epoch` names the history.
    ///
    /// For a history that continues, see [`Recovery`].
    pub fn new(
        config: Config,
        access: Access,
        max_connections: usize,
        route: Option<RouteHook>,
        seed: u64,
        epoch: u64,
        now: Instant,
    ) -> Self {
        let limits = Limits {
            // Four times the bytes of one turn, so that a lagging subscriber catches up under load.
            max_write: config.write_budget.saturating_mul(4),
            max_lag: config.lag_limit() as u64,
        };
        Self {
            clock: Clock::new(now),
            rules: Rules { access, route },
            topics: Topics::new(config.max_namespaces),
            groups: Groups::new(limits),
            schedule: Schedule::new(&config),
            retention: Retention::new(&config),
            ids: EventIds::new(epoch),
            store: None,
            connections: Connections::new(max_connections, seed),
            meters: Meters::new(),
            config,
        }
    }

    /// Sets the limit of work on events in one call of [`flush`](Engine::flush), in bytes: those
    /// that are written, and 23,000 for each write. Default: [`SLICE`]. With a lower limit, a pass
    /// over a few subscribers is interrupted as one over thousands would be.
    pub fn set_slice(&mut self, bytes: usize) {
        self.schedule.slice = bytes;
    }

    /// Sets who may publish.
    pub fn set_access(&mut self, access: Access) {
        self.rules.access = access;
    }

    /// Whether events have to wait because some subscribers are blocked, until
    /// [`Engine::next_deadline`] at the latest.
    pub fn is_paused(&self) -> bool {
        self.schedule.flow.is_paused(self.clock.ms())
    }

    /// Whether a connection is an event stream.
    pub fn is_stream(&self, key: ConnId) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|connection| connection.stream().is_some())
    }

    /// Streams that began since the last call.
    pub fn take_opened(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.connections.opened)
    }

    /// Connections to read from again, since the last call.
    pub fn take_readable_again(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.connections.readable_again)
    }

    /// The description of a connection.
    pub fn info(&self, key: ConnId) -> ConnectionInfo {
        let connection = &self.connections[key];
        let membership = connection.membership();
        let state = membership.map(|member| self.groups.state(member));
        let (events, bytes) = state.map_or((0, 0), |state| (state.events, state.bytes));
        let namespaces = membership
            .into_iter()
            .flat_map(|member| self.namespaces_of(member));
        ConnectionInfo {
            id: connection.id,
            peer: connection.shown_peer(self.config.mask_addresses),
            namespaces: namespaces.cloned().collect(),
            events,
            bytes: connection.bytes + bytes,
            connected: Duration::from_millis(self.clock.ms() - connection.since_ms),
        }
    }

    /// The counters, at a moment.
    pub fn status(&self, now: Instant) -> Status {
        let mut status = Status {
            uptime: self.clock.since_start(now),
            connections: self.connections.len(),
            namespaces: self.topics.len(),
            ..self.meters.status
        };
        self.retention.report(&self.ids, &mut status);
        status
    }

    /// In debug builds, [checks](Self::check) an engine with few connections and topics.
    pub fn debug_check(&self) {
        if cfg!(debug_assertions) && self.connections.len() + self.topics.len() < MAX_CHECKED {
            self.check();
        }
    }

    /// Asserts the invariants of every part. For tests: its time is proportional to the state.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn check(&self) {
        self.topics.check();
        self.groups.check(&self.topics);
        self.schedule.check(&self.groups);
        self.retention.check(&self.topics);
        self.ids.check();
        self.connections.check();
        if let Some(store) = &self.store {
            store.check();
        }
        let listed = self.schedule.listed();
        let mut subscribers = 0;
        for (key, connection) in self.connections.iter() {
            assert!(!connection.listed || listed.contains(&key), "it is written");
            if let Some(member) = connection.membership() {
                subscribers += 1;
                assert_eq!(
                    self.groups.state(member).conn,
                    key,
                    "a membership leads back"
                );
            }
        }
        self.meters.check(self.connections.len(), subscribers);
    }
}
