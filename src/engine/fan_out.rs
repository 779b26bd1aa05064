//! The fan-out: gives each subscriber of a group one write with its pending events.
//!
//! This is the inner loop of the server. Nearly all subscribers of a group stand at the same
//! cursor. The bytes after it are gathered once, as a [`Cohort`], and written to each of them. A
//! subscriber then costs one system call and a few words of state, read in memory order.
//!
//! The events come from a [`Source`]: the log of one topic ([`LogReader`]), or a merge of several
//! logs ([`Merge`](super::merge::Merge)).
//!
//! One run over a group is a pass. A pass has a budget and may continue in later turns. This file
//! knows neither requests nor timers.

use crate::log::{EventLog, Offset, Slices};
use crate::status::DisconnectReason;

use super::Outlet;
use super::clock::Clock;
use super::ids::ConnId;
use super::telemetry::WriteSizes;

/// The fixed cost of a write, in bytes that could be copied in that time: 3.6 µs at 0.155 ns a
/// byte.
pub(super) const WRITE_COST: usize = 23_000;

/// The events of a group, and the bytes after a cursor.
pub(super) trait Source {
    /// A position in the events.
    type Cursor: Copy + Ord;

    /// The cursor of a subscriber that has received everything.
    fn end(&self) -> Self::Cursor;

    /// Whether more events are complete before `cursor` than before `other`.
    fn is_in_later_event(&self, cursor: Self::Cursor, other: Self::Cursor) -> bool;

    /// Gathers the bytes after a cursor, at most as many as one write carries.
    fn gather(&mut self, from: Self::Cursor, limits: &Limits) -> Result<(), Gone>;

    /// Appends the gathered bytes to `slices`, while those have room.
    fn add_to<'a>(&'a self, slices: &mut Slices<'a>);

    /// Upper bound of the bytes after the gathered cursor. It is exact if it exceeds `max_lag`.
    fn lag(&self) -> u64;

    /// The cursor after `bytes` of the gathered bytes, and the number of events that end in them.
    fn advance(&self, from: Self::Cursor, bytes: usize) -> (Self::Cursor, u64);
}

/// The events after a cursor are no longer in the logs.
#[derive(Debug)]
pub(super) struct Gone;

/// Limits of a pass, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most bytes that one write carries.
    pub(super) max_write: usize,
    /// Limit of the pending bytes of a subscriber.
    pub(super) max_lag: u64,
}

impl Limits {
    /// A subscriber with a full socket and more pending bytes than this is blocked. It is the size
    /// of one write, or half of the lag limit if that is less.
    pub(super) fn blocked_from(&self) -> u64 {
        (self.max_write as u64).min(self.max_lag / 2)
    }
}

/// The state of one subscriber, without its cursor.
#[derive(Debug)]
pub(super) struct SubscriberState {
    /// When it last took bytes or its socket became full, in milliseconds of the engine's time.
    pub(super) active_ms: u64,
    /// Limit of its pending bytes: [`Limits::max_lag`], or more while it receives a replay.
    pub(super) lag_limit: u64,
    /// Events given in full.
    pub(super) events: u64,
    /// Bytes of events given.
    pub(super) bytes: u64,
    pub(super) conn: ConnId,
    /// Whether a pass may write to it: its socket takes bytes, and no other bytes go out first.
    pub(super) writable: bool,
    /// Whether it is blocked: its socket is full, more than [`Limits::blocked_from`] bytes are
    /// pending, and it receives no replay.
    pub(super) blocked: bool,
}

impl SubscriberState {
    /// Whether it is receiving a replay.
    pub(super) fn is_replaying(&self, limits: &Limits) -> bool {
        self.lag_limit > limits.max_lag
    }
}

/// The state of a group between passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PassState {
    /// No events came since the last pass began.
    #[default]
    Clean,
    /// Events came. The pass waits for more, so that each write carries many.
    Dirty,
    /// The group is in the queue for its pass.
    Due,
    /// A pass is running.
    Running {
        /// Whether events came since it began, so that another pass follows.
        again: bool,
    },
}

/// The passes over a group: the last one, and the one that runs or waits.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) state: PassState,
    /// When the last pass began, in milliseconds of the engine's time.
    pub(super) began_ms: u64,
    /// When a dirty group is due at the latest, in milliseconds of the engine's time.
    pub(super) due_ms: u64,
    /// Bytes of events that came since the last pass began.
    pub(super) pending_bytes: u64,
    /// Bytes of events that the running pass gives out.
    pub(super) flushing_bytes: u64,
    /// When the first of the pending events came, in microseconds of the engine's time.
    pub(super) pending_since_us: u64,
    /// When the first of the events that the running pass gives out came, in microseconds of the
    /// engine's time.
    pub(super) flushing_since_us: u64,
    /// When the running pass began, in microseconds of the engine's time.
    pub(super) began_us: u64,
    /// Number of subscribers that the running pass has not visited. It visits from the end to the
    /// start, so that `swap_remove` in the middle of a pass moves a visited subscriber.
    unvisited: usize,
}

impl Pass {
    /// Begins a pass over `subscribers` subscribers.
    fn begin(&mut self, subscribers: usize, clock: &Clock) {
        *self = Self {
            state: PassState::Running { again: false },
            began_ms: clock.ms(),
            due_ms: 0,
            pending_bytes: 0,
            flushing_bytes: self.pending_bytes,
            pending_since_us: clock.us(),
            flushing_since_us: self.pending_since_us,
            began_us: clock.us(),
            unvisited: subscribers,
        };
    }

    /// Whether every subscriber has been visited.
    pub(super) fn is_complete(&self) -> bool {
        self.unvisited == 0
    }
}

/// The subscribers of a group, without their cursors.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) states: Vec<SubscriberState>,
    pub(super) pass: Pass,
    /// Number of blocked subscribers.
    pub(super) blocked: usize,
}

impl Members {
    /// Removes a subscriber and returns its state. The last one takes over its index.
    pub(super) fn remove(&mut self, index: usize) -> SubscriberState {
        let gone = self.states.swap_remove(index);
        self.blocked -= usize::from(gone.blocked);
        self.pass.unvisited = self.pass.unvisited.min(self.states.len());
        gone
    }

    /// Records whether a subscriber is blocked. Returns whether it was blocked and no longer is.
    fn set_blocked(&mut self, index: usize, blocked: bool) -> bool {
        let was_blocked = std::mem::replace(&mut self.states[index].blocked, blocked);
        self.blocked = self.blocked + usize::from(blocked) - usize::from(was_blocked);
        was_blocked && !blocked
    }

    /// Asserts that the blocked subscribers are counted, and that only a running pass has
    /// subscribers to visit.
    pub(super) fn check(&self) {
        let blocked = self.states.iter().filter(|state| state.blocked).count();
        assert_eq!(self.blocked, blocked, "the count of blocked subscribers");
        assert!(self.pass.unvisited <= self.states.len());
        if !matches!(self.pass.state, PassState::Running { .. }) {
            assert_eq!(
                self.pass.unvisited, 0,
                "only a running pass has subscribers to visit"
            );
        }
    }
}

/// The cursors of a group's subscribers, by index.
#[derive(Debug)]
pub(super) struct Cursors<C> {
    pub(super) list: Vec<C>,
    /// No subscriber stands before this cursor; `None` until the first one joins. While a pass
    /// runs, it holds only for the subscribers that were visited.
    least: Option<C>,
}

/// Appends to a list of which many exist with one item for good: `Vec` would make room for four.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(item);
}

impl<C> Default for Cursors<C> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            least: None,
        }
    }
}

impl<C: Copy + Ord> Cursors<C> {
    pub(super) fn push(&mut self, cursor: C) {
        self.least = Some(self.least.map_or(cursor, |least| least.min(cursor)));
        push(&mut self.list, cursor);
    }

    /// A cursor before which no subscriber stands, as of the last pass; `None` without subscribers.
    pub(super) fn least(&self) -> Option<C> {
        self.least.filter(|_| !self.list.is_empty())
    }

    /// Asserts that no subscriber stands before the least cursor. Cursors are compared by
    /// `position`.
    pub(super) fn check<P: Ord>(&self, pass: &Pass, position: impl Fn(C) -> P) {
        if !matches!(pass.state, PassState::Running { .. })
            && let (Some(least), Some(first)) = (
                self.least,
                self.list.iter().map(|&cursor| position(cursor)).min(),
            )
        {
            assert!(
                position(least) <= first,
                "a subscriber stands before the least cursor"
            );
        }
    }
}

/// The outlet of a pass, its limits, and the results that it collects.
pub(super) struct Writer<'a, O> {
    pub(super) outlet: &'a mut O,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    /// The time left for writes in this turn, in bytes that could be copied in it.
    pub(super) budget: usize,
    pub(super) results: &'a mut WriteResults,
}

/// The results of writes since they were last applied to the engine.
#[derive(Debug, Default)]
pub(super) struct WriteResults {
    /// Number of completed events.
    pub(super) events: u64,
    /// Number of bytes written, events and others.
    pub(super) bytes: u64,
    /// Number of subscribers that were blocked and no longer are.
    pub(super) unblocked: usize,
    /// Connections to end.
    pub(super) ended: Vec<(ConnId, DisconnectReason)>,
    /// Subscribers that took a whole write and have more events pending.
    pub(super) lagging: Vec<ConnId>,
    /// Number of events that each write completed. Never reset.
    pub(super) write_sizes: WriteSizes,
}

/// The pending bytes of all subscribers at one cursor.
struct Cohort<'a, S: Source> {
    source: &'a S,
    cursor: S::Cursor,
    slices: Slices<'a>,
    /// The cursor after all of the bytes, and the number of events that end in them.
    whole: (S::Cursor, u64),
    end: S::Cursor,
}

impl<O> Writer<'_, O> {
    fn end(&mut self, state: &mut SubscriberState, reason: DisconnectReason) {
        state.writable = false;
        self.results.ended.push((state.conn, reason));
    }

    /// Records that a subscriber took bytes of events.
    fn record(&mut self, state: &mut SubscriberState, bytes: usize, events: u64) {
        state.events += events;
        state.bytes += bytes as u64;
        state.active_ms = self.clock.ms();
        self.results.events += events;
        self.results.bytes += bytes as u64;
        if bytes > 0 {
            self.results.write_sizes.count(events);
        }
    }
}

impl<O: Outlet> Writer<'_, O> {
    /// Writes to a connection once, if there are bytes. Returns the number of bytes that it took.
    pub(super) fn write(
        &mut self,
        conn: ConnId,
        slices: &Slices<'_>,
    ) -> Result<usize, DisconnectReason> {
        if slices.bytes() == 0 {
            return Ok(0);
        }
        let taken = self.outlet.write(conn, slices)?;
        self.budget = self.budget.saturating_sub(WRITE_COST + taken);
        Ok(taken)
    }

    /// Writes the bytes of a cohort to one of its subscribers, if that is writable. Ends the
    /// subscriber if more bytes are still pending than its limit. Returns whether it is blocked.
    fn give<S: Source>(
        &mut self,
        state: &mut SubscriberState,
        cursor: &mut S::Cursor,
        cohort: &Cohort<'_, S>,
    ) -> bool {
        let mut taken = 0;
        if state.writable {
            match self.outlet.write(state.conn, &cohort.slices) {
                Ok(bytes) => taken = bytes,
                Err(reason) => {
                    self.end(state, reason);
                    return state.blocked;
                }
            }
            self.budget = self.budget.saturating_sub(WRITE_COST + taken);
            let all = taken == cohort.slices.bytes();
            let (next, events) = if all {
                cohort.whole
            } else {
                cohort.source.advance(cohort.cursor, taken)
            };
            *cursor = next;
            self.record(state, taken, events);
            if !all {
                state.writable = false;
            } else if next < cohort.end {
                self.results.lagging.push(state.conn);
            }
        }
        let lag = cohort.source.lag() - taken as u64;
        if lag > state.lag_limit {
            self.end(state, DisconnectReason::Lagged);
            return state.blocked;
        }
        if *cursor >= cohort.end {
            state.lag_limit = self.limits.max_lag;
        }
        !state.writable && !state.is_replaying(&self.limits) && lag > self.limits.blocked_from()
    }
}

/// Begins or continues the pass over a group. Visits subscribers until the budget is used up.
pub(super) fn fan_out<S: Source>(
    members: &mut Members,
    cursors: &mut Cursors<S::Cursor>,
    mut source: S,
    writer: &mut Writer<'_, impl Outlet>,
) {
    let end = source.end();
    if members.pass.state == PassState::Due {
        members.pass.begin(members.states.len(), &writer.clock);
        cursors.least = Some(end);
    }
    while let Some(index) = members.pass.unvisited.checked_sub(1)
        && writer.budget > 0
    {
        let cursor = cursors.list[index];
        if cursor >= end {
            members.pass.unvisited -= 1;
        } else if source.gather(cursor, &writer.limits).is_err() {
            members.pass.unvisited -= 1;
            writer.end(&mut members.states[index], DisconnectReason::Lagged);
        } else {
            let mut slices = Slices::new();
            source.add_to(&mut slices);
            let whole = source.advance(cursor, slices.bytes());
            let cohort = Cohort {
                source: &source,
                cursor,
                slices,
                whole,
                end,
            };
            visit_cohort(members, cursors, &cohort, writer);
        }
    }
}

/// Visits adjacent subscribers while they stand at the cohort's cursor.
fn visit_cohort<S: Source>(
    members: &mut Members,
    cursors: &mut Cursors<S::Cursor>,
    cohort: &Cohort<'_, S>,
    writer: &mut Writer<'_, impl Outlet>,
) {
    while let Some(index) = members.pass.unvisited.checked_sub(1)
        && writer.budget > 0
        && cursors.list[index] == cohort.cursor
    {
        members.pass.unvisited = index;
        let cursor = &mut cursors.list[index];
        let blocked = writer.give(&mut members.states[index], cursor, cohort);
        cursors.least = cursors.least.map(|least| least.min(*cursor));
        writer.results.unblocked += usize::from(members.set_blocked(index, blocked));
    }
}

/// The result of a write to a single connection.
#[derive(Debug)]
pub(super) struct Written {
    /// Whether the socket took everything.
    pub(super) all: bool,
    /// Whether events were among the bytes.
    pub(super) events: bool,
    /// Whether the subscriber stood at its group's least cursor and completed an event. Then the
    /// logs may be able to drop more.
    pub(super) least_moved: bool,
}

/// Writes to one subscriber: `first`, then its pending events. Returns the result, and the
/// number of bytes that the socket took.
pub(super) fn write_one<S: Source>(
    members: &mut Members,
    cursors: &mut Cursors<S::Cursor>,
    index: usize,
    mut source: S,
    first: &[u8],
    writer: &mut Writer<'_, impl Outlet>,
) -> Result<(Written, usize), DisconnectReason> {
    let least = cursors.least();
    let cursor = cursors.list[index];
    let mut slices = Slices::new();
    slices.push(first);
    let mut lag = 0;
    if cursor < source.end() {
        let gathered = source.gather(cursor, &writer.limits);
        gathered.map_err(|Gone| DisconnectReason::Lagged)?;
        source.add_to(&mut slices);
        lag = source.lag();
    }
    let gathered = slices.bytes();
    let taken = writer.write(members.states[index].conn, &slices)?;
    let all = taken == gathered;
    let of_events = taken.saturating_sub(first.len());
    lag -= of_events as u64;
    writer.results.bytes += (taken - of_events) as u64;
    let (next, events) = source.advance(cursor, of_events);
    cursors.list[index] = next;
    let state = &mut members.states[index];
    state.writable = all;
    writer.record(state, of_events, events);
    if next >= source.end() {
        state.lag_limit = writer.limits.max_lag;
    }
    if of_events > 0 && lag <= writer.limits.blocked_from() {
        writer.results.unblocked += usize::from(members.set_blocked(index, false));
    }
    // Cursors are often within an event. The log can drop it after the last of them completed it.
    let was_least = |least| !source.is_in_later_event(cursor, least);
    let written = Written {
        all,
        events: gathered > first.len(),
        least_moved: events > 0 && least.is_some_and(was_least),
    };
    Ok((written, taken))
}

/// The log of one topic as the source of a group. A cursor is the offset of the first byte not
/// given.
#[derive(Debug)]
pub(super) struct LogReader<'a> {
    log: &'a EventLog,
    from: Offset,
    max_write: usize,
}

impl<'a> LogReader<'a> {
    pub(super) fn new(log: &'a EventLog) -> Self {
        Self {
            log,
            from: log.end(),
            max_write: 0,
        }
    }
}

impl Source for LogReader<'_> {
    type Cursor = Offset;

    fn end(&self) -> Offset {
        self.log.end()
    }

    fn is_in_later_event(&self, cursor: Offset, other: Offset) -> bool {
        self.log.ordinal_at(cursor) > self.log.ordinal_at(other)
    }

    fn gather(&mut self, from: Offset, limits: &Limits) -> Result<(), Gone> {
        self.from = from;
        self.max_write = limits.max_write;
        if from < self.log.start() {
            Err(Gone)
        } else {
            Ok(())
        }
    }

    fn add_to<'a>(&'a self, slices: &mut Slices<'a>) {
        self.log.gather(self.from, self.max_write, slices);
    }

    fn lag(&self) -> u64 {
        self.log.end() - self.from
    }

    fn advance(&self, from: Offset, bytes: usize) -> (Offset, u64) {
        let cursor = from + bytes;
        let events = self.log.ordinal_at(cursor) - self.log.ordinal_at(from);
        (cursor, events)
    }
}

/// Before a pass over several subscribers, announces the bytes that it gives out to the outlet. A
/// lagging subscriber is given the same bytes later, in pieces.
pub(super) fn publish_pages(
    members: &Members,
    log: &EventLog,
    writer: &mut Writer<'_, impl Outlet>,
) {
    if members.pass.state == PassState::Due && members.states.len() > 1 {
        let mut slices = Slices::new();
        log.gather_last(members.pass.pending_bytes, &mut slices);
        writer.outlet.publish_pages(&slices, members.states.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::Sockets;
    use crate::event_stream::frame::BytesRef;
    use crate::log::Seq;

    const LIMITS: Limits = Limits {
        max_write: 10,
        max_lag: 12,
    };

    /// A log with the bytes `one.two.three.`: events that end at 4, 8 and 14.
    fn log() -> EventLog {
        let mut log = EventLog::default();
        for (seq, text) in (1..).zip(["one.", "two.", "three."]) {
            log.append(Seq::new(seq), &[], BytesRef::Slice(text.as_bytes()));
        }
        log
    }

    /// A group whose pass is due, with a subscriber at each of these offsets.
    fn group(offsets: &[usize]) -> (Members, Cursors<Offset>) {
        let (mut members, mut cursors) = (Members::default(), Cursors::default());
        for (conn, &offset) in offsets.iter().enumerate() {
            cursors.push(Offset::ZERO + offset);
            members.states.push(SubscriberState {
                active_ms: 0,
                lag_limit: LIMITS.max_lag,
                events: 0,
                bytes: 0,
                conn: ConnId::from_index(conn),
                writable: true,
                blocked: false,
            });
        }
        members.pass.state = PassState::Due;
        (members, cursors)
    }

    fn writer<'a>(
        outlet: &'a mut Sockets,
        results: &'a mut WriteResults,
        budget: usize,
    ) -> Writer<'a, Sockets> {
        Writer {
            outlet,
            clock: Clock::at_ms(5),
            limits: LIMITS,
            budget,
            results,
        }
    }

    /// What a pass did to a subscriber.
    #[derive(Debug, PartialEq, Eq)]
    enum Outcome {
        /// It has received everything.
        Served,
        /// It took the whole write and has more events pending.
        Lagging,
        /// Its socket is full.
        Full,
        /// Its socket is full and many bytes are pending.
        Blocked,
        /// More bytes are pending than its limit, so it ends.
        Ended,
    }

    #[test]
    fn a_pass_gives_a_subscriber_one_write_and_judges_it_by_its_pending_bytes() {
        use Outcome::{Blocked, Ended, Full, Lagging, Served};
        for (offset, room, lag_limit, taken, events, outcome) in [
            (14, 99, 12, "", 0, Served),
            (8, 99, 12, "three.", 1, Served),
            (8, 6, 12, "three.", 1, Served),
            (6, 99, 12, "o.three.", 2, Served),
            (4, 99, 12, "two.three.", 2, Served),
            (4, 9, 12, "two.three", 1, Full),
            (4, 4, 12, "two.", 1, Full),
            (4, 3, 12, "two", 0, Blocked),
            (4, 0, 12, "", 0, Blocked),
            (3, 99, 12, ".two.three", 2, Lagging),
            (0, 99, 12, "one.two.th", 2, Lagging),
            (0, 2, 12, "on", 0, Blocked),
            (0, 1, 12, "o", 0, Ended),
            (0, 0, 12, "", 0, Ended),
            // It receives a replay, so its lag limit is higher, and it blocks no publisher.
            (0, 1, 26, "o", 0, Full),
            (0, 0, 26, "", 0, Full),
        ] {
            let row = format!("{offset} {room} {lag_limit}");
            let (log, (mut members, mut cursors)) = (log(), group(&[offset]));
            members.states[0].lag_limit = lag_limit;
            let (mut sockets, mut results) = (Sockets::new(&[room]), WriteResults::default());
            let mut writer = writer(&mut sockets, &mut results, usize::MAX);
            fan_out(
                &mut members,
                &mut cursors,
                LogReader::new(&log),
                &mut writer,
            );
            assert_eq!(sockets.taken[0], taken, "{row}");
            let state = &members.states[0];
            assert_eq!((state.events, state.bytes), (events, taken.len() as u64));
            assert_eq!(cursors.list[0], Offset::ZERO + offset + taken.len());
            let found = match (state.writable, state.blocked) {
                _ if results.ended == [(ConnId::from_index(0), DisconnectReason::Lagged)] => Ended,
                (false, true) => Blocked,
                (false, false) => Full,
                _ if results.lagging == [ConnId::from_index(0)] => Lagging,
                _ => Served,
            };
            assert_eq!(found, outcome, "{row}");
            assert!(members.pass.is_complete());
            assert_eq!(cursors.least(), Some(cursors.list[0]));
            members.check();
        }
    }

    #[test]
    fn a_subscriber_before_the_first_retained_byte_is_ended() {
        let (mut log, (mut members, mut cursors)) = (log(), group(&[0, 4]));
        log.drop_before(Offset::ZERO + 4, 0);
        let (mut sockets, mut results) = (Sockets::new(&[99, 99]), WriteResults::default());
        let mut writer = writer(&mut sockets, &mut results, usize::MAX);
        fan_out(
            &mut members,
            &mut cursors,
            LogReader::new(&log),
            &mut writer,
        );
        let lagged = (ConnId::from_index(0), DisconnectReason::Lagged);
        assert_eq!(results.ended, [lagged]);
        assert_eq!(sockets.taken, ["", "two.three."]);
    }

    #[test]
    fn a_pass_in_slices_serves_each_subscriber_once_though_others_leave() {
        let log = log();
        for leaving in 0..5 {
            for slices_before in 0..5 {
                let (mut members, mut cursors) = group(&[8; 5]);
                let (mut sockets, mut results) = (Sockets::new(&[99; 5]), WriteResults::default());
                for slice in 0..5 {
                    if slice == slices_before {
                        members.remove(leaving);
                        cursors.list.swap_remove(leaving);
                    }
                    // A budget that one write exhausts.
                    let mut writer = writer(&mut sockets, &mut results, 1);
                    fan_out(
                        &mut members,
                        &mut cursors,
                        LogReader::new(&log),
                        &mut writer,
                    );
                }
                assert!(members.pass.is_complete());
                for (conn, taken) in sockets.taken.iter().enumerate() {
                    let was_served = conn != leaving || conn >= 5 - slices_before;
                    let expected = if was_served { "three." } else { "" };
                    assert_eq!(taken, expected, "{conn} {leaving} {slices_before}");
                }
            }
        }
    }

    #[test]
    fn a_single_write_begins_with_the_bytes_that_go_out_first() {
        for (offset, first, room, taken, cursor, all, least_moved) in [
            (8, "head:", 99, "head:three.", 14, true, true),
            (8, "head:", 7, "head:th", 10, false, false),
            (8, "head:", 3, "hea", 8, false, false),
            (14, "head:", 99, "head:", 14, true, false),
            (0, "", 99, "one.two.th", 10, true, true),
        ] {
            let row = format!("{offset} {first} {room}");
            let (log, (mut members, mut cursors)) = (log(), group(&[offset]));
            let (mut sockets, mut results) = (Sockets::new(&[room]), WriteResults::default());
            let mut writer = writer(&mut sockets, &mut results, usize::MAX);
            let reader = LogReader::new(&log);
            let first = first.as_bytes();
            let written = write_one(&mut members, &mut cursors, 0, reader, first, &mut writer);
            let (written, count) = written.unwrap();
            assert_eq!((&*sockets.taken[0], count), (taken, taken.len()), "{row}");
            assert_eq!(cursors.list[0], Offset::ZERO + cursor, "{row}");
            assert_eq!(
                (written.all, written.least_moved),
                (all, least_moved),
                "{row}"
            );
            assert_eq!(members.states[0].writable, all, "{row}");
            assert_eq!(results.bytes, taken.len() as u64, "{row}");
        }
    }
}
