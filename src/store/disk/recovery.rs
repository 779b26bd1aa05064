//! Opening a store: which of the events in its files count, and which number is unused.

use std::io;

use super::SKIP;
use super::files::Files;
use super::format::{self, Durability, Header, HeaderError, Mark};
use super::segment::{HeaderState, Segment, Segments};
use crate::store::{LastEvents, Restore};

/// The contents of a store's files.
pub(super) struct Contents {
    pub(super) epoch: u64,
    pub(super) segments: Segments,
    /// A number above that of every event that a subscriber may have received.
    pub(super) next_seq: u64,
    /// The last event that counts in each namespace.
    pub(super) last_events: LastEvents,
    /// A description of the data that could not be read, for the log.
    pub(super) damage: Option<String>,
}

/// Reads the files and restores the events that count. It changes nothing.
///
/// # Errors
/// A file cannot be read, or has the format of another version of this program.
pub(super) fn recover<F: Files>(
    files: &mut F,
    fresh_epoch: u64,
    restore: &mut dyn Restore,
) -> io::Result<Contents> {
    let mark = Mark::decode(&files.mark()?);
    let segments = Segments::scan(files)?;
    let is_new = mark.is_none() && !segments.list.iter().any(|segment| segment.is_valid());
    let epoch = segments.epoch.or(mark.map(|mark| mark.epoch));
    let epoch = epoch.unwrap_or(fresh_epoch);
    let boot = files.boot();
    let mut recovery = RecordReader {
        mark: mark.filter(|mark| mark.epoch == epoch),
        boot,
        next_seq: 1,
        last_events: last_events_before(&segments, files)?,
        tail_complete: true,
        damage: Vec::new(),
        files,
    };
    restore.begin(epoch, recovery.last_events.clone());
    recovery.restore_all(&segments.list, restore)?;
    Ok(Contents {
        epoch,
        segments,
        next_seq: recovery.unused_seq(is_new),
        last_events: recovery.last_events,
        damage: (!recovery.damage.is_empty()).then(|| recovery.damage.join("; ")),
    })
}

/// Returns the last events before the oldest segment, which contains them.
fn last_events_before(segments: &Segments, files: &mut impl Files) -> io::Result<LastEvents> {
    let oldest = segments.list.iter().find(|segment| segment.is_valid());
    let Some(oldest) = oldest else {
        return Ok(LastEvents::default());
    };
    let bytes = files.read(&oldest.file_name(), u64::MAX)?;
    let content = bytes.get(Header::BYTES..).map(format::decode_content);
    match content {
        Some(Ok((Some(last_events), _))) => Ok(last_events),
        _ => Ok(LastEvents::default()),
    }
}

struct RecordReader<'a, F> {
    files: &'a mut F,
    /// The mark that the previous run left, if it is of the same epoch.
    mark: Option<Mark>,
    /// The boot ID of the machine.
    boot: u128,
    next_seq: u64,
    last_events: LastEvents,
    /// Whether the newest segment with content ends as it was written, as far as that is visible.
    tail_complete: bool,
    damage: Vec<String>,
}

/// The content of a segment after its header.
enum SegmentContent {
    /// All that was written, as far as that is visible.
    Complete,
    /// Some of it could not be read, for this reason.
    Corrupt(String),
    /// Nothing that counts.
    Empty,
}

impl<F: Files> RecordReader<'_, F> {
    /// Restores the events of all segments.
    fn restore_all(&mut self, segments: &[Segment], restore: &mut dyn Restore) -> io::Result<()> {
        // Events that the mark does not cover were refused, or their append was interrupted.
        let live = self.mark.filter(|mark| self.is_of_this_boot(mark));
        let end = live.map_or(u64::MAX, |mark| mark.next_seq);
        for (index, &segment) in segments.iter().enumerate() {
            let newer = segments.get(index + 1);
            let end = newer.map_or(end, |newer| newer.first_seq);
            match self.restore_segment(segment, end, restore)? {
                SegmentContent::Complete => self.tail_complete = true,
                SegmentContent::Corrupt(problem) => {
                    self.tail_complete = false;
                    let name = segment.file_name();
                    self.damage.push(format!("{name}: {problem}"));
                }
                SegmentContent::Empty => {}
            }
        }
        Ok(())
    }

    /// Restores the events of one segment with numbers below `end`.
    fn restore_segment(
        &mut self,
        segment: Segment,
        end: u64,
        restore: &mut dyn Restore,
    ) -> io::Result<SegmentContent> {
        match segment.header {
            HeaderState::Valid => self.next_seq = self.next_seq.max(segment.first_seq),
            HeaderState::Corrupt => return Ok(SegmentContent::unreadable("header")),
            HeaderState::Truncated => return Ok(SegmentContent::Empty),
        }
        let bytes = self.files.read(&segment.file_name(), u64::MAX)?;
        let content = bytes.get(Header::BYTES..).unwrap_or_default();
        let records = match format::decode_content(content) {
            Ok((_, records)) => records,
            Err(HeaderError::Truncated) => return Ok(SegmentContent::Empty),
            Err(_) => return Ok(SegmentContent::unreadable("list of last events")),
        };
        let left = self.restore_records(records, end, restore);
        if left == 0 {
            return Ok(SegmentContent::Complete);
        }
        let from = bytes.len() - left;
        let problem = format!("{left} bytes from byte {from} on are not complete events");
        Ok(SegmentContent::Corrupt(problem))
    }

    /// Restores records with numbers below `end`; returns how many bytes after them could not be
    /// read.
    fn restore_records(
        &mut self,
        mut records: format::Records<'_>,
        end: u64,
        restore: &mut dyn Restore,
    ) -> usize {
        let mut left = records.left();
        while let Some((record, at)) = records.next() {
            if record.seq() >= end {
                return 0;
            }
            if record.seq() < self.next_seq {
                break;
            }
            self.next_seq = record.seq() + 1;
            left = records.left();
            self.last_events.record(record.seq(), record.namespaces());
            restore.event(record, at);
        }
        left
    }

    /// Returns a number that no subscriber has received, after all segments were read.
    fn unused_seq(&self, is_new: bool) -> u64 {
        let marked = self.mark.map_or(1, |mark| mark.next_seq);
        let next_seq = self.next_seq.max(marked);
        if is_new || self.mark.is_some_and(|mark| self.is_reliable(&mark)) {
            next_seq
        } else {
            next_seq.saturating_add(SKIP)
        }
    }

    /// Whether every number that a subscriber may have received is below the mark or that of a
    /// restored event.
    fn is_reliable(&self, mark: &Mark) -> bool {
        let same_boot = self.is_of_this_boot(mark);
        match mark.durability {
            Durability::Closed => true,
            Durability::Synced => same_boot || self.tail_complete,
            Durability::Unsynced => same_boot,
            Durability::AppendFailed => false,
        }
    }

    /// Whether a mark is the last one that was written, because the machine has not stopped since.
    fn is_of_this_boot(&self, mark: &Mark) -> bool {
        mark.boot != 0 && mark.boot == self.boot
    }
}

impl SegmentContent {
    fn unreadable(part: &str) -> Self {
        Self::Corrupt(format!("the whole file, because its {part} is corrupt"))
    }
}
