//! History in files: an append-only log in segments, each event with a checksum.
//!
//! Owns what is in the files and what that means after a crash. Knows no threads: each call blocks until the file system is done.
//!
//! # The files
//! - `0000000001.log` and so on, the **segments**, in the order in which they were begun. Only the newest is written; when it is full, the next append
//!   begins another. A segment says from which number on it counts: what an older one has from there on does not; and of each namespace, which event was
//!   the last before. It is synced before anything is written behind that, so it holds after a power cut too.
//! - `lock`: held by the one owner of the folder. It contains the **mark**, the number behind the last event that counted, rewritten with each append.
//!
//! # What survives
//! - The end of the process at any point: every event that counted, and nothing else.
//! - A power cut: every event that counted with `fsync` `always`; with `interval`, those before the last sync that worked; with `never`, those
//!   in segments that were full and those of a run that ended cleanly.
//! - A bad record, whatever made it so, ends its segment; later segments are used. What was dropped is told.
//!
//! # Numbers
//! No number that somebody may have seen is used again. Within one run of the machine the mark tells where unused ones begin,
//! even if records before it were lost; after a clean end, too. After a power cut the mark itself may be old: with `always` the
//! records tell, unless some were dropped; in all other cases numbers go on [`SKIP`] further. So they do when the last append failed: some of its
//! events may have been delivered under numbers that nothing here tells of.
//!
//! # When the disk fails
//! - An append that fails is cut off again, so that none of its events counts. If that fails too, the segment is left as it is and the next append begins
//!   another, which counts from there on. (Until then, a power cut would bring some of the refused events back.) Nothing waits for the disk to
//!   recover: the next append simply tries.
//! - After a sync that fails the kernel may have dropped what was written, and will not say so again. The segment is left, and failure is reported until
//!   another one could be begun, which takes a sync that works.

mod files;
mod format;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

pub use files::{Files, Folder};
use format::{Durability, Header, HeaderError, Mark};

use crate::store::LastEvents;
use crate::store::{EventStore, Fsync, Record, Recovered, Restore};

/// How far numbers go on after a power cut that may have taken the last ones: more than are published between two syncs.
pub const SKIP: u64 = 1 << 32;
/// The largest buffer that is kept for the next append.
const KEEP_BUFFER: usize = 1 << 20;

/// A store in the files of one folder.
pub struct Disk<F: Files = Folder> {
    files: F,
    fsync: Fsync,
    segment_bytes: u64,
    epoch: u64,
    /// The number behind the last event that counts.
    next: u64,
    /// Oldest first.
    segments: Vec<Segment>,
    /// The largest ordinal ever used.
    ordinal: u64,
    /// Bytes of the newest segment that count; `None` if the next append must begin another.
    tail: Option<u64>,
    /// Bytes of it before its first record.
    empty: u64,
    /// Something in the newest segment must be synced.
    unsynced: bool,
    /// The last append failed.
    append_failed: bool,
    /// What the last owner left.
    mark: Option<Mark>,
    /// Of each namespace, the last event that counted.
    last_events: LastEvents,
    /// What was there has been read, so the mark is ours to set.
    recovered: bool,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    ordinal: u64,
    /// Records from this number on count in no older segment; that of the next newer one if its own is not known.
    first: u64,
    header: HeaderState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderState {
    Valid,
    Corrupt,
    /// The end came while it was begun: nothing in it ever counted.
    Truncated,
}

/// What there is behind a segment's header.
enum SegmentContent {
    /// All that was written, as far as that can be seen.
    Complete,
    /// Something that is not as it was written, in words for the log.
    Corrupt(String),
    /// Nothing that ever counted.
    Empty,
}

impl<F: Files> fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Disk");
        debug.field("fsync", &self.fsync).field("next", &self.next);
        debug
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Bytes from which on a segment is full, where nothing speaks for less.
    pub const SEGMENT_BYTES: u64 = 16 << 20;

    /// Takes a folder, which is made if it is not there; its parent must be.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another process has it; the error names it.
    pub fn open(path: &Path, fsync: Fsync, segment_bytes: u64) -> io::Result<Self> {
        Ok(Self::new(Folder::open(path)?, fsync, segment_bytes))
    }
}

impl<F: Files> Disk<F> {
    /// Works on files that are open already. A segment is full from `segment_bytes` on.
    pub fn new(files: F, fsync: Fsync, segment_bytes: u64) -> Self {
        Self {
            files,
            fsync,
            segment_bytes,
            epoch: 0,
            next: 1,
            segments: Vec::new(),
            ordinal: 0,
            tail: None,
            empty: 0,
            unsynced: false,
            append_failed: false,
            mark: None,
            last_events: LastEvents::default(),
            recovered: false,
            buffer: Vec::new(),
        }
    }

    /// Lists the segments; returns the epoch of the newest.
    fn scan(&mut self) -> io::Result<Option<u64>> {
        let names = self.files.names()?;
        let mut ordinals: Vec<u64> = names.iter().filter_map(|name| ordinal_of(name)).collect();
        ordinals.sort_unstable();
        self.ordinal = ordinals.last().copied().unwrap_or(0);
        let mut epoch = None;
        let mut first = u64::MAX;
        for &ordinal in ordinals.iter().rev() {
            let name = segment_name(ordinal);
            let bytes = self.files.read(&name, Header::BYTES as u64)?;
            let header = match Header::decode(&bytes) {
                Ok(header) if header.epoch == *epoch.get_or_insert(header.epoch) => {
                    first = first.min(header.first);
                    HeaderState::Valid
                }
                Ok(_) | Err(HeaderError::Corrupt) => HeaderState::Corrupt,
                Err(HeaderError::Truncated) => HeaderState::Truncated,
                Err(HeaderError::Version(version)) => {
                    let problem = format!("{name} has a format of version {version}, unknown here");
                    return Err(io::Error::new(ErrorKind::InvalidData, problem));
                }
            };
            self.segments.push(Segment {
                ordinal,
                first,
                header,
            });
        }
        self.segments.reverse();
        Ok(epoch)
    }

    /// Hands out what counts of all segments, and moves the next number behind it; returns whether the end of the newest is as it was written.
    fn replay(
        &mut self,
        dropped: &mut Vec<String>,
        each: &mut dyn FnMut(Record, SystemTime),
    ) -> io::Result<bool> {
        let mut tail_complete = true;
        // What the mark does not know of was refused, or its append did not come to its end.
        let live = self.own_mark().filter(|mark| self.is_of_this_boot(mark));
        let end = live.map_or(u64::MAX, |mark| mark.next);
        for index in 0..self.segments.len() {
            let Segment {
                ordinal,
                first,
                header,
            } = self.segments[index];
            let content = match header {
                HeaderState::Valid => {
                    self.next = self.next.max(first);
                    let newer = self.segments.get(index + 1);
                    let end = newer.map_or(end, |newer| newer.first);
                    self.replay_segment(ordinal, end, each)?
                }
                HeaderState::Corrupt => {
                    SegmentContent::Corrupt("all of it, as its header is damaged".into())
                }
                HeaderState::Truncated => SegmentContent::Empty,
            };
            match content {
                SegmentContent::Complete => tail_complete = true,
                SegmentContent::Corrupt(what) => {
                    tail_complete = false;
                    dropped.push(format!("{}: {what}", segment_name(ordinal)));
                }
                SegmentContent::Empty => {}
            }
        }
        Ok(tail_complete)
    }

    /// Hands out the records of one segment before `end`, and moves the next number behind them.
    fn replay_segment(
        &mut self,
        ordinal: u64,
        end: u64,
        each: &mut dyn FnMut(Record, SystemTime),
    ) -> io::Result<SegmentContent> {
        let bytes = self.files.read(&segment_name(ordinal), u64::MAX)?;
        let behind = bytes.get(Header::BYTES..).unwrap_or_default();
        let mut records = match format::decode_content(behind) {
            Ok((_, records)) => records,
            Err(HeaderError::Truncated) => return Ok(SegmentContent::Empty),
            Err(_) => {
                let what = "all of it, as its beginning is damaged";
                return Ok(SegmentContent::Corrupt(what.into()));
            }
        };
        let mut left = records.left();
        while let Some((record, at)) = records.next() {
            if record.seq() >= end {
                return Ok(SegmentContent::Complete);
            }
            if record.seq() < self.next {
                break;
            }
            self.next = record.seq() + 1;
            left = records.left();
            self.last_events.record(record.seq(), record.namespaces());
            each(record, at);
        }
        let from = bytes.len() - left;
        if left == 0 {
            return Ok(SegmentContent::Complete);
        }
        let what = format!("{left} bytes from byte {from} on, which are no whole events");
        Ok(SegmentContent::Corrupt(what))
    }

    /// The oldest segment tells.
    fn read_last_events(&mut self) -> io::Result<()> {
        let oldest = self
            .segments
            .iter()
            .find(|it| it.header == HeaderState::Valid);
        if let Some(oldest) = oldest {
            let bytes = self.files.read(&segment_name(oldest.ordinal), u64::MAX)?;
            let content = bytes.get(Header::BYTES..).map(format::decode_content);
            if let Some(Ok((Some(before), _))) = content {
                self.last_events = before;
            }
        }
        Ok(())
    }

    fn recover(&mut self, each: &mut dyn FnMut(Record, SystemTime)) -> io::Result<Recovered> {
        let mut dropped = Vec::new();
        let tail_complete = self.replay(&mut dropped, each)?;
        let fresh = self.mark.is_none()
            && !self
                .segments
                .iter()
                .any(|it| it.header == HeaderState::Valid);
        let mark = self.own_mark();
        self.next = self.next.max(mark.map_or(1, |mark| mark.next));
        if !fresh && !mark.is_some_and(|mark| self.is_reliable(&mark, tail_complete)) {
            self.next = self.next.saturating_add(SKIP);
        }
        // From here on a power cut finds that this run did not end.
        self.set_mark(self.durability())?;
        self.files.sync_mark()?;
        self.files.sync_names()?;
        self.recovered = true;
        match self.create_segment() {
            // What is there can be read; appending fails until there is room.
            Err(error) if has_no_room(&error) => {}
            created => created?,
        }
        self.prune(0)?;
        Ok(Recovered {
            next_seq: self.next,
            damage: (!dropped.is_empty()).then(|| dropped.join("; ")),
        })
    }

    /// What the last owner left, if it is about what is here.
    fn own_mark(&self) -> Option<Mark> {
        self.mark.filter(|mark| mark.epoch == self.epoch)
    }

    /// Whether a mark is the last one that was set, as the machine has not gone down since.
    fn is_of_this_boot(&self, mark: &Mark) -> bool {
        mark.boot != 0 && mark.boot == self.files.boot()
    }

    /// Whether every number that may have been seen is before the mark or among what was read.
    fn is_reliable(&self, mark: &Mark, tail_complete: bool) -> bool {
        let same_boot = self.is_of_this_boot(mark);
        match mark.durability {
            Durability::Closed => true,
            Durability::Synced => same_boot || tail_complete,
            Durability::Unsynced => same_boot,
            Durability::AppendFailed => false,
        }
    }

    fn set_mark(&mut self, durability: Durability) -> io::Result<()> {
        let mark = Mark {
            epoch: self.epoch,
            boot: self.files.boot(),
            next: self.next,
            durability,
        };
        self.files.set_mark(&mark.encode())
    }

    /// What is true of the store while it is in use.
    fn durability(&self) -> Durability {
        match self.fsync {
            _ if self.append_failed => Durability::AppendFailed,
            Fsync::Always => Durability::Synced,
            Fsync::Interval | Fsync::Never => Durability::Unsynced,
        }
    }

    /// Begins a segment that counts from the next number on, and makes that survive.
    fn create_segment(&mut self) -> io::Result<()> {
        // What a try that failed left behind must not be in the way of the next.
        self.ordinal += 1;
        let name = segment_name(self.ordinal);
        let header = Header {
            epoch: self.epoch,
            first: self.next,
        };
        let mut bytes = header.encode();
        bytes.extend_from_slice(&format::encode_last_events(&self.last_events));
        let created = self
            .files
            .create(&name)
            .and_then(|()| self.write(&bytes))
            .and_then(|()| self.files.sync())
            .and_then(|()| self.files.sync_names());
        if let Err(error) = created {
            // What is left of it says nothing that is not true.
            let _ = self.files.remove(&name);
            return Err(error);
        }
        self.segments.push(Segment {
            ordinal: self.ordinal,
            first: self.next,
            header: HeaderState::Valid,
        });
        self.empty = bytes.len() as u64;
        self.tail = Some(self.empty);
        self.unsynced = false;
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.files.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer behind the tail, so that it counts up to a number.
    fn write_buffer(&mut self, next: u64) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        self.buffer = buffer;
        written?;
        if self.fsync == Fsync::Always {
            self.files.sync()?;
        }
        let before = std::mem::replace(&mut self.next, next);
        self.set_mark(self.durability())
            .inspect_err(|_| self.next = before)
    }

    /// Leaves the newest segment, in which nothing is wanted, for one without records.
    fn reset(&mut self) -> io::Result<()> {
        self.tail = None;
        if self.create_segment().is_ok() {
            return Ok(());
        }
        // A full disk gets rid of what has expired, as deleting takes no room. Until another segment is there, the mark alone tells how far the numbers have come.
        self.set_mark(self.durability())?;
        self.files.sync_mark()?;
        while let Some(&old) = self.segments.first() {
            self.remove_segment(old)?;
        }
        self.create_segment()
    }

    /// Deletes a segment.
    fn remove_segment(&mut self, segment: Segment) -> io::Result<()> {
        self.files.remove(&segment_name(segment.ordinal))?;
        // An older one must not be back after a power cut when the one that replaced its end is gone.
        self.files.sync_names()?;
        self.segments
            .retain(|other| other.ordinal != segment.ordinal);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.tail
            .is_some_and(|bytes| bytes >= self.empty + self.segment_bytes)
    }

    /// Leaves a segment that is full.
    fn rotate_if_full(&mut self) {
        if self.is_full() {
            self.tail = None;
        }
    }

    fn write_records(&mut self, records: &[Record], last: u64, at: SystemTime) -> io::Result<()> {
        debug_assert!(records[0].seq() >= self.next, "the engine counts upwards");
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER);
        for record in records {
            format::put_record(&mut self.buffer, record, at)?;
        }
        if self.tail.is_none() {
            self.create_segment()?;
        }
        let good = self.tail.unwrap_or_default();
        if let Err(error) = self.write_buffer(last + 1) {
            // Synced, or after a power cut these records might be there and those that get their numbers not.
            let truncated = self.files.truncate(good).and_then(|()| self.files.sync());
            self.tail = truncated.is_ok().then_some(good);
            return Err(error);
        }
        self.tail = Some(good + self.buffer.len() as u64);
        records
            .iter()
            .for_each(|record| self.last_events.record(record.seq(), record.namespaces()));
        self.unsynced = self.fsync != Fsync::Always;
        if !self.unsynced {
            self.rotate_if_full();
        }
        Ok(())
    }

    /// Ends the run: what is there is synced, and the mark says so.
    fn close(&mut self) -> io::Result<()> {
        let synced = match self.tail {
            Some(_) => self.files.sync(),
            None => Ok(()),
        };
        // The mark is true even if events were lost.
        self.set_mark(match self.append_failed {
            true => Durability::AppendFailed,
            false => Durability::Closed,
        })?;
        self.files.sync_mark().and(synced)
    }
}

impl<F: Files> EventStore for Disk<F> {
    fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
        self.mark = Mark::decode(&self.files.mark()?);
        let epoch = self.scan()?.or(self.mark.map(|mark| mark.epoch));
        self.epoch = epoch.unwrap_or(fresh_epoch);
        self.read_last_events()?;
        restore.begin(self.epoch, self.last_events.clone());
        self.recover(&mut |record, at| restore.event(record, at))
    }

    fn append(&mut self, records: &[Record], at: SystemTime) -> io::Result<()> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        self.append_failed = false;
        self.write_records(records, last.seq(), at)
            .inspect_err(|_| {
                self.append_failed = true;
                // It is written over in place, for which even a full disk has room; nobody can do more than try.
                let _ = self.set_mark(Durability::AppendFailed);
                let _ = self.files.sync_mark();
            })
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.tail.is_none() {
            self.create_segment()?;
        }
        // A segment that is left has been synced, whatever the policy, so that the end need look at the newest alone.
        let due = self.fsync == Fsync::Interval || self.is_full();
        if due && std::mem::take(&mut self.unsynced) {
            self.files.sync().inspect_err(|_| self.tail = None)?;
        }
        self.rotate_if_full();
        Ok(())
    }

    /// Deletes the segments in which nothing is wanted.
    fn prune(&mut self, before: u64) -> io::Result<()> {
        if before >= self.next && self.tail != Some(self.empty) {
            self.reset()?;
        }
        let mut index = 0;
        while let Some(&[old, newer]) = self
            .segments
            .get(index..index + 2)
            .and_then(|two| two.first_chunk())
        {
            // What counts in a segment is before the next one's first number: nothing if they begin alike.
            let empty = old.header == HeaderState::Valid && newer.first == old.first;
            if newer.first > before && !empty {
                index += 1;
                continue;
            }
            self.remove_segment(old)?;
        }
        Ok(())
    }
}

impl<F: Files> Drop for Disk<F> {
    fn drop(&mut self) {
        if self.recovered {
            // Nobody is left to be told; without the mark, the next start takes this for a crash.
            let _ = self.close();
        }
    }
}

fn has_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn segment_name(ordinal: u64) -> String {
    format!("{ordinal:010}.log")
}

/// The ordinal of a segment; `None` if the file is something else.
fn ordinal_of(name: &str) -> Option<u64> {
    let ordinal = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(ordinal) == name).then_some(ordinal)
}
