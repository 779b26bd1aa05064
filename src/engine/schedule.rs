//! The schedule: what is written next, and whether events may be appended now.
//!
//! A group with new events is dirty until enough of them have gathered, and then due for a pass.
//! [`Flow`] explains why events may have to wait.

use std::collections::{BTreeSet, VecDeque};

use crate::config::Config;

use super::clock::Clock;
use super::fan_out::{Members, Pass, PassState, WriteResults};
use super::flow::Flow;
use super::groups::Groups;
use super::ids::{ConnId, GroupId};

/// How long events gather while publishers keep sending, in milliseconds. Each write then carries
/// many events.
const BATCH_MS: u64 = 20;

/// The limit of work on events in one call of [`Engine::flush`](super::Engine::flush), and again of
/// work on all other bytes: the bytes that could be copied in that time, about 2.5 ms.
pub const SLICE: usize = 16 << 20;

/// The groups and connections that have bytes to write.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Number of bytes that one write should carry.
    write_budget: u64,
    /// The least time between two passes over a group, in milliseconds; 0 for no such limit.
    coalesce_ms: u64,
    /// The limit of work on events in one call of `flush`, in bytes. See [`SLICE`].
    pub(super) slice: usize,
    /// Dirty groups, and when they are due at the latest. With `coalesce_ms` 0, they are in the
    /// order of these times. An entry is skipped if its group has had its pass meanwhile.
    dirty: VecDeque<(GroupId, u64)>,
    /// Whether dirty groups wait because more events are coming.
    batching: bool,
    /// Groups in the order of their passes. The pass of the first one may be running. A group may
    /// be gone and its key used again; then its pass is not due.
    due: VecDeque<GroupId>,
    /// Connections with bytes to write that are not written by a pass.
    pub(super) ready: VecDeque<ConnId>,
    /// Subscribers that took a whole write and have more events pending.
    pub(super) lagging: VecDeque<ConnId>,
    /// Lagging subscribers that are receiving a replay.
    pub(super) replaying: VecDeque<ConnId>,
    pub(super) flow: Flow,
    /// Results of writes, to be applied after each pass.
    pub(super) results: WriteResults,
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
            results: WriteResults::default(),
        }
    }

    /// Whether events may be appended to the logs now.
    pub(super) fn can_append(&self, now_ms: u64) -> bool {
        self.due.is_empty() && self.lagging.is_empty() && !self.flow.is_paused(now_ms)
    }

    /// Records `bytes` new bytes of events for a group. If it now has enough for a write, it
    /// becomes due.
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
            // One more event of this size would exceed the write budget.
            PassState::Clean | PassState::Dirty
                if pass.pending_bytes + bytes as u64 > self.write_budget =>
            {
                self.queue_pass(group, pass);
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

    /// Makes a group due at once.
    pub(super) fn schedule_now(&mut self, group: GroupId, groups: &mut Groups) {
        if let Some(pass) = groups.pass_mut(group)
            && matches!(pass.state, PassState::Clean | PassState::Dirty)
        {
            self.queue_pass(group, pass);
        }
    }

    fn queue_pass(&mut self, group: GroupId, pass: &mut Pass) {
        pass.state = PassState::Due;
        self.due.push_back(group);
    }

    /// Makes dirty groups due: all of them if no more events come now (`idle`), else those that
    /// have waited long enough.
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
                self.queue_pass(group, pass);
            } else if coalesces {
                self.dirty.push_back((group, due_ms));
            } else {
                self.dirty.push_front((group, due_ms));
                break;
            }
        }
        self.batching = !(coalesces || self.dirty.is_empty());
    }

    /// Whether dirty groups wait for more events.
    pub(super) fn is_batching(&self) -> bool {
        self.batching
    }

    /// When the next dirty group is due, in milliseconds of the engine's time.
    pub(super) fn next_due(&self, now_ms: u64) -> Option<u64> {
        let mut due = self.dirty.iter().map(|&(_, due_ms)| due_ms);
        if self.coalesce_ms > 0 {
            return due.min();
        }
        // Events that came after the end of the intake become due in the next turn.
        let first = |due_ms| if self.batching { due_ms } else { now_ms };
        due.next().map(first)
    }

    /// The group whose pass is running or next.
    pub(super) fn next_group(&self) -> Option<GroupId> {
        self.due.front().copied()
    }

    /// Removes the first group, whose pass is over.
    pub(super) fn end_pass(&mut self) {
        self.due.pop_front();
    }

    /// Whether no pass is due or running.
    pub(super) fn is_flushed(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether there are no bytes to write now.
    pub(super) fn is_idle(&self) -> bool {
        let lists = [&self.ready, &self.lagging, &self.replaying];
        self.due.is_empty() && lists.iter().all(|list| list.is_empty())
    }

    /// Asserts that each group that waits for a pass is in the list of its state.
    pub(super) fn check(&self, groups: &Groups) {
        let dirty: BTreeSet<_> = self.dirty.iter().copied().collect();
        let due: BTreeSet<_> = self.due.iter().copied().collect();
        let mut all_blocked = 0;
        for (group, Members { pass, blocked, .. }) in groups.iter() {
            all_blocked += blocked;
            match pass.state {
                PassState::Clean => {}
                PassState::Dirty => assert!(dirty.contains(&(group, pass.due_ms))),
                PassState::Due => assert!(due.contains(&group)),
                PassState::Running { .. } => assert!(self.due.front() == Some(&group)),
            }
        }
        self.flow.check(all_blocked);
    }

    /// The connections in any of the lists. For checks.
    pub(super) fn listed(&self) -> BTreeSet<ConnId> {
        let lists = [&self.ready, &self.lagging, &self.replaying];
        lists.into_iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::Parts;

    /// A schedule with a write budget of 100 bytes, and groups of one subscriber.
    fn schedule(coalesce_ms: u64, paths: &[&str]) -> (Schedule, Parts, Vec<GroupId>) {
        let config = Config {
            write_budget: 100,
            coalesce: std::time::Duration::from_millis(coalesce_ms),
            ..Config::default()
        };
        let mut parts = Parts::new(&config);
        let joined = (0..)
            .zip(paths)
            .map(|(conn, path)| parts.join(conn, &[path]));
        let groups = joined.map(|member| member.group).collect();
        (Schedule::new(&config), parts, groups)
    }

    #[test]
    fn a_group_is_due_when_another_event_would_exceed_the_write_budget() {
        for (events, is_due) in [
            (&[50][..], false),
            (&[51], true),
            (&[40, 30], false),
            (&[40, 31], true),
            (&[1, 99], true),
            (&[0, 0], false),
            (&[1000], true),
        ] {
            let (mut schedule, mut parts, groups) = schedule(0, &["/a"]);
            for &bytes in events {
                schedule.schedule(groups[0], &mut parts.groups, bytes, &Clock::at_ms(0));
            }
            let next = is_due.then_some(groups[0]);
            assert_eq!(schedule.next_group(), next, "{events:?}");
            assert_eq!(schedule.can_append(0), !is_due, "{events:?}");
            schedule.check(&parts.groups);
        }
    }

    #[test]
    fn the_end_of_the_intake_makes_dirty_groups_due_in_time() {
        for (coalesce_ms, idle, now_ms, is_due, is_batching, next_due) in [
            (0, true, 0, true, false, None),
            (0, false, 0, false, true, Some(20)),
            (0, false, 19, false, true, Some(20)),
            (0, false, 20, true, false, None),
            (500, true, 499, false, false, Some(500)),
            (500, false, 500, true, false, None),
        ] {
            let row = format!("{coalesce_ms} {idle} {now_ms}");
            let (mut schedule, mut parts, groups) = schedule(coalesce_ms, &["/a"]);
            schedule.schedule(groups[0], &mut parts.groups, 1, &Clock::at_ms(0));
            schedule.end_intake(&mut parts.groups, idle, now_ms);
            assert_eq!(schedule.next_group().is_some(), is_due, "{row}");
            assert_eq!(schedule.is_batching(), is_batching, "{row}");
            assert_eq!(schedule.next_due(now_ms), next_due, "{row}");
            schedule.check(&parts.groups);
        }
    }

    #[test]
    fn groups_have_their_passes_in_the_order_in_which_they_became_due() {
        let (mut schedule, mut parts, groups) = schedule(0, &["/a", "/b", "/c", "/d"]);
        schedule.schedule(groups[3], &mut parts.groups, 1, &Clock::at_ms(0));
        schedule.schedule(groups[1], &mut parts.groups, 100, &Clock::at_ms(0));
        schedule.schedule(groups[2], &mut parts.groups, 1, &Clock::at_ms(0));
        schedule.schedule_now(groups[2], &mut parts.groups);
        schedule.schedule_now(groups[1], &mut parts.groups);
        schedule.end_intake(&mut parts.groups, true, 0);
        schedule.check(&parts.groups);
        for group in [1, 2, 3] {
            assert_eq!(schedule.next_group(), Some(groups[group]));
            schedule.end_pass();
        }
        assert!(schedule.is_flushed() && schedule.is_idle());
    }

    #[test]
    fn a_group_that_is_gone_or_had_its_pass_is_skipped() {
        for is_gone in [true, false] {
            let (mut schedule, mut parts, _) = schedule(0, &[]);
            let member = parts.join(0, &["/a"]);
            schedule.schedule(member.group, &mut parts.groups, 1, &Clock::at_ms(0));
            if is_gone {
                parts.groups.leave(member, &mut parts.topics);
            } else {
                parts.groups.members_mut(member.group).pass.state = PassState::Clean;
            }
            schedule.end_intake(&mut parts.groups, true, 0);
            assert_eq!(schedule.next_group(), None);
        }
    }

    #[test]
    fn events_during_a_pass_are_for_another_one() {
        let (mut schedule, mut parts, groups) = schedule(0, &["/a"]);
        schedule.schedule_now(groups[0], &mut parts.groups);
        let pass = parts.groups.pass_mut(groups[0]).unwrap();
        pass.state = PassState::Running { again: false };
        schedule.schedule(groups[0], &mut parts.groups, 1000, &Clock::at_ms(0));
        let pass = parts.groups.pass_mut(groups[0]).unwrap();
        assert_eq!(pass.state, PassState::Running { again: true });
        schedule.check(&parts.groups);
    }

    #[test]
    fn events_wait_for_due_groups_and_lagging_subscribers_but_not_for_others() {
        type Change = fn(&mut Schedule);
        let none: Change = |_| {};
        for (change, can_append, is_flushed, is_idle) in [
            (none, true, true, true),
            (
                |schedule| schedule.ready.push_back(ConnId::from_index(0)),
                true,
                true,
                false,
            ),
            (
                |schedule| schedule.replaying.push_back(ConnId::from_index(0)),
                true,
                true,
                false,
            ),
            (
                |schedule| schedule.lagging.push_back(ConnId::from_index(0)),
                false,
                true,
                false,
            ),
            (
                |schedule| schedule.due.push_back(GroupId(0)),
                false,
                false,
                false,
            ),
        ] {
            let (mut schedule, ..) = schedule(0, &[]);
            change(&mut schedule);
            assert_eq!(schedule.can_append(0), can_append);
            assert_eq!(schedule.is_flushed(), is_flushed);
            assert_eq!(schedule.is_idle(), is_idle);
        }
    }
}
