//! Gaps: what a fanfare server says when it cannot go on where the last stream ended.

use std::fmt;

use serde::Deserialize;

use crate::event_stream::decode::StreamEvent;

/// Events between the last one received and the next are gone for good.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The last event ID that the server was asked to go on from.
    pub last_event_id: String,
    /// The ID of the first event that comes now; of the last one there was, if nothing is kept.
    pub resumed_at: Option<String>,
}

/// Why a stream could not go on where the last one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GapReason {
    /// The events that followed are no longer kept.
    Expired,
    /// The server does not know that event.
    Unknown,
    /// The server began anew since.
    Epoch,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "they are no longer kept",
            Self::Unknown => "the server does not know that one",
            Self::Epoch => "the server began anew",
        })
    }
}

impl Gap {
    /// The gap that an event tells of, if its data is that of one.
    pub(super) fn of(event: &StreamEvent) -> Option<Self> {
        serde_json::from_str(&event.data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_in_its_own_form_alone() {
        let of = |data: &str| {
            Gap::of(&StreamEvent {
                event_type: "gap".into(),
                data: data.into(),
                last_event_id: String::new(),
            })
        };
        let gap = of(r#"{"reason":"expired","lastEventId":"a-1","resumedAt":"a-7"}"#).unwrap();
        assert_eq!(gap.reason, GapReason::Expired);
        assert_eq!(gap.last_event_id, "a-1");
        assert_eq!(gap.resumed_at.as_deref(), Some("a-7"));
        assert!(of(r#"{"reason":"epoch","lastEventId":"a-1"}"#).is_some());
        for data in [
            "",
            "mind it",
            "{}",
            r#"{"reason":"other","lastEventId":"1"}"#,
        ] {
            assert_eq!(of(data), None, "{data}");
        }
    }
}
