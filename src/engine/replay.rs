//! Going on after an event: event IDs, and from where a stream that names one is served.
//!
//! An event's ID is `<epoch>-<seq>`: when the server's history began, and the event's number in the total order. A replay is a
//! subscriber whose place is further back: nothing is copied for it, and nothing is queued.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use slab::Slab;

use crate::event_stream::frame::own_id;
use crate::http::route::Replay;
use crate::json::json_string;
use crate::namespace::Namespace;

use super::Engine;
use super::topic::Topic;

/// Memory that an event's own ID takes beside its text, about.
const OWN_ID_MEMORY: usize = 128;

/// The IDs of events.
#[derive(Debug)]
pub(super) struct EventIds {
    epoch: String,
    /// The line of an event's ID, `id:<epoch>-<seq>`, and the number in it.
    line: Vec<u8>,
    line_seq: u64,
    /// Events with IDs of their own by ID, the last one where several have the same; and those that are retained by number.
    seq_of: HashMap<Arc<str>, u64>,
    custom_ids: HashMap<u64, Named>,
    memory: usize,
}

#[derive(Debug)]
struct Named {
    id: Arc<str>,
    /// Logs that retain it, and who put it there while that goes on.
    holders: usize,
}

/// Why a stream cannot go on where the last one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GapReason {
    /// Events that followed are gone.
    Expired,
    /// There was no such event that anybody remembers.
    Unknown,
    /// It is of a history that is over.
    Epoch,
}

impl GapReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Epoch => "epoch",
        }
    }
}

/// How a stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) start: Start,
    /// What is missing before that, and the ID that was asked for.
    pub(super) gap: Option<(GapReason, String)>,
}

/// Where in the total order a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Behind the last event.
    End,
    /// Behind this one.
    After(u64),
    /// So many events before the end.
    Last(u64),
}

impl Resume {
    pub(super) fn live() -> Self {
        Self {
            start: Start::End,
            gap: None,
        }
    }

    /// What the stream's head says of it.
    pub(super) fn outcome(&self) -> &'static str {
        match (self.start, &self.gap) {
            (_, Some(_)) => "gap",
            (Start::End, None) => "none",
            _ => "complete",
        }
    }
}

impl EventIds {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch: base_36(epoch),
            line: Vec::new(),
            line_seq: 0,
            seq_of: HashMap::new(),
            custom_ids: HashMap::new(),
            memory: 0,
        }
    }

    /// The ID of the event with this number, if it has none of its own.
    pub(super) fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.epoch)
    }

    /// The line that gives an event its ID.
    pub(super) fn line(&mut self, seq: u64) -> &[u8] {
        if self.line.is_empty() || seq != self.line_seq + 1 || !self.count_up() {
            self.line = format!("id:{}-{seq}\n", self.epoch).into_bytes();
        }
        self.line_seq = seq;
        &self.line
    }

    /// Makes the number in the line one more; returns whether it has as many digits as before.
    fn count_up(&mut self) -> bool {
        let digits = self.line.iter_mut().rev().skip(1);
        for digit in digits.take_while(|byte| byte.is_ascii_digit()) {
            if *digit < b'9' {
                *digit += 1;
                return true;
            }
            *digit = b'0';
        }
        false
    }

    /// Remembers an event's own ID until it is released.
    pub(super) fn remember(&mut self, id: &str, seq: u64) {
        let id: Arc<str> = id.into();
        self.memory += id.len() + OWN_ID_MEMORY;
        self.seq_of.insert(id.clone(), seq);
        self.custom_ids.insert(seq, Named { id, holders: 1 });
    }

    /// One log more retains an event with an ID of its own.
    pub(super) fn hold(&mut self, seq: u64) {
        if let Some(named) = self.custom_ids.get_mut(&seq) {
            named.holders += 1;
        }
    }

    /// One log less retains it, or who remembered it is done with it.
    pub(super) fn release(&mut self, seq: u64) {
        let Some(named) = self.custom_ids.get_mut(&seq) else {
            return;
        };
        named.holders -= 1;
        if named.holders == 0
            && let Some(Named { id, .. }) = self.custom_ids.remove(&seq)
        {
            self.memory -= id.len() + OWN_ID_MEMORY;
            if self.seq_of.get(&id) == Some(&seq) {
                self.seq_of.remove(&id);
            }
        }
    }

    /// Memory that remembered IDs take, about.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The number of the event with this ID, of which `last` is the last there was.
    fn find(&self, id: &str, last: u64) -> Result<u64, GapReason> {
        if let Some(&seq) = self.seq_of.get(id) {
            return Ok(seq);
        }
        let (epoch, seq) = id.rsplit_once('-').ok_or(GapReason::Unknown)?;
        let is_epoch = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if epoch.is_empty() || epoch.len() > 13 || !epoch.bytes().all(is_epoch) || !is_number {
            return Err(GapReason::Unknown);
        }
        if epoch != self.epoch {
            return Err(GapReason::Epoch);
        }
        let seq = seq.parse().ok().filter(|&seq| seq <= last);
        seq.ok_or(GapReason::Unknown)
    }
}

fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        digits.push(char::from_digit((number % 36) as u32, 36).expect("less than the base"));
        number /= 36;
    }
    digits.iter().rev().collect()
}

/// The number behind which the last `count` events of some logs stand, each event once.
fn seq_before_last(keys: &[u32], topics: &Slab<Topic>, count: u64) -> u64 {
    let retained = |&topic: &u32| topics[topic as usize].log.len() as u64;
    if keys.iter().map(retained).sum::<u64>() <= count {
        return 0;
    }
    let seq_at = |topic: u32, ordinal: u64| {
        let position = topics[topic as usize].log.position(ordinal)?;
        Some((position.seq, topic, ordinal))
    };
    let last = |&topic: &u32| seq_at(topic, topics[topic as usize].log.appended().checked_sub(1)?);
    let mut heads: BinaryHeap<_> = keys.iter().filter_map(last).collect();
    let (mut found, mut first) = (0, u64::MAX);
    while let Some((seq, topic, ordinal)) = heads.pop() {
        if seq < first {
            if found == count {
                return seq;
            }
            found += 1;
            first = seq;
        }
        heads.extend(
            ordinal
                .checked_sub(1)
                .and_then(|before| seq_at(topic, before)),
        );
    }
    0
}

impl Engine {
    /// From where a stream of these namespaces is to be served.
    pub(super) fn resume(&self, namespaces: &[Namespace], replay: Replay) -> Resume {
        if !self.retention.history {
            return Resume::live();
        }
        let id = match replay {
            Replay::Live => return Resume::live(),
            Replay::All => {
                return Resume {
                    start: Start::After(0),
                    gap: None,
                };
            }
            Replay::Last(count) => {
                return Resume {
                    start: Start::Last(count),
                    gap: None,
                };
            }
            Replay::After(id) => id,
        };
        let seq = match self.ids.find(&id, self.seq) {
            Ok(seq) => seq,
            Err(reason) => {
                return Resume {
                    start: Start::After(0),
                    gap: Some((reason, id)),
                };
            }
        };
        let topic = |namespace| Some(&self.topics[*self.namespaces.get(namespace)? as usize]);
        let topics: Vec<&Topic> = namespaces.iter().filter_map(topic).collect();
        let is_gone = |namespace| match topic(namespace) {
            Some(topic) => self.retention.is_missing(topic, seq, &topics),
            None => self.retention.last_gone(namespace) > seq,
        };
        let expired = namespaces.iter().any(is_gone);
        Resume {
            start: Start::After(seq),
            gap: expired.then_some((GapReason::Expired, id)),
        }
    }

    /// The ID that subscribers get with an event; none with history off.
    #[cfg(feature = "publish")]
    pub(super) fn published_id(&self, own: Option<&str>, seq: u64) -> Option<String> {
        let id = || own.map_or_else(|| self.ids.id(seq), str::to_owned);
        self.retention.history.then(id)
    }

    /// The number behind which a stream of these topics begins, and whether something is there for it.
    pub(super) fn start_after(&self, topics: &[u32], start: Start) -> (u64, Option<u64>) {
        let after = match start {
            Start::End => self.seq,
            Start::After(seq) => seq,
            Start::Last(count) => seq_before_last(topics, &self.topics, count),
        };
        let first = |&key: &u32| {
            let log = &self.topics[key as usize].log;
            log.position(log.after_or_first(after)).map(|next| next.seq)
        };
        (after, topics.iter().filter_map(first).min())
    }

    /// The event that tells of a gap, and what follows it.
    pub(super) fn gap_event(
        &self,
        reason: GapReason,
        asked: &str,
        topics: &[u32],
        first: Option<u64>,
    ) -> Vec<u8> {
        let mut data = format!("{{\"reason\":\"{}\",\"lastEventId\":", reason.as_str());
        json_string(asked, &mut data);
        data.push_str(",\"resumedAt\":");
        let resumed_at = first.map_or_else(|| self.ids.id(self.seq), |seq| self.id_in(topics, seq));
        json_string(&resumed_at, &mut data);
        data.push('}');
        let mut bytes = Vec::new();
        if !self.config.gap_event.is_empty() {
            bytes = format!("event:{}\ndata:{data}\n\n", self.config.gap_event).into_bytes();
        }
        if first.is_none() {
            // An ID alone is no event, but the next stream goes on from there.
            bytes.extend_from_slice(format!("id:{}\n\n", self.ids.id(self.seq)).as_bytes());
        }
        bytes
    }

    /// The ID that the event with this number has in one of these logs.
    fn id_in(&self, topics: &[u32], seq: u64) -> String {
        let bytes = topics.iter().find_map(|&key| {
            let log = &self.topics[key as usize].log;
            let position = log.position(log.after_or_first(seq - 1))?;
            (position.seq == seq).then(|| log.copy_of(position))
        });
        let own = bytes.as_deref().and_then(own_id).map(str::to_owned);
        own.unwrap_or_else(|| self.ids.id(seq))
    }
}
