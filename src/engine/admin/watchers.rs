//! The event stream of the status page: the status, each second.
//!
//! Without watchers it costs nothing. A status goes to its watchers directly and not through a log:
//! a watcher that cannot take one has no use for it once the next is there.

use crate::http::request::RequestHead;
use crate::http::response;
use crate::json::to_json;
use crate::status::DisconnectReason;

use super::super::connection::Phase;
use super::super::{ConnId, Engine};

/// The time between two status events.
const REPORT_MS: u64 = 1_000;

/// The connections that receive the status each second.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    keys: Vec<ConnId>,
    next_report_ms: u64,
}

impl Watchers {
    /// When the next status is due; `None` without watchers.
    pub(super) fn next_report_ms(&self) -> Option<u64> {
        (!self.keys.is_empty()).then_some(self.next_report_ms)
    }

    fn add(&mut self, key: ConnId, now_ms: u64) {
        if self.keys.is_empty() {
            self.next_report_ms = now_ms + REPORT_MS;
        }
        self.keys.push(key);
    }

    /// The watchers, if a status is due.
    fn take_due(&mut self, now_ms: u64) -> Vec<ConnId> {
        if self.next_report_ms().is_none_or(|at_ms| now_ms < at_ms) {
            return Vec::new();
        }
        self.next_report_ms = now_ms + REPORT_MS;
        self.keys.clone()
    }
}

impl Engine {
    /// Makes a connection a watcher, which receives the first status at once.
    pub(super) fn begin_watching(&mut self, key: ConnId, head: &RequestHead) {
        let mut bytes = response::stream_head(&[], &[("X-Content-Type-Options", "nosniff".into())]);
        if head.method() == "HEAD" {
            return self.close_with(key, &bytes, DisconnectReason::Client);
        }
        bytes.extend_from_slice(self.status_event().as_bytes());
        self.connections
            .set_phase(key, Phase::Watching { ignored: 0 });
        if let Some(admin) = &mut self.meters.admin {
            admin.watchers.add(key, self.clock.ms());
        }
        self.push_outgoing(key, &bytes);
    }

    pub(in super::super) fn forget_watcher(&mut self, key: ConnId) {
        if let Some(admin) = &mut self.meters.admin {
            admin.watchers.keys.retain(|&watcher| watcher != key);
        }
    }

    /// Sends the status to all watchers, if a second has passed. A watcher that has not taken the
    /// last one is left out.
    pub(in super::super) fn notify_watchers(&mut self) {
        let Some(admin) = &mut self.meters.admin else {
            return;
        };
        let due = admin.watchers.take_due(self.clock.ms());
        if due.is_empty() {
            return;
        }
        let event = self.status_event();
        for key in due {
            let connection = &self.connections[key];
            if connection.outgoing.is_empty() && connection.ended.is_none() {
                self.push_outgoing(key, event.as_bytes());
            }
        }
    }

    fn status_event(&self) -> String {
        let status = self.status_json();
        let status = status.map_or_else(String::new, |status| to_json(&status));
        format!("event:status\ndata:{status}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_due_a_second_after_the_first_watcher_and_each_second_then() {
        let mut watchers = Watchers::default();
        assert_eq!(watchers.next_report_ms(), None);
        assert!(watchers.take_due(5_000).is_empty());
        let keys = [7, 8].map(ConnId::from_index);
        watchers.add(keys[0], 5_000);
        watchers.add(keys[1], 5_900);
        for (now_ms, due, next_ms) in [
            (5_999, [].as_slice(), 6_000),
            (6_010, &keys, 7_010),
            (6_010, &[], 7_010),
            (9_000, &keys, 10_000),
        ] {
            assert_eq!(watchers.take_due(now_ms), due, "at {now_ms}");
            assert_eq!(watchers.next_report_ms(), Some(next_ms));
        }
    }
}
