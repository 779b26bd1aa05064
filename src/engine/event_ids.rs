//! Event IDs.
//!
//! An ID is `<epoch>-<seq>`: the name of the server's history, and the event's number in the total
//! order. A publisher may choose another one, a custom ID.

use std::collections::HashMap;
use std::sync::Arc;

use crate::log::Seq;

/// The number of digits of the largest epoch, [`u64::MAX`] in base 36.
const MAX_EPOCH_DIGITS: usize = 13;
/// Estimate of the memory that a custom ID takes in addition to its text, in bytes.
const CUSTOM_ID_MEMORY: usize = 128;

/// The epoch, the number of the last event, and the custom IDs of retained events.
#[derive(Debug)]
pub(super) struct EventIds {
    epoch: String,
    /// The last event; [`Seq::ZERO`] before the first.
    seq: Seq,
    /// The line with the ID of an event: `id:<epoch>-<seq>\n`.
    line: Vec<u8>,
    /// The event that `line` is for; `None` before the first.
    line_seq: Option<Seq>,
    /// The last event with a custom ID, by the ID.
    seq_of: HashMap<Arc<str>, Seq>,
    /// The custom IDs of retained events.
    custom_ids: HashMap<Seq, CustomId>,
    /// Estimate of the memory that the custom IDs take, in bytes.
    memory: usize,
}

#[derive(Debug)]
struct CustomId {
    id: Arc<str>,
    /// Number of logs that retain the event, plus one while it is being appended.
    refs: usize,
}

/// Why a stream cannot continue where the last one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GapReason {
    /// Events after the last one are gone.
    Expired,
    /// No event with this ID is known.
    Unknown,
    /// The ID is of another history.
    Epoch,
}

impl GapReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Epoch => "epoch",
        }
    }
}

impl EventIds {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch: base_36(epoch),
            seq: Seq::ZERO,
            line: Vec::new(),
            line_seq: None,
            seq_of: HashMap::new(),
            custom_ids: HashMap::new(),
            memory: 0,
        }
    }

    /// The last event; [`Seq::ZERO`] before the first.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// Gives the next event its number.
    pub(super) fn next(&mut self) -> Seq {
        self.seq = self.seq.next();
        self.seq
    }

    /// Makes this the last event.
    pub(super) fn continue_after(&mut self, seq: Seq) {
        self.seq = seq;
    }

    /// The ID of an event without a custom ID.
    pub(super) fn id(&self, seq: Seq) -> String {
        format!("{}-{seq}", self.epoch)
    }

    /// The line that gives the last event its ID.
    pub(super) fn line(&mut self) -> &[u8] {
        if self.line_seq != Some(self.seq) {
            let is_next = self.line_seq.is_some_and(|seq| seq.next() == self.seq);
            if !(is_next && self.count_up()) {
                self.line = format!("id:{}-{}\n", self.epoch, self.seq).into_bytes();
            }
            self.line_seq = Some(self.seq);
        }
        &self.line
    }

    /// Adds one to the number in the line. Returns false, with a wrong line, if the number needs
    /// one more digit.
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

    /// Records the custom ID of the last event, until it is [released](Self::release).
    pub(super) fn record(&mut self, id: &str) {
        let id: Arc<str> = id.into();
        self.memory += id.len() + CUSTOM_ID_MEMORY;
        self.seq_of.insert(id.clone(), self.seq);
        self.custom_ids.insert(self.seq, CustomId { id, refs: 1 });
    }

    /// Records that one more log retains an event with a custom ID.
    pub(super) fn hold(&mut self, seq: Seq) {
        if let Some(custom) = self.custom_ids.get_mut(&seq) {
            custom.refs += 1;
        }
    }

    /// Records that a log no longer retains an event with a custom ID, or that it was appended to
    /// all logs.
    pub(super) fn release(&mut self, seq: Seq) {
        let Some(custom) = self.custom_ids.get_mut(&seq) else {
            return;
        };
        custom.refs -= 1;
        if custom.refs == 0
            && let Some(CustomId { id, .. }) = self.custom_ids.remove(&seq)
        {
            self.memory -= id.len() + CUSTOM_ID_MEMORY;
            if self.seq_of.get(&id) == Some(&seq) {
                self.seq_of.remove(&id);
            }
        }
    }

    /// Estimate of the memory that custom IDs take, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The event with an ID.
    pub(super) fn find(&self, id: &str) -> Result<Seq, GapReason> {
        if let Some(&seq) = self.seq_of.get(id) {
            return Ok(seq);
        }
        let (epoch, seq) = id.rsplit_once('-').ok_or(GapReason::Unknown)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        let is_epoch = (1..=MAX_EPOCH_DIGITS).contains(&epoch.len()) && epoch.bytes().all(is_digit);
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if !is_epoch || !is_number {
            return Err(GapReason::Unknown);
        }
        if epoch != self.epoch {
            return Err(GapReason::Epoch);
        }
        let seq = seq
            .parse()
            .ok()
            .map(Seq::new)
            .filter(|&seq| seq <= self.seq);
        seq.ok_or(GapReason::Unknown)
    }

    /// Asserts that each known ID is of a retained event, and that the memory is counted.
    pub(super) fn check(&self) {
        let bytes = |custom: &CustomId| custom.id.len() + CUSTOM_ID_MEMORY;
        let memory: usize = self.custom_ids.values().map(bytes).sum();
        assert_eq!(self.memory, memory, "the memory of custom IDs");
        for (id, seq) in &self.seq_of {
            let custom = self
                .custom_ids
                .get(seq)
                .expect("an ID is of a retained event");
            assert_eq!(custom.id, *id);
        }
        assert!(self.custom_ids.values().all(|custom| custom.refs > 0));
        assert!(self.custom_ids.keys().all(|&seq| seq <= self.seq));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_up_to(seq: u64) -> EventIds {
        let mut ids = EventIds::new(36 * 36 + 10);
        ids.continue_after(Seq::new(seq));
        ids
    }

    #[test]
    fn an_id_is_the_epoch_in_base_36_and_the_number() {
        for (epoch, name) in [(0, "0"), (35, "z"), (36, "10"), (u64::MAX, "3w5e11264sgsf")] {
            assert_eq!(EventIds::new(epoch).id(Seq::new(7)), format!("{name}-7"));
        }
    }

    #[test]
    fn the_line_follows_the_number_through_every_carry_and_jump() {
        let mut ids = ids_up_to(0);
        for jump in [1, 7, 9, 10, 99, 100, 1_999, 12_345_678, u64::MAX - 30] {
            ids.continue_after(Seq::new(jump - 1));
            for seq in jump..jump + 25 {
                assert_eq!(ids.next(), Seq::new(seq));
                let line = format!("id:10a-{seq}\n");
                assert_eq!(ids.line(), line.as_bytes());
                assert_eq!(ids.line(), line.as_bytes(), "asked twice");
            }
        }
    }

    #[test]
    fn an_id_is_found_or_the_reason_is_given() {
        let mut ids = ids_up_to(41);
        ids.next();
        ids.record("order-7");
        for (id, found) in [
            ("10a-0", Ok(0)),
            ("10a-42", Ok(42)),
            ("10a-43", Err(GapReason::Unknown)),
            ("order-7", Ok(42)),
            ("order-8", Err(GapReason::Epoch)),
            ("10b-1", Err(GapReason::Epoch)),
            ("10A-1", Err(GapReason::Unknown)),
            ("-1", Err(GapReason::Unknown)),
            ("10a-", Err(GapReason::Unknown)),
            ("10a-+1", Err(GapReason::Unknown)),
            ("10a-99999999999999999999", Err(GapReason::Unknown)),
            ("12345678901234-1", Err(GapReason::Unknown)),
            ("", Err(GapReason::Unknown)),
        ] {
            assert_eq!(ids.find(id), found.map(Seq::new), "{id}");
        }
        ids.check();
    }

    #[test]
    fn a_custom_id_is_known_while_a_log_retains_its_event() {
        let mut ids = ids_up_to(0);
        let [first, second] = [(); 2].map(|()| {
            let seq = ids.next();
            ids.record("a");
            ids.hold(seq);
            ids.release(seq);
            seq
        });
        assert_eq!(ids.find("a"), Ok(second), "the last one with the ID counts");
        ids.check();
        ids.release(first);
        assert_eq!(ids.find("a"), Ok(second));
        ids.release(second);
        assert_eq!((ids.find("a"), ids.memory()), (Err(GapReason::Unknown), 0));
        ids.check();
    }
}
