//! Giving bytes to sockets: passes over the topics that are due, and single connections that have something of their own.
//!
//! A topic's pass is in `topic.rs`; here is which of them runs, in slices, so that nobody waits for the whole of a large one.

use std::collections::VecDeque;
use std::time::Instant;

use crate::event_log::Slices;
use crate::stats::DisconnectReason;

use slab::Slab;

use super::connection::{Connection, Farewell, Phase, Place};
use super::topic::{Report, Subscriber, Topic, Turn, WRITE_COST};
use super::{Appetite, ConnId, Engine, GATHER_MS, Outlet};

/// What events may cost in one call of [`Engine::flush`], and as much again all else, in bytes that could have been copied in that time:
/// about 2.5 ms.
pub const SLICE: usize = 16 << 20;

impl Engine {
    /// Says that no more events come now, or (`idle` false) asks whether some have waited long enough: then what
    /// gathered becomes due.
    pub fn settle(&mut self, idle: bool, now: Instant) {
        self.set_now(now);
        if self.dirty.is_empty() || !(idle || self.now_ms >= self.dirty_since + GATHER_MS) {
            return;
        }
        let coalesce_ms = self.config.coalesce.as_millis() as u64;
        for _ in 0..self.dirty.len() {
            let Some(key) = self.dirty.pop_front() else {
                break;
            };
            let Some(topic) = self
                .topics
                .get_mut(key as usize)
                .filter(|topic| topic.turn == Turn::Dirty)
            else {
                continue;
            };
            if coalesce_ms > 0 && self.now_ms < topic.passed_at + coalesce_ms {
                self.dirty.push_back(key);
            } else {
                topic.turn = Turn::Due;
                self.due.push_back(key);
            }
        }
        self.dirty_since = self.now_ms;
    }

    /// When what gathers will have gathered long enough, in milliseconds of the engine's time.
    pub(super) fn next_settle(&self) -> Option<u64> {
        if self.dirty.is_empty() {
            return None;
        }
        let coalesce_ms = self.config.coalesce.as_millis() as u64;
        if coalesce_ms == 0 {
            return Some(self.now_ms);
        }
        let passed = self
            .dirty
            .iter()
            .filter_map(|&key| self.topics.get(key as usize))
            .map(|topic| topic.passed_at);
        passed.min().map(|at| at + coalesce_ms)
    }

    /// Gives bytes to the outlet, for about 2.5 ms at the most; returns whether there is more to give.
    pub fn flush(&mut self, outlet: &mut impl Outlet, now: Instant) -> bool {
        self.set_now(now);
        let mut budget = SLICE;
        self.flush_listed(|engine| &mut engine.ready, outlet, &mut budget);
        // New connections and answers take nothing from what events may cost.
        let mut budget = self.slice;
        self.flush_listed(|engine| &mut engine.behind, outlet, &mut budget);
        while budget > 0
            && let Some(&key) = self.due.front()
        {
            if self.pass(key, outlet, &mut budget) {
                self.due.pop_front();
            }
        }
        // A response that went out may have made way for a publish request that was already there.
        #[cfg(feature = "publish")]
        if !self.uploads.is_empty() {
            return true;
        }
        !(self.ready.is_empty() && self.behind.is_empty() && self.due.is_empty())
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

    /// Goes on with the pass over a topic; returns whether it is over.
    fn pass(&mut self, key: u32, outlet: &mut impl Outlet, budget: &mut usize) -> bool {
        let Some(topic) = self.topics.get_mut(key as usize) else {
            return true;
        };
        match topic.turn {
            Turn::Due => topic.begin_pass(self.now_ms),
            Turn::Passing(_) => {}
            Turn::Clean | Turn::Dirty => return true,
        }
        let mut report = std::mem::take(&mut self.report);
        topic.visit_subscribers(outlet, self.now_ms, &self.limits, budget, &mut report);
        self.take_report(&mut report);
        self.report = report;
        self.visit_merged(key, outlet, budget);
        let topic = &mut self.topics[key as usize];
        if topic.unvisited > 0 || topic.unvisited_merged > 0 {
            // Those it visited may take more before it goes on, and then need less than was found.
            topic.turn = Turn::Passing(true);
            return false;
        }
        self.retained -= topic.log.drop_before(topic.needed);
        let again = topic.turn == Turn::Passing(true) && topic.log.retained() > 0;
        topic.turn = Turn::Clean;
        if again {
            self.mark(key, false);
        }
        true
    }

    fn take_report(&mut self, report: &mut Report) {
        self.stats.bytes += std::mem::take(&mut report.bytes);
        for (conn, reason) in report.ended.drain(..) {
            self.disconnect(conn, reason);
        }
        for conn in report.behind.drain(..) {
            self.list_behind(conn);
        }
    }

    fn list_behind(&mut self, key: ConnId) {
        let connection = &mut self.connections[key as usize];
        if !connection.listed {
            connection.listed = true;
            self.behind.push_back(key);
        }
    }

    /// The part of a pass that is for streams of several namespaces: each is given what it lacks of all of them.
    fn visit_merged(&mut self, key: u32, outlet: &mut impl Outlet, budget: &mut usize) {
        while *budget > 0 {
            let topic = &mut self.topics[key as usize];
            if topic.unvisited > 0 || topic.unvisited_merged == 0 {
                return;
            }
            topic.unvisited_merged -= 1;
            let conn = topic.merged[topic.unvisited_merged];
            self.flush_connection(conn, outlet, budget);
            if let Some(Place::Several(merge)) = self.connections[conn as usize]
                .stream()
                .map(|stream| &stream.place)
            {
                match merge.lacks_more_than(self.limits.max_lag, &self.topics, &mut self.scratch) {
                    Ok(false) => {
                        let needed = merge.needed(&self.topics, key);
                        let topic = &mut self.topics[key as usize];
                        topic.needed = topic.needed.min(needed.unwrap_or(u64::MAX));
                    }
                    _ => self.disconnect(conn, DisconnectReason::Lagged),
                }
            }
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
        if let Some(subscriber) = subscriber_of(connection, &mut self.topics) {
            subscriber.direct = false;
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
        if let Some(subscriber) = subscriber_of(connection, &mut self.topics) {
            subscriber.direct = nothing_first;
        }
        if !nothing_first || self.lacks_events(key) {
            self.wake(key);
        }
    }

    /// One write to one connection: what goes out first, then the events it lacks.
    fn flush_connection(&mut self, key: ConnId, outlet: &mut impl Outlet, budget: &mut usize) {
        let Some(connection) = self.connections.get_mut(key as usize) else {
            return;
        };
        // A pass that finds a socket full tells the place, not the connection.
        let full = subscriber_of(connection, &mut self.topics)
            .is_some_and(|subscriber| !subscriber.direct);
        if connection.ended.is_some()
            || !connection.writable
            || (full && connection.outgoing.is_empty())
        {
            return;
        }
        let mut slices = Slices::new();
        slices.push(connection.outgoing.rest());
        let first = slices.bytes();
        if let Phase::Streaming(stream) = &connection.phase
            && !matches!(stream.farewell, Farewell::Said(_))
        {
            match &stream.place {
                Place::One { topic, index, .. } => {
                    let topic = &self.topics[*topic as usize];
                    let offset = topic.subscribers[*index as usize].offset;
                    if offset < topic.log.start() {
                        return self.disconnect(key, DisconnectReason::Lagged);
                    }
                    topic
                        .log
                        .gather(offset, self.limits.write_most, &mut slices);
                }
                Place::Several(merge) => {
                    if merge
                        .gather(&self.topics, self.limits.write_most, &mut self.scratch)
                        .is_err()
                    {
                        return self.disconnect(key, DisconnectReason::Lagged);
                    }
                    slices.push(&self.scratch.run);
                }
            }
        }
        if slices.bytes() == 0 {
            return self.caught_up(key, outlet);
        }
        *budget = budget.saturating_sub(WRITE_COST + slices.bytes());
        let wanted = slices.bytes();
        match outlet.write(key, &slices) {
            Ok(taken) => {
                let all = taken == wanted;
                self.took(key, taken, all);
                // Whether events or only a prefix went out, what is left goes out in another call.
                match (all, wanted > first) {
                    (true, true) => self.stay_behind(key, outlet),
                    (true, false) => self.caught_up(key, outlet),
                    (false, _) => {}
                }
            }
            Err(reason) => self.disconnect(key, reason),
        }
    }

    /// Moves a connection's place by what its socket took.
    fn took(&mut self, key: ConnId, taken: usize, all: bool) {
        self.stats.bytes += taken as u64;
        let connection = &mut self.connections[key as usize];
        connection.writable = all;
        connection.active_at = self.now_ms;
        let of_events = connection.outgoing.advance(taken);
        connection.bytes += (taken - of_events) as u64;
        let direct = all && connection.outgoing.is_empty() && connection.ended.is_none();
        if let Phase::Streaming(stream) = &mut connection.phase {
            match &mut stream.place {
                Place::One { topic, index, .. } => {
                    let topic_key = *topic;
                    let topic = &mut self.topics[topic_key as usize];
                    let subscriber = &mut topic.subscribers[*index as usize];
                    let passed = topic.log.passed_at(subscriber.offset);
                    subscriber.offset += of_events as u64;
                    subscriber.active_at = self.now_ms;
                    subscriber.direct = direct;
                    // Places are often within a frame: the first one retained counts until its end is passed.
                    if topic.log.is_first(passed) && topic.log.passed_at(subscriber.offset) > passed
                    {
                        // The log may be able to drop what only this one needed.
                        self.mark(topic_key, false);
                    }
                }
                Place::Several(merge) => {
                    connection.bytes += of_events as u64;
                    self.stats.deliveries +=
                        merge.advance(&self.topics, of_events, &mut self.scratch);
                    if of_events > 0 {
                        self.mark_unneeded(key);
                    }
                }
            }
        }
    }

    /// Notes that the logs of a stream of several may be able to drop what only it needed.
    fn mark_unneeded(&mut self, key: ConnId) {
        let Some(Place::Several(merge)) = self.connections[key as usize]
            .stream()
            .map(|stream| &stream.place)
        else {
            return;
        };
        for (topic_key, _) in merge.places() {
            let topic = &mut self.topics[topic_key as usize];
            if topic.turn == Turn::Clean && topic.log.retained() > 0 {
                topic.turn = Turn::Dirty;
                self.dirty.push_back(topic_key);
            }
        }
    }

    fn stay_behind(&mut self, key: ConnId, outlet: &mut impl Outlet) {
        if !self.lacks_events(key) {
            return self.caught_up(key, outlet);
        }
        self.list_behind(key);
    }

    /// Whether a stream was not yet given all events that are there for it.
    pub(super) fn lacks_events(&self, key: ConnId) -> bool {
        match self.connections[key as usize]
            .stream()
            .map(|stream| &stream.place)
        {
            Some(Place::One { topic, index, .. }) => {
                let topic = &self.topics[*topic as usize];
                topic.subscribers[*index as usize].offset < topic.log.end()
            }
            Some(Place::Several(merge)) => {
                merge.lag_at_most(&self.topics).map_or(true, |lag| lag > 0)
            }
            None => false,
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
                if self.process(key) == Appetite::More {
                    self.hungry.push(key);
                }
            }
            Phase::Streaming(stream) => match std::mem::take(&mut stream.farewell) {
                Farewell::None => {}
                Farewell::Pending(bytes, reason) => {
                    stream.farewell = Farewell::Said(reason);
                    self.push_outgoing(key, &bytes);
                }
                Farewell::Said(reason) => self.disconnect(key, reason),
            },
            Phase::Closing {
                linger: true,
                linger_until_ms: until @ None,
                ..
            } if !connection.half_closed => {
                *until = Some(linger_until);
                outlet.finish(key);
                self.hungry.push(key);
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

/// The place of a subscriber of one namespace.
pub(super) fn subscriber_of<'a>(
    connection: &Connection,
    topics: &'a mut Slab<Topic>,
) -> Option<&'a mut Subscriber> {
    match connection.stream()?.place {
        Place::One { topic, index, .. } => {
            Some(&mut topics[topic as usize].subscribers[index as usize])
        }
        Place::Several(_) => None,
    }
}
