//! Flow control: who may publish when, and why.
//!
//! Slow subscribers slow publishers down, which bounds memory without a queue per client. An event
//! passes three gates:
//!
//! 1. **The publish queue** (`queue`): a publisher waits until its event fits in `queue` and
//!    `queue_bytes`. While the event loop is saturated, it waits until at most about two
//!    milliseconds of work are queued.
//! 2. **The store** (`pending_writes`), if there is one: up to 1 MiB of events wait until the batch
//!    before them is written.
//! 3. **The logs** (this file and `schedule`): an event waits until [`Schedule::can_append`] allows
//!    it to be appended.
//!
//! ```text
//!            every due group had its pass,
//!            and no subscriber is lagging
//!        ┌──────────────────────────────────┐
//!        ▼                                  │
//!      OPEN ── a group is due, or a ──► FLUSHING
//!        ▲     subscriber is lagging        │
//!        │                                  │ a pass ends and some of its
//!        │                                  ▼ subscribers are blocked
//!        └───────────────────────────── PAUSED
//!          half of them caught up or left,
//!          or the time is over
//! ```
//!
//! - **OPEN**: events are appended.
//! - **FLUSHING**: events wait until every subscriber with a writable socket has received the
//!   previous ones. A subscriber that keeps up is therefore never disconnected. Replays are exempt:
//!   they continue while new events come.
//! - **PAUSED**: events wait, so that a blocked subscriber has time to read before `max_lag`
//!   bytes are pending. A subscriber that takes no bytes in that time reaches `max_lag` and is
//!   disconnected.
//!
//! [`Schedule::can_append`]: super::schedule::Schedule::can_append

/// The least time in which half of `max_lag` accumulates for a blocked subscriber, in milliseconds.
/// A healthy client reads within that time.
const REACTION_MS: u64 = 100;
/// The time is this many times longer if most subscribers are blocked, because then the clients are
/// not the cause.
const MOST_BLOCKED: u64 = 10;
/// The largest ratio of the effective lag limit, which `max_event` may raise above `max_lag`, to
/// the limit that a pause is computed from. A stuck client is detected at most this many times
/// later.
const MAX_LIMIT_RATIO: u64 = 8;

/// The pause of publishing.
#[derive(Debug)]
pub(super) struct Flow {
    /// The lag limit that a pause is computed from, in bytes.
    max_lag: u64,
    /// When the pause ends at the latest, in milliseconds of the engine's time.
    until_ms: u64,
    /// Number of blocked subscribers that must catch up or leave to end the pause; 0 without a
    /// pause.
    blocked: usize,
}

/// A pass that ended with blocked subscribers.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockedPass {
    /// Number of blocked subscribers in its group.
    pub(super) blocked: usize,
    /// Number of all subscribers of the server.
    pub(super) subscribers: usize,
    /// When the pass began, in milliseconds of the engine's time.
    pub(super) began_ms: u64,
    /// Bytes of events that it gave out.
    pub(super) flushed_bytes: u64,
}

impl Flow {
    /// Makes a flow without a pause. `max_lag` is the configured limit; `lag_limit` is the
    /// effective one, which has room for the largest event. Both are in bytes.
    pub(super) fn new(max_lag: u64, lag_limit: u64) -> Self {
        Self {
            max_lag: max_lag.max(lag_limit / MAX_LIMIT_RATIO),
            until_ms: 0,
            blocked: 0,
        }
    }

    /// Whether publishing is paused.
    pub(super) fn is_paused(&self, now_ms: u64) -> bool {
        self.blocked > 0 && now_ms < self.until_ms
    }

    /// When the pause ends at the latest, in milliseconds of the engine's time; `None` without a
    /// pause.
    pub(super) fn paused_until(&self, now_ms: u64) -> Option<u64> {
        self.is_paused(now_ms).then_some(self.until_ms)
    }

    /// Pauses publishing after a pass, unless a longer pause is under way.
    pub(super) fn pause_after(&mut self, pass: BlockedPass, now_ms: u64) {
        let most_are_blocked = pass.blocked > pass.subscribers / 2;
        let reaction_ms = if most_are_blocked {
            MOST_BLOCKED * REACTION_MS
        } else {
            REACTION_MS
        };
        let until_ms = pass.began_ms + 2 * pass.flushed_bytes * reaction_ms / self.max_lag;
        if until_ms > now_ms && (until_ms > self.until_ms || !self.is_paused(now_ms)) {
            self.until_ms = until_ms;
            self.blocked = pass.blocked.div_ceil(2);
        }
    }

    /// Records that blocked subscribers caught up or left.
    pub(super) fn unblock(&mut self, subscribers: usize) {
        self.blocked = self.blocked.saturating_sub(subscribers);
    }

    /// Asserts that a pause waits for no more than `blocked`, the blocked subscribers of all
    /// groups.
    pub(super) fn check(&self, blocked: usize) {
        assert!(
            self.blocked <= blocked,
            "a pause waits for {} of {blocked} blocked subscribers",
            self.blocked
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(blocked: usize, flushed_bytes: u64) -> BlockedPass {
        BlockedPass {
            blocked,
            subscribers: 10,
            began_ms: 1000,
            flushed_bytes,
        }
    }

    #[test]
    fn a_pause_lasts_in_proportion_to_the_bytes_and_longer_if_most_are_blocked() {
        for (blocked, flushed_bytes, lasts_ms) in [
            (1, 0, 0),
            (1, 500_000, 100),
            (5, 1_000_000, 200),
            (6, 500_000, 1000),
            (10, 50_000, 100),
        ] {
            let mut flow = Flow::new(1_000_000, 1_000_000);
            flow.pause_after(pass(blocked, flushed_bytes), 1000);
            let until = (lasts_ms > 0).then_some(1000 + lasts_ms);
            assert_eq!(flow.paused_until(1000), until, "{blocked} {flushed_bytes}");
            assert_eq!(flow.paused_until(1000 + lasts_ms), None);
        }
    }

    #[test]
    fn a_pause_is_computed_from_at_least_an_eighth_of_the_lag_limit() {
        let mut flow = Flow::new(1_000_000, 16_000_000);
        flow.pause_after(pass(1, 1_000_000), 1000);
        assert_eq!(flow.paused_until(1000), Some(1100));
    }

    #[test]
    fn a_pause_ends_when_half_of_the_blocked_subscribers_caught_up_or_left() {
        for (blocked, enough) in [(1, 1), (2, 1), (3, 2), (10, 5)] {
            let mut flow = Flow::new(1_000_000, 1_000_000);
            flow.pause_after(pass(blocked, 1_000_000), 1000);
            flow.unblock(enough - 1);
            assert!(flow.is_paused(1000), "{blocked}");
            flow.unblock(1);
            assert!(!flow.is_paused(1000), "{blocked}");
        }
    }

    #[test]
    fn a_shorter_pause_does_not_replace_a_longer_one_that_goes_on() {
        let mut flow = Flow::new(1_000_000, 1_000_000);
        flow.pause_after(pass(1, 1_000_000), 1000);
        flow.pause_after(pass(1, 500_000), 1000);
        assert_eq!(flow.paused_until(1000), Some(1200));
        flow.unblock(1);
        flow.pause_after(pass(1, 500_000), 1000);
        assert_eq!(flow.paused_until(1000), Some(1100));
    }
}
