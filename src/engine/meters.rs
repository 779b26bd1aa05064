//! The counters of the engine: the status, and those of the status page and the metrics.

use crate::namespace::NamespaceRef;
use crate::status::{DisconnectReason, State, Status};

use super::admin::AdminState;
use super::fan_out::{Pass, WriteResults};
use super::ids::TopicId;
use super::topics::Topics;

/// The counters of an engine.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) status: Status,
    /// The state of the status page and the metrics; `None` if they are off.
    pub(super) admin: Option<Box<AdminState>>,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            status: Status {
                state: State::Serving,
                ..Status::default()
            },
            admin: None,
        }
    }

    /// Counts the end of a connection.
    pub(super) fn count_disconnect(&mut self, reason: DisconnectReason) {
        self.status.count_disconnect(reason);
    }

    /// Moves the counts of writes into the status.
    pub(super) fn take_counts(&mut self, results: &mut WriteResults) {
        self.status.deliveries += std::mem::take(&mut results.events);
        self.status.bytes += std::mem::take(&mut results.bytes);
    }

    /// Records that a pass is over.
    pub(super) fn record_pass(&mut self, pass: &Pass) {
        if let Some(admin) = &mut self.admin
            && pass.flushing_bytes > 0
        {
            admin.record_pass(pass.flushing_since_us, pass.began_us);
        }
    }

    /// Counts an event that was published to a namespace. `last` is the last topic on the path to
    /// it, if there is one.
    pub(super) fn count_published(
        &mut self,
        namespace: NamespaceRef<'_>,
        last: Option<TopicId>,
        topics: &mut Topics,
    ) {
        if let Some(admin) = &mut self.admin {
            let topic = last.map(|id| &mut topics[id]);
            let topic = topic.filter(|topic| topic.namespace.as_str() != "/");
            admin.count_published(namespace, topic.map(|topic| &mut topic.meter));
        }
    }

    /// Asserts the counts of an engine with this many connections and subscribers.
    pub(super) fn check(&self, connections: usize, subscribers: usize) {
        let status = &self.status;
        assert_eq!(status.subscribers, subscribers);
        assert!(status.connections_peak >= connections);
        let reasons = DisconnectReason::ALL.iter();
        let ended: u64 = reasons.map(|&reason| status.disconnects(reason)).sum();
        assert_eq!(status.connections_total, ended + connections as u64);
    }

    /// When the next status event is due, in milliseconds of the engine's time.
    pub(super) fn next_report_ms(&self) -> Option<u64> {
        self.admin.as_ref()?.next_report_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters(total: u64, peak: usize, subscribers: usize, ended: u64) -> Meters {
        let mut meters = Meters::new();
        meters.status.connections_total = total;
        meters.status.connections_peak = peak;
        meters.status.subscribers = subscribers;
        for _ in 0..ended {
            meters.count_disconnect(DisconnectReason::Lagged);
        }
        meters
    }

    #[test]
    fn a_check_finds_counts_that_disagree() {
        for (total, peak, subscribers, ended, valid) in [
            (0, 0, 0, 0, false),
            (3, 2, 1, 1, true),
            (3, 1, 1, 1, false),
            (3, 2, 2, 1, false),
            (3, 2, 1, 0, false),
            (4, 2, 1, 1, false),
        ] {
            let meters = meters(total, peak, subscribers, ended);
            let checked = std::panic::catch_unwind(|| meters.check(2, 1));
            assert_eq!(checked.is_ok(), valid, "{meters:?}");
        }
    }

    #[test]
    fn the_counts_of_writes_move_into_the_status() {
        let mut meters = Meters::new();
        let mut results = WriteResults::default();
        for (events, bytes, deliveries, total) in [(3, 100, 3, 100), (0, 5, 3, 105)] {
            (results.events, results.bytes) = (events, bytes);
            meters.take_counts(&mut results);
            let status = &meters.status;
            assert_eq!((status.deliveries, status.bytes), (deliveries, total));
            assert_eq!((results.events, results.bytes), (0, 0));
        }
    }
}
