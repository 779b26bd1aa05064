//! Gaps: the event with which a fanfare server reports that it cannot resume a stream completely.

use std::fmt;

use serde::Deserialize;

use crate::event_stream::decode::StreamEvent;

/// A report by the server that events between the last one received and the next may be lost.
///
/// Only fanfare servers report gaps. Events can be missing from the stream of another server
/// without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Gap {
    /// Why the server could not resume the stream.
    pub reason: GapReason,
    /// The last event ID that the client sent.
    pub last_event_id: String,
    /// The ID of the first event that follows. If no event is retained, the ID of the last event
    /// that was published; `None` if there was none.
    pub resumed_at: Option<String>,
}

/// Why a server could not resume a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GapReason {
    /// The server has discarded events after the last event ID.
    Expired,
    /// The server does not know the last event ID.
    Unknown,
    /// The server has started a new history since it gave out the last event ID.
    Epoch,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the server has discarded them",
            Self::Unknown => "the server does not know this event ID",
            Self::Epoch => "the server has started a new history",
        })
    }
}

impl Gap {
    /// Parses the data of an event of the gap type. `None` if it does not describe a gap.
    pub(super) fn parse(event: &StreamEvent) -> Option<Self> {
        serde_json::from_str(&event.data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_gap_data_is_a_gap() {
        let parse = |data: &str| {
            Gap::parse(&StreamEvent {
                event_type: "gap".into(),
                data: data.into(),
                last_event_id: String::new(),
            })
        };
        let gap = parse(r#"{"reason":"expired","lastEventId":"a-1","resumedAt":"a-7"}"#).unwrap();
        assert_eq!(gap.reason, GapReason::Expired);
        assert_eq!(gap.last_event_id, "a-1");
        assert_eq!(gap.resumed_at.as_deref(), Some("a-7"));
        assert!(parse(r#"{"reason":"epoch","lastEventId":"a-1"}"#).is_some());
        for data in [
            "",
            "mind it",
            "{}",
            r#"{"reason":"other","lastEventId":"1"}"#,
        ] {
            assert_eq!(parse(data), None, "{data}");
        }
    }
}
