//! Those who get the same events, and the pass that gives each of them what it lacks.
//!
//! The pass is the inner loop of the whole server. Nearly all subscribers of an group stand at the same place, so what one of them
//! lacks is gathered once and handed to all that follow; what is touched for each is one [`Subscriber`], in memory order, and
//! the system call. Where the events come from is the [`Source`]'s matter: the log of one topic, or several merged.
//! Knows nothing of requests or timers.

use crate::event_log::Slices;
use crate::status::DisconnectReason;

use super::{ConnId, Outlet};

/// What a write costs beside its bytes, in bytes that could have been copied in that time: 3.6 µs at 0.155 ns a byte.
pub(super) const WRITE_COST: usize = 23_000;

/// Who an group is, by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupId {
    /// The subscribers of one namespace.
    Topic(u32),
    /// Those of the same several namespaces.
    TopicSet(u32),
}

/// The events of an group, and what those at a place in them lack.
pub(super) trait Source {
    /// A place in the events: what was given of them ends there.
    type Cursor: Copy + Ord;

    /// The place of one who lacks nothing.
    fn end(&self) -> Self::Cursor;

    /// How far one has got there, counted in whole events.
    fn passed(&self, place: Self::Cursor) -> u64;

    /// Gathers what those at a place lack, as far as one write may give it.
    fn gather(&mut self, from: Self::Cursor, limits: &Limits) -> Result<(), Gone>;

    /// Adds what was gathered, as far as there is room.
    fn add_to<'a>(&'a self, slices: &mut Slices<'a>);

    /// How much those lack for whom it was gathered; more than there is, but only if that is within the limit too.
    fn lag(&self) -> u64;

    /// Where one stands who was given so many of the bytes gathered, and how many events that completed.
    fn step(&self, from: Self::Cursor, bytes: usize) -> (Self::Cursor, u64);
}

/// Events that a subscriber lacks are no longer there.
#[derive(Debug)]
pub(super) struct Gone;

/// What a pass is held to, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// What one write gives at most.
    pub(super) write_most: usize,
    /// What a subscriber may lack.
    pub(super) max_lag: u64,
}

impl Limits {
    /// Lacking more than this, somebody with a full socket is held back: what one write gives, or half of what may be.
    pub(super) fn blocked_from(&self) -> u64 {
        (self.write_most as u64).min(self.max_lag / 2)
    }
}

/// One subscriber: all that a delivery reads and writes.
#[derive(Debug)]
pub(super) struct Subscriber<P> {
    pub(super) cursor: P,
    pub(super) state: SubscriberState,
}

/// What a subscriber has, whatever its place is in.
#[derive(Debug)]
pub(super) struct SubscriberState {
    /// When it last took bytes, or when its socket last became full, in milliseconds of the engine's time.
    pub(super) active_at: u64,
    /// Bytes of its events that it may lack: while it is given what it asked to be replayed, that much more than others.
    pub(super) lag_limit: u64,
    /// Events given in full, and bytes of events.
    pub(super) events: u64,
    pub(super) bytes: u64,
    pub(super) conn: ConnId,
    /// The pass may write to it: its socket takes bytes and nothing else goes out first.
    pub(super) writable: bool,
    /// Its socket is full, and it lacks more than one write gives.
    pub(super) blocked: bool,
}

impl SubscriberState {
    /// Whether it is being given what it asked to be replayed.
    pub(super) fn is_replaying(&self, limits: &Limits) -> bool {
        self.lag_limit > limits.max_lag
    }
}

/// Whether an group waits for a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing came since the last pass.
    #[default]
    Clean,
    /// Something came; more may gather.
    Dirty,
    /// In the queue for its pass.
    Due,
    /// In its pass, which may go on over several turns; `true` when something came since it began.
    Passing(bool),
}

/// The passes over an group: the last one, and the one that runs or waits.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) turn: Turn,
    /// When the last one began, in milliseconds of the engine's time.
    pub(super) began_at: u64,
    /// When the next one is due at the latest, if it is dirty.
    pub(super) due_at: u64,
    /// Bytes of events that came since then, and that had come when it began.
    pub(super) pending_bytes: u64,
    pub(super) flushing_bytes: u64,
    /// When the first of either came, and when the last one began, in microseconds of the engine's time.
    #[cfg(feature = "admin")]
    pub(super) since_us: u64,
    #[cfg(feature = "admin")]
    pub(super) flushing_since_us: u64,
    #[cfg(feature = "admin")]
    pub(super) began_us: u64,
    /// How many subscribers the running one has yet to visit. It goes downwards, so that `swap_remove` in
    /// the middle of it moves only visited ones.
    pub(super) unvisited: usize,
}

/// The subscribers of an group.
#[derive(Debug)]
pub(super) struct Subscribers<P> {
    pub(super) list: Vec<Subscriber<P>>,
    pub(super) pass: Pass,
    /// How many of them are blocked.
    pub(super) blocked: usize,
    /// No subscriber stands before this place; `None` when nobody ever joined. Not true while a pass runs, which finds it anew.
    least: Option<P>,
}

impl<P> Default for Subscribers<P> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            pass: Pass::default(),
            blocked: 0,
            least: None,
        }
    }
}

/// What events are written with.
pub(super) struct Writer<'a, O> {
    pub(super) outlet: &'a mut O,
    pub(super) now_ms: u64,
    #[cfg(feature = "admin")]
    pub(super) now_us: u64,
    pub(super) limits: Limits,
    /// What may still be written in this turn, in bytes that could have been copied in the time it takes.
    pub(super) budget: usize,
    pub(super) report: Report,
}

/// What was written, and what became of those it was written to.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Events completed and bytes given to sockets.
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// How many subscribers were blocked and no longer are.
    pub(super) unblocked: usize,
    /// Whose connection is to end.
    pub(super) ended: Vec<(ConnId, DisconnectReason)>,
    /// Who was left with something to write though its socket would take more.
    pub(super) lagging: Vec<ConnId>,
    /// How many events each write completed, from the start on: the others are handed on after each pass.
    #[cfg(feature = "admin")]
    pub(super) write_events: crate::admin::histogram::Histogram,
}

/// What all those at one place lack.
struct Cohort<'a, S: Source> {
    source: &'a S,
    cursor: S::Cursor,
    slices: Slices<'a>,
    /// Where one stands who took all of it, and how many events that completed.
    whole: (S::Cursor, u64),
    end: S::Cursor,
}

impl<O> Writer<'_, O> {
    fn end<P>(&mut self, subscriber: &mut Subscriber<P>, reason: DisconnectReason) {
        subscriber.state.writable = false;
        self.report.ended.push((subscriber.state.conn, reason));
    }

    /// Notes what a subscriber took.
    pub(super) fn advance<P>(
        &mut self,
        subscriber: &mut Subscriber<P>,
        bytes: usize,
        (place, events): (P, u64),
    ) {
        subscriber.cursor = place;
        subscriber.state.events += events;
        subscriber.state.bytes += bytes as u64;
        subscriber.state.active_at = self.now_ms;
        self.report.events += events;
        #[cfg(feature = "admin")]
        if bytes > 0 {
            self.report.write_events.count(events);
        }
        self.report.bytes += bytes as u64;
    }
}

impl<O: Outlet> Writer<'_, O> {
    /// One write to one of a cohort, if its socket takes it; whoever lacks too much all the same is cut.
    fn give<S: Source>(&mut self, subscriber: &mut Subscriber<S::Cursor>, cohort: &Cohort<'_, S>) {
        let mut taken = 0;
        if subscriber.state.writable {
            match self.outlet.write(subscriber.state.conn, &cohort.slices) {
                Ok(bytes) => taken = bytes,
                Err(reason) => {
                    return self.end(subscriber, reason);
                }
            }
            self.budget = self.budget.saturating_sub(WRITE_COST + taken);
            let all = taken == cohort.slices.bytes();
            let step = if all {
                cohort.whole
            } else {
                cohort.source.step(cohort.cursor, taken)
            };
            self.advance(subscriber, taken, step);
            if !all {
                subscriber.state.writable = false;
            } else if subscriber.cursor < cohort.end {
                self.report.lagging.push(subscriber.state.conn);
            }
        }
        let lag = cohort.source.lag() - taken as u64;
        let state = &mut subscriber.state;
        if lag > state.lag_limit {
            return self.end(subscriber, DisconnectReason::Lagged);
        }
        if subscriber.cursor >= cohort.end {
            state.lag_limit = self.limits.max_lag;
        }
        state.blocked = !state.writable
            && !state.is_replaying(&self.limits)
            && lag > self.limits.blocked_from();
    }
}

impl<P: Copy + Ord> Subscribers<P> {
    /// Takes in a subscriber at a place; returns its index.
    pub(super) fn join(&mut self, place: P, state: SubscriberState) -> u32 {
        self.least = Some(self.least.map_or(place, |least| least.min(place)));
        self.list.push(Subscriber {
            cursor: place,
            state,
        });
        (self.list.len() - 1) as u32
    }

    /// Lets a subscriber go; returns who has its index now.
    pub(super) fn leave(&mut self, index: u32) -> Option<ConnId> {
        let gone = self.list.swap_remove(index as usize);
        self.blocked -= usize::from(gone.state.blocked);
        self.pass.unvisited = self.pass.unvisited.min(self.list.len());
        let moved = self.list.get(index as usize)?;
        Some(moved.state.conn)
    }

    /// The place before which nobody stands, as far as the last pass knows.
    pub(super) fn least(&self) -> Option<P> {
        self.least.filter(|_| !self.list.is_empty())
    }

    /// Who they are.
    pub(super) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.list.iter().map(|subscriber| subscriber.state.conn)
    }

    /// Begins or goes on with a pass that is due or running: gives every subscriber not yet visited one write with what it lacks,
    /// as far as the budget goes.
    pub(super) fn visit(
        &mut self,
        mut source: impl Source<Cursor = P>,
        writer: &mut Writer<'_, impl Outlet>,
    ) {
        let end = source.end();
        if self.pass.turn == Turn::Due {
            self.pass = Pass {
                turn: Turn::Passing(false),
                began_at: writer.now_ms,
                due_at: 0,
                pending_bytes: 0,
                flushing_bytes: self.pass.pending_bytes,
                #[cfg(feature = "admin")]
                since_us: writer.now_us,
                #[cfg(feature = "admin")]
                flushing_since_us: self.pass.since_us,
                #[cfg(feature = "admin")]
                began_us: writer.now_us,
                unvisited: self.list.len(),
            };
            self.least = Some(end);
        }
        while let Some(index) = self.pass.unvisited.checked_sub(1)
            && writer.budget > 0
        {
            let place = self.list[index].cursor;
            if place >= end {
                self.pass.unvisited -= 1;
            } else if source.gather(place, &writer.limits).is_err() {
                self.pass.unvisited -= 1;
                writer.end(&mut self.list[index], DisconnectReason::Lagged);
            } else {
                let mut slices = Slices::new();
                source.add_to(&mut slices);
                let whole = source.step(place, slices.bytes());
                let cohort = Cohort {
                    source: &source,
                    cursor: place,
                    slices,
                    whole,
                    end,
                };
                self.visit_cohort(&cohort, writer);
            }
        }
    }

    /// Visits those who stand next to each other at the same place.
    fn visit_cohort(
        &mut self,
        cohort: &Cohort<'_, impl Source<Cursor = P>>,
        writer: &mut Writer<'_, impl Outlet>,
    ) {
        while let Some(index) = self.pass.unvisited.checked_sub(1)
            && writer.budget > 0
            && self.list[index].cursor == cohort.cursor
        {
            self.pass.unvisited = index;
            let subscriber = &mut self.list[index];
            let was_blocked = subscriber.state.blocked;
            writer.give(subscriber, cohort);
            let blocked = subscriber.state.blocked;
            self.blocked = self.blocked + usize::from(blocked) - usize::from(was_blocked);
            writer.report.unblocked += usize::from(was_blocked && !blocked);
            self.least = self.least.map(|least| least.min(subscriber.cursor));
        }
    }
}
