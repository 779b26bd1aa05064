//! Collects the events that a store restores when it is opened.

use std::io;
use std::time::SystemTime;

use fanfare::{EventStore, LastEvents, Record, Recovered, Restore};

#[derive(Default)]
pub(crate) struct Restored {
    /// `None` until the store reports it.
    pub(crate) epoch: Option<u64>,
    pub(crate) last_events: LastEvents,
    pub(crate) events: Vec<(Record, SystemTime)>,
}

impl Restored {
    pub(crate) fn from(
        store: &mut impl EventStore,
        fresh_epoch: u64,
    ) -> io::Result<(Self, Recovered)> {
        let mut restored = Self::default();
        let recovered = store.open(fresh_epoch, &mut restored)?;
        assert!(restored.epoch.is_some(), "a store reports its epoch");
        Ok((restored, recovered))
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.events.iter().map(|(record, _)| record.seq()).collect()
    }
}

impl Restore for Restored {
    fn begin(&mut self, epoch: u64, last_events: LastEvents) {
        assert_eq!(self.epoch, None, "a store reports its epoch once");
        self.epoch = Some(epoch);
        self.last_events = last_events;
    }

    fn event(&mut self, record: Record, at: SystemTime) {
        assert!(self.epoch.is_some(), "the epoch comes before the events");
        self.events.push((record, at));
    }
}
