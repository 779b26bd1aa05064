//! What a server tells of itself: reasons, counters, and what is known of one connection. Values only.

use std::fmt;
use std::time::Duration;

use core::net::SocketAddr;

use crate::namespace::Namespace;

/// Why a connection ended. Every one ends for exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The other side closed it, or it was done with the one request it was for.
    Client,
    /// It lacked more than [`max_lag`](crate::Config::max_lag) bytes of its events.
    Lagged,
    /// Its socket took nothing for [`write_timeout`](crate::Config::write_timeout) while it had something to take.
    Stalled,
    /// Its request did not come in time.
    Timeout,
    /// The application ended it: [`Handle::disconnect`](crate::Handle::disconnect).
    Kicked,
    /// The server shut down.
    Shutdown,
    /// There were too many connections.
    Overload,
    /// It broke the rules of HTTP, or sent bytes where none belong.
    Protocol,
    /// The operating system reported an error other than the other side's leaving.
    Error,
}

impl DisconnectReason {
    /// Every reason, in the order of [`Status::disconnects`].
    pub const ALL: [Self; 9] = [
        Self::Client,
        Self::Lagged,
        Self::Stalled,
        Self::Timeout,
        Self::Kicked,
        Self::Shutdown,
        Self::Overload,
        Self::Protocol,
        Self::Error,
    ];

    /// The reason in one lower-case word, as in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lagged => "lagged",
            Self::Stalled => "stalled",
            Self::Timeout => "timeout",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
            Self::Overload => "overload",
            Self::Protocol => "protocol",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of one connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number, counted from 1 and never used again in this server.
    pub id: u64,
    /// The address of the other side; `None` for a subscription in this process. A stream through one of the
    /// [`trusted_proxies`](crate::Config::trusted_proxies) has its client's, and a [masked](crate::Config::mask_addresses) one lacks its last
    /// part; both have the port 0.
    pub peer: Option<SocketAddr>,
    /// What it subscribes to, overlaps reduced to the ancestor; empty for a connection that is no event stream.
    pub namespaces: Vec<Namespace>,
    /// Events it was given in full.
    pub events: u64,
    /// Bytes it was given.
    pub bytes: u64,
    /// How long it has been connected.
    pub connected: Duration,
}

impl ConnectionInfo {
    /// Whether it is an event stream.
    pub fn is_stream(&self) -> bool {
        !self.namespaces.is_empty()
    }
}

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It does not run yet.
    #[default]
    Starting,
    /// It accepts connections.
    Serving,
    /// It ends its connections one by one.
    Draining,
    /// It has run.
    Stopped,
}

/// How the store of events is, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreState {
    /// There is none: events end with the process.
    #[default]
    None,
    /// It has what it was given.
    Working,
    /// It could not store the last events, or make them safe; publishing over HTTP is refused.
    Failing,
}

/// A server's counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// How long it has run.
    pub uptime: Duration,
    /// Connections now, event streams or not.
    pub connections: usize,
    /// The most connections there were at once.
    pub connections_peak: usize,
    /// Connections in all.
    pub connections_total: u64,
    /// Event streams now.
    pub subscribers: usize,
    /// Namespaces in use now: with subscribers or retained events.
    pub namespaces: usize,
    /// Events taken from publishers.
    pub events: u64,
    /// Deliveries: one event given to one subscriber, or waiting for it.
    pub deliveries: u64,
    /// Bytes given to sockets.
    pub bytes: u64,
    /// Events in memory, because they are history or a subscriber still needs them; one that went to several namespaces counts in each.
    pub retained_events: usize,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Bytes of memory that they take, index and namespaces included: what [`history_total`](crate::Config::history_total) bounds.
    pub retained_memory: u64,
    /// Retained events that were evicted to stay within that bound.
    pub evicted: u64,
    /// How the store of events is.
    pub store: StoreState,
    /// Events waiting between publishers and the event loop.
    pub queued: usize,
    /// Ended connections by reason, in the order of [`DisconnectReason::ALL`].
    pub disconnects: [u64; 9],
}

impl Status {
    /// How many connections ended for a reason.
    pub fn disconnects(&self, reason: DisconnectReason) -> u64 {
        self.disconnects[reason as usize]
    }
}
