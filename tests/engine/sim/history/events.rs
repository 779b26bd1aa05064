//! The model: every published event, its namespaces, and whether it must be retained.

use super::{NAMES, World};
use crate::history::due::GapReason;
use crate::model::covers;

/// An event that was published.
pub(super) struct Published {
    /// Its namespaces; all namespaces then in use if empty.
    pub(super) namespaces: Vec<String>,
    /// Namespaces that certainly were in use, if it went to all namespaces.
    pub(super) used: Vec<String>,
    /// Its data, which no other has.
    pub(super) data: String,
    pub(super) id: String,
    /// The publisher gave the ID.
    pub(super) own: bool,
    pub(super) bytes: u64,
    pub(super) at: u64,
    /// The store has it, for good or until the power goes.
    pub(super) stored: bool,
    pub(super) synced: bool,
    /// It did not survive a crash, or its number was never used.
    pub(super) lost: bool,
    /// The store has deleted it, because it was no longer retained.
    pub(super) pruned: bool,
}

impl Published {
    /// A number that no event was given, at this time.
    pub(super) fn never(at: u64) -> Self {
        Self {
            namespaces: Vec::new(),
            used: Vec::new(),
            data: String::new(),
            id: String::new(),
            own: false,
            bytes: 0,
            at,
            stored: false,
            synced: false,
            lost: true,
            pruned: false,
        }
    }
}

/// Whether an event went to a namespace. An event for all went to the namespaces in use then; the
/// model knows only some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Yes,
    No,
    Maybe,
}

impl World {
    /// The epoch as written in IDs. One digit suffices for the restarts of a world.
    pub(super) fn epoch(&self) -> char {
        char::from_digit(self.epoch, 36).expect("a digit")
    }

    /// The number of the event that an ID names, or the reason of the gap after an ID that names
    /// none.
    pub(super) fn seq_of(&self, id: &str) -> Result<usize, GapReason> {
        let (epoch, seq) = id.split_once('-').ok_or(GapReason::Unknown)?;
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if epoch.is_empty() || !is_number || !epoch.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(GapReason::Unknown);
        }
        if !epoch.chars().eq([self.epoch()]) {
            return Err(GapReason::Epoch);
        }
        let seq = seq.parse().ok();
        seq.filter(|seq| *seq <= self.events.len())
            .ok_or(GapReason::Unknown)
    }

    /// The last of the first `count` events to which its publisher gave this ID.
    pub(super) fn with_own_id(&self, id: &str, count: usize) -> Option<usize> {
        let mut events = self.events[..count].iter();
        events.rposition(|event| event.own && event.id == id && !event.lost)
    }

    /// Namespaces that certainly are in use.
    pub(super) fn used(&self) -> Vec<String> {
        let listened = self.clients.iter().filter(|client| client.stream.is_some());
        let listened: Vec<&String> = listened.flat_map(|client| &client.names).collect();
        let retained =
            |name: &str| (0..self.events.len()).any(|event| self.must_retain(name, event));
        let is_used = |name: &&str| listened.iter().any(|at| at == name) || retained(name);
        let used = NAMES.iter().copied().filter(is_used);
        used.map(str::to_owned).collect()
    }

    pub(super) fn is_in(&self, name: &str, event: usize) -> Reach {
        let event = &self.events[event];
        if event.namespaces.is_empty() {
            return match event.used.iter().any(|used| used == name) {
                true => Reach::Yes,
                false => Reach::Maybe,
            };
        }
        match event.namespaces.iter().any(|at| covers(name, at)) {
            true => Reach::Yes,
            false => Reach::No,
        }
    }

    /// Whether an event went to any of the namespaces.
    pub(super) fn is_part(&self, names: &[String], event: usize) -> Reach {
        let mut reach = Reach::No;
        for name in names {
            match self.is_in(name, event) {
                Reach::Yes => return Reach::Yes,
                Reach::Maybe => reach = Reach::Maybe,
                Reach::No => {}
            }
        }
        reach
    }

    /// Whether the log of a namespace must still retain an event.
    pub(super) fn must_retain(&self, name: &str, number: usize) -> bool {
        let event = &self.events[number];
        if number < self.evicted
            || event.lost
            || event.pruned
            || self.is_in(name, number) != Reach::Yes
        {
            return false;
        }
        // Events that may be in the log count too, because they may take up its bounds.
        let newer =
            (number..self.events.len()).filter(|&other| self.is_in(name, other) != Reach::No);
        let (count, bytes) = newer.fold((0, 0), |(count, bytes), other| {
            (count + 1, bytes + self.events[other].bytes)
        });
        let age = self.config.history_age.as_millis() as u64;
        count <= self.config.history_events
            && bytes <= self.config.history_bytes as u64
            && self.now < event.at + age
    }
}
