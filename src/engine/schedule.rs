//! The schedule: which groups have their pass next, which connections are written to alone, and whether events may be
//! appended now.
//!
//! A group with new events is dirty until enough of them have gathered, then due. See [`Flow`] for why events may have to
//! wait.

use std::collections::VecDeque;

use crate::config::Config;

use super::clock::Clock;
use super::fan_out::{Pass, PassState, Report};
use super::flow::Flow;
use super::groups::Groups;
use super::ids::ConnId;
use super::ids::GroupId;

/// The longest time that events gather while publishers keep sending, so that each write carries many.
const BATCH_MS: u64 = 20;

/// The cost of events in one call of [`Engine::flush`](super::Engine::flush), and again of everything else, in bytes that
/// could be copied in that time: about 2.5 ms.
pub const SLICE: usize = 16 << 20;

/// What is to be written next.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Bytes of events that one write should carry.
    write_budget: u64,
    /// The least time between two passes over a group.
    coalesce_ms: u64,
    /// The budget of events in one call of `flush`: see [`SLICE`].
    pub(super) slice: usize,
    /// Groups with events since their last pass, and when their next one is due at the latest: in the order of these times,
    /// unless passes are to be `coalesce_ms` apart. Groups that had their pass meanwhile are skipped.
    dirty: VecDeque<(GroupId, u64)>,
    /// Dirty groups wait, since more events are coming.
    batching: bool,
    /// Groups whose pass is next or, the first one, running. A group may be gone, and its key another's: the pass tells.
    due: VecDeque<GroupId>,
    /// Connections with bytes to write that no pass gives them.
    pub(super) ready: VecDeque<ConnId>,
    /// Subscribers left with events to write, though their sockets would take more.
    pub(super) lagging: VecDeque<ConnId>,
    /// Lagging subscribers that are receiving a replay.
    pub(super) replaying: VecDeque<ConnId>,
    pub(super) flow: Flow,
    /// Results of writes, to be applied after each pass.
    pub(super) report: Report,
}

impl Schedule {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            write_budget: config.write_budget as u64,
            coalesce_ms: config.coalesce.as_millis() as u64,
            slice: SLICE,
            dirty: VecDeque::new(),
            batching: false,
            due: VecDeque::new(),
            ready: VecDeque::new(),
            lagging: VecDeque::new(),
            replaying: VecDeque::new(),
            flow: Flow::new(config.max_lag as u64, config.lag_limit() as u64),
            report: Report::default(),
        }
    }

    /// Whether events may be appended to the logs now.
    pub(super) fn can_append(&self, now_ms: u64) -> bool {
        self.due.is_empty() && self.lagging.is_empty() && !self.flow.is_paused(now_ms)
    }

    /// Records `bytes` new bytes of events for a group. Enough of them make its pass due.
    pub(super) fn schedule(
        &mut self,
        group: GroupId,
        groups: &mut Groups,
        bytes: usize,
        clock: &Clock,
    ) {
        let Some(pass) = groups.pass_mut(group) else {
            return;
        };
        if pass.pending_bytes == 0 {
            pass.pending_since_us = clock.us();
        }
        pass.pending_bytes += bytes as u64;
        match pass.state {
            PassState::Running { .. } => pass.state = PassState::Running { again: true },
            PassState::Due => {}
            // One more event of this size would exceed what a write should carry.
            PassState::Clean | PassState::Dirty
                if pass.pending_bytes + bytes as u64 > self.write_budget =>
            {
                self.make_due(group, pass);
            }
            PassState::Clean => {
                pass.state = PassState::Dirty;
                pass.due_ms = match self.coalesce_ms {
                    0 => clock.ms() + BATCH_MS,
                    coalesce_ms => pass.began_ms + coalesce_ms,
                };
                self.dirty.push_back((group, pass.due_ms));
            }
            PassState::Dirty => {}
        }
    }

    /// Makes a group's pass due at once.
    pub(super) fn schedule_now(&mut self, group: GroupId, groups: &mut Groups) {
        if let Some(pass) = groups.pass_mut(group)
            && matches!(pass.state, PassState::Clean | PassState::Dirty)
        {
            self.make_due(group, pass);
        }
    }

    fn make_due(&mut self, group: GroupId, pass: &mut Pass) {
        pass.state = PassState::Due;
        self.due.push_back(group);
    }

    /// Makes dirty groups due: all of them if no more events come now (`idle`), else those that have waited long enough.
    pub(super) fn end_intake(&mut self, groups: &mut Groups, idle: bool, now_ms: u64) {
        let coalesces = self.coalesce_ms > 0;
        let all = !coalesces && (idle || self.flow.is_paused(now_ms));
        for _ in 0..self.dirty.len() {
            let Some((group, due_ms)) = self.dirty.pop_front() else {
                break;
            };
            let is_dirty =
                |pass: &&mut Pass| pass.state == PassState::Dirty && pass.due_ms == due_ms;
            let Some(pass) = groups.pass_mut(group).filter(is_dirty) else {
                continue;
            };
            if all || now_ms >= due_ms {
                self.make_due(group, pass);
            } else if coalesces {
                self.dirty.push_back((group, due_ms));
            } else {
                self.dirty.push_front((group, due_ms));
                break;
            }
        }
        self.batching = !(coalesces || self.dirty.is_empty());
    }

    /// Whether dirty groups wait for more events, though there are none now.
    pub(super) fn is_batching(&self) -> bool {
        self.batching
    }

    /// When the next dirty group is due, in milliseconds of the engine's time.
    pub(super) fn next_due(&self, now_ms: u64) -> Option<u64> {
        let mut due = self.dirty.iter().map(|&(_, due_ms)| due_ms);
        if self.coalesce_ms > 0 {
            return due.min();
        }
        // Events that came after the intake ended are made due in the next turn.
        let first = |due_ms| if self.batching { due_ms } else { now_ms };
        due.next().map(first)
    }

    /// The group whose pass is next or running.
    pub(super) fn next_group(&self) -> Option<GroupId> {
        self.due.front().copied()
    }

    /// Removes the group whose pass is over from the queue.
    pub(super) fn end_pass(&mut self) {
        self.due.pop_front();
    }

    /// Whether no pass is due or running.
    pub(super) fn is_flushed(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether nothing is to be written now.
    pub(super) fn is_idle(&self) -> bool {
        let lists = [&self.ready, &self.lagging, &self.replaying];
        self.due.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// Asserts that each group that waits for a pass is in the queue for it, or in the list of dirty ones.
    pub(super) fn check(&self, groups: &mut Groups) {
        let mut blocked = 0;
        for group in groups.ids() {
            blocked += groups.blocked(group);
            let Some(pass) = groups.pass_mut(group) else {
                continue;
            };
            match pass.state {
                PassState::Clean => {}
                PassState::Dirty => assert!(self.dirty.contains(&(group, pass.due_ms))),
                PassState::Due => assert!(self.due.contains(&group)),
                PassState::Running { .. } => assert!(self.due.front() == Some(&group)),
            }
        }
        self.flow.check(blocked);
    }
}
