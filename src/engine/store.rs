//! The verbs of a store: batches for it, and its replies.
//!
//! If the store fails, events of publishers in the process are delivered without being stored.
//! Events over HTTP are refused, so that their senders know.

use std::sync::Arc;
use std::time::Instant;

use crate::status::StoreState;
use crate::store::Record;

use super::Engine;
use super::pending_writes::PendingWrites;

impl Engine {
    /// Takes a batch of events for the store, and the number of the first event that is still
    /// needed. The batch may be empty if that number has changed. The next one can be taken after
    /// this one is [`stored`](Engine::stored).
    pub fn take_batch(&mut self) -> Option<(Arc<Vec<Record>>, u64)> {
        // The first needed event is known only while the logs are trimmed.
        let trimmed = self.retention.is_trimmed();
        let store = self.store.as_mut()?;
        if !store.has_batch(trimmed) {
            return None;
        }
        let next_seq = self.ids.seq().next();
        let records = store.take_batch(next_seq);
        if trimmed {
            let first = self.retention.first_retained(&mut self.topics);
            store.set_first_needed(first.unwrap_or(next_seq));
        }
        Some((records, store.first_needed().get()))
    }

    /// Handles the store's reply to a batch: success, or the text of the error. After an error, the
    /// events of requests are refused, and the others are delivered without being stored.
    pub fn stored(&mut self, outcome: Result<(), String>, now: Instant) {
        self.clock.set(now);
        let Some(store) = &mut self.store else {
            return;
        };
        let failed_ms = outcome.is_err().then_some(self.clock.ms());
        let refused = store.finish_batch(failed_ms);
        #[cfg(feature = "publish")]
        if let Err(problem) = outcome {
            for request in refused {
                self.refuse_upload(request, &problem);
            }
        }
        #[cfg(not(feature = "publish"))]
        let _ = refused;
        self.report_store_state();
    }

    /// Handles the result of a sync of the store.
    pub fn synced(&mut self, synced: bool, now: Instant) {
        self.clock.set(now);
        if let Some(store) = &mut self.store {
            store.set_synced(synced);
        }
        self.report_store_state();
    }

    pub(super) fn report_store_state(&mut self) {
        let state = self.store.as_ref().map(PendingWrites::state);
        self.meters.status.store = state.unwrap_or(StoreState::None);
    }

    /// Appends a stored event to the logs, if events may be appended now. Returns whether one was
    /// appended.
    pub fn deliver_stored(&mut self, now: Instant) -> bool {
        if !self.has_stored() {
            return false;
        }
        self.clock.set(now);
        if !self.can_append() {
            return false;
        }
        let Some((record, request)) = self.store.as_mut().and_then(PendingWrites::pop_stored)
        else {
            return false;
        };
        let published = self.append(record.frame.by_ref(), self.clock.ms() as i64);
        #[cfg(feature = "publish")]
        if let Some(request) = request {
            self.upload_published(request, &record.frame.bytes, published);
        }
        #[cfg(not(feature = "publish"))]
        let _ = (request, published);
        true
    }

    /// Whether no event is on its way through the store.
    pub fn all_stored(&self) -> bool {
        self.store.as_ref().is_none_or(PendingWrites::is_empty)
    }

    /// Whether stored events wait to be appended to the logs.
    pub fn has_stored(&self) -> bool {
        self.store.as_ref().is_some_and(PendingWrites::has_stored)
    }
}
