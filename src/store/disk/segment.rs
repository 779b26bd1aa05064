//! The segments of a store, as their headers describe them.

use std::io::{self, ErrorKind};

use super::files::Files;
use super::format::{Header, HeaderError};

/// A file of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) ordinal: u64,
    /// Events from this number on do not count in older segments. Without a valid header, the value
    /// of the next newer segment.
    pub(super) first_seq: u64,
    pub(super) header: HeaderState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderState {
    Valid,
    Corrupt,
    /// The process or the machine stopped while the segment was created, so none of its events
    /// counts.
    Truncated,
}

/// All segments in a folder.
pub(super) struct Segments {
    /// Oldest first.
    pub(super) list: Vec<Segment>,
    /// The largest ordinal, or 0.
    pub(super) last_ordinal: u64,
    /// The epoch of the newest segment with a valid header.
    pub(super) epoch: Option<u64>,
}

impl Segment {
    pub(super) fn file_name(self) -> String {
        file_name(self.ordinal)
    }

    pub(super) fn is_valid(self) -> bool {
        self.header == HeaderState::Valid
    }
}

impl Segments {
    /// Reads the headers of all segments.
    ///
    /// # Errors
    /// A file cannot be read, or has the format of another version of this program.
    pub(super) fn scan(files: &mut impl Files) -> io::Result<Self> {
        let names = files.names()?;
        let mut ordinals: Vec<u64> = names.iter().filter_map(|name| ordinal_of(name)).collect();
        ordinals.sort_unstable();
        let mut segments = Self {
            list: Vec::with_capacity(ordinals.len()),
            last_ordinal: ordinals.last().copied().unwrap_or(0),
            epoch: None,
        };
        let mut first_seq = u64::MAX;
        for &ordinal in ordinals.iter().rev() {
            let name = file_name(ordinal);
            let bytes = files.read(&name, Header::BYTES as u64)?;
            let header = match Header::decode(&bytes) {
                Ok(header) if header.epoch == *segments.epoch.get_or_insert(header.epoch) => {
                    first_seq = first_seq.min(header.first_seq);
                    HeaderState::Valid
                }
                Ok(_) | Err(HeaderError::Corrupt) => HeaderState::Corrupt,
                Err(HeaderError::Truncated) => HeaderState::Truncated,
                Err(error @ HeaderError::Version(_)) => {
                    let problem = format!("{name} {error}");
                    return Err(io::Error::new(ErrorKind::InvalidData, problem));
                }
            };
            segments.list.push(Segment {
                ordinal,
                first_seq,
                header,
            });
        }
        segments.list.reverse();
        Ok(segments)
    }
}

pub(super) fn file_name(ordinal: u64) -> String {
    format!("{ordinal:010}.log")
}

/// Returns the ordinal of a segment; `None` for other files.
fn ordinal_of(name: &str) -> Option<u64> {
    let ordinal = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(ordinal) == name).then_some(ordinal)
}
