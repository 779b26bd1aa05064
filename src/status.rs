//! The status of a server: its counters, its connections, and why connections end. Values only.

use std::fmt;
use std::time::Duration;

use core::net::SocketAddr;

use crate::namespace::Namespace;

/// The reason why a connection ended. Each connection ends for exactly one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client closed the connection, or the server closed it after a response.
    Client,
    /// More than [`max_lag`](crate::Config::max_lag) bytes of its events were pending.
    Lagged,
    /// Its socket accepted no bytes for [`write_timeout`](crate::Config::write_timeout) while bytes
    /// were pending.
    Stalled,
    /// The request did not arrive in time.
    Timeout,
    /// The application or an administrator ended it, for example with
    /// [`Handle::disconnect`](crate::Handle::disconnect).
    Kicked,
    /// The server shut down.
    Shutdown,
    /// There were too many connections.
    Overload,
    /// The client violated HTTP, or sent too many bytes after its request for a stream.
    Protocol,
    /// It sent no further request within [`head_timeout`](crate::Config::head_timeout) after a
    /// response. This is the normal end of a connection that is kept alive.
    Idle,
    /// The operating system reported an error other than a closed connection.
    Error,
}

impl DisconnectReason {
    /// All reasons.
    pub const ALL: &'static [Self] = &[
        Self::Client,
        Self::Lagged,
        Self::Stalled,
        Self::Timeout,
        Self::Kicked,
        Self::Shutdown,
        Self::Overload,
        Self::Protocol,
        Self::Idle,
        Self::Error,
    ];

    /// The reason as one lower-case word, as in logs and metrics.
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
            Self::Idle => "idle",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A snapshot of one connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The ID of the connection, counted from 1. A server uses each ID once.
    pub id: u64,
    /// The address of the client; `None` for a subscription in this process.
    ///
    /// For a stream through one of the [`trusted_proxies`](crate::Config::trusted_proxies), it is
    /// the address that the proxy reports, with the port 0. With
    /// [`mask_addresses`](crate::Config::mask_addresses), its last part and its port are 0.
    pub peer: Option<SocketAddr>,
    /// The namespaces that it subscribes to, without those that another one contains; empty if the
    /// connection is not an event stream.
    pub namespaces: Vec<Namespace>,
    /// Events that were sent completely.
    pub events: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// The time since it was accepted.
    pub connected: Duration,
}

impl ConnectionInfo {
    /// Whether the connection is an event stream.
    pub fn is_stream(&self) -> bool {
        !self.namespaces.is_empty()
    }
}

/// The state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum State {
    /// The server does not run yet.
    #[default]
    Starting,
    /// The server accepts connections.
    Serving,
    /// The server no longer accepts connections and ends its streams one by one.
    Draining,
    /// The server has ended.
    Stopped,
}

/// The state of the event store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StoreState {
    /// The server runs without a store, so its events are lost when it ends.
    #[default]
    None,
    /// The store works.
    Working,
    /// The store failed to write or to sync the last events. Publishing over HTTP is refused.
    Failing,
}

/// The counters of a server at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// The state of the server.
    pub state: State,
    /// The time since the server started.
    pub uptime: Duration,
    /// Current connections, event streams and others.
    pub connections: usize,
    /// The largest number of connections at once.
    pub connections_peak: usize,
    /// All connections since the start.
    pub connections_total: u64,
    /// Current event streams.
    pub subscribers: usize,
    /// Current namespaces, which have subscribers or retained events.
    pub namespaces: usize,
    /// Events that publishers have sent.
    pub events: u64,
    /// Deliveries: each event counts once for each subscriber that it was sent to or is pending
    /// for.
    pub deliveries: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Events in memory, either as history or for a subscriber that still needs them. An event
    /// counts in each of its namespaces.
    pub retained_events: usize,
    /// Bytes of these events.
    pub retained_bytes: u64,
    /// Bytes of memory for these events, including indexes and namespaces.
    /// [`history_total`](crate::Config::history_total) limits them.
    pub retained_memory: u64,
    /// Retained events that were evicted to stay within that limit.
    pub evicted: u64,
    /// The state of the event store.
    pub store: StoreState,
    /// Events in the queue between publishers and the event loop.
    pub queued: usize,
    /// Ended connections, by the position of their reason in [`DisconnectReason::ALL`].
    pub(crate) disconnects: [u64; DisconnectReason::ALL.len()],
}

impl Status {
    /// The number of connections that ended for a reason.
    pub fn disconnects(&self, reason: DisconnectReason) -> u64 {
        self.disconnects[reason as usize]
    }

    /// Counts a connection that ended for a reason.
    pub(crate) fn count_disconnect(&mut self, reason: DisconnectReason) {
        self.disconnects[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let mut status = Status::default();
        for (index, &reason) in DisconnectReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
            status.count_disconnect(reason);
            assert_eq!(status.disconnects(reason), 1, "{reason}");
        }
    }
}
