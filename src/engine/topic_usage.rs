//! What a topic's log counts for in the limits of history, and what is known of the events that it
//! dropped.

use std::collections::VecDeque;

use crate::log::{EventLog, Seq};

/// The most dropped events of several namespaces that a topic remembers.
const MAX_MULTI_TARGET: usize = 64;

/// The counts of one topic. [`Retention`](super::retention::Retention) updates them.
#[derive(Debug, Default)]
pub(super) struct TopicUsage {
    pub(super) events: usize,
    pub(super) bytes: u64,
    pub(super) memory: usize,
    /// The index of the list in `by_size` that has the topic; 0 for none.
    pub(super) size_class: usize,
    /// The topic's index in that list.
    pub(super) class_index: u32,
    /// The first retained event, if the heap has an entry for it; else [`Seq::ZERO`].
    pub(super) oldest: Seq,
    /// The retained events with custom IDs, in order.
    pub(super) custom_ids: VecDeque<Seq>,
    /// The last dropped event that was published to one namespace. All events dropped before it
    /// count as published to one namespace.
    pub(super) single_target: Seq,
    /// Later events that were published to several namespaces, dropped or not, in order.
    pub(super) multi_target: VecDeque<Seq>,
    /// Whether the topic is in the list `untrimmed`.
    pub(super) untrimmed: bool,
}

impl TopicUsage {
    /// The usage of a new log.
    pub(super) fn of(log: &EventLog) -> Self {
        Self {
            single_target: log.dropped_seq(),
            ..Self::default()
        }
    }

    /// Memory that it takes in addition to its own size, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.multi_target.capacity() * size_of::<Seq>()
    }

    /// Records an event that was appended.
    pub(super) fn record(&mut self, seq: Seq, custom_id: bool, multi_target: bool) {
        if custom_id {
            self.custom_ids.push_back(seq);
        }
        if multi_target {
            self.multi_target.push_back(seq);
        }
    }

    /// Records that the log is about to drop an event.
    pub(super) fn record_dropped(&mut self, seq: Seq) {
        let until = match self.multi_target.binary_search(&seq) {
            Ok(at) if at < MAX_MULTI_TARGET => return,
            Ok(at) => at + 1,
            Err(at) => at,
        };
        self.multi_target.drain(..until);
        let room = 2 * self.multi_target.len();
        self.multi_target.shrink_to(room.max(MAX_MULTI_TARGET));
        self.single_target = seq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_events_of_several_namespaces_are_remembered_until_one_of_this_namespace_alone_is_dropped()
     {
        let mut usage = TopicUsage::default();
        for (seq, multi_target) in [(1, true), (2, false), (3, true), (4, true)] {
            usage.record(Seq::new(seq), false, multi_target);
        }
        for (dropped, single_target, multi_target) in [
            (1, 0, &[1, 3, 4][..]),
            (2, 2, &[3, 4]),
            (3, 2, &[3, 4]),
            (4, 2, &[3, 4]),
        ] {
            usage.record_dropped(Seq::new(dropped));
            assert_eq!(usage.single_target, Seq::new(single_target));
            let remembered: Vec<u64> = usage.multi_target.iter().map(|seq| seq.get()).collect();
            assert_eq!(remembered, multi_target);
        }
    }

    #[test]
    fn a_topic_remembers_a_bounded_number_of_dropped_events() {
        let mut usage = TopicUsage::default();
        let last = 10 * MAX_MULTI_TARGET as u64;
        for seq in (1..=last).map(Seq::new) {
            usage.record(seq, false, true);
        }
        for seq in (1..=last).map(Seq::new) {
            usage.record_dropped(seq);
        }
        assert!(usage.multi_target.len() <= MAX_MULTI_TARGET);
        let first = usage.multi_target.front().copied();
        let before = first.map_or(Seq::new(last), Seq::previous);
        assert_eq!(usage.single_target, before, "earlier ones count as missing");
    }
}
