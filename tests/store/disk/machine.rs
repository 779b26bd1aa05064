//! A simulated machine whose files fail at random: writes fall short, calls fail, the process or
//! the power ends at any call.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use fanfare::internals::Files;

use crate::support::dice::Dice;

/// A change of a file since it was last synced.
enum Change {
    Write(Vec<u8>),
    Cut(usize),
}

#[derive(Default)]
struct SimFile {
    /// The bytes that reading gives.
    live: Vec<u8>,
    /// The bytes that are certainly on the disk.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

impl SimFile {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Some bytes are lost before they reach the disk, though the file has their length. The next
    /// sync does not report it.
    fn forget_writes(&mut self, dice: &mut Dice) {
        for change in &mut self.unsynced {
            if let Change::Write(bytes) = change
                && dice.percent(60)
            {
                bytes.fill(0);
            }
        }
    }

    /// The disk has some of the changes, the last one perhaps in part.
    fn lose_power(&mut self, dice: &mut Dice) {
        if dice.percent(25) {
            self.forget_writes(dice);
        }
        let keep = dice.between(0, self.unsynced.len());
        self.unsynced.truncate(keep);
        if let Some(Change::Write(bytes)) = self.unsynced.last_mut()
            && dice.percent(50)
        {
            bytes.truncate(dice.between(0, bytes.len()));
        }
        self.sync();
        self.live = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(more) => bytes.extend_from_slice(more),
            Self::Cut(length) => bytes.truncate(*length),
        }
    }
}

enum Rename {
    Create(String, usize),
    Remove(String),
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => names.insert(name.clone(), *file),
            Self::Remove(name) => names.remove(name),
        };
    }
}

pub(crate) struct State {
    dice: Dice,
    boot: u128,
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Rename>,
    newest: usize,
    /// Every mark that the disk may have. Reading gives the last one.
    marks: Vec<Vec<u8>>,
    /// The percentage of calls that fail.
    pub(crate) faults: usize,
    /// Whether any call failed.
    pub(crate) failed: bool,
    /// Whether the mark could not be set or synced.
    pub(crate) mark_failed: bool,
    /// Calls until the end of the process.
    pub(crate) crash_in: Option<usize>,
    crashed: bool,
}

#[derive(Clone)]
pub(crate) struct Machine(Arc<Mutex<State>>);

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed),
            boot: 1,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            newest: 0,
            marks: vec![Vec::new()],
            faults: 0,
            failed: false,
            mark_failed: false,
            crash_in: None,
            crashed: false,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Whether a call fails.
    pub(crate) fn is_rough(&self) -> bool {
        self.faults > 0 || self.crashed
    }

    /// The next process begins; it finds what the last one wrote.
    pub(crate) fn restart(&mut self) {
        self.crashed = false;
        self.crash_in = None;
    }

    /// The process ends: its further calls have no effect.
    pub(crate) fn crash(&mut self) {
        self.crashed = true;
    }

    /// The machine loses power, and with it a part of what was not synced.
    pub(crate) fn lose_power(&mut self) {
        self.boot += 1;
        for file in &mut self.files {
            file.lose_power(&mut self.dice);
        }
        for rename in self.unsynced_names.drain(..) {
            // In any order, because none is guaranteed.
            if self.dice.percent(50) {
                rename.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let mark = self.dice.pick(&self.marks).clone();
        self.marks = vec![mark];
    }

    /// A stored bit flips; returns whether there was one.
    pub(crate) fn damage(&mut self) -> bool {
        let mut files: Vec<usize> = self.names.values().copied().collect();
        // A bit of the mark instead of a file.
        files.push(usize::MAX);
        let file = *self.dice.pick(&files);
        let bytes = match self.files.get_mut(file) {
            Some(file) => &mut file.live,
            None => self.marks.last_mut().unwrap(),
        };
        if bytes.is_empty() {
            return false;
        }
        let at = self.dice.below(bytes.len());
        bytes[at] ^= 1 << self.dice.below(8);
        if let Some(file) = self.files.get_mut(file) {
            file.durable = file.live.clone();
            file.unsynced.clear();
        }
        true
    }

    /// A file that is not the newest loses its end; returns whether there was such a file.
    pub(crate) fn cut(&mut self) -> bool {
        let files: Vec<usize> = self.names.values().copied().collect();
        let [older @ .., _] = &files[..] else {
            return false;
        };
        if older.is_empty() {
            return false;
        }
        let file = &mut self.files[*self.dice.pick(older)];
        let length = self.dice.between(0, file.live.len());
        file.live.truncate(length);
        file.durable = file.live.clone();
        file.unsynced.clear();
        true
    }

    /// Fails before a call has an effect: after the end of the process, or at random.
    fn enter(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.crash_in {
            *left = left.saturating_sub(1);
            self.crashed |= *left == 0;
        }
        if self.crashed {
            return Err(io::Error::other("the process has ended"));
        }
        if self.dice.percent(self.faults) {
            self.failed = true;
            let kinds = [ErrorKind::StorageFull, ErrorKind::Other];
            return Err((*self.dice.pick(&kinds)).into());
        }
        Ok(())
    }

    fn newest(&mut self) -> &mut SimFile {
        &mut self.files[self.newest]
    }

    /// A part of the bytes to write, sometimes all of them.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[..self.dice.between(1, bytes.len())]
    }
}

impl Files for Machine {
    fn boot(&self) -> u128 {
        self.state().boot
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.enter()?;
        // Names are not sorted, and there are other files.
        let names = state.names.keys().rev().cloned();
        Ok(names.chain(["lock".into(), "1.log".into()]).collect())
    }

    fn read(&mut self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.enter()?;
        let live = &state.files[state.names[name]].live;
        Ok(live[..live.len().min(most as usize)].to_vec())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let entered = state.enter();
        if entered.is_err() && (state.crashed || state.dice.percent(50)) {
            return entered;
        }
        assert!(!state.names.contains_key(name), "{name} exists already");
        let file = state.files.len();
        state.files.push(SimFile::default());
        state.newest = file;
        state.names.insert(name.into(), file);
        state.unsynced_names.push(Rename::Create(name.into(), file));
        entered
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let gone = state.crashed;
        let entered = state.enter();
        if gone {
            return entered.map(|()| 0);
        }
        let all = entered.is_ok() && state.dice.percent(80);
        let part = if all { bytes } else { state.part(bytes) };
        if entered.is_ok() || state.dice.percent(50) {
            state.newest().change(Change::Write(part.to_vec()));
        }
        entered.map(|()| part.len())
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        state.newest().change(Change::Cut(bytes as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = &mut *self.state();
        let entered = state.enter();
        let file = &mut state.files[state.newest];
        match &entered {
            Ok(()) => file.sync(),
            Err(_) if state.crashed => {}
            Err(_) => file.forget_writes(&mut state.dice),
        }
        entered
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        state.names.remove(name);
        state.unsynced_names.push(Rename::Remove(name.into()));
        Ok(())
    }

    fn mark(&mut self) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.enter()?;
        Ok(state.marks.last().unwrap().clone())
    }

    fn set_mark(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let entered = state.enter();
        // It can report a failure though it succeeded.
        if entered.is_ok() || !state.crashed && state.dice.percent(50) {
            state.marks.push(bytes.to_vec());
        }
        state.mark_failed |= entered.is_err();
        entered
    }

    fn sync_mark(&mut self) -> io::Result<()> {
        let mut state = self.state();
        let entered = state.enter();
        if entered.is_ok() {
            let mark = state.marks.pop().unwrap();
            state.marks = vec![mark];
        }
        state.mark_failed |= entered.is_err();
        entered
    }
}
