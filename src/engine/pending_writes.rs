//! Events on their way through a store.
//!
//! An event is stored before a subscriber receives it. No event that a subscriber has seen is
//! therefore lost, and no number is used twice. One batch is with the store at a time, and the next
//! one gathers meanwhile.
//!
//! ```text
//! push ─► waiting ─ take_batch ─► batch ─ finish_batch ─► stored ─ pop_stored ─► logs
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event_stream::frame::{Frame, FrameRef};
use crate::log::Seq;
use crate::status::StoreState;
use crate::store::Record;

use super::ids::ConnId;

/// Limit of the bytes that wait for the store, with the overhead of each event.
const MAX_WAITING: usize = 1 << 20;
/// What a waiting event counts for in addition to its bytes.
const EVENT_OVERHEAD: usize = 100;
/// How long publishing over HTTP is refused after a failure, in milliseconds.
#[cfg(feature = "publish")]
const RETRY_MS: u64 = 1000;

/// The events on their way to the store and back.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Events for the next batch. They get their numbers when it goes to the store.
    waiting: VecDeque<Record>,
    waiting_bytes: usize,
    /// The batch that is with the store.
    batch: Option<Arc<Vec<Record>>>,
    /// Events that the store has written, or failed to write, and that are next in the logs.
    stored: VecDeque<Record>,
    /// The request of each event in `stored`, the batch and `waiting`, in this order; `None` for
    /// events of publishers in this process.
    requests: VecDeque<Option<RequestId>>,
    /// When the store last failed to append, in milliseconds of the engine's time; `None` if it has
    /// succeeded since.
    failed_ms: Option<u64>,
    /// Whether the store failed to sync what it has written.
    sync_failed: bool,
    /// Whether stored events have expired since the store last learned what is needed.
    expired: bool,
    /// The first event that is still needed, as last reported to the store.
    first_needed: Seq,
}

/// The request that brought an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId {
    pub(super) key: ConnId,
    /// The connection's ID, which is never used again. Its key may be.
    pub(super) id: u64,
}

impl PendingWrites {
    /// Whether another event may wait for the store.
    pub(super) fn has_room(&self) -> bool {
        self.waiting_bytes < MAX_WAITING && self.stored.is_empty()
    }

    /// Whether no event is on its way through the store.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether stored events wait to be appended to the logs.
    pub(super) fn has_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Records that stored events have expired.
    pub(super) fn record_expiry(&mut self) {
        self.expired = true;
    }

    /// Adds an event. It gets its number later.
    pub(super) fn push(&mut self, frame: FrameRef<'_>, request: Option<RequestId>) {
        self.waiting_bytes += frame.bytes.len() + EVENT_OVERHEAD;
        let frame = Frame {
            target: frame.target.to_target(),
            bytes: frame.bytes.to_bytes(),
            encoded: frame.encoded,
        };
        self.waiting.push_back(Record { seq: 0, frame });
        self.requests.push_back(request);
    }

    /// Whether there is a batch for the store: events to append, or, if the logs are trimmed,
    /// expired events to delete.
    pub(super) fn has_batch(&self, trimmed: bool) -> bool {
        let nothing = self.waiting.is_empty() && !(trimmed && self.expired);
        !nothing && self.batch.is_none() && self.stored.is_empty()
    }

    /// Numbers the waiting events from `next_seq` on and hands them out as a batch.
    pub(super) fn take_batch(&mut self, next_seq: Seq) -> Arc<Vec<Record>> {
        self.waiting_bytes = 0;
        let mut records: Vec<Record> = self.waiting.drain(..).collect();
        for (seq, record) in (next_seq.get()..).zip(&mut records) {
            record.seq = seq;
        }
        let records = Arc::new(records);
        self.batch = Some(records.clone());
        records
    }

    /// Sets the first event that is still needed, to be reported to the store.
    pub(super) fn set_first_needed(&mut self, seq: Seq) {
        self.expired = false;
        self.first_needed = seq;
    }

    /// The first event that is still needed.
    pub(super) fn first_needed(&self) -> Seq {
        self.first_needed
    }

    /// Takes the batch back: its events are next in the logs. If the store failed at `failed_ms`,
    /// the events of requests are dropped instead, with waiting events of the same requests.
    /// Returns those requests.
    pub(super) fn finish_batch(&mut self, failed_ms: Option<u64>) -> Vec<RequestId> {
        let records = self.batch.take().unwrap_or_default();
        // The store's thread has released the batch, unless it panicked.
        let mut records = Arc::try_unwrap(records).unwrap_or_else(|records| records.to_vec());
        self.failed_ms = failed_ms;
        let refused = match failed_ms {
            Some(_) => self.drop_requests(&mut records),
            None => Vec::new(),
        };
        self.stored.extend(records);
        refused
    }

    fn drop_requests(&mut self, records: &mut Vec<Record>) -> Vec<RequestId> {
        let requests: Vec<_> = self.requests.drain(..records.len()).collect();
        let mut of_records = requests.iter();
        records.retain(|_| of_records.next().is_some_and(Option::is_none));
        for _ in records.iter() {
            self.requests.push_front(None);
        }
        let mut refused: Vec<RequestId> = requests.into_iter().flatten().collect();
        refused.dedup();
        for &request in &refused {
            self.withdraw(request);
        }
        refused
    }

    /// Drops the waiting events of a refused request.
    fn withdraw(&mut self, request: RequestId) {
        let before = self.requests.len() - self.waiting.len();
        let mut of_waiting: VecDeque<_> = self.requests.drain(before..).collect();
        let mut kept = of_waiting.iter().map(|of| *of != Some(request));
        let waiting_bytes = &mut self.waiting_bytes;
        self.waiting.retain(|record| {
            let keep = kept.next().expect("each event has an entry in `requests`");
            if !keep {
                *waiting_bytes -= record.frame.bytes.len() + EVENT_OVERHEAD;
            }
            keep
        });
        of_waiting.retain(|of| *of != Some(request));
        self.requests.append(&mut of_waiting);
    }

    /// The next stored event, and the request that brought it.
    pub(super) fn pop_stored(&mut self) -> Option<(Record, Option<RequestId>)> {
        let record = self.stored.pop_front()?;
        Some((record, self.requests.pop_front().flatten()))
    }

    /// Records whether the store can sync what it has written.
    pub(super) fn set_synced(&mut self, synced: bool) {
        self.sync_failed = !synced;
    }

    /// Whether the store works.
    pub(super) fn state(&self) -> StoreState {
        match self.failed_ms.is_none() && !self.sync_failed {
            true => StoreState::Working,
            false => StoreState::Failing,
        }
    }

    /// Whether publishing over HTTP is refused because the store failed recently.
    #[cfg(feature = "publish")]
    pub(super) fn is_refusing(&self, now_ms: u64) -> bool {
        let recent = |failed_ms| now_ms < failed_ms + RETRY_MS;
        self.sync_failed || self.failed_ms.is_some_and(recent)
    }

    /// Asserts that each event has an entry in `requests`, that the waiting bytes are counted, and
    /// that a batch goes to the store only after the events of the one before are in the logs.
    pub(super) fn check(&self) {
        assert!(self.batch.is_none() || self.stored.is_empty());
        let batch = self.batch.as_ref().map_or(0, |batch| batch.len());
        assert_eq!(
            self.requests.len(),
            self.stored.len() + batch + self.waiting.len()
        );
        let bytes = |record: &Record| record.frame.bytes.len() + EVENT_OVERHEAD;
        assert_eq!(
            self.waiting_bytes,
            self.waiting.iter().map(bytes).sum::<usize>()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventLimits};

    fn push(pending: &mut PendingWrites, data: &str, request: Option<u64>) {
        let frame = Frame::new(&Event::new("/", data), &EventLimits::default()).unwrap();
        let request = request.map(|id| RequestId {
            key: ConnId::from_index(id as usize),
            id,
        });
        pending.push(frame.by_ref(), request);
        pending.check();
    }

    fn stored(pending: &mut PendingWrites) -> Vec<(u64, Option<u64>)> {
        let next = std::iter::from_fn(|| pending.pop_stored());
        let stored = next.map(|(record, request)| (record.seq, request.map(|request| request.id)));
        let stored = stored.collect();
        pending.check();
        stored
    }

    #[test]
    fn events_come_back_in_order_with_numbers_and_requests() {
        let mut pending = PendingWrites::default();
        for (data, request) in [("a", None), ("b", Some(1)), ("c", Some(1))] {
            push(&mut pending, data, request);
        }
        assert!(pending.has_batch(false));
        assert_eq!(pending.take_batch(Seq::new(7)).len(), 3);
        push(&mut pending, "d", None);
        assert!(!pending.has_batch(true), "one batch at a time");
        assert_eq!(pending.finish_batch(None), []);
        assert!(pending.has_stored() && !pending.has_room());
        assert_eq!(
            stored(&mut pending),
            [(7, None), (8, Some(1)), (9, Some(1))]
        );
        assert!(!pending.is_empty() && pending.has_batch(false));
        pending.take_batch(Seq::new(10));
        pending.finish_batch(None);
        assert_eq!(stored(&mut pending), [(10, None)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn after_a_failure_requests_lose_their_events_and_publishers_do_not() {
        let mut pending = PendingWrites::default();
        for request in [None, Some(1), Some(2), None] {
            push(&mut pending, "x", request);
        }
        pending.take_batch(Seq::new(1));
        for request in [Some(1), Some(3), None] {
            push(&mut pending, "y", request);
        }
        let refused: Vec<u64> = pending
            .finish_batch(Some(50))
            .iter()
            .map(|of| of.id)
            .collect();
        assert_eq!(refused, [1, 2]);
        assert_eq!(pending.state(), StoreState::Failing);
        assert_eq!(stored(&mut pending), [(1, None), (4, None)]);
        assert_eq!(
            pending.take_batch(Seq::new(5)).len(),
            2,
            "request 1 was withdrawn"
        );
        pending.finish_batch(None);
        assert_eq!(stored(&mut pending), [(5, Some(3)), (6, None)]);
        assert_eq!(pending.state(), StoreState::Working);
    }

    #[test]
    #[cfg(feature = "publish")]
    fn publishing_is_refused_for_a_second_after_a_failure_and_while_syncing_fails() {
        let mut pending = PendingWrites::default();
        pending.finish_batch(Some(50));
        for (now_ms, refusing) in [(50, true), (1049, true), (1050, false)] {
            assert_eq!(pending.is_refusing(now_ms), refusing, "{now_ms}");
        }
        pending.set_synced(false);
        assert!(pending.is_refusing(2000));
        pending.set_synced(true);
        assert!(!pending.is_refusing(2000));
    }

    #[test]
    fn waiting_events_are_bounded_in_bytes() {
        let mut pending = PendingWrites::default();
        let data = "x".repeat(1 << 16);
        let mut events = 0;
        while pending.has_room() {
            push(&mut pending, &data, None);
            events += 1;
        }
        assert_eq!(events, 16);
        pending.take_batch(Seq::new(1));
        assert!(pending.has_room());
    }
}
