//! The connections, their timers, and the lists of connections that have something to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use core::net::SocketAddr;
use slab::Slab;

use crate::status::DisconnectReason;

use super::connection::{Connection, Phase};
use super::drain::Drain;
use super::ids::ConnId;
#[cfg(feature = "publish")]
use super::pending_writes::RequestId;
use super::random::Random;
#[cfg(feature = "publish")]
use super::uploads::{Item, Upload, UploadError, Uploads};

/// Number of connections accepted beyond `max_connections`. Each receives one response that says
/// so, and is closed.
pub const SURPLUS: usize = 128;

/// The connections of an engine.
#[derive(Debug)]
pub(super) struct Connections {
    slab: Slab<Connection>,
    max_connections: usize,
    next_id: u64,
    /// One entry for each connection: the time at which its timer fires, in milliseconds of the
    /// engine's time, its id and its key.
    timers: BinaryHeap<Reverse<(u64, u64, ConnId)>>,
    /// Connections to read from again.
    pub(super) readable_again: Vec<ConnId>,
    /// Streams that began.
    pub(super) opened: Vec<ConnId>,
    /// Connections to be freed at the end of the turn.
    ended: Vec<ConnId>,
    #[cfg(feature = "publish")]
    uploads: Uploads,
    pub(super) drain: Option<Drain>,
    pub(super) random: Random,
}

impl std::ops::Index<ConnId> for Connections {
    type Output = Connection;

    fn index(&self, key: ConnId) -> &Connection {
        &self.slab[key.index()]
    }
}

impl std::ops::IndexMut<ConnId> for Connections {
    fn index_mut(&mut self, key: ConnId) -> &mut Connection {
        &mut self.slab[key.index()]
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

    /// Whether connections have to wait to be accepted.
    pub(super) fn is_overflowing(&self) -> bool {
        self.slab.len() >= self.max_connections + SURPLUS
    }

    /// Whether `max_connections` is reached.
    pub(super) fn is_full(&self) -> bool {
        self.slab.len() >= self.max_connections
    }

    pub(super) fn get(&self, key: ConnId) -> Option<&Connection> {
        self.slab.get(key.index())
    }

    /// The connection with this key, unless it has ended.
    pub(super) fn live_mut(&mut self, key: ConnId) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key.index())?;
        connection.ended.is_none().then_some(connection)
    }

    /// The connection with this key, if it is still the one with this id.
    pub(super) fn with_id(&self, key: ConnId, id: u64) -> Option<&Connection> {
        self.get(key).filter(|connection| connection.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.slab
            .iter()
            .map(|(key, connection)| (ConnId::from_index(key), connection))
    }

    /// The next connection from a key on, and the key after it, for a walk that may stop and
    /// continue.
    #[cfg(feature = "admin")]
    pub(super) fn next_from(&self, key: usize) -> Option<(usize, ConnId)> {
        let keys = key..self.slab.capacity();
        let key = keys.into_iter().find(|key| self.slab.contains(*key))?;
        Some((key + 1, ConnId::from_index(key)))
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
        ConnId::from_index(self.slab.insert(Connection::new(id, peer, surplus, now_ms)))
    }

    /// Puts a connection into another phase.
    pub(super) fn set_phase(&mut self, key: ConnId, phase: Phase) {
        let before = std::mem::replace(&mut self[key].phase, phase);
        self.leave_phase(&before);
    }

    #[cfg_attr(
        not(feature = "publish"),
        expect(clippy::needless_pass_by_ref_mut, reason = "only uploads change")
    )]
    fn leave_phase(&mut self, phase: &Phase) {
        #[cfg(feature = "publish")]
        if let Phase::Upload(upload) = phase {
            self.uploads.release(upload);
        }
        #[cfg(not(feature = "publish"))]
        let _ = phase;
    }

    /// Ends a connection at the end of the turn. Returns false if it has ended already: the first
    /// reason counts.
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
        let connection = self.slab.remove(key.index());
        self.leave_phase(&connection.phase);
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

    /// Removes a timer that has fired. Returns its connection, unless that was removed.
    pub(super) fn pop_timer(&mut self, now_ms: u64) -> Option<Option<ConnId>> {
        let Reverse((_, id, key)) = self
            .timers
            .peek()
            .filter(|Reverse((at_ms, ..))| *at_ms <= now_ms)?;
        let key = self.with_id(*key, *id).map(|_| *key);
        self.timers.pop();
        Some(key)
    }

    /// Asserts that each ended connection is listed once, that each other one has one timer, and
    /// that the uploads are counted.
    pub(super) fn check(&self) {
        let mut timers = vec![0; self.slab.capacity()];
        for &Reverse((_, id, key)) in &self.timers {
            timers[key.index()] += usize::from(self.with_id(key, id).is_some());
        }
        let mut listings = vec![0; self.slab.capacity()];
        for key in &self.ended {
            listings[key.index()] += 1;
        }
        for (key, connection) in self.iter() {
            let has_ended = connection.ended.is_some();
            let (timers, listings) = (timers[key.index()], listings[key.index()]);
            assert_eq!(listings, usize::from(has_ended), "{connection:?}");
            assert!(timers == 1 || (timers == 0 && has_ended), "{connection:?}");
        }
        #[cfg(feature = "publish")]
        self.uploads.check(
            self.iter()
                .filter_map(|(key, connection)| match &connection.phase {
                    Phase::Upload(upload) => Some((key, &**upload)),
                    _ => None,
                }),
        );
    }
}

#[cfg(feature = "publish")]
impl Connections {
    /// Whether no upload has bytes to work on.
    pub(super) fn has_no_upload(&self) -> bool {
        self.uploads.is_idle()
    }

    /// Puts a connection that receives a body into the queue of uploads.
    pub(super) fn queue_upload(&mut self, key: ConnId) {
        if let Phase::Upload(upload) = &mut self.slab[key.index()].phase {
            self.uploads.enqueue(key, upload);
        }
    }

    /// Removes the connection whose upload has waited longest from the queue. It may have ended.
    pub(super) fn pop_upload(&mut self) -> Option<ConnId> {
        let key = self.uploads.pop()?;
        if let Some(upload) = self.upload_mut(key) {
            upload.record_popped();
        }
        Some(key)
    }

    /// The body that a connection receives, unless it has ended.
    pub(super) fn upload_mut(&mut self, key: ConnId) -> Option<&mut Upload> {
        match &mut self.live_mut(key)?.phase {
            Phase::Upload(upload) => Some(upload),
            _ => None,
        }
    }

    /// The body of a request, if it is still being received or answered.
    pub(super) fn upload_of(&mut self, request: RequestId) -> Option<&mut Upload> {
        self.with_id(request.key, request.id)?;
        self.upload_mut(request.key)
    }

    /// Reads the next item of the body that a connection receives; `None` if there is no body, or
    /// the response to it waits for the store.
    pub(super) fn read_upload(&mut self, key: ConnId) -> Option<Result<Item, UploadError>> {
        let connection = self.slab.get_mut(key.index())?;
        match &mut connection.phase {
            Phase::Upload(upload) if connection.ended.is_none() && !upload.is_over() => {
                Some(self.uploads.read(upload))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_connections(max_connections: usize, count: usize) -> (Connections, Vec<ConnId>) {
        let mut connections = Connections::new(max_connections, 1);
        let keys = (0..count).map(|_| connections.insert(None, false, 0));
        let keys = keys.collect();
        (connections, keys)
    }

    #[test]
    fn connections_beyond_the_limit_are_accepted_until_they_are_too_many() {
        for (count, full, overflowing) in [
            (0, false, false),
            (2, true, false),
            (1 + SURPLUS, true, false),
            (2 + SURPLUS, true, true),
        ] {
            let (connections, _) = with_connections(2, count);
            assert_eq!(connections.is_full(), full, "{count}");
            assert_eq!(connections.is_overflowing(), overflowing, "{count}");
        }
    }

    #[test]
    fn the_first_reason_of_an_end_counts() {
        let (mut connections, keys) = with_connections(10, 2);
        assert!(connections.end(keys[1], DisconnectReason::Kicked));
        assert!(!connections.end(keys[1], DisconnectReason::Client));
        assert!(connections.live_mut(keys[1]).is_none());
        assert!(connections.get(keys[1]).is_some(), "it is removed later");
        assert_eq!(connections.pop_ended(), Some(keys[1]));
        let (connection, reason) = connections.remove(keys[1]);
        assert_eq!((connection.id, reason), (2, DisconnectReason::Kicked));
        assert!(connections.is_reaped());
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn a_check_finds_connections_without_a_timer_and_ends_that_are_not_listed_once() {
        type Change = fn(&mut Connections, ConnId);
        let changes: [(Change, bool); 6] = [
            (|_, _| {}, false),
            (|all, key| all.arm_timer(key, 5), true),
            (
                |all, key| {
                    all.arm_timer(key, 5);
                    all.arm_timer(key, 6);
                },
                false,
            ),
            (
                |all, key| assert!(all.end(key, DisconnectReason::Client)),
                true,
            ),
            (
                |all, key| all[key].ended = Some(DisconnectReason::Client),
                false,
            ),
            (
                |all, key| {
                    all.end(key, DisconnectReason::Client);
                    all.ended.push(key);
                },
                false,
            ),
        ];
        for (index, (change, valid)) in changes.into_iter().enumerate() {
            let (mut connections, keys) = with_connections(10, 2);
            connections.arm_timer(keys[0], 5);
            change(&mut connections, keys[1]);
            let checked = std::panic::catch_unwind(|| connections.check());
            assert_eq!(checked.is_ok(), valid, "change {index}");
        }
    }

    #[test]
    fn timers_fire_in_the_order_of_their_times() {
        let (mut connections, keys) = with_connections(10, 3);
        for (key, at_ms) in [(keys[0], 30), (keys[1], 10), (keys[2], 20)] {
            connections.arm_timer(key, at_ms);
        }
        connections.check();
        assert_eq!(connections.next_timer_ms(), Some(10));
        let mut fired = |now_ms| connections.pop_timer(now_ms);
        for (now_ms, expected) in [
            (9, None),
            (20, Some(Some(keys[1]))),
            (20, Some(Some(keys[2]))),
            (20, None),
            (30, Some(Some(keys[0]))),
        ] {
            assert_eq!(fired(now_ms), expected, "at {now_ms}");
        }
    }

    #[test]
    fn a_timer_does_not_fire_for_the_next_connection_with_the_same_key() {
        let (mut connections, keys) = with_connections(10, 1);
        connections.arm_timer(keys[0], 5);
        connections.end(keys[0], DisconnectReason::Client);
        connections.pop_ended();
        connections.remove(keys[0]);
        let key = connections.insert(None, false, 1);
        assert_eq!(key, keys[0], "a key is used again");
        assert_eq!(connections.pop_timer(5), Some(None));
        assert!(connections.with_id(key, 1).is_none());
        assert!(connections.with_id(key, 2).is_some());
    }
}
