//! What the head of a stream must claim about past events, as far as the model knows.

use super::client::Asked;
use super::events::Reach;
use super::{NAMES, World};

/// The value of the header `Fanfare-Replay`.
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
            other => Err(format!("an unknown claim: {other:?}")),
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
            other => Err(format!("an unknown reason of a gap: {other:?}")),
        }
    }
}

/// The claim that a stream must make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It asked for no past events.
    None,
    /// No event is missing.
    Complete,
    /// An event is missing, for this reason.
    Gap(GapReason),
    /// No event is missing, or one has expired.
    Either,
    /// No event is missing, or one is, for any reason.
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
    /// The claim of a stream of these namespaces that begins now.
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
            // An event that a crash lost is missing from all streams of its namespaces.
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
