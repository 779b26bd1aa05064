//! The life of a store, derived from a seed: runs, each with appends, syncs and an end, on a
//! machine that fails. A model says which events the next run must restore.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::internals::{Disk, SKIP};
use fanfare::{EventStore, Fsync, LastEvents, Namespace, Record, Recovered};

use super::machine::Machine;
use crate::restored::Restored;
use crate::support::dice::Dice;

type Outcome = Result<(), String>;

/// The namespaces of events; an empty list is all namespaces.
const TARGETS: [&[&str]; 4] = [&[], &["/a"], &["/a/b", "/ü"], &["/"]];

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Clean,
    /// Cleanly, before the power was cut.
    CleanThenPower,
    Crash,
    Power,
}

pub(crate) struct World {
    dice: Dice,
    machine: Machine,
    epoch: Option<u64>,
    /// The events that counted, by number: they may have been delivered.
    seen: BTreeMap<u64, Record>,
    /// Those of them that a power cut must not take.
    durable: BTreeSet<u64>,
    /// Those of them that the next successful sync makes durable.
    pending: BTreeSet<u64>,
    /// Those of them that are lost.
    gone: BTreeSet<u64>,
    /// The events that were delivered without being stored.
    unstored: BTreeMap<u64, Record>,
    /// The events whose append failed, by number.
    refused: BTreeMap<u64, Vec<String>>,
    pruned_before: u64,
    /// A call has failed, the process has ended in the middle of one, or a file was damaged.
    rough: bool,
    /// A call has failed, a file was damaged or the power was cut: events may be lost that the
    /// store does not know of.
    blurred: bool,
    /// The number that the next event gets.
    next: u64,
    /// Makes each event different.
    made: u64,
    /// What has happened since the last run that began without a fault.
    past: Past,
}

#[derive(Debug, Clone, Copy, Default)]
struct Past {
    /// The power was cut.
    power: bool,
    /// The last append failed; an append failed whose mark a power cut may bring back.
    failing: bool,
    failed: bool,
    /// A bit was flipped.
    flipped: bool,
    /// The end of a file was lost.
    cut: bool,
    /// The next number certainly follows the last one: if no event is dropped, or in any case.
    sure_if_whole: bool,
    sure: bool,
}

fn text_of(record: &Record) -> String {
    format!("{:?} {:?}", record.namespaces(), record.bytes())
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            machine: Machine::new(seed ^ 0xd15c),
            epoch: None,
            seen: BTreeMap::new(),
            durable: BTreeSet::new(),
            pending: BTreeSet::new(),
            gone: BTreeSet::new(),
            unstored: BTreeMap::new(),
            refused: BTreeMap::new(),
            pruned_before: 0,
            rough: false,
            blurred: false,
            next: 1,
            made: 0,
            past: Past {
                sure: true,
                ..Past::default()
            },
        }
    }

    pub(crate) fn play(mut self) -> Outcome {
        for run in 0..self.dice.between(2, 8) {
            self.run(run as u64)
                .map_err(|problem| format!("run {run}: {problem}"))?;
        }
        Ok(())
    }

    fn run(&mut self, run: u64) -> Outcome {
        let fsync = *self
            .dice
            .pick(&[Fsync::Always, Fsync::Interval, Fsync::Never]);
        let segment_bytes = self.dice.between(50, 3_000) as u64;
        let faults = *self.dice.pick(&[0, 0, 1, 5, 30]);
        let end = *self.dice.pick(&[
            End::Clean,
            End::CleanThenPower,
            End::Crash,
            End::Crash,
            End::Power,
            End::Power,
        ]);
        let crash_in = self.dice.percent(50).then(|| self.dice.between(1, 150));
        let rough_start = self.dice.percent(20);
        if rough_start {
            self.machine.state().faults = faults;
        }
        if matches!(end, End::Crash | End::Power) {
            self.machine.state().crash_in = crash_in;
        }
        let mut disk = Disk::new(self.machine.clone(), fsync, segment_bytes);
        let begun = self.recover(&mut disk, run)?;
        if begun {
            self.machine.state().faults = faults;
            for _ in 0..self.dice.between(0, 60) {
                self.step(&mut disk, fsync);
            }
        }
        self.finish(disk, end, begun);
        let past = &mut self.past;
        let damaged = past.flipped || past.cut || past.power;
        self.blurred |= faults > 0 || damaged || !begun;
        self.rough |= end != End::Clean || faults > 0 || past.flipped || past.cut;
        let power_cut = end == End::Power;
        past.sure = begun && !power_cut && !past.flipped && !past.failing;
        let safe = past.sure || fsync == Fsync::Always;
        let failed = if power_cut { past.failed } else { past.failing };
        past.sure_if_whole = begun && safe && !past.flipped && !failed;
        Ok(())
    }

    fn step(&mut self, disk: &mut Disk<Machine>, fsync: Fsync) {
        match self.dice.below(10) {
            0..7 => self.append(disk, fsync),
            7..9 => match disk.sync() {
                Ok(()) if fsync == Fsync::Interval => self.durable.append(&mut self.pending),
                Ok(()) => {}
                // A later sync does not bring back events that were lost now.
                Err(_) => self.pending.clear(),
            },
            _ => {
                let back = *self.dice.pick(&[0, 1, 5, 30]);
                let before = self.next.saturating_sub(back);
                self.pruned_before = self.pruned_before.max(before);
                let _ = disk.prune(self.pruned_before);
            }
        }
    }

    fn append(&mut self, disk: &mut Disk<Machine>, fsync: Fsync) {
        let count = self.dice.between(1, 8) as u64;
        let records: Vec<Record> = (0..count)
            .map(|index| self.event(self.next + index))
            .collect();
        self.machine.state().mark_failed = false;
        let stored = disk.append(&records, time(self.made));
        let marked = !self.machine.state().mark_failed;
        for record in &records {
            let seq = record.seq();
            if stored.is_err() {
                let refused = self.refused.entry(seq).or_default();
                refused.push(text_of(record));
                continue;
            }
            self.seen.insert(seq, record.clone());
            if fsync == Fsync::Always {
                self.durable.insert(seq);
            } else {
                self.pending.insert(seq);
            }
        }
        self.past.failing = stored.is_err();
        if stored.is_err() {
            self.pending.clear();
        }
        if stored.is_ok() {
            self.next += count;
        } else if marked && self.dice.percent(50) {
            // Unless the store could not even set its mark: it cannot help two faults at once.
            self.next += count;
            let unstored = records.into_iter().map(|record| (record.seq(), record));
            self.unstored.extend(unstored);
        }
        self.past.failed |= self.past.failing;
    }

    fn event(&mut self, seq: u64) -> Record {
        self.made += 1;
        let paths = *self.dice.pick(&TARGETS);
        let namespaces = paths
            .iter()
            .map(|path| Namespace::parse(path).unwrap())
            .collect();
        let long = "x".repeat(*self.dice.pick(&[0, 10, 100, 400]));
        Record::new(
            seq,
            namespaces,
            format!("data:{} {long}\n\n", self.made).into_bytes(),
        )
    }

    fn finish(&mut self, disk: Disk<Machine>, end: End, begun: bool) {
        let crashes = matches!(end, End::Crash | End::Power);
        let cuts_power = matches!(end, End::Power | End::CleanThenPower);
        let mut state = self.machine.state();
        state.faults = 0;
        if crashes {
            state.crash();
        }
        drop(state);
        drop(disk);
        let mut state = self.machine.state();
        state.restart();
        if cuts_power && !self.past.cut {
            state.lose_power();
            self.past.power = true;
        }
        if end == End::CleanThenPower && begun {
            self.durable.append(&mut self.pending);
        }
        // After a fault, damage may bring back a refused event that could not be truncated: two
        // faults at once.
        if !state.failed && !self.past.cut {
            self.past.flipped |= self.dice.percent(10) && state.damage();
        }
        // A file that ends after one of its events looks complete. Only the mark shows the loss, so
        // a power cut or a flipped bit that takes the mark is a second fault.
        if !state.failed && !self.past.flipped && !self.past.power {
            self.past.cut |= self.dice.percent(5) && state.cut();
        }
    }

    /// Begins a run; returns whether that worked. It must unless a call fails.
    fn recover(&mut self, disk: &mut Disk<Machine>, fresh: u64) -> Result<bool, String> {
        let (restored, recovered) = match Restored::from(disk, fresh) {
            Ok(opened) => opened,
            Err(_) if self.machine.state().is_rough() => return Ok(false),
            Err(error) => return Err(format!("recovery failed without a fault: {error}")),
        };
        let epoch = restored.epoch;
        if !self.seen.is_empty() && self.epoch != epoch {
            return Err(format!("epoch {:?} became {epoch:?}", self.epoch));
        }
        self.epoch = epoch;
        self.check_records(&restored.events)?;
        let found: BTreeSet<u64> = restored.numbers().into_iter().collect();
        // A power cut may bring back a refused event that could not be truncated, under a number
        // that another event got.
        self.unstored.retain(|seq, _| !found.contains(seq));
        self.check_lost(&found, &recovered)?;
        self.check_next(&found, &recovered)?;
        self.check_last_events(&found, &restored.last_events, recovered.next_seq)?;
        for (record, _) in &restored.events {
            self.seen.insert(record.seq(), record.clone());
        }
        self.gone = self
            .seen
            .keys()
            .copied()
            .filter(|seq| !found.contains(seq))
            .collect();
        self.durable.retain(|seq| found.contains(seq));
        self.pending.clear();
        if self.past.power {
            // After a power cut, restored events come from the disk.
            self.durable.extend(found);
        }
        self.next = recovered.next_seq;
        self.past = Past::default();
        Ok(true)
    }

    /// Checks that events are in order, and that each is the one that counted under its number or,
    /// if none did, one that was refused.
    fn check_records(&self, records: &[(Record, SystemTime)]) -> Outcome {
        let mut last = 0;
        for (record, at) in records {
            let (seq, text) = (record.seq(), text_of(record));
            if seq <= last {
                return Err(format!("{seq} follows {last}"));
            }
            last = seq;
            let refused = || {
                self.refused
                    .get(&seq)
                    .is_some_and(|texts| texts.contains(&text))
            };
            let known = match self.seen.get(&seq) {
                Some(seen) => text_of(seen) == text,
                None => refused(),
            };
            if !known || *at > time(self.made) || *at < time(0) {
                return Err(format!(
                    "{seq} is {text}, expected {:?}",
                    self.seen.get(&seq)
                ));
            }
        }
        Ok(())
    }

    fn check_lost(&self, found: &BTreeSet<u64>, recovered: &Recovered) -> Outcome {
        let past = self.past;
        let lost = |seq: &&u64| **seq >= self.pruned_before && !found.contains(seq);
        let lost = if past.power {
            self.durable.iter().find(lost)
        } else {
            self.seen
                .keys()
                .filter(|seq| !self.gone.contains(seq))
                .find(lost)
        };
        let damage = &recovered.damage;
        if let Some(seq) = lost
            && !(past.flipped && damage.is_some() || past.cut)
        {
            return Err(format!("{seq} is lost, reported {damage:?}, {past:?}"));
        }
        if damage.is_some() && !self.rough {
            return Err(format!("reported {damage:?} without a fault"));
        }
        Ok(())
    }

    /// Checks that every lost event is reported, and, without a fault, no other.
    fn check_last_events(
        &self,
        found: &BTreeSet<u64>,
        last_events: &LastEvents,
        next: u64,
    ) -> Outcome {
        let until = last_events.last_seq();
        let first = *found.first().unwrap_or(&next);
        if until >= first || until + 1 < first && !self.blurred {
            return Err(format!(
                "the last events reach {until}, and {first} is restored"
            ));
        }
        for path in ["/", "/a", "/a/b", "/ü", "/b"] {
            let namespace = Namespace::parse(path).unwrap();
            let is_in = |record: &Record| {
                let namespaces = record.namespaces();
                namespaces.is_empty() || namespaces.iter().any(|of| namespace.contains(of))
            };
            let gone = self
                .seen
                .range(..=until)
                .chain(self.unstored.range(..=until));
            let gone = gone.filter(|(_, record)| is_in(record));
            let last = gone.map(|(&seq, _)| seq).max().unwrap_or(0);
            let reported = last_events.last_seq_of(&namespace);
            if reported < last || reported > last && !self.blurred {
                return Err(format!("{path} has lost {last}, reported {reported}"));
            }
        }
        Ok(())
    }

    fn check_next(&self, found: &BTreeSet<u64>, recovered: &Recovered) -> Outcome {
        let seen = self.seen.keys().chain(self.unstored.keys());
        let last = seen.chain(found).max().copied().unwrap_or(0);
        let next = recovered.next_seq;
        let past = self.past;
        // After a refused event, if the mark was set though the call reported a failure.
        let exact = next == self.next.max(last + 1) || self.refused.contains_key(&(next - 1));
        let sure = past.sure || past.sure_if_whole && recovered.damage.is_none();
        if next <= last || !exact && (sure || next < SKIP) {
            return Err(format!("the next number after {last} is {next}, {past:?}"));
        }
        Ok(())
    }
}

fn time(count: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + count)
}
