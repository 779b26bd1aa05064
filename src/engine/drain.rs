//! The drain: the end of all connections, spread over a grace period, so that clients do not
//! reconnect elsewhere at once.

use std::time::{Duration, Instant};

use crate::status::{DisconnectReason, State};

use super::connection::{ClosingNotice, Connection, Phase};
use super::{ConnId, Engine};

/// The least number of streams that a drain ends in a second. A few streams therefore end at once,
/// even within a long grace period.
const MIN_RATE: u64 = 200;

/// A drain that has begun, and the streams that it has not ended.
#[derive(Debug)]
pub(super) struct Drain {
    /// The last one to end first: when it ends, in milliseconds of the engine's time, its ID and
    /// its key.
    streams: Vec<(u64, u64, ConnId)>,
    until_ms: u64,
    grace_ms: u64,
}

impl Drain {
    /// When the next stream is ended, or the grace is over.
    pub(super) fn next_ms(&self) -> u64 {
        self.streams
            .last()
            .map_or(self.until_ms, |&(at_ms, ..)| at_ms)
    }
}

impl Engine {
    /// Ends all connections within `grace`: streams in random order at an even rate, each with a
    /// reconnection time drawn from the grace period. A second call replaces the period.
    pub fn drain(&mut self, grace: Duration, now: Instant) {
        self.clock.set(now);
        self.announce_drain();
        let (now_ms, grace_ms) = (self.clock.ms(), grace.as_millis() as u64);
        let is_open = |connection: &Connection| {
            let notice = connection.stream().map(|stream| &stream.closing_notice);
            connection.ended.is_none() && matches!(notice, Some(ClosingNotice::None))
        };
        let open = self.connections.iter();
        let open = open.filter(|(_, connection)| is_open(connection));
        let mut streams: Vec<_> = open
            .map(|(key, connection)| (0, connection.id, key))
            .collect();
        for index in (1..streams.len()).rev() {
            let other = self.connections.random.between(0, index as u64);
            streams.swap(index, other as usize);
        }
        // The last streams have a tenth of the period to receive their pending events.
        let count = streams.len() as u64;
        let window = (grace_ms / 10 * 9).min(count * 1000 / MIN_RATE);
        for (index, stream) in streams.iter_mut().rev().enumerate() {
            stream.0 = now_ms + window * index as u64 / count;
        }
        self.connections.drain = Some(Drain {
            streams,
            until_ms: now_ms + grace_ms,
            grace_ms,
        });
        self.tick_drain();
    }

    /// Announces a drain: no streams begin, and responses end their connections.
    pub fn announce_drain(&mut self) {
        self.meters.status.state = State::Draining;
    }

    /// Whether a drain was announced.
    pub fn is_draining(&self) -> bool {
        self.meters.status.state == State::Draining
    }

    /// Whether a drain is over: no connection is left.
    pub fn is_drained(&self) -> bool {
        self.connections.drain.is_some() && self.connections.is_empty()
    }

    /// Ends the streams that are due, and every connection once the grace period is over.
    pub(super) fn tick_drain(&mut self) {
        let now_ms = self.clock.ms();
        while let Some(drain) = &mut self.connections.drain
            && let Some((_, id, key)) = drain.streams.pop_if(|(at_ms, ..)| *at_ms <= now_ms)
        {
            let grace_ms = drain.grace_ms.max(1);
            if self.connections.with_id(key, id).is_some() {
                let retry_ms = self.connections.random.between(1, grace_ms);
                let notice = format!("retry:{retry_ms}\n\n");
                self.send_closing_notice(key, notice.into_bytes(), DisconnectReason::Shutdown);
            }
        }
        let drain = self.connections.drain.as_ref();
        if drain.is_some_and(|drain| now_ms >= drain.until_ms) {
            self.end_all();
        }
    }

    fn send_closing_notice(&mut self, key: ConnId, bytes: Vec<u8>, reason: DisconnectReason) {
        if let Phase::Streaming(stream) = &mut self.connections[key].phase {
            stream.closing_notice = ClosingNotice::Pending(bytes.into(), reason);
            self.wake(key);
        }
    }

    /// In a drain, ends the connections that only wait for a request, if all others have ended.
    pub(super) fn end_idle(&mut self) {
        let is_idle = |phase: &Phase| match phase {
            Phase::Request { reader, .. } => reader.is_empty(),
            Phase::Watching { .. } => true,
            Phase::Closing {
                linger_until_ms, ..
            } => linger_until_ms.is_some(),
            _ => false,
        };
        if self.connections.drain.is_some()
            && self.meters.status.subscribers == 0
            && self
                .connections
                .iter()
                .all(|(_, connection)| is_idle(&connection.phase))
        {
            self.end_all();
        }
    }

    fn end_all(&mut self) {
        let keys: Vec<ConnId> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.disconnect(key, DisconnectReason::Shutdown);
        }
    }
}
