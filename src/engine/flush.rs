//! Giving bytes to sockets: passes over the audiences that are due, and single connections that have something of their own.
//!
//! The pass is in `audience.rs`; here is which of them runs, in slices, so that nobody waits for the whole of a large one.

use std::collections::VecDeque;
use std::time::Instant;

use crate::event_log::Slices;
use crate::status::DisconnectReason;

use super::connection::{ClosingNotice, Connection, Membership, Phase};
use super::groups::{Gone, GroupId, Report, Source, Subscribers, Turn, WRITE_COST, Writer};
use super::merge::{Merge, TopicSet, end_of};
use super::topic::{Reader, Topic};
use super::{ConnId, Engine, Outlet, Pause, ReadInterest};

/// How long half of `max_lag`, as it is set, lasts somebody who is held back, however fast events come: who is well reads in that time. Ten
/// times as long, if most are: then it is not they who are slow.
const REACTION_MS: u64 = 100;
/// Where an event may be larger than `max_lag`, somebody may lack that much, so that it takes longer until one who does not read is cut: no more
/// than so many times as long.
const REACTIONS: u64 = 8;

/// What events may cost in one call of [`Engine::flush`], and as much again all else, in bytes that could have been copied in that time:
/// about 2.5 ms.
pub const SLICE: usize = 16 << 20;

impl Engine {
    /// Says that no more events come now, or (`idle` false) asks whether some have waited long enough: then what
    /// gathered becomes due.
    pub fn end_intake(&mut self, idle: bool, now: Instant) {
        self.set_now(now);
        let coalesces = !self.config.coalesce.is_zero();
        let all = !coalesces && (idle || self.is_paused());
        for _ in 0..self.dirty.len() {
            let Some((group, due_at)) = self.dirty.pop_front() else {
                break;
            };
            let now_ms = self.now_ms;
            let Some(pass) = self
                .pass_of(group)
                .filter(|pass| pass.turn == Turn::Dirty && pass.due_at == due_at)
            else {
                continue;
            };
            if all || now_ms >= due_at {
                pass.turn = Turn::Due;
                self.due.push_back(group);
            } else if coalesces {
                self.dirty.push_back((group, due_at));
            } else {
                self.dirty.push_front((group, due_at));
                break;
            }
        }
        self.batching = !(coalesces || self.dirty.is_empty());
    }

    /// Whether events gather for a while longer, though there are none now.
    pub fn is_batching(&self) -> bool {
        self.batching
    }

    /// When what gathers will have gathered long enough, in milliseconds of the engine's time.
    pub(super) fn next_intake_end(&self) -> Option<u64> {
        let mut due_at = self.dirty.iter().map(|&(_, due_at)| due_at);
        if !self.config.coalesce.is_zero() {
            return due_at.min();
        }
        // What came after all was settled is settled in the next turn.
        let first = |due_at| if self.batching { due_at } else { self.now_ms };
        due_at.next().map(first)
    }

    /// Gives bytes to the outlet, for about 2.5 ms at the most; returns whether there is more to give.
    pub fn flush(&mut self, outlet: &mut impl Outlet, now: Instant) -> bool {
        self.set_now(now);
        let mut budget = SLICE;
        self.flush_listed(|engine| &mut engine.ready, outlet, &mut budget);
        // New connections and answers take nothing from what events may cost.
        let mut budget = self.slice;
        self.flush_listed(|engine| &mut engine.lagging, outlet, &mut budget);
        while budget > 0
            && let Some(&group) = self.due.front()
        {
            if self.pass(group, outlet, &mut budget) {
                self.due.pop_front();
            }
        }
        // Whoever comes back is given what it missed beside what goes on, and nobody waits for that.
        self.publish_replayed_pages(outlet);
        let mut budget = self.slice;
        self.flush_listed(|engine| &mut engine.replaying, outlet, &mut budget);
        if self.due.is_empty() {
            self.trim();
        }
        #[cfg(feature = "admin")]
        if self.work_on_report() {
            return true;
        }
        // A response that went out may have made way for a publish request that was already there.
        #[cfg(feature = "publish")]
        if !self.uploads.is_empty() && !self.is_paused() {
            return true;
        }
        let listed = [&self.ready, &self.lagging, &self.replaying];
        !(self.due.is_empty() && listed.iter().all(|list| list.is_empty()))
    }

    /// Those who come back together mostly miss the same: what the first of them lacks is shared.
    fn publish_replayed_pages(&self, outlet: &mut impl Outlet) {
        let first = self.replaying.front();
        let first = first.and_then(|&key| self.connections.get(key as usize));
        let place = first.and_then(Connection::membership);
        if let Some(Membership {
            group: GroupId::Topic(key),
            index,
        }) = place
            && self.replaying.len() > 1
        {
            let Topic {
                log, subscribers, ..
            } = &self.topics[key as usize];
            let from = subscribers.list[index as usize].cursor;
            let mut slices = Slices::new();
            log.gather(from.max(log.start()), self.limits.write_most, &mut slices);
            outlet.publish_pages(&slices, self.replaying.len());
        }
    }

    /// One write to each connection that is on a list now.
    fn flush_listed(
        &mut self,
        list: fn(&mut Self) -> &mut VecDeque<ConnId>,
        outlet: &mut impl Outlet,
        budget: &mut usize,
    ) {
        for _ in 0..list(self).len() {
            if *budget == 0 {
                return;
            }
            let Some(key) = list(self).pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(key as usize) {
                connection.listed = false;
            }
            self.flush_connection(key, outlet, budget);
        }
    }

    /// Goes on with the pass over an group; returns whether it is over.
    fn pass(&mut self, group: GroupId, outlet: &mut impl Outlet, budget: &mut usize) -> bool {
        match self.pass_of(group).map(|pass| pass.turn) {
            Some(Turn::Due | Turn::Passing(_)) => {}
            _ => return true,
        }
        let mut writer = Writer {
            outlet,
            now_ms: self.now_ms,
            #[cfg(feature = "admin")]
            now_us: self.now_us,
            limits: self.limits,
            budget: *budget,
            report: std::mem::take(&mut self.report),
        };
        match group {
            GroupId::Topic(key) => {
                let Topic {
                    log, subscribers, ..
                } = &mut self.topics[key as usize];
                if subscribers.pass.turn == Turn::Due && subscribers.list.len() > 1 {
                    // Also whoever is behind will be given it, in pieces.
                    let mut news = Slices::new();
                    log.gather_last(subscribers.pass.pending_bytes, &mut news);
                    writer.outlet.publish_pages(&news, subscribers.list.len());
                }
                subscribers.visit(Reader::new(log), &mut writer);
            }
            GroupId::TopicSet(key) => {
                let topic_set = &mut self.topic_sets[key as usize];
                let merge = Merge::new(&topic_set.topics, &self.topics, &mut self.scratch);
                topic_set.subscribers.visit(merge, &mut writer);
            }
        }
        *budget = writer.budget;
        self.report = self.take_report(writer.report);
        let pass = self.pass_of(group).expect("nobody has left in between");
        if pass.unvisited > 0 {
            return false;
        }
        let again = pass.turn == Turn::Passing(true);
        pass.turn = Turn::Clean;
        let (began_at, flushing_bytes) = (pass.began_at, pass.flushing_bytes);
        #[cfg(feature = "admin")]
        if flushing_bytes > 0 {
            let times = (pass.flushing_since_us, pass.began_us);
            self.note_pass(times);
        }
        let blocked = self.blocked_of(group);
        if blocked > 0 {
            self.pause_for(blocked, began_at, flushing_bytes);
        }
        if again {
            self.schedule(group, 0);
        }
        self.list_untrimmed(group);
        true
    }

    /// Makes publishers wait after a pass that found some held back.
    fn pause_for(&mut self, held: usize, began_at: u64, flushing_bytes: u64) {
        // Were nearly all of them cut at once, that would help nobody.
        let most = held > self.stats.subscribers / 2;
        let reaction_ms = if most { 10 * REACTION_MS } else { REACTION_MS };
        let max_lag = (self.config.max_lag as u64).max(self.limits.max_lag / REACTIONS);
        let until = began_at + 2 * flushing_bytes * reaction_ms / max_lag;
        if until > self.now_ms && (until > self.pause.until || !self.is_paused()) {
            let held = held.div_ceil(2);
            self.pause = Pause {
                until,
                blocked: held,
            };
        }
    }

    fn blocked_of(&self, group: GroupId) -> usize {
        match group {
            GroupId::Topic(key) => self.topics[key as usize].subscribers.blocked,
            GroupId::TopicSet(key) => self.topic_sets[key as usize].subscribers.blocked,
        }
    }

    /// Notes that subscribers are no longer blocked, as they took something or have gone: a pause lasts no longer than its cause.
    pub(super) fn unblock(&mut self, subscribers: usize) {
        self.pause.blocked = self.pause.blocked.saturating_sub(subscribers);
    }

    fn take_report(&mut self, mut report: Report) -> Report {
        self.stats.deliveries += std::mem::take(&mut report.events);
        self.stats.bytes += std::mem::take(&mut report.bytes);
        self.unblock(std::mem::take(&mut report.unblocked));
        for (conn, reason) in report.ended.drain(..) {
            self.disconnect(conn, reason);
        }
        for conn in report.lagging.drain(..) {
            self.list_lagging(conn);
        }
        report
    }

    fn list_lagging(&mut self, key: ConnId) {
        let connection = &mut self.connections[key as usize];
        if std::mem::replace(&mut connection.listed, true) {
            return;
        }
        let place = connection.membership();
        if place.is_some_and(|place| self.state(place).is_replaying(&self.limits)) {
            self.replaying.push_back(key);
        } else {
            self.lagging.push_back(key);
        }
    }

    /// Puts a connection on the list of those with something to write.
    pub(super) fn wake(&mut self, key: ConnId) {
        let connection = &mut self.connections[key as usize];
        if !connection.listed {
            connection.listed = true;
            self.ready.push_back(key);
        }
    }

    /// Adds bytes that go out before any further event, and holds passes back until they did.
    pub(super) fn push_outgoing(&mut self, key: ConnId, bytes: &[u8]) {
        let connection = &mut self.connections[key as usize];
        connection.outgoing.push(bytes);
        if let Some(place) = connection.membership() {
            self.state_mut(place).writable = false;
        }
        self.wake(key);
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, key: ConnId, now: Instant) {
        self.set_now(now);
        let Some(connection) = self
            .connections
            .get_mut(key as usize)
            .filter(|connection| connection.ended.is_none())
        else {
            return;
        };
        connection.writable = true;
        let nothing_first = connection.outgoing.is_empty();
        if let Some(place) = connection.membership() {
            self.state_mut(place).writable = nothing_first;
        }
        if !nothing_first || self.has_pending(key) {
            self.wake(key);
        }
    }

    /// One write to one connection: what goes out first, then the events it lacks.
    fn flush_connection(&mut self, key: ConnId, outlet: &mut impl Outlet, budget: &mut usize) {
        let Some(connection) = self.connections.get(key as usize) else {
            return;
        };
        let place = connection.membership();
        // A pass that finds a socket full tells the state, not the connection.
        let full = place.is_some_and(|place| !self.state(place).writable);
        if connection.ended.is_some()
            || !connection.writable
            || (full && connection.outgoing.is_empty())
        {
            return;
        }
        let mut writer = Writer {
            outlet,
            now_ms: self.now_ms,
            #[cfg(feature = "admin")]
            now_us: self.now_us,
            limits: self.limits,
            budget: *budget,
            report: std::mem::take(&mut self.report),
        };
        let connection = &mut self.connections[key as usize];
        let place = place.filter(|_| connection.hears_events());
        let written = match place.map(|place| (place.group, place.index as usize)) {
            None => writer.write_answer(key, connection),
            Some((GroupId::Topic(topic), index)) => {
                let Topic {
                    log, subscribers, ..
                } = &mut self.topics[topic as usize];
                writer.write_alone(connection, subscribers, index, Reader::new(log))
            }
            Some((GroupId::TopicSet(topic_set), index)) => {
                let topic_set = &mut self.topic_sets[topic_set as usize];
                let merge = Merge::new(&topic_set.topics, &self.topics, &mut self.scratch);
                writer.write_alone(connection, &mut topic_set.subscribers, index, merge)
            }
        };
        *budget = writer.budget;
        self.report = self.take_report(writer.report);
        match written {
            Ok(written) => {
                if written.least_moved
                    && let Some(place) = place
                {
                    // A pass will find what the logs may drop now.
                    self.schedule(place.group, 0);
                }
                if written.all && !(written.events && self.has_pending(key)) {
                    self.caught_up(key, outlet);
                } else if written.all {
                    self.list_lagging(key);
                }
            }
            Err(reason) => self.disconnect(key, reason),
        }
    }

    /// Whether a stream was not yet given all events that are there for it.
    pub(super) fn has_pending(&self, key: ConnId) -> bool {
        let Some(Membership { group, index }) = self.connections[key as usize].membership() else {
            return false;
        };
        match group {
            GroupId::Topic(key) => {
                let Topic {
                    log, subscribers, ..
                } = &self.topics[key as usize];
                subscribers.list[index as usize].cursor < log.end()
            }
            GroupId::TopicSet(key) => {
                let TopicSet {
                    topics,
                    subscribers,
                } = &self.topic_sets[key as usize];
                subscribers.list[index as usize].cursor < end_of(topics, &self.topics)
            }
        }
    }

    /// All is written: what was waiting for that happens now.
    fn caught_up(&mut self, key: ConnId, outlet: &mut impl Outlet) {
        let linger_until = self.now_ms + self.config.head_timeout.as_millis() as u64;
        let connection = &mut self.connections[key as usize];
        match &mut connection.phase {
            Phase::Responding { reader } => {
                let reader = std::mem::take(reader);
                connection.phase = Phase::Request {
                    reader,
                    since_ms: self.now_ms,
                };
                // Whoever has sent the next request already is not read from until that is answered too.
                if self.process(key) == ReadInterest::More {
                    self.readable_again.push(key);
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
                linger: true,
                linger_until_ms: until @ None,
                ..
            } if !connection.half_closed => {
                *until = Some(linger_until);
                outlet.finish(key);
                self.readable_again.push(key);
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
}

/// What came of one write to one connection.
#[derive(Debug)]
struct Written {
    /// All that was there to write was taken.
    all: bool,
    /// There were events in it.
    events: bool,
    /// The subscriber was the last of its group, and moved on.
    least_moved: bool,
}

impl<O: Outlet> Writer<'_, O> {
    /// Writes to a connection that gets no events what it has to get.
    fn write_answer(
        &mut self,
        key: ConnId,
        connection: &mut Connection,
    ) -> Result<Written, DisconnectReason> {
        let mut slices = Slices::new();
        slices.push(connection.outgoing.rest());
        let wanted = slices.bytes();
        let taken = self.write(key, &slices)?;
        connection.took(taken, taken == wanted, self.now_ms);
        self.report.bytes += taken as u64;
        Ok(Written {
            all: taken == wanted,
            events: false,
            least_moved: false,
        })
    }

    /// Writes to a subscriber what goes out first, then the events that it alone may lack.
    fn write_alone<S: Source>(
        &mut self,
        connection: &mut Connection,
        subscribers: &mut Subscribers<S::Cursor>,
        index: usize,
        mut source: S,
    ) -> Result<Written, DisconnectReason> {
        let least = subscribers.least();
        let subscriber = &mut subscribers.list[index];
        let place = subscriber.cursor;
        let mut slices = Slices::new();
        slices.push(connection.outgoing.rest());
        let first = slices.bytes();
        let mut lag = 0;
        if place < source.end() {
            let gathered = source.gather(place, &self.limits);
            gathered.map_err(|Gone| DisconnectReason::Lagged)?;
            source.add_to(&mut slices);
            lag = source.lag();
        }
        let wanted = slices.bytes();
        let taken = self.write(subscriber.state.conn, &slices)?;
        let all = taken == wanted;
        let of_events = connection.took(taken, all, self.now_ms);
        lag -= of_events as u64;
        self.report.bytes += (taken - of_events) as u64;
        subscriber.state.writable = all;
        let step = source.step(place, of_events);
        self.advance(subscriber, of_events, step);
        if subscriber.cursor >= source.end() {
            subscriber.state.lag_limit = self.limits.max_lag;
        }
        if of_events > 0 && lag <= self.limits.blocked_from() {
            let was_blocked = std::mem::take(&mut subscriber.state.blocked);
            subscribers.blocked -= usize::from(was_blocked);
            self.report.unblocked += usize::from(was_blocked);
        }
        // Places are often within an event: whoever was in the same one as the last moves on when that is complete.
        let was_least = |least| source.passed(place) <= source.passed(least);
        let least_moved = step.1 > 0 && least.is_some_and(was_least);
        Ok(Written {
            all,
            events: wanted > first,
            least_moved,
        })
    }

    /// One write, if there is something to write.
    fn write(&mut self, key: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        if slices.bytes() == 0 {
            return Ok(0);
        }
        let taken = self.outlet.write(key, slices)?;
        self.budget = self.budget.saturating_sub(WRITE_COST + taken);
        Ok(taken)
    }
}
