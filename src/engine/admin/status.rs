//! The status as JSON, and what an operator is warned of.

use crate::admin::json::{LoopJson, StatusJson};
use crate::config::{AdminAccess, PublishAccess};
use crate::status::{DisconnectReason, State, Status, StoreState};

use super::super::Engine;

impl Engine {
    /// The counters at this moment.
    pub(super) fn counters(&self) -> Status {
        let queued = self
            .meters
            .admin
            .as_ref()
            .map_or(0, |admin| admin.queued_events);
        Status {
            queued,
            ..self.status(self.clock.instant_at(self.clock.ms()))
        }
    }

    /// A time of the engine in milliseconds of Unix time.
    pub(super) fn unix_ms(&self, at_ms: i64) -> u64 {
        let admin = self.meters.admin.as_ref();
        let started_unix_ms = admin.map_or(0, |admin| admin.started_unix_ms);
        started_unix_ms.saturating_add_signed(at_ms)
    }

    pub(super) fn status_json(&self) -> Option<StatusJson<'_>> {
        let admin = self.meters.admin.as_ref()?;
        let status = self.counters();
        let reasons = DisconnectReason::ALL.iter();
        let (state, sseserver_state) = match status.state {
            State::Draining => ("draining", "DRAINING"),
            _ => ("serving", "OK"),
        };
        Some(StatusJson {
            node: &admin.setup.node,
            status: sseserver_state,
            reported_at: self.unix_ms(self.clock.ms() as i64) / 1000,
            startup_time: admin.started_unix_ms / 1000,
            msgs_broadcast: status.events,
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: status.uptime.as_millis() as u64,
            state,
            warnings: self.warnings(&status),
            connections_now: status.connections,
            connections_peak: status.connections_peak,
            connections_total: status.connections_total,
            subscribers: status.subscribers,
            events: status.events,
            deliveries: status.deliveries,
            bytes_sent: status.bytes,
            queue_events: status.queued,
            queue_bytes: admin.queued_bytes,
            namespaces: status.namespaces,
            retained_events: status.retained_events,
            retained_bytes: status.retained_bytes,
            retained_limit: self.config.memory_limit(),
            disconnects: reasons
                .map(|&reason| (reason.as_str(), status.disconnects(reason)))
                .collect(),
            turns: LoopJson {
                busy_ms: admin.measures.busy_us / 1000,
                longest_turn_us: admin.longest_turn_us(),
            },
        })
    }

    /// What an operator should know.
    fn warnings(&self, status: &Status) -> Vec<String> {
        let mut warnings = Vec::new();
        if status.store == StoreState::Failing {
            warnings.push("events cannot be stored, so publishing over HTTP is refused".to_owned());
        }
        warnings.extend(match self.rules.access.publish {
            PublishAccess::Open => Some(
                "publishing is open to everyone on this machine: no publish token is set".into(),
            ),
            PublishAccess::Closed => Some(
                "publishing over HTTP is closed: no publish token is set, and the server is not bound to a \
                 loopback address"
                    .into(),
            ),
            PublishAccess::Token => None,
        });
        if self.admin_access() == AdminAccess::Open {
            let open = "this page is open to everyone on this machine: no admin token is set";
            warnings.push(open.to_owned());
        }
        if status.evicted > 0 {
            warnings.push(format!(
                "{} retained events were dropped early because history-total was reached",
                status.evicted
            ));
        }
        warnings
    }
}
