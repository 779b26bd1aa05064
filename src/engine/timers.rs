//! Timers: timeouts, keepalives and everything else that falls due.
//!
//! Each connection has one entry in a heap: the time at which its timer fires. Reads and writes do
//! not touch it. When a timer fires, the deadline is recomputed from the connection's last
//! activity. The timer is armed for it again, or for the shortest timeout that applies, whichever
//! is sooner. This costs one heap operation per connection in several seconds.

use std::time::Instant;

use crate::event_stream::encode;
use crate::status::DisconnectReason;

use super::connection::{Connection, Phase};
use super::{ConnId, Engine};

/// What a timer does when it fires.
enum TimerAction {
    /// Nothing before this time, in milliseconds of the engine's time.
    WaitUntil(u64),
    /// Sends a comment.
    Keepalive,
    /// Ends the connection.
    Disconnect(DisconnectReason),
    /// Responds 408: the request was not complete in time.
    RequestTimeout,
}

impl Engine {
    /// Performs everything that is due.
    pub fn tick(&mut self, now: Instant) {
        self.clock.set(now);
        self.tick_drain();
        let expired = self.retention.expire(self.clock.ms(), &mut self.topics);
        if let Some(store) = &mut self.store
            && expired
        {
            store.record_expiry();
        }
        self.notify_watchers();
        while let Some(fired) = self.connections.pop_timer(self.clock.ms()) {
            if let Some(key) = fired {
                self.on_timer(key);
            }
        }
    }

    /// When to call [`Engine::tick`] and [`Engine::end_intake`] again at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let now_ms = self.clock.ms();
        let drain = self.connections.drain.as_ref();
        let deadlines = [
            self.connections.next_timer_ms(),
            drain.map(super::drain::Drain::next_ms),
            self.schedule.flow.paused_until(now_ms),
            self.schedule.next_due(now_ms),
            self.retention.next_expiry(),
            self.meters.next_report_ms(),
            // Logs that an ended subscriber needed are trimmed in the next turn.
            (!self.retention.is_trimmed()).then_some(now_ms),
        ];
        let next_ms = deadlines.into_iter().flatten().min();
        next_ms.map(|at_ms| self.clock.instant_at(at_ms))
    }

    /// Arms the timer of a new connection.
    pub(super) fn arm_first_timer(&mut self, key: ConnId) {
        let at_ms = self.clock.ms() + self.shortest_timeout_ms(false);
        self.connections.arm_timer(key, at_ms);
    }

    fn shortest_timeout_ms(&self, stream: bool) -> u64 {
        let mut shortest = self.config.write_timeout;
        if !self.config.keepalive.is_zero() {
            shortest = shortest.min(self.config.keepalive);
        }
        if !stream {
            shortest = shortest.min(self.config.head_timeout);
        }
        shortest.as_millis() as u64
    }

    fn on_timer(&mut self, key: ConnId) {
        let now_ms = self.clock.ms();
        let stream = self.connections[key].stream().is_some();
        let mut next_ms = now_ms + self.shortest_timeout_ms(stream);
        match self.timer_action(key) {
            TimerAction::WaitUntil(at_ms) => next_ms = next_ms.min(at_ms.max(now_ms + 1)),
            TimerAction::Keepalive => {
                let comment = encode::comment(&self.config.keepalive_text);
                self.connections[key].active_ms = now_ms;
                self.push_outgoing(key, &comment);
            }
            TimerAction::Disconnect(reason) => self.disconnect(key, reason),
            TimerAction::RequestTimeout => self.refuse_late_request(key),
        }
        self.connections.arm_timer(key, next_ms);
    }

    /// `action` if `limit_ms` have passed since `since_ms`.
    fn after(&self, since_ms: u64, limit_ms: u64, action: TimerAction) -> TimerAction {
        let at_ms = since_ms + limit_ms;
        if self.clock.ms() >= at_ms {
            action
        } else {
            TimerAction::WaitUntil(at_ms)
        }
    }

    fn timer_action(&self, key: ConnId) -> TimerAction {
        let write_timeout_ms = self.config.write_timeout.as_millis() as u64;
        let has_pending = self.has_pending(key);
        let connection = &self.connections[key];
        if connection.ended.is_some() {
            return TimerAction::WaitUntil(u64::MAX);
        }
        let state = connection
            .membership()
            .map(|member| self.groups.state(member));
        // A pass records a full socket in the subscriber's state, not in the connection.
        let is_full = state.is_some_and(|state| !state.writable) && connection.outgoing.is_empty();
        let active_ms = state.map_or(0, |state| state.active_ms);
        let active_ms = active_ms.max(connection.active_ms);
        if !connection.outgoing.is_empty() || has_pending {
            return match connection.writable && !is_full {
                true => TimerAction::WaitUntil(u64::MAX),
                false => self.after(
                    active_ms,
                    write_timeout_ms,
                    TimerAction::Disconnect(DisconnectReason::Stalled),
                ),
            };
        }
        match &connection.phase {
            Phase::Request { reader, since_ms } => {
                // Between two requests the client expects no response. Within one it does.
                let action = match reader.is_empty() && connection.bytes > 0 {
                    true => TimerAction::Disconnect(DisconnectReason::Idle),
                    false => TimerAction::RequestTimeout,
                };
                let limit_ms = self.config.head_timeout.as_millis() as u64;
                self.after(*since_ms, limit_ms, action)
            }
            #[cfg(feature = "publish")]
            Phase::Upload(upload) => match upload.waiting_since_ms() {
                Some(since_ms) => {
                    self.after(since_ms, write_timeout_ms, TimerAction::RequestTimeout)
                }
                None => TimerAction::WaitUntil(u64::MAX),
            },
            Phase::Streaming(_) => self.keepalive(connection, active_ms),
            Phase::Closing {
                reason,
                linger_until_ms: Some(until_ms),
                ..
            } => self.after(*until_ms, 0, TimerAction::Disconnect(*reason)),
            _ => TimerAction::WaitUntil(u64::MAX),
        }
    }

    /// A keepalive for a stream that received nothing for `keepalive`.
    fn keepalive(&self, connection: &Connection, active_ms: u64) -> TimerAction {
        if self.config.keepalive.is_zero() || connection.peer.is_none() {
            return TimerAction::WaitUntil(u64::MAX);
        }
        let keepalive_ms = self.config.keepalive.as_millis() as u64;
        // Spread over an eighth, so that streams that received the same event do not all get a
        // comment at once.
        let spread_ms = connection.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (keepalive_ms / 8 + 1);
        self.after(active_ms, keepalive_ms + spread_ms, TimerAction::Keepalive)
    }
}
