//! Events on their way through a store that keeps them beyond the end of the process.
//!
//! An event is stored before anybody gets it, so that nothing a subscriber has seen is lost, and no number is used twice. One batch is with
//! the store at a time, and the next one gathers meanwhile; what is stored is delivered as the intake opens. A store that
//! fails stops nobody: events from publishers in the process go on without it, and those over HTTP are refused, so that who sent
//! them knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event_stream::frame::{Frame, FrameRef, Target};
use crate::status::StoreState;
use crate::store::{LastEvents, Record};

use super::replay::EventIds;
use super::{ConnId, Engine};

/// Bytes of events that may wait for the store.
const WAITING_MOST: usize = 1 << 20;
/// What an event that waits counts for beside its bytes.
const BESIDE_BYTES: usize = 100;
#[cfg(feature = "publish")]
/// How long publishing over HTTP is refused after a failure, before it is tried again.
const RETRY_MS: u64 = 1000;

/// The ways to the store and back.
#[derive(Debug, Default)]
pub(super) struct Storing {
    /// Events that are not with the store yet, numbered when they go there.
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    /// The batch that is with the store.
    out: Option<Arc<Vec<Record>>>,
    /// Events that the store has, or never will, to be delivered.
    stored: VecDeque<Record>,
    /// Which requests the events are from that wait, are out or are stored, in this order; `None` for those from publishers in this process.
    origins: VecDeque<Option<Origin>>,
    /// When the store failed to append last, if it has not done so since.
    failed_at: Option<u64>,
    /// It cannot make safe what it has.
    troubled: bool,
    /// Events that it has are no longer wanted.
    aged: bool,
    /// The first one that was, as it was last told.
    wanted: u64,
}

/// The request that an event is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) key: ConnId,
    /// The connection's own number: its key may be another's by then.
    pub(super) id: u64,
}

impl Storing {
    fn has_room(&self) -> bool {
        self.waiting_bytes < WAITING_MOST && self.stored.is_empty()
    }

    /// Events that the store has are too old.
    pub(super) fn note_aged(&mut self) {
        self.aged = true;
    }

    fn is_idle(&self) -> bool {
        self.origins.is_empty()
    }

    /// Takes in an event; a number comes later.
    pub(super) fn push(&mut self, frame: FrameRef<'_>, origin: Option<Origin>) {
        self.waiting_bytes += frame.bytes.len() + BESIDE_BYTES;
        let frame = Frame {
            target: frame.target.to_target(),
            bytes: frame.bytes.to_bytes(),
            encoded: frame.encoded,
        };
        self.waiting.push_back(Record { seq: 0, frame });
        self.origins.push_back(origin);
    }

    /// Takes back the events of a request that was refused, as far as they are not with the store.
    fn withdraw(&mut self, origin: Origin) {
        let before = self.origins.len() - self.waiting.len();
        let Self {
            waiting,
            waiting_bytes,
            origins,
            ..
        } = self;
        let mut of_waiting: VecDeque<_> = origins.drain(before..).collect();
        let mut kept = of_waiting.iter().map(|of| *of != Some(origin));
        waiting.retain(|record| {
            let keep = kept.next().expect("each event has an origin");
            if !keep {
                *waiting_bytes -= record.frame.bytes.len() + BESIDE_BYTES;
            }
            keep
        });
        of_waiting.retain(|of| *of != Some(origin));
        origins.append(&mut of_waiting);
    }
}

impl Engine {
    /// Goes on with the history of this epoch. Called before anything else.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.ids = EventIds::new(epoch);
    }

    /// Goes on behind the events that a store has no longer, of which it knows this. Called before anything is restored.
    pub fn set_last_events(&mut self, last_events: LastEvents) {
        self.seq = last_events.last_seq();
        self.retention.remember(last_events);
    }

    /// Has every event stored before it is delivered, and goes on with this number.
    pub fn use_store(&mut self, next: u64, now: Instant) {
        self.skip_to(next);
        self.tick(now);
        self.storing = Some(Storing::default());
        // What was restored was published to another process.
        self.stats.events = 0;
        self.note_store();
    }

    /// Puts back an event that a store retained, published so long ago. Called in the order of numbers, before anything is published.
    pub fn restore(&mut self, record: &Record, age: Duration) {
        self.skip_to(record.seq);
        let published_ms = -i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        self.seq = record.seq - 1;
        if matches!(record.frame.target, Target::Everyone) {
            // Namespaces were in use then of which the store has nothing.
            self.retention.forget_unused(record.seq);
        }
        let frame = FrameRef {
            encoded: true,
            ..record.frame.by_ref()
        };
        self.append_to_logs(frame, published_ms);
    }

    /// The events before this number that are not there are gone.
    fn skip_to(&mut self, seq: u64) {
        if seq > self.seq + 1 {
            self.seq = seq - 1;
            self.retention.lose(self.seq);
        }
    }

    /// Events for the store to append, if only none because others expired, and the number of the first event that is still wanted. The next
    /// ones come when these were [`stored`](Engine::stored).
    pub fn take_batch(&mut self) -> Option<(Arc<Vec<Record>>, u64)> {
        // What is still wanted is known when the logs have dropped what is not.
        let trimmed = self.untrimmed.is_empty();
        let storing = self.storing.as_mut()?;
        let nothing = storing.waiting.is_empty() && !(trimmed && storing.aged);
        if nothing || storing.out.is_some() || !storing.stored.is_empty() {
            return None;
        }
        storing.waiting_bytes = 0;
        let mut records: Vec<Record> = storing.waiting.drain(..).collect();
        for (seq, record) in (self.seq + 1..).zip(&mut records) {
            record.seq = seq;
        }
        let records = Arc::new(records);
        storing.out = Some(records.clone());
        if trimmed {
            storing.aged = false;
            let oldest = self.retention.oldest_wanted(&mut self.topics);
            storing.wanted = oldest.unwrap_or(self.seq + 1);
        }
        Some((records, storing.wanted))
    }

    /// The store appended a batch, or could not, for the reason given: then requests are told, and what else there is goes on
    /// without being stored.
    pub fn stored(&mut self, outcome: Result<(), String>, now: Instant) {
        self.set_now(now);
        let Some(storing) = &mut self.storing else {
            return;
        };
        let records = storing.out.take().unwrap_or_default();
        // The thread of the store is done with it, unless it ended in the middle.
        let mut records = Arc::try_unwrap(records).unwrap_or_else(|records| records.to_vec());
        storing.failed_at = outcome.is_err().then_some(self.now_ms);
        if let Err(problem) = outcome {
            self.refuse_unstored(&mut records, &problem);
        }
        if let Some(storing) = &mut self.storing {
            storing.stored.extend(records);
        }
        self.note_store();
    }

    /// The store can, or cannot, make safe what it has.
    pub fn synced(&mut self, well: bool, now: Instant) {
        self.set_now(now);
        if let Some(storing) = &mut self.storing {
            storing.troubled = !well;
        }
        self.note_store();
    }

    fn note_store(&mut self) {
        let well = |storing: &Storing| storing.failed_at.is_none() && !storing.troubled;
        self.stats.store = match &self.storing {
            None => StoreState::None,
            Some(storing) if well(storing) => StoreState::Working,
            Some(_) => StoreState::Failing,
        };
    }

    /// Takes the events of requests out of a batch that could not be stored, and answers the requests.
    fn refuse_unstored(&mut self, records: &mut Vec<Record>, problem: &str) {
        let Some(storing) = &mut self.storing else {
            return;
        };
        let mut origins = storing.origins.drain(..records.len()).collect::<Vec<_>>();
        let mut refused: Vec<Origin> = origins.iter().copied().flatten().collect();
        let mut kept = origins.iter().map(Option::is_none);
        records.retain(|_| kept.next().expect("each event has an origin"));
        origins.retain(Option::is_none);
        for origin in origins.into_iter().rev() {
            storing.origins.push_front(origin);
        }
        refused.dedup();
        for origin in refused {
            if let Some(storing) = &mut self.storing {
                storing.withdraw(origin);
            }
            #[cfg(feature = "publish")]
            self.refuse_upload(origin, problem);
        }
        #[cfg(not(feature = "publish"))]
        let _ = problem;
    }

    /// Delivers an event that is stored, if events may be published now; returns whether there was one.
    pub fn deliver_stored(&mut self, now: Instant) -> bool {
        if !self.has_stored() {
            return false;
        }
        self.set_now(now);
        if !self.can_append() {
            return false;
        }
        let Some(storing) = &mut self.storing else {
            return false;
        };
        let Some(record) = storing.stored.pop_front() else {
            return false;
        };
        let origin = storing.origins.pop_front().flatten();
        let published = self.append_to_logs(record.frame.by_ref(), self.now_ms as i64);
        #[cfg(feature = "publish")]
        if let Some(origin) = origin {
            self.upload_published(origin, &record.frame.bytes, published);
        }
        #[cfg(not(feature = "publish"))]
        let _ = (origin, published);
        true
    }

    /// Whether events are taken now: while there is room for them on the way to the store, or, without one, while the intake is open.
    pub fn accepting_events(&self) -> bool {
        match &self.storing {
            None => self.can_append(),
            Some(storing) => storing.has_room(),
        }
    }

    /// Whether no event is on its way through the store.
    pub fn all_stored(&self) -> bool {
        self.storing.as_ref().is_none_or(Storing::is_idle)
    }

    /// Whether stored events are to be delivered.
    pub fn has_stored(&self) -> bool {
        let stored = |storing: &Storing| !storing.stored.is_empty();
        self.storing.as_ref().is_some_and(stored)
    }

    /// Whether publishing is to be refused, as the store failed a moment ago.
    #[cfg(feature = "publish")]
    pub(super) fn store_fails(&self) -> bool {
        self.storing.as_ref().is_some_and(|storing| {
            let just = |at| self.now_ms < at + RETRY_MS;
            storing.troubled || storing.failed_at.is_some_and(just)
        })
    }
}
