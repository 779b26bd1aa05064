//! The drain: the end of all connections, one by one, so that clients come back spread out.

use std::time::{Duration, Instant};

use crate::status::{DisconnectReason, State};

use super::connection::{ClosingNotice, Phase};
use super::{ConnId, Engine};

/// Streams that a drain ends in a second at the least: a few are ended at once, whatever the grace.
const DRAIN_RATE: u64 = 200;

/// The schedule of a drain.
#[derive(Debug)]
pub(super) struct Drain {
    /// Streams in the order of their end, the last one first: when, id, key.
    schedule: Vec<(u64, u64, ConnId)>,
    until_ms: u64,
    grace_ms: u64,
}

impl Drain {
    /// When the next stream is ended, or the grace is over.
    pub(super) fn next_ms(&self) -> u64 {
        self.schedule
            .last()
            .map_or(self.until_ms, |&(at_ms, ..)| at_ms)
    }
}

impl Engine {
    /// Ends all connections within the grace: streams in random order at an even rate, each with a reconnection time drawn
    /// from the grace. Called again, it shortens the grace.
    pub fn drain(&mut self, grace: Duration, now: Instant) {
        self.clock.set(now);
        self.announce_drain();
        let (now_ms, grace_ms) = (self.clock.ms(), grace.as_millis() as u64);
        let is_open = |phase: &Phase| matches!(phase, Phase::Streaming(stream) if matches!(stream.closing_notice, ClosingNotice::None));
        let connections = self.connections.iter();
        let streams = connections
            .filter(|(_, connection)| connection.ended.is_none() && is_open(&connection.phase));
        let mut schedule: Vec<_> = streams
            .map(|(key, connection)| (0, connection.id, key))
            .collect();
        for index in (1..schedule.len()).rev() {
            let other = self.connections.random.between(0, index as u64);
            schedule.swap(index, other as usize);
        }
        // A tenth of the grace is left for the last ones to take the events that they lack.
        let count = schedule.len() as u64;
        let window = (grace_ms / 10 * 9).min(count * 1000 / DRAIN_RATE);
        for (index, stream) in schedule.iter_mut().rev().enumerate() {
            stream.0 = now_ms + window * index as u64 / count;
        }
        self.connections.drain = Some(Drain {
            schedule,
            until_ms: now_ms + grace_ms,
            grace_ms,
        });
        self.tick_drain();
    }

    /// Announces a drain: no new streams begin, and connections are not kept for another request.
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

    /// Ends the streams whose turn has come, and every connection once the grace is over.
    pub(super) fn tick_drain(&mut self) {
        let now_ms = self.clock.ms();
        while let Some(drain) = &mut self.connections.drain
            && let Some((_, id, key)) = drain.schedule.pop_if(|(at_ms, ..)| *at_ms <= now_ms)
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

    /// In a drain, ends the connections that could only send another request, once no others are left.
    pub(super) fn end_idle(&mut self) {
        let is_idle = |phase: &Phase| match phase {
            Phase::Request { reader, .. } => reader.is_empty(),
            #[cfg(feature = "admin")]
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
