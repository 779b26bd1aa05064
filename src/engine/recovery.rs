//! Recovery: starts an engine from a store, with the history of an earlier process.

use std::time::{Duration, Instant};

use crate::event_stream::frame::{FrameRef, Target};
use crate::log::Seq;
use crate::store::{LastEvents, Record};

use super::Engine;
use super::event_ids::EventIds;
use super::pending_writes::PendingWrites;

/// An engine whose history is being restored.
///
/// The order of calls is [`begin`](Recovery::begin), [`restore`](Recovery::restore) for each record
/// in the order of numbers, and [`finish`](Recovery::finish).
#[derive(Debug)]
pub struct Recovery {
    engine: Engine,
}

impl Recovery {
    /// Starts with an engine that has neither connections nor events.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Sets the epoch, which names the history, and the last events that the store has deleted.
    pub fn begin(&mut self, epoch: u64, last_events: LastEvents) {
        let engine = &mut self.engine;
        engine.ids = EventIds::new(epoch);
        engine.ids.continue_after(Seq::new(last_events.last_seq()));
        engine.retention.set_last_events(last_events);
    }

    /// Restores an event that was published `age` ago.
    pub fn restore(&mut self, record: &Record, age: Duration) {
        let seq = Seq::new(record.seq);
        self.skip_to(seq);
        let engine = &mut self.engine;
        engine.ids.continue_after(seq.previous());
        if matches!(record.frame.target, Target::Everyone) {
            // The namespaces that were in use at the time are not known.
            engine.retention.raise_watermark(seq);
        }
        let frame = FrameRef {
            encoded: true,
            ..record.frame.by_ref()
        };
        let published_ms = -i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        engine.append(frame, published_ms);
    }

    /// Makes the engine, which continues with the event number `next`, and stores every event
    /// before it is delivered.
    pub fn finish(mut self, next: u64, now: Instant) -> Engine {
        self.skip_to(Seq::new(next));
        let mut engine = self.engine;
        engine.tick(now);
        engine.store = Some(PendingWrites::default());
        // Restored events were published to another process.
        engine.meters.status.events = 0;
        engine.report_store_state();
        engine
    }

    /// Counts the events before this number that were not restored as lost.
    fn skip_to(&mut self, seq: Seq) {
        let engine = &mut self.engine;
        if seq > engine.ids.seq().next() {
            engine.ids.continue_after(seq.previous());
            engine.retention.record_lost(seq.previous());
        }
    }
}
