//! Flushing: gives bytes to sockets, in passes over groups and in writes to single connections.
//!
//! The pass itself is in `fan_out`. This file decides the order of passes and single writes. They
//! run in slices of time, so that no connection waits for a whole large pass.

use std::collections::VecDeque;
use std::time::Instant;

use crate::log::Slices;
use crate::status::DisconnectReason;

use super::connection::{ClosingNotice, Phase};
use super::fan_out::{Members, PassState, Writer, Written};
use super::flow::BlockedPass;
use super::ids::GroupId;
use super::schedule::{SLICE, Schedule};
use super::{ConnId, Engine, Outlet, ReadInterest};

impl Engine {
    /// Ends the intake of a turn. Makes groups with new events due: all of them if no more events
    /// come now (`idle`), else those that have waited long enough.
    pub fn end_intake(&mut self, idle: bool, now: Instant) {
        self.clock.set(now);
        self.schedule
            .end_intake(&mut self.groups, idle, self.clock.ms());
    }

    /// Whether groups with new events wait for more, although none came in this turn.
    pub fn is_batching(&self) -> bool {
        self.schedule.is_batching()
    }

    /// Gives bytes to the outlet, for about 2.5 ms. Returns whether there is more to give.
    pub fn flush(&mut self, outlet: &mut impl Outlet, now: Instant) -> bool {
        self.clock.set(now);
        let mut budget = SLICE;
        self.flush_listed(|schedule| &mut schedule.ready, outlet, &mut budget);
        // New connections and responses do not count against the budget of events.
        let mut budget = self.schedule.slice;
        self.flush_listed(|schedule| &mut schedule.lagging, outlet, &mut budget);
        while budget > 0
            && let Some(group) = self.schedule.next_group()
        {
            if self.run_pass(group, outlet, &mut budget) {
                self.schedule.end_pass();
            }
        }
        // New events do not wait for replays.
        self.publish_replay_pages(outlet);
        let mut budget = self.schedule.slice;
        self.flush_listed(|schedule| &mut schedule.replaying, outlet, &mut budget);
        if self.schedule.is_flushed() {
            self.retention
                .trim(&mut self.topics, &self.groups, &mut self.ids);
        }
        if self.work_on_job() {
            return true;
        }
        // A response that was written may be followed by a publish request that was already
        // received.
        #[cfg(feature = "publish")]
        if !self.connections.has_no_upload() && !self.is_paused() {
            return true;
        }
        !self.schedule.is_idle()
    }

    /// Announces the bytes of the first replay to the outlet. Clients that reconnect together
    /// mostly miss the same events.
    fn publish_replay_pages(&self, outlet: &mut impl Outlet) {
        let replaying = &self.schedule.replaying;
        let first = replaying.front().and_then(|&key| self.connections.get(key));
        if let Some(member) = first.and_then(|connection| connection.membership())
            && replaying.len() > 1
        {
            self.groups
                .publish_replay_pages(member, replaying.len(), &self.topics, outlet);
        }
    }

    /// Writes once to each connection that is on a list now.
    fn flush_listed(
        &mut self,
        list: fn(&mut Schedule) -> &mut VecDeque<ConnId>,
        outlet: &mut impl Outlet,
        budget: &mut usize,
    ) {
        for _ in 0..list(&mut self.schedule).len() {
            if *budget == 0 {
                return;
            }
            let Some(key) = list(&mut self.schedule).pop_front() else {
                return;
            };
            if self.connections.get(key).is_some() {
                self.connections[key].listed = false;
            }
            self.flush_connection(key, outlet, budget);
        }
    }

    /// Begins or continues the pass over a group. Returns whether it is over.
    fn run_pass(&mut self, group: GroupId, outlet: &mut impl Outlet, budget: &mut usize) -> bool {
        match self.groups.pass_mut(group).map(|pass| pass.state) {
            Some(PassState::Due | PassState::Running { .. }) => {}
            _ => return true,
        }
        let mut writer = Writer {
            outlet,
            clock: self.clock,
            limits: self.groups.limits(),
            budget: *budget,
            results: &mut self.schedule.results,
        };
        self.groups.fan_out(group, &self.topics, &mut writer);
        *budget = writer.budget;
        self.apply_results();
        let Members { pass, blocked, .. } = self.groups.members_mut(group);
        if !pass.is_complete() {
            return false;
        }
        let again = pass.state == PassState::Running { again: true };
        pass.state = PassState::Clean;
        self.meters.record_pass(pass);
        if *blocked > 0 {
            let blocked = BlockedPass {
                blocked: *blocked,
                subscribers: self.meters.status.subscribers,
                began_ms: pass.began_ms,
                flushed_bytes: pass.flushing_bytes,
            };
            self.schedule.flow.pause_after(blocked, self.clock.ms());
        }
        if again {
            self.schedule
                .schedule(group, &mut self.groups, 0, &self.clock);
        }
        self.list_untrimmed(group);
        true
    }

    /// Applies the results of writes: counts, connections to end, lagging subscribers.
    fn apply_results(&mut self) {
        let results = &mut self.schedule.results;
        self.meters.take_counts(results);
        self.schedule
            .flow
            .unblock(std::mem::take(&mut results.unblocked));
        while let Some((conn, reason)) = self.schedule.results.ended.pop() {
            self.disconnect(conn, reason);
        }
        for index in 0..self.schedule.results.lagging.len() {
            let conn = self.schedule.results.lagging[index];
            self.list_lagging(conn);
        }
        self.schedule.results.lagging.clear();
    }

    fn list_lagging(&mut self, key: ConnId) {
        let connection = &mut self.connections[key];
        if std::mem::replace(&mut connection.listed, true) {
            return;
        }
        let limits = self.groups.limits();
        let replays = |member| self.groups.state(member).is_replaying(&limits);
        if connection.membership().is_some_and(replays) {
            self.schedule.replaying.push_back(key);
        } else {
            self.schedule.lagging.push_back(key);
        }
    }

    /// Lists a connection that has bytes to write.
    pub(super) fn wake(&mut self, key: ConnId) {
        let connection = &mut self.connections[key];
        if !std::mem::replace(&mut connection.listed, true) {
            self.schedule.ready.push_back(key);
        }
    }

    /// Adds bytes that go out before any further event. No pass writes to the connection until they
    /// are written.
    pub(super) fn push_outgoing(&mut self, key: ConnId, bytes: &[u8]) {
        let connection = &mut self.connections[key];
        connection.outgoing.push(bytes);
        if let Some(member) = connection.membership() {
            self.groups.state_mut(member).writable = false;
        }
        self.wake(key);
    }

    /// Handles a socket that takes bytes again.
    pub fn writable(&mut self, key: ConnId, now: Instant) {
        self.clock.set(now);
        let Some(connection) = self.connections.live_mut(key) else {
            return;
        };
        connection.writable = true;
        let nothing_first = connection.outgoing.is_empty();
        if let Some(member) = connection.membership() {
            self.groups.state_mut(member).writable = nothing_first;
        }
        if !nothing_first || self.has_pending(key) {
            self.wake(key);
        }
    }

    /// Whether a stream has pending events.
    pub(super) fn has_pending(&self, key: ConnId) -> bool {
        let member = self.connections[key].membership();
        member.is_some_and(|member| self.groups.has_pending(member, &self.topics))
    }

    /// Writes to a connection once: the bytes that go out first, then its pending events.
    fn flush_connection(&mut self, key: ConnId, outlet: &mut impl Outlet, budget: &mut usize) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let membership = connection.membership();
        // A pass records a full socket in the subscriber's state, not in the connection.
        let is_full = membership.is_some_and(|member| !self.groups.state(member).writable);
        if connection.ended.is_some()
            || !connection.writable
            || (is_full && connection.outgoing.is_empty())
        {
            return;
        }
        let written = self.write_to(key, outlet, budget);
        self.apply_results();
        let written = match written {
            Ok(written) => written,
            Err(reason) => return self.disconnect(key, reason),
        };
        if written.least_moved
            && let Some(member) = membership
        {
            // A pass finds the new least cursor, so that the logs can drop what is before it.
            self.schedule
                .schedule(member.group, &mut self.groups, 0, &self.clock);
        }
        if written.all && !(written.events && self.has_pending(key)) {
            self.on_all_written(key, outlet);
        } else if written.all {
            self.list_lagging(key);
        }
    }

    fn write_to(
        &mut self,
        key: ConnId,
        outlet: &mut impl Outlet,
        budget: &mut usize,
    ) -> Result<Written, DisconnectReason> {
        let mut writer = Writer {
            outlet,
            clock: self.clock,
            limits: self.groups.limits(),
            budget: *budget,
            results: &mut self.schedule.results,
        };
        let connection = &mut self.connections[key];
        let first = connection.outgoing.rest();
        let membership = connection.membership();
        let result = match membership.filter(|_| connection.receives_events()) {
            Some(member) => self
                .groups
                .write_one(member, first, &self.topics, &mut writer),
            None => write_first(key, first, &mut writer),
        };
        *budget = writer.budget;
        let (written, taken) = result?;
        connection.record_taken(taken, written.all, self.clock.ms());
        Ok(written)
    }

    /// Continues with a connection whose bytes are all written.
    fn on_all_written(&mut self, key: ConnId, outlet: &mut impl Outlet) {
        let now_ms = self.clock.ms();
        let connection = &mut self.connections[key];
        match &mut connection.phase {
            Phase::Responding { .. } => {
                let reader = connection.take_reader();
                let next = Phase::Request {
                    reader,
                    since_ms: now_ms,
                };
                self.connections.set_phase(key, next);
                // If the client has already sent its next request, no bytes are read until that is
                // answered.
                if self.process(key) == ReadInterest::More {
                    self.connections.readable_again.push(key);
                }
            }
            Phase::Streaming(stream) => match std::mem::take(&mut stream.closing_notice) {
                ClosingNotice::None => {}
                ClosingNotice::Pending(bytes, reason) => {
                    stream.closing_notice = ClosingNotice::Sent(reason);
                    self.push_outgoing(key, &bytes);
                }
                ClosingNotice::Sent(reason) => self.disconnect(key, reason),
            },
            Phase::Closing {
                linger_until_ms: until_ms @ None,
                ..
            } if !connection.half_closed => {
                *until_ms = Some(now_ms + self.config.head_timeout.as_millis() as u64);
                outlet.finish(key);
                self.connections.readable_again.push(key);
            }
            Phase::Closing {
                linger_until_ms: Some(_),
                ..
            } => {}
            Phase::Closing { reason, .. } => {
                let reason = *reason;
                self.disconnect(key, reason);
            }
            _ => {}
        }
    }

    /// Lists the topics of a group whose logs may hold events that are no longer needed.
    pub(super) fn list_untrimmed(&mut self, group: GroupId) {
        for topic in self.groups.topics_of(group) {
            self.retention.list_untrimmed(topic, &mut self.topics);
        }
    }
}

/// Writes to a connection that receives no events.
fn write_first(
    key: ConnId,
    first: &[u8],
    writer: &mut Writer<'_, impl Outlet>,
) -> Result<(Written, usize), DisconnectReason> {
    let mut slices = Slices::new();
    slices.push(first);
    let taken = writer.write(key, &slices)?;
    writer.results.bytes += taken as u64;
    let written = Written {
        all: taken == first.len(),
        events: false,
        least_moved: false,
    };
    Ok((written, taken))
}
