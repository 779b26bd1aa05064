//! Counters of topics and writes for the status page and the metrics. They are empty without the
//! feature `admin`.

#![cfg_attr(
    not(feature = "admin"),
    allow(
        clippy::needless_pass_by_ref_mut,
        reason = "without the feature there is nothing to change"
    )
)]

#[cfg(feature = "admin")]
pub(super) use crate::admin::histogram::Histogram as WriteSizes;

/// The counters of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicMeter {
    /// When the last event was published, in milliseconds of the engine's time. Negative before its
    /// start.
    #[cfg(feature = "admin")]
    pub(super) last_event_ms: Option<i64>,
    /// The series that counts its events, once it has had one.
    #[cfg(feature = "admin")]
    pub(super) series: Option<u32>,
}

impl TopicMeter {
    /// Records an event.
    pub(super) fn record_event(&mut self, published_ms: i64) {
        #[cfg(feature = "admin")]
        {
            self.last_event_ms = Some(published_ms);
        }
        #[cfg(not(feature = "admin"))]
        let _ = published_ms;
    }
}

/// The number of events that each write completed.
#[cfg(not(feature = "admin"))]
#[derive(Debug, Default)]
pub(super) struct WriteSizes;

#[cfg(not(feature = "admin"))]
impl WriteSizes {
    pub(super) fn count(&mut self, _events: u64) {}
}
