//! What a stream must be promised of the events before it, as far as the model knows.

use super::client::Asked;
use super::events::Reach;
use super::{NAMES, World};

/// What the header `Fanfare-Replay` claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    None,
    Complete,
    Gap,
}

impl Claim {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "complete" => Ok(Self::Complete),
            "gap" => Ok(Self::Gap),
            other => Err(format!("a claim of {other:?}")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GapReason {
    Unknown,
    Epoch,
    Expired,
}

impl GapReason {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "unknown" => Ok(Self::Unknown),
            "epoch" => Ok(Self::Epoch),
            "expired" => Ok(Self::Expired),
            other => Err(format!("a gap for the reason {other:?}")),
        }
    }
}

/// What a stream must be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it asked for no earlier events.
    None,
    /// That nothing is missing.
    Complete,
    /// That something is missing, for this reason.
    Gap(GapReason),
    /// That nothing is missing, or that something has expired.
    Either,
    /// That nothing is missing, or that something is for whatever reason.
    Any,
}

impl Due {
    pub(super) fn allows(self, claim: Claim) -> bool {
        match self {
            Self::None => claim == Claim::None,
            Self::Complete => claim == Claim::Complete,
            Self::Gap(_) => claim == Claim::Gap,
            Self::Either | Self::Any => claim != Claim::None,
        }
    }

    pub(super) fn allows_gap(self, reason: GapReason) -> bool {
        match self {
            Self::None | Self::Complete => false,
            Self::Gap(expected) => reason == expected,
            Self::Either => reason == GapReason::Expired,
            Self::Any => true,
        }
    }
}

impl World {
    /// What a stream of these namespaces must be promised that begins now.
    pub(super) fn due(&self, names: &[String], asked: &Asked) -> Due {
        match asked {
            Asked::Live => Due::None,
            Asked::All | Asked::Last(_) => Due::Complete,
            Asked::After(id) => self.due_after(names, id),
        }
    }

    fn due_after(&self, names: &[String], id: &str) -> Due {
        let retained = |event: usize| {
            let mut names = NAMES.iter().chain(&["/d/e"]);
            names.any(|name| self.must_retain(name, event))
        };
        let first = match self.with_own_id(id, self.events.len()) {
            Some(event) if retained(event) => event + 1,
            Some(_) => return Due::Any,
            None => match self.seq_of(id) {
                Ok(seq) => seq,
                Err(reason) => return Due::Gap(reason),
            },
        };
        let mut lost = (first..self.events.len()).filter(|&event| self.events[event].lost);
        if lost.clone().next().is_some() {
            // What a crash took is missing from all streams to which it may have gone.
            let surely = |event| {
                names
                    .iter()
                    .any(|name| self.is_in(name, event) == Reach::Yes)
            };
            return match lost.any(surely) {
                true => Due::Gap(GapReason::Expired),
                false => Due::Either,
            };
        }
        let is_there = |event| {
            self.is_part(names, event) == Reach::No
                || names.iter().any(|name| self.must_retain(name, event))
        };
        match (first..self.events.len()).all(is_there) {
            true => Due::Complete,
            false => Due::Either,
        }
    }
}
