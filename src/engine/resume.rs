//! Where a stream begins: after the event that its request names, before retained events, or live.
//!
//! A replay is a subscriber with an older cursor. No events are copied or queued for it.

use crate::event_stream::frame::own_id;
use crate::http::route::Replay;
use crate::log::Seq;
use crate::namespace::Namespace;

use super::event_ids::{EventIds, GapReason};
use super::ids::TopicId;
use super::merge::seq_before_last;
use super::retention::Retention;
use super::topics::Topics;

/// Where a stream begins, and whether it begins with a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) start: Start,
    /// Why events before the start are missing, and the ID that the request named.
    pub(super) gap: Option<(GapReason, String)>,
}

/// Where in the total order a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// After the last event.
    End,
    /// After the event with this number.
    After(Seq),
    /// With this many events before the end.
    Last(u64),
}

impl Resume {
    pub(super) fn live() -> Self {
        Self::from(Start::End)
    }

    fn from(start: Start) -> Self {
        Self { start, gap: None }
    }

    /// Finds where a stream of these namespaces begins if its request asks for `replay`.
    pub(super) fn find(
        replay: Replay,
        namespaces: &[Namespace],
        topics: &Topics,
        retention: &Retention,
        ids: &EventIds,
    ) -> Self {
        let id = match replay {
            _ if !retention.keeps_history() => return Self::live(),
            Replay::Live => return Self::live(),
            Replay::All => return Self::from(Start::After(Seq::ZERO)),
            Replay::Last(count) => return Self::from(Start::Last(count)),
            Replay::After(id) => id,
        };
        match ids.find(&id) {
            Ok(seq) => {
                let expired = retention.is_missing(seq, namespaces, topics);
                Self {
                    start: Start::After(seq),
                    gap: expired.then_some((GapReason::Expired, id)),
                }
            }
            Err(reason) => Self {
                start: Start::After(Seq::ZERO),
                gap: Some((reason, id)),
            },
        }
    }

    /// The value of `Fanfare-Replay` in the stream's head.
    pub(super) fn outcome(&self) -> &'static str {
        match (self.start, &self.gap) {
            (_, Some(_)) => "gap",
            (Start::End, None) => "none",
            _ => "complete",
        }
    }

    /// The event after which a stream of these topics begins.
    pub(super) fn after(&self, set: &[TopicId], topics: &Topics, ids: &EventIds) -> Seq {
        match self.start {
            Start::End => ids.seq(),
            Start::After(seq) => seq,
            Start::Last(count) => seq_before_last(set, topics, count),
        }
    }
}

/// The first retained event of these topics after an event.
pub(super) fn first_after(after: Seq, set: &[TopicId], topics: &Topics) -> Option<Seq> {
    let first = |&topic: &TopicId| topics[topic].log.first_after(after);
    set.iter().filter_map(first).map(|event| event.seq).min()
}

/// The ID of an event that one of these topics retains: its own, or one made from its number.
pub(super) fn id_in(seq: Seq, set: &[TopicId], topics: &Topics, ids: &EventIds) -> String {
    let bytes = set.iter().find_map(|&topic| {
        let log = &topics[topic].log;
        Some(log.bytes_of(log.find(seq)?))
    });
    let custom = bytes.as_deref().and_then(own_id).map(str::to_owned);
    custom.unwrap_or_else(|| ids.id(seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::tests::{Parts, name};

    /// A namespace that retains events 2, with an ID of its own, and 3.
    fn parts(history_events: usize) -> Parts {
        let mut parts = Parts::new(&Config {
            history_events,
            ..Config::default()
        });
        for text in ["data:1\n\n", "id:two\ndata:2\n\n", "data:3\n\n"] {
            parts.publish(&["/a"], text, 0);
        }
        parts
    }

    fn find(replay: Replay, parts: &Parts) -> Resume {
        let namespaces = [name("/a")];
        Resume::find(
            replay,
            &namespaces,
            &parts.topics,
            &parts.retention,
            &parts.ids,
        )
    }

    #[test]
    fn a_stream_begins_where_its_request_asks_or_reports_a_gap() {
        use GapReason::{Epoch, Expired, Unknown};
        let mut parts = parts(2);
        let set = parts.topics(&["/a"]);
        let id = |id: &str| Replay::After(id.to_owned());
        for (replay, after, gap, outcome) in [
            (Replay::Live, 3, None, "none"),
            (Replay::All, 0, None, "complete"),
            (Replay::Last(0), 3, None, "complete"),
            (Replay::Last(1), 2, None, "complete"),
            (Replay::Last(9), 0, None, "complete"),
            (id("7-3"), 3, None, "complete"),
            (id("7-1"), 1, None, "complete"),
            (id("7-0"), 0, Some(Expired), "gap"),
            (id("7-4"), 0, Some(Unknown), "gap"),
            (id("8-1"), 0, Some(Epoch), "gap"),
            (id("seven"), 0, Some(Unknown), "gap"),
        ] {
            let resume = find(replay.clone(), &parts);
            let found = resume.after(&set, &parts.topics, &parts.ids);
            assert_eq!(found, Seq::new(after), "{replay:?}");
            assert_eq!(resume.outcome(), outcome, "{replay:?}");
            let reason = resume.gap.map(|(reason, asked)| {
                assert_eq!(Replay::After(asked), replay);
                reason
            });
            assert_eq!(reason, gap, "{replay:?}");
        }
    }

    #[test]
    fn without_history_every_stream_is_live() {
        let parts = parts(0);
        for replay in [
            Replay::Live,
            Replay::All,
            Replay::Last(1),
            Replay::After("7-1".to_owned()),
        ] {
            assert_eq!(find(replay, &parts), Resume::live());
        }
    }

    #[test]
    fn the_first_event_after_another_has_its_own_id_or_its_number() {
        let mut parts = parts(2);
        let set = parts.topics(&["/a", "/b"]);
        for (after, first, id) in [
            (0, Some(2), "two"),
            (1, Some(2), "two"),
            (2, Some(3), "7-3"),
            (3, None, "7-3"),
        ] {
            let found = first_after(Seq::new(after), &set, &parts.topics);
            assert_eq!(found, first.map(Seq::new), "{after}");
            let seq = found.unwrap_or(parts.ids.seq());
            assert_eq!(id_in(seq, &set, &parts.topics, &parts.ids), id, "{after}");
        }
    }
}
