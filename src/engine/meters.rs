//! What the engine counts: the status, and, with the feature `admin`, what the status page and the metrics show.
//!
//! With `telemetry`, this is the one place that knows whether the feature is on. Without it, everything but the status is
//! empty.

#![cfg_attr(
    not(feature = "admin"),
    allow(
        clippy::needless_pass_by_ref_mut,
        reason = "without the feature there is nothing to change"
    )
)]

use crate::namespace::NamespaceRef;
use crate::status::{DisconnectReason, State, Status};

#[cfg(feature = "admin")]
use super::admin::Admin;
use super::fan_out::{Pass, Report};
use super::ids::TopicId;
use super::topics::Topics;

/// The counters of an engine.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) status: Status,
    #[cfg(feature = "admin")]
    pub(super) admin: Option<Box<Admin>>,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            status: Status {
                state: State::Serving,
                ..Status::default()
            },
            #[cfg(feature = "admin")]
            admin: None,
        }
    }

    /// Counts the end of a connection.
    pub(super) fn count_disconnect(&mut self, reason: DisconnectReason) {
        self.status.count_disconnect(reason);
    }

    /// Moves the counts of a report into the status.
    pub(super) fn take_counts(&mut self, report: &mut Report) {
        self.status.deliveries += std::mem::take(&mut report.events);
        self.status.bytes += std::mem::take(&mut report.bytes);
    }

    /// Records that a pass is over.
    pub(super) fn record_pass(&mut self, pass: &Pass) {
        #[cfg(feature = "admin")]
        if let Some(admin) = &mut self.admin
            && pass.flushing_bytes > 0
        {
            admin.record_pass(pass.flushing_since_us, pass.began_us);
        }
        #[cfg(not(feature = "admin"))]
        let _ = (pass.flushing_since_us, pass.began_us);
    }

    /// Counts an event that was published to a namespace; `last` is the last topic on the way to it, if there is one.
    pub(super) fn count_published(
        &mut self,
        namespace: NamespaceRef<'_>,
        last: Option<TopicId>,
        topics: &mut Topics,
    ) {
        #[cfg(feature = "admin")]
        if let Some(admin) = &mut self.admin {
            let topic = last.map(|id| &mut topics[id]);
            admin.count_published(namespace, topic);
        }
        #[cfg(not(feature = "admin"))]
        let _ = (namespace, last, topics);
    }

    /// When the next status event is due, in milliseconds of the engine's time.
    pub(super) fn next_report_ms(&self) -> Option<u64> {
        #[cfg(feature = "admin")]
        return self.admin.as_ref()?.next_report_ms();
        #[cfg(not(feature = "admin"))]
        None
    }
}
