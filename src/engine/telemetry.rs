//! What other parts hold for the status page and the metrics: counters, descriptions, actions.
//!
//! Without the feature `admin`, the types of `admin_off` take their place, which are empty.

pub(super) use crate::admin::endpoint::AdminAction;
pub(super) use crate::admin::histogram::Histogram as WriteSizes;

pub(super) use super::client_info::ClientInfo;

/// The counters of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicMeter {
    /// When the last event was published, in milliseconds of the engine's time. Negative before its
    /// start.
    pub(super) last_event_ms: Option<i64>,
    /// The series that counts its events, once it has had one.
    pub(super) series: Option<u32>,
}

impl TopicMeter {
    /// Records an event.
    pub(super) fn record_event(&mut self, published_ms: i64) {
        self.last_event_ms = Some(published_ms);
    }
}
