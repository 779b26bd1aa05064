//! Starting an engine from a store: the history of an earlier process continues.

use std::time::{Duration, Instant};

use crate::event_stream::frame::{FrameRef, Target};
use crate::log::Seq;
use crate::store::{LastEvents, Record};

use super::Engine;
use super::event_ids::EventIds;
use super::pending_writes::PendingWrites;

/// An engine whose history is being restored.
///
/// Records come in the order of their numbers. [`finish`](Recovery::finish) makes the engine that continues after them.
#[derive(Debug)]
pub struct Recovery {
    engine: Engine,
}

impl Recovery {
    /// Begins with an engine that has neither connections nor events.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Sets the epoch, which names the history, and what is known of the events that the store has no longer. Comes before
    /// any record.
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
            // The namespaces that were in use then are not known.
            engine.retention.raise_watermark(seq);
        }
        let frame = FrameRef {
            encoded: true,
            ..record.frame.by_ref()
        };
        let published_ms = -i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        engine.append(frame, published_ms);
    }

    /// The engine, which continues with the number `next` and has every event stored before it is delivered.
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

    /// The events before this number that were not restored are gone.
    fn skip_to(&mut self, seq: Seq) {
        let engine = &mut self.engine;
        if seq > engine.ids.seq().next() {
            engine.ids.continue_after(seq.previous());
            engine.retention.lose(seq.previous());
        }
    }
}
