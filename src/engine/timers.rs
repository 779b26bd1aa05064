//! What falls due: timeouts, keepalives, and the drain.
//!
//! Each connection has one entry in a heap, which says when to look at it, not what for: nothing is done for timers when bytes go
//! in or out. Whoever is looked at is asked when it would be too late by its own last activity, and looked at then, or after
//! the shortest of the times that may matter to it, whichever is first. A heap, not a queue for each kind: entries come
//! back in another order than they went, and one operation per connection in many seconds costs nothing.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::event_stream::encode;
use crate::status::{DisconnectReason, State};

use super::connection::{ClosingNotice, Phase};
use super::{ConnId, Engine};

/// Streams that a drain ends in a second at the least: a few are gone at once, whatever the grace.
const DRAIN_RATE: u64 = 200;

/// The end of all connections, one by one.
#[derive(Debug)]
pub(super) struct Drain {
    /// Streams in the order of their end, the last one first: when, id, key.
    schedule: Vec<(u64, u64, ConnId)>,
    until_ms: u64,
    grace_ms: u64,
}

/// What a connection is found to be when it is looked at.
enum TimerAction {
    /// Nothing is wrong before this time.
    FineUntil(u64),
    Quiet,
    Late(DisconnectReason),
    /// The request did not come in time, and there is somebody to say so to.
    Unanswered,
}

impl Engine {
    /// Looks at a connection within the shortest time that can matter to it.
    pub(super) fn arm_first_timer(&mut self, key: ConnId) {
        let at = self.now_ms + self.shortest_ms(false);
        self.arm_timer(key, at);
    }

    fn arm_timer(&mut self, key: ConnId, at: u64) {
        self.timers
            .push(Reverse((at, self.connections[key as usize].id, key)));
    }

    fn shortest_ms(&self, stream: bool) -> u64 {
        let mut shortest = self.config.write_timeout;
        if !self.config.keepalive.is_zero() {
            shortest = shortest.min(self.config.keepalive);
        }
        if !stream {
            shortest = shortest.min(self.config.head_timeout);
        }
        shortest.as_millis() as u64
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.set_now(now);
        self.tick_drain();
        self.age_out();
        #[cfg(feature = "admin")]
        self.tell_watchers();
        while let Some(&Reverse((at, id, key))) = self.timers.peek()
            && at <= self.now_ms
        {
            self.timers.pop();
            let current = self
                .connections
                .get(key as usize)
                .is_some_and(|connection| connection.id == id);
            if current {
                self.on_timer(key);
            }
        }
    }

    /// When to call [`Engine::tick`] and [`Engine::end_intake`] again at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let drain = self
            .drain
            .as_ref()
            .map(|drain| drain.schedule.last().map_or(drain.until_ms, |&(at, ..)| at));
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let pause = self.is_paused().then_some(self.pause.until);
        let aging = self.retention.next_aging();
        #[cfg(feature = "admin")]
        let report = self.next_report();
        #[cfg(not(feature = "admin"))]
        let report = None;
        let next = [timer, drain, pause, aging, report, self.next_intake_end()]
            .into_iter()
            .flatten()
            .min();
        next.map(|at| self.started + Duration::from_millis(at))
    }

    fn on_timer(&mut self, key: ConnId) {
        let stream = self.connections[key as usize].stream().is_some();
        let mut next = self.now_ms + self.shortest_ms(stream);
        match self.timer_action(key) {
            TimerAction::FineUntil(at) => next = next.min(at.max(self.now_ms + 1)),
            TimerAction::Quiet => {
                let comment = encode::comment(&self.config.keepalive_text);
                self.connections[key as usize].active_at = self.now_ms;
                self.push_outgoing(key, &comment);
            }
            TimerAction::Late(reason) => self.disconnect(key, reason),
            TimerAction::Unanswered => self.refuse_late_request(key),
        }
        self.arm_timer(key, next);
    }

    fn timer_action(&self, key: ConnId) -> TimerAction {
        let now = self.now_ms;
        let write_timeout = self.config.write_timeout.as_millis() as u64;
        let late = |since: u64, limit: u64, found: TimerAction| {
            let at = since + limit;
            if now >= at {
                found
            } else {
                TimerAction::FineUntil(at)
            }
        };
        let lacks = self.has_pending(key);
        let connection = &self.connections[key as usize];
        if connection.ended.is_some() {
            return TimerAction::FineUntil(u64::MAX);
        }
        let state = connection.membership().map(|place| self.state(place));
        // A pass that finds a socket full tells the state, not the connection.
        let seat_full =
            state.is_some_and(|state| !state.writable) && connection.outgoing.is_empty();
        let active_at = state
            .map_or(0, |state| state.active_at)
            .max(connection.active_at);
        if !connection.outgoing.is_empty() || lacks {
            return match connection.writable && !seat_full {
                true => TimerAction::FineUntil(u64::MAX),
                false => late(
                    active_at,
                    write_timeout,
                    TimerAction::Late(DisconnectReason::Stalled),
                ),
            };
        }
        match &connection.phase {
            Phase::Request { reader, since_ms } => {
                // Between two requests nothing is owed; before and within one, an answer is.
                let idle = reader.is_empty() && connection.bytes > 0;
                let found = if idle {
                    TimerAction::Late(DisconnectReason::Timeout)
                } else {
                    TimerAction::Unanswered
                };
                late(
                    *since_ms,
                    self.config.head_timeout.as_millis() as u64,
                    found,
                )
            }
            #[cfg(feature = "publish")]
            Phase::Upload(upload) => match upload.waiting_since() {
                Some(since_ms) => late(since_ms, write_timeout, TimerAction::Unanswered),
                None => TimerAction::FineUntil(u64::MAX),
            },
            Phase::Streaming(_)
                if !self.config.keepalive.is_zero() && connection.peer.is_some() =>
            {
                let keepalive = self.config.keepalive.as_millis() as u64;
                // Spread by a phase of its own: those who all got the last event do not all get a comment at once.
                let phase = connection.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (keepalive / 8 + 1);
                late(active_at, keepalive + phase, TimerAction::Quiet)
            }
            Phase::Closing {
                reason,
                linger_until_ms: Some(until),
                ..
            } => late(*until, 0, TimerAction::Late(*reason)),
            _ => TimerAction::FineUntil(u64::MAX),
        }
    }

    /// Ends all connections within the grace: streams in random order at an even rate, each with a reconnection time drawn
    /// from the grace, so that clients come back spread out. Called again, it makes the grace a shorter one.
    pub fn drain(&mut self, grace: Duration, now: Instant) {
        self.set_now(now);
        self.announce_drain();
        let grace_ms = grace.as_millis() as u64;
        let mut streams = Vec::new();
        for (key, connection) in &self.connections {
            match &connection.phase {
                _ if connection.ended.is_some() => {}
                Phase::Streaming(stream)
                    if matches!(stream.closing_notice, ClosingNotice::None) =>
                {
                    streams.push((0, connection.id, key as ConnId));
                }
                _ => {}
            }
        }
        for index in (1..streams.len()).rev() {
            streams.swap(index, self.random.between(0, index as u64) as usize);
        }
        // A tenth of the grace is left for the last ones to take what they lack.
        let count = streams.len() as u64;
        let window = (grace_ms / 10 * 9).min(count * 1000 / DRAIN_RATE);
        for (index, stream) in streams.iter_mut().rev().enumerate() {
            stream.0 = self.now_ms + window * index as u64 / count;
        }
        self.drain = Some(Drain {
            schedule: streams,
            until_ms: self.now_ms + grace_ms,
            grace_ms,
        });
        self.tick_drain();
    }

    /// Says that the server is about to drain: no new streams begin, and connections are not kept for another request.
    pub fn announce_drain(&mut self) {
        self.stats.state = State::Draining;
    }

    /// In a drain, ends the connections that only might still ask something once nobody else is left.
    pub(super) fn end_the_idle(&mut self) {
        let is_idle = |phase: &Phase| match phase {
            Phase::Request { reader, .. } => reader.is_empty(),
            #[cfg(feature = "admin")]
            Phase::Watching { .. } => true,
            Phase::Closing {
                linger_until_ms, ..
            } => linger_until_ms.is_some(),
            _ => false,
        };
        let alone = || {
            self.connections
                .iter()
                .all(|(_, connection)| is_idle(&connection.phase))
        };
        if self.drain.is_some() && self.stats.subscribers == 0 && alone() {
            self.end_everyone();
        }
    }

    fn end_everyone(&mut self) {
        let keys: Vec<ConnId> = self
            .connections
            .iter()
            .map(|(key, _)| key as ConnId)
            .collect();
        keys.into_iter()
            .for_each(|key| self.disconnect(key, DisconnectReason::Shutdown));
    }

    /// Whether a drain is over: nobody is left.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.connections.is_empty()
    }

    /// Whether a drain was announced.
    pub fn is_draining(&self) -> bool {
        self.stats.state == State::Draining
    }

    fn tick_drain(&mut self) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        while let Some((_, id, key)) = drain.schedule.pop_if(|(at, ..)| *at <= self.now_ms) {
            if self
                .connections
                .get(key as usize)
                .is_some_and(|connection| connection.id == id)
            {
                let retry_ms = self.random.between(1, drain.grace_ms.max(1));
                self.send_closing_notice(
                    key,
                    format!("retry:{retry_ms}\n\n").into_bytes(),
                    DisconnectReason::Shutdown,
                );
            }
        }
        if self.now_ms >= drain.until_ms {
            self.end_everyone();
        }
        self.drain = Some(drain);
    }

    fn send_closing_notice(&mut self, key: ConnId, bytes: Vec<u8>, reason: DisconnectReason) {
        let connection = &mut self.connections[key as usize];
        if let Phase::Streaming(stream) = &mut connection.phase {
            stream.closing_notice = ClosingNotice::Pending(bytes.into(), reason);
            self.wake(key);
        }
    }
}
