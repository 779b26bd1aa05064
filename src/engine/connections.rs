//! The connections, and the lists of those that something is to be done for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use core::net::SocketAddr;
use slab::Slab;

use crate::status::DisconnectReason;

use super::connection::Connection;
#[cfg(feature = "publish")]
use super::connection::Phase;
use super::drain::Drain;
use super::ids::ConnId;
use super::random::Random;
#[cfg(feature = "publish")]
use super::upload::Uploads;

/// Connections accepted beyond `max_connections`, so that each can be told: it gets one answer and is closed.
pub const SURPLUS: usize = 128;

/// The connections of an engine.
#[derive(Debug)]
pub(super) struct Connections {
    slab: Slab<Connection>,
    max_connections: usize,
    next_id: u64,
    /// One entry for each connection: when its timer fires, its id and its key.
    timers: BinaryHeap<Reverse<(u64, u64, ConnId)>>,
    /// Connections whose bytes are wanted again.
    pub(super) readable_again: Vec<ConnId>,
    /// Streams that began.
    pub(super) opened: Vec<ConnId>,
    /// Connections to be freed at the end of the turn.
    ended: Vec<ConnId>,
    #[cfg(feature = "publish")]
    pub(super) uploads: Uploads,
    pub(super) drain: Option<Drain>,
    pub(super) random: Random,
}

impl std::ops::Index<ConnId> for Connections {
    type Output = Connection;

    fn index(&self, key: ConnId) -> &Connection {
        &self.slab[key as usize]
    }
}

impl std::ops::IndexMut<ConnId> for Connections {
    fn index_mut(&mut self, key: ConnId) -> &mut Connection {
        &mut self.slab[key as usize]
    }
}

impl Connections {
    /// `seed` decides jitter and the order of a drain, nothing else.
    pub(super) fn new(max_connections: usize, seed: u64) -> Self {
        Self {
            slab: Slab::new(),
            max_connections,
            next_id: 1,
            timers: BinaryHeap::new(),
            readable_again: Vec::new(),
            opened: Vec::new(),
            ended: Vec::new(),
            #[cfg(feature = "publish")]
            uploads: Uploads::default(),
            drain: None,
            random: Random::new(seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Whether no connection is accepted any more, not even to be told so.
    pub(super) fn is_overflowing(&self) -> bool {
        self.slab.len() >= self.max_connections + SURPLUS
    }

    /// Whether `max_connections` is reached.
    pub(super) fn is_full(&self) -> bool {
        self.slab.len() >= self.max_connections
    }

    pub(super) fn get(&self, key: ConnId) -> Option<&Connection> {
        self.slab.get(key as usize)
    }

    /// The connection with this key, unless it has ended.
    pub(super) fn live_mut(&mut self, key: ConnId) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key as usize)?;
        connection.ended.is_none().then_some(connection)
    }

    /// The connection with this key, if it is still the one with this id.
    pub(super) fn with_id(&self, key: ConnId, id: u64) -> Option<&Connection> {
        self.get(key).filter(|connection| connection.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.slab
            .iter()
            .map(|(key, connection)| (key as ConnId, connection))
    }

    /// The next connection from a key on, and the key after it: a walk over all connections that may stop and go on.
    #[cfg(feature = "admin")]
    pub(super) fn next_from(&self, key: usize) -> Option<(usize, ConnId)> {
        let keys = key..self.slab.capacity();
        let key = keys.into_iter().find(|key| self.slab.contains(*key))?;
        Some((key + 1, key as ConnId))
    }

    /// Adds a connection.
    pub(super) fn insert(
        &mut self,
        peer: Option<SocketAddr>,
        surplus: bool,
        now_ms: u64,
    ) -> ConnId {
        let id = self.next_id;
        self.next_id += 1;
        self.slab.insert(Connection::new(id, peer, surplus, now_ms)) as ConnId
    }

    /// Marks a connection as ended, for the first reason given; returns whether it had not ended before.
    pub(super) fn end(&mut self, key: ConnId, reason: DisconnectReason) -> bool {
        let Some(connection) = self.live_mut(key) else {
            return false;
        };
        connection.ended = Some(reason);
        self.ended.push(key);
        true
    }

    /// A connection that ended in this turn, to be removed.
    pub(super) fn pop_ended(&mut self) -> Option<ConnId> {
        self.ended.pop()
    }

    /// Whether every ended connection has been removed.
    pub(super) fn is_reaped(&self) -> bool {
        self.ended.is_empty()
    }

    /// Removes a connection; returns it and the reason of its end.
    pub(super) fn remove(&mut self, key: ConnId) -> (Connection, DisconnectReason) {
        let connection = self.slab.remove(key as usize);
        let reason = connection
            .ended
            .expect("only connections that `end` marked are removed");
        (connection, reason)
    }

    /// Sets when a connection's timer fires.
    pub(super) fn arm_timer(&mut self, key: ConnId, at_ms: u64) {
        let id = self[key].id;
        self.timers.push(Reverse((at_ms, id, key)));
    }

    /// When the next timer fires.
    pub(super) fn next_timer_ms(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    /// A connection whose timer has fired, if its key is not another's by now.
    pub(super) fn pop_timer(&mut self, now_ms: u64) -> Option<Option<ConnId>> {
        let Reverse((_, id, key)) = self
            .timers
            .peek()
            .filter(|Reverse((at_ms, ..))| *at_ms <= now_ms)?;
        let key = self.with_id(*key, *id).map(|_| *key);
        self.timers.pop();
        Some(key)
    }

    /// Asserts that the bytes held for uploads are counted.
    #[cfg(feature = "publish")]
    pub(super) fn check_uploads(&self) {
        let uploads = self
            .iter()
            .filter_map(|(_, connection)| match &connection.phase {
                Phase::Upload(upload) => Some(&**upload),
                _ => None,
            });
        self.uploads.check(uploads);
    }

    pub(super) fn check(&self) {
        for (key, connection) in self.iter() {
            let listed = self.ended.contains(&key);
            assert_eq!(
                connection.ended.is_some(),
                listed,
                "connection {}",
                connection.id
            );
        }
    }
}
