//! A store in files: an append-only log in segments, with a checksum for each event.
//!
//! Owns the content of the files and what it means after a crash. Starts no threads: each call
//! blocks until the file system has finished.
//!
//! An event *counts* once the append that brought it has succeeded.
//!
//! # Files
//! - `0000000001.log` and so on: the *segments*, in the order of their creation. Only the newest is
//!   written. When it is full, the next append creates another. The header of a segment has the
//!   number of its first event; events from that number on do not count in older segments. The last
//!   event of each namespace before the segment follows. All of that is synced before an event is
//!   written, so it survives a power cut.
//! - `lock`: locked by the process that uses the folder. It contains the *mark*, which has the
//!   number after the last event that counts and is rewritten with each append.
//!
//! # What survives
//! - The end of the process at any point: every event that counts, and no other.
//! - A power cut: with [`Fsync::Always`], every event that counts; with [`Fsync::Interval`], those
//!   before the last sync that succeeded; with [`Fsync::Never`], those in full segments and those
//!   of a run that ended cleanly.
//! - A corrupt record ends its segment. Newer segments are used. What was left out is reported.
//!
//! # Numbers
//! A number that a subscriber may have received is not used again. While the machine stays up, and
//! after a clean end, the mark has the first unused number, even if records before it were lost.
//! After a power cut the mark may be out of date. With [`Fsync::Always`] the records then have the
//! last number, unless some were left out. In all other cases numbers continue [`SKIP`] further on.
//! So they do if the last append failed: its events may have been delivered under numbers that no
//! file contains.
//!
//! Two faults at once can break this: if a file loses its end exactly after an event, which cannot
//! be seen, and a power cut takes the mark that shows it, the numbers of the lost events are used
//! again.
//!
//! # When the disk fails
//! - A failed append is truncated, so that none of its events counts. If that fails too, the
//!   segment is abandoned, and the next append creates another that begins with the numbers of
//!   those events. Until then a power cut would bring some of them back. The store does not wait
//!   until the disk works again: the next append simply tries.
//! - After a failed sync the kernel may have discarded what was written, and may not report it
//!   again. The segment is abandoned, and syncing fails until another one could be created, which
//!   includes a sync.

mod files;
mod format;
mod recovery;
mod segment;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

pub use files::{Files, Folder};
use format::{Durability, Header, Mark};
use segment::{HeaderState, Segment};

use super::{EventStore, Fsync, LastEvents, Record, Recovered, Restore};

/// How far numbers continue after the last known one if a power cut may have taken later ones: more
/// than events are published between two syncs.
pub const SKIP: u64 = 1 << 32;
/// The largest buffer that is kept for the next append, in bytes.
const KEEP_BUFFER: usize = 1 << 20;

/// A store in the files of one folder.
pub struct Disk<F: Files = Folder> {
    files: F,
    fsync: Fsync,
    segment_bytes: u64,
    epoch: u64,
    /// The number after the last event that counts.
    next_seq: u64,
    /// Oldest first.
    segments: Vec<Segment>,
    /// The largest ordinal ever used.
    last_ordinal: u64,
    /// The end of the newest segment; `None` if the next append must create another.
    tail: Option<Tail>,
    /// Whether the newest segment has bytes that must be synced.
    unsynced: bool,
    /// Whether the last append failed.
    append_failed: bool,
    /// The last event that counts in each namespace.
    last_events: LastEvents,
    /// Whether the store is open, so that the mark is up to this process.
    opened: bool,
    buffer: Vec<u8>,
}

/// Offsets in the newest segment, in bytes.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Of the first record.
    start: u64,
    /// The end of the last record that counts.
    end: u64,
}

impl<F: Files> fmt::Debug for Disk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("fsync", &self.fsync)
            .field("next_seq", &self.next_seq)
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// The usual size of a full segment, in bytes.
    pub const SEGMENT_BYTES: u64 = 16 << 20;

    /// Takes a folder, which is created if it does not exist. Its parent must exist.
    ///
    /// # Errors
    /// The folder cannot be created or written, or another process uses it. The error names the
    /// folder.
    pub fn open(path: &Path, fsync: Fsync, segment_bytes: u64) -> io::Result<Self> {
        Ok(Self::new(Folder::open(path)?, fsync, segment_bytes))
    }
}

impl<F: Files> Disk<F> {
    /// Makes a store of these files. A segment is full once its events take `segment_bytes`.
    pub fn new(files: F, fsync: Fsync, segment_bytes: u64) -> Self {
        Self {
            files,
            fsync,
            segment_bytes,
            epoch: 0,
            next_seq: 1,
            segments: Vec::new(),
            last_ordinal: 0,
            tail: None,
            unsynced: false,
            append_failed: false,
            last_events: LastEvents::default(),
            opened: false,
            buffer: Vec::new(),
        }
    }

    fn set_mark(&mut self, durability: Durability) -> io::Result<()> {
        let mark = Mark {
            epoch: self.epoch,
            boot: self.files.boot(),
            next_seq: self.next_seq,
            durability,
        };
        self.files.set_mark(&mark.encode())
    }

    /// Returns what holds for the events while the store is in use.
    fn durability(&self) -> Durability {
        match self.fsync {
            _ if self.append_failed => Durability::AppendFailed,
            Fsync::Always => Durability::Synced,
            Fsync::Interval | Fsync::Never => Durability::Unsynced,
        }
    }

    /// Creates a segment that begins with the next number, and syncs it.
    fn create_segment(&mut self) -> io::Result<()> {
        // A file that a failed attempt left does not get in the way of the next.
        self.last_ordinal += 1;
        let segment = Segment {
            ordinal: self.last_ordinal,
            first_seq: self.next_seq,
            header: HeaderState::Valid,
        };
        let header = Header {
            epoch: self.epoch,
            first_seq: self.next_seq,
        };
        let mut bytes = header.encode();
        bytes.extend_from_slice(&format::encode_last_events(&self.last_events));
        let name = segment.file_name();
        if let Err(error) = self.write_new_file(&name, &bytes) {
            // If it cannot be removed, it does no harm: all that it may contain is true.
            let _ = self.files.remove(&name);
            return Err(error);
        }
        self.segments.push(segment);
        let start = bytes.len() as u64;
        self.tail = Some(Tail { start, end: start });
        self.unsynced = false;
        Ok(())
    }

    fn write_new_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.create(name)?;
        self.write(bytes)?;
        self.files.sync()?;
        self.files.sync_names()
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

    /// Writes and counts records; on an error, none of them counts.
    fn append_records(&mut self, records: &[Record], last: u64, at: SystemTime) -> io::Result<()> {
        debug_assert!(records[0].seq() >= self.next_seq, "numbers ascend");
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER);
        for record in records {
            format::put_record(&mut self.buffer, record, at)?;
        }
        let tail = self.writable_tail()?;
        if let Err(error) = self.commit_buffer(last + 1) {
            // Synced, because a power cut must not bring these records back under numbers that
            // later ones get.
            let truncated = self.files.truncate(tail.end);
            let truncated = truncated.and_then(|()| self.files.sync());
            self.tail = truncated.is_ok().then_some(tail);
            return Err(error);
        }
        let end = tail.end + self.buffer.len() as u64;
        self.tail = Some(Tail { end, ..tail });
        for record in records {
            self.last_events.record(record.seq(), record.namespaces());
        }
        self.unsynced = self.fsync != Fsync::Always;
        if !self.unsynced {
            self.leave_full_segment();
        }
        Ok(())
    }

    /// Returns the end of the newest segment, which is created if there is none to write to.
    fn writable_tail(&mut self) -> io::Result<Tail> {
        if self.tail.is_none() {
            self.create_segment()?;
        }
        Ok(self.tail.expect("a segment has just been created"))
    }

    /// Writes the buffer to the newest segment and moves the mark to `next_seq`, which makes its
    /// records count.
    fn commit_buffer(&mut self, next_seq: u64) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        self.buffer = buffer;
        written?;
        if self.fsync == Fsync::Always {
            self.files.sync()?;
        }
        let before = std::mem::replace(&mut self.next_seq, next_seq);
        self.set_mark(self.durability())
            .inspect_err(|_| self.next_seq = before)
    }

    fn is_full(&self) -> bool {
        self.tail
            .is_some_and(|tail| tail.end >= tail.start + self.segment_bytes)
    }

    /// Makes the next append create a segment if the newest is full.
    fn leave_full_segment(&mut self) {
        if self.is_full() {
            self.tail = None;
        }
    }

    /// Replaces the newest segment, whose events can all be deleted, with one that has none.
    fn replace_newest_segment(&mut self) -> io::Result<()> {
        self.tail = None;
        if self.create_segment().is_ok() {
            return Ok(());
        }
        // On a full disk, delete first, which takes no space. Meanwhile only the mark has the next
        // number.
        self.set_mark(self.durability())?;
        self.files.sync_mark()?;
        while let Some(&old) = self.segments.first() {
            self.remove_segment(old)?;
        }
        self.create_segment()
    }

    fn remove_segment(&mut self, segment: Segment) -> io::Result<()> {
        self.files.remove(&segment.file_name())?;
        // After a power cut it must not be back without the newer segment that ends it.
        self.files.sync_names()?;
        self.segments
            .retain(|other| other.ordinal != segment.ordinal);
        Ok(())
    }

    /// Ends the run: syncs the newest segment, and records that in the mark.
    fn close(&mut self) -> io::Result<()> {
        let synced = match self.tail {
            Some(_) => self.files.sync(),
            None => Ok(()),
        };
        // The number in the mark is right even if events were lost.
        self.set_mark(match self.append_failed {
            true => Durability::AppendFailed,
            false => Durability::Closed,
        })?;
        self.files.sync_mark().and(synced)
    }
}

impl<F: Files> EventStore for Disk<F> {
    fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
        let contents = recovery::recover(&mut self.files, fresh_epoch, restore)?;
        self.epoch = contents.epoch;
        self.next_seq = contents.next_seq;
        self.segments = contents.segments.list;
        self.last_ordinal = contents.segments.last_ordinal;
        self.last_events = contents.last_events;
        // From here on, a mark that is found after a power cut shows that this run did not end.
        self.set_mark(self.durability())?;
        self.files.sync_mark()?;
        self.files.sync_names()?;
        self.opened = true;
        match self.create_segment() {
            // The events can be read nevertheless. Appending fails until there is space.
            Err(error) if is_out_of_space(&error) => {}
            created => created?,
        }
        self.prune(0)?;
        Ok(Recovered {
            next_seq: self.next_seq,
            damage: contents.damage,
        })
    }

    fn append(&mut self, records: &[Record], at: SystemTime) -> io::Result<()> {
        let Some(last) = records.last() else {
            return Ok(());
        };
        self.append_failed = false;
        let appended = self.append_records(records, last.seq(), at);
        if appended.is_err() {
            self.append_failed = true;
            // The mark is overwritten in place, which works on a full disk. If it fails, nothing
            // else can be done.
            let _ = self.set_mark(Durability::AppendFailed);
            let _ = self.files.sync_mark();
        }
        appended
    }

    fn sync(&mut self) -> io::Result<()> {
        self.writable_tail()?;
        // A segment is synced before it is left, regardless of the policy, so that the end of a run
        // syncs only the newest.
        let is_due = self.fsync == Fsync::Interval || self.is_full();
        if is_due && std::mem::take(&mut self.unsynced) {
            self.files.sync().inspect_err(|_| self.tail = None)?;
        }
        self.leave_full_segment();
        Ok(())
    }

    /// Deletes the segments in which all events are before the number `before`.
    fn prune(&mut self, before: u64) -> io::Result<()> {
        let has_events = self.tail.is_none_or(|tail| tail.end > tail.start);
        if before >= self.next_seq && has_events {
            self.replace_newest_segment()?;
        }
        let mut index = 0;
        while let [old, newer, ..] = self.segments[index..] {
            // Events that count in a segment are before the first number of the next: none if the
            // two are equal.
            let is_empty = old.is_valid() && newer.first_seq == old.first_seq;
            if newer.first_seq <= before || is_empty {
                self.remove_segment(old)?;
            } else {
                index += 1;
            }
        }
        Ok(())
    }
}

impl<F: Files> Drop for Disk<F> {
    fn drop(&mut self) {
        if self.opened {
            // An error cannot be reported. Without the mark, the next start assumes a crash.
            let _ = self.close();
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
