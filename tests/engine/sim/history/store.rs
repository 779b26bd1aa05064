//! A simulated store, and the crashes that it survives.

use std::sync::Arc;
use std::time::Duration;

use fanfare::internals::Recovery;
use fanfare::{LastEvents, Record};

use super::events::Published;
use super::{NAMES, World, engine};

/// How many numbers an engine leaves out that cannot know which ones were used.
const SKIP: usize = 7;

#[derive(Default)]
pub(super) struct Store {
    /// With the time at which each was stored.
    records: Vec<(Record, u64)>,
    /// How many of them survive a power cut.
    synced: usize,
    /// The last events of the namespaces among those that it has deleted.
    last_events: LastEvents,
    /// Each append is synced at once.
    pub(super) always: bool,
    /// The batch that it works on.
    batch: Option<Arc<Vec<Record>>>,
    pub(super) fails: bool,
    /// The last append failed, so events may have numbers that the store does not know.
    failed: bool,
}

impl Store {
    pub(super) fn new(always: bool) -> Self {
        Self {
            always,
            ..Self::default()
        }
    }

    fn append(&mut self, batch: &[Record], now: u64) {
        let records = batch.iter().map(|record| (record.clone(), now));
        self.records.extend(records);
    }

    fn record(&self, seq: usize) -> Option<&(Record, u64)> {
        let mut records = self.records.iter();
        records.find(|(record, _)| record.seq() == seq as u64)
    }

    /// Deletes the records before this one, and returns them.
    fn prune(&mut self, before: u64) -> Vec<(Record, u64)> {
        let mut records = self.records.iter();
        let kept = records.position(|(record, _)| record.seq() >= before);
        let count = kept.unwrap_or(self.records.len());
        self.synced = self.synced.saturating_sub(count);
        let pruned: Vec<_> = self.records.drain(..count).collect();
        for (record, _) in &pruned {
            self.last_events.record(record.seq(), record.namespaces());
        }
        pruned
    }
}

impl World {
    /// The store answers or takes the next batch, and stored events are delivered.
    pub(super) fn attend_to_store(&mut self) -> Result<(), String> {
        if self.store.is_none() {
            return Ok(());
        }
        self.answer_batch();
        if self.dice.percent(10) {
            let store = self.store.as_mut().expect("as before");
            store.synced = store.records.len();
            let events = self.events.iter_mut();
            events.for_each(|event| event.synced |= event.stored);
        }
        let now = self.instant();
        loop {
            let before = self.engine.status(now).evicted;
            if !self.engine.deliver_stored(now) {
                break;
            }
            let store = self.store.as_ref().expect("as before");
            let is_stored = store.record(self.events.len() + 1).is_some();
            self.deliver(is_stored);
            self.note_eviction(before);
        }
        self.take_batch()
    }

    fn answer_batch(&mut self) {
        let now = self.instant();
        let store = self.store.as_mut().expect("only with a store");
        let Some(batch) = store.batch.take_if(|_| self.dice.percent(60)) else {
            return;
        };
        store.failed = store.fails;
        if !store.fails {
            store.append(&batch, self.now);
        }
        if store.always {
            store.synced = store.records.len();
        }
        drop(batch);
        let outcome = match store.fails {
            true => Err("it fails".into()),
            false => Ok(()),
        };
        self.engine.stored(outcome, now);
    }

    fn take_batch(&mut self) -> Result<(), String> {
        let store = self.store.as_mut().expect("only with a store");
        if store.batch.is_some() {
            return Ok(());
        }
        let Some((batch, prune_before)) = self.engine.take_batch() else {
            return Ok(());
        };
        store.batch = Some(batch);
        for (record, _) in store.prune(prune_before) {
            let event = record.seq() as usize - 1;
            if NAMES.iter().any(|name| self.must_retain(name, event)) {
                return Err(format!("the store is to prune {}", self.events[event].id));
            }
            self.events[event].pruned = true;
        }
        Ok(())
    }

    /// The process ends, with or without a power cut. A new one starts from the store.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        let power_cut = !self.calm && self.dice.percent(40);
        self.end_store(power_cut);
        self.note_losses()?;
        self.note_arrivals()?;
        let store = self.store.as_mut().expect("only with a store");
        if power_cut || std::mem::take(&mut store.failed) {
            let skipped = (0..SKIP).map(|_| Published::never(self.now));
            self.events.extend(skipped);
        }
        self.recover();
        self.net.clear();
        for client in &mut self.clients {
            client.leave();
        }
        Ok(())
    }

    fn end_store(&mut self, power_cut: bool) {
        let store = self.store.as_mut().expect("only with a store");
        // A batch may be stored though the engine got no reply.
        let batch = store.batch.take();
        if let Some(batch) = batch.filter(|_| !store.fails && self.dice.percent(50)) {
            store.append(&batch, self.now);
        }
        if power_cut {
            let kept = self.dice.between(store.synced, store.records.len());
            store.records.truncate(kept);
        }
        store.synced = store.records.len();
    }

    /// Notes which of the delivered events the store has lost.
    fn note_losses(&mut self) -> Result<(), String> {
        let store = self.store.as_ref().expect("only with a store");
        let first = store.records.first();
        let first = first.map_or(usize::MAX, |(record, _)| record.seq() as usize);
        for (index, event) in self.events.iter_mut().enumerate() {
            let record = store.record(index + 1);
            if event.synced && index + 1 >= first && record.is_none() {
                return Err(format!("the store lost {}, which was safe", event.id));
            }
            event.used.clear();
            event.lost = record.is_none() && !event.pruned;
            event.stored &= record.is_some();
            // It was stored before it was delivered.
            event.at = record.map_or(event.at, |(_, at)| *at);
        }
        Ok(())
    }

    /// Notes the events that were stored and not yet delivered: the new process has them.
    fn note_arrivals(&mut self) -> Result<(), String> {
        let store = self.store.as_ref().expect("only with a store");
        let mut coming = std::mem::take(&mut self.coming);
        while let Some((_, at)) = store.record(self.events.len() + 1) {
            let event = coming.pop_front();
            let mut event = event.ok_or("the store has an event that was never published")?;
            if !event.own {
                event.id = format!("{}-{}", self.epoch(), self.events.len() + 1);
            }
            event.at = *at;
            (event.stored, event.synced) = (true, true);
            event.used.clear();
            self.events.push(event);
        }
        Ok(())
    }

    /// Starts an engine with the events of the store.
    fn recover(&mut self) {
        let new = engine(&self.config, self.epoch, self.instant());
        let store = self.store.as_ref().expect("only with a store");
        let last_events = store.last_events.clone();
        let mut recovery = Recovery::new(new);
        recovery.begin(self.epoch.into(), last_events);
        for (record, at) in &store.records {
            let age = Duration::from_millis(self.now - at);
            recovery.restore(record, age);
        }
        let next = self.events.len() as u64 + 1;
        self.engine = recovery.finish(next, self.instant());
        self.evicted = 0;
        self.note_eviction(0);
    }
}
