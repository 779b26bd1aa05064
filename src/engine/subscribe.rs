//! Beginning and ending connections: accept, subscribe, disconnect and reap.

use std::time::Instant;

use core::net::SocketAddr;

use crate::json::json_string;
use crate::log::Seq;
use crate::namespace::{Namespace, Namespaces};
use crate::status::{ConnectionInfo, DisconnectReason};

use super::connection::{ClosingNotice, Connection, Phase, Stream};
use super::groups::{Membership, NewSubscriber};
use super::ids::TopicId;
use super::resume::{self, Resume, Start};
use super::topics::NamespacesFull;
use super::{ConnId, Engine};

impl Engine {
    /// Accepts a connection. `None` if there are too many connections even to answer with an error.
    pub fn accept(&mut self, peer: SocketAddr, now: Instant) -> Option<ConnId> {
        self.clock.set(now);
        if self.connections.is_overflowing() || self.is_draining() {
            self.meters.status.connections_total += 1;
            self.meters.count_disconnect(DisconnectReason::Overload);
            return None;
        }
        let surplus = self.connections.is_full();
        let key = self.insert(Some(peer), surplus);
        self.arm_first_timer(key);
        Some(key)
    }

    /// Adds a subscriber that is not a socket. It receives events from now on.
    ///
    /// # Errors
    /// `max_namespaces` is reached.
    pub fn subscribe(
        &mut self,
        namespaces: &Namespaces,
        now: Instant,
    ) -> Result<ConnId, NamespacesFull> {
        self.clock.set(now);
        let key = self.insert(None, false);
        let subscribed = self.start_stream(key, namespaces, &Resume::live());
        match subscribed {
            Ok(_) => self.arm_first_timer(key),
            Err(_) => self.disconnect(key, DisconnectReason::Overload),
        }
        subscribed.map(|_| key)
    }

    fn insert(&mut self, peer: Option<SocketAddr>, surplus: bool) -> ConnId {
        let key = self.connections.insert(peer, surplus, self.clock.ms());
        let status = &mut self.meters.status;
        status.connections_total += 1;
        status.connections_peak = status.connections_peak.max(self.connections.len());
        key
    }

    /// Makes a connection a subscriber of namespaces. Returns the first bytes of its stream: an
    /// event that reports a gap, or the ID of its cursor.
    pub(super) fn start_stream(
        &mut self,
        key: ConnId,
        namespaces: &Namespaces,
        resume: &Resume,
    ) -> Result<Vec<u8>, NamespacesFull> {
        let set = self.topics_for(namespaces.as_slice())?;
        let after = resume.after(&set, &self.topics, &self.ids);
        let first = resume::first_after(after, &set, &self.topics);
        let begin = match resume.gap {
            Some(_) => self.gap_event(resume, &set, first),
            None if first.is_none() && self.retention.keeps_history() => self.ids.line().to_vec(),
            None => Vec::new(),
        };
        // Events that one of several logs dropped were reported as a gap, or another log has them.
        let known_tick = match resume.start {
            _ if set.len() == 1 => 0,
            Start::End => 0,
            Start::After(_) | Start::Last(_) => self.retention.tick_of_replay(),
        };
        let connection = &self.connections[key];
        let new = NewSubscriber {
            conn: key,
            after,
            known_tick,
            writable: connection.writable && connection.outgoing.is_empty(),
            now_ms: self.clock.ms(),
        };
        let membership = self.groups.join(set, new, &mut self.topics);
        let stream = Stream {
            membership,
            ignored: 0,
            closing_notice: ClosingNotice::None,
            client: Default::default(),
        };
        self.connections
            .set_phase(key, Phase::Streaming(Box::new(stream)));
        self.meters.status.subscribers += 1;
        self.connections.opened.push(key);
        Ok(begin)
    }

    /// The topics of namespaces. Makes those that are not in use.
    fn topics_for(&mut self, namespaces: &[Namespace]) -> Result<Vec<TopicId>, NamespacesFull> {
        let mut set = Vec::with_capacity(namespaces.len());
        for namespace in namespaces {
            let new_log = |namespace: &_| self.retention.new_log(namespace);
            match self.topics.find_or_insert(namespace, new_log) {
                Ok(topic) => set.push(topic),
                Err(full) => {
                    for topic in set {
                        self.free_if_unused(topic);
                    }
                    return Err(full);
                }
            }
        }
        Ok(set)
    }

    /// The event that reports a gap before the event `first`, or before the next one to be
    /// published.
    fn gap_event(&self, resume: &Resume, set: &[TopicId], first: Option<Seq>) -> Vec<u8> {
        let Some((reason, asked)) = &resume.gap else {
            return Vec::new();
        };
        let last_id = || self.ids.id(self.ids.seq());
        let mut data = format!("{{\"reason\":\"{}\",\"lastEventId\":", reason.as_str());
        json_string(asked, &mut data);
        data.push_str(",\"resumedAt\":");
        let resumed_at = first.map_or_else(last_id, |seq| {
            resume::id_in(seq, set, &self.topics, &self.ids)
        });
        json_string(&resumed_at, &mut data);
        data.push('}');
        let mut bytes = Vec::new();
        if !self.config.gap_event.is_empty() {
            bytes = format!("event:{}\ndata:{data}\n\n", self.config.gap_event).into_bytes();
        }
        if first.is_none() {
            // An ID alone is not an event, but the client resumes from it.
            bytes.extend_from_slice(format!("id:{}\n\n", last_id()).as_bytes());
        }
        bytes
    }

    /// The namespaces of a stream, in order.
    pub(super) fn namespaces_of(&self, member: Membership) -> impl Iterator<Item = &Namespace> {
        let set = self.groups.topics_of(member.group);
        set.map(|topic| &self.topics[topic].namespace)
    }

    /// Ends a connection, which is freed at the end of the turn. The first reason counts.
    pub fn disconnect(&mut self, key: ConnId, reason: DisconnectReason) {
        if self.connections.end(key, reason)
            && let Some(member) = self.connections[key].membership()
        {
            self.groups.state_mut(member).writable = false;
        }
    }

    /// Ends the connection with this ID. Returns whether there is one.
    pub fn disconnect_id(&mut self, id: u64, reason: DisconnectReason) -> bool {
        let is_meant = |connection: &Connection| connection.id == id && connection.ended.is_none();
        let mut connections = self.connections.iter();
        let found = connections.find(|(_, connection)| is_meant(connection));
        let found = found.map(|(key, _)| key);
        drop(connections);
        if let Some(key) = found {
            self.disconnect(key, reason);
        }
        found.is_some()
    }

    /// Ends all streams of a namespace and of those below it, for the reason `kicked`. Returns
    /// their number.
    pub fn kick_namespace(&mut self, namespace: &Namespace) -> usize {
        let mut keys = Vec::new();
        self.topics.for_each_under(namespace, |topic| {
            for group in topic.groups() {
                keys.extend(self.groups.conns(group));
            }
        });
        keys.retain(|&key| self.connections[key].ended.is_none());
        keys.sort_unstable();
        keys.dedup();
        for &key in &keys {
            self.disconnect(key, DisconnectReason::Kicked);
        }
        keys.len()
    }

    /// Frees the connections that ended in this turn. Calls `each` with what is known of each one.
    pub fn reap(&mut self, mut each: impl FnMut(ConnId, ConnectionInfo, DisconnectReason)) {
        self.end_idle();
        while let Some(key) = self.connections.pop_ended() {
            let info = self.info(key);
            let had_pending = self.has_pending(key);
            let (connection, reason) = self.connections.remove(key);
            self.meters.count_disconnect(reason);
            match connection.phase {
                Phase::Streaming(stream) => {
                    self.forget_client(&stream.client);
                    self.leave(stream.membership, had_pending);
                }
                Phase::Watching { .. } => self.forget_watcher(key),
                _ => {}
            }
            each(key, info, reason);
            if self.connections.is_reaped() {
                self.end_idle();
            }
        }
    }

    fn leave(&mut self, member: Membership, had_pending: bool) {
        self.meters.status.subscribers -= 1;
        let left = self.groups.leave(member, &mut self.topics);
        self.schedule.flow.unblock(usize::from(left.was_blocked));
        if let Some(moved) = left.moved
            && let Phase::Streaming(stream) = &mut self.connections[moved].phase
        {
            stream.membership = member;
        }
        if had_pending && left.freed.is_empty() {
            // A pass finds the least cursor of the other subscribers.
            self.schedule
                .schedule(member.group, &mut self.groups, 0, &self.clock);
            self.list_untrimmed(member.group);
        }
        for topic in left.freed {
            self.retention.list_untrimmed(topic, &mut self.topics);
            self.free_if_unused(topic);
        }
    }

    fn free_if_unused(&mut self, topic: TopicId) {
        self.retention
            .free_if_unused(topic, &mut self.topics, &mut self.ids);
    }
}
