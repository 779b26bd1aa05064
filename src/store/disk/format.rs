//! The format of a store's files: encoding and decoding. Numbers are little-endian, checksums
//! CRC-32.
//!
//! Knows no files: it decodes memory that may contain anything.
//!
//! | start of a segment | bytes | | record | bytes |
//! |---|---|---|---|---|
//! | `fanfare` | 7 | | length of the body | 4 |
//! | version of the format | 1 | | checksum of the body | 4 |
//! | epoch | 8 | | body: number of the event | 8 |
//! | number of the first event | 8 | | time in ms since 1970 | 8 |
//! | checksum of the 24 bytes above | 4 | | count of namespaces | 4 |
//! | length of the last events | 4 | | length of each namespace, and its path | 2 + n |
//! | checksum of the last events | 4 | | the event | n |
//! | checksum of the 8 bytes above | 4 | | | |
//! | the last events before the segment | n | | | |

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::namespace::{Namespace, NamespaceLimits};
use crate::store::LastEvents;
use crate::store::Record;

const MAGIC: &[u8; 7] = b"fanfare";
const VERSION: u8 = 2;

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: u64,
    /// Events from this number on do not count in older segments.
    pub(super) first_seq: u64,
}

/// Why the start of a segment cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// There are too few bytes: the process or the machine stopped while the segment was created.
    Truncated,
    Corrupt,
    /// The content after the header has another version of the format. The header is the same in
    /// all versions.
    Version(u8),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("is truncated"),
            Self::Corrupt => f.write_str("is corrupt"),
            Self::Version(version) => write!(
                f,
                "has format version {version}, but this program reads only version {VERSION}"
            ),
        }
    }
}

impl Header {
    pub(super) const BYTES: usize = 28;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        seal(bytes)
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = &mut bytes;
        let mut header = take(bytes, Self::BYTES).ok_or(HeaderError::Truncated)?;
        let mut fields = || {
            header = sealed(header)?.strip_prefix(MAGIC)?;
            let version = take(&mut header, 1)?[0];
            let (epoch, first_seq) = (take_u64(&mut header)?, take_u64(&mut header)?);
            Some((version, Self { epoch, first_seq }))
        };
        match fields().ok_or(HeaderError::Corrupt)? {
            (VERSION, header) => Ok(header),
            (version, _) => Err(HeaderError::Version(version)),
        }
    }
}

/// The progress of a run, in a file that is rewritten in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: u64,
    /// The boot ID of the machine when it was written; 0 if unknown.
    pub(super) boot: u128,
    /// The number after the last event that counts.
    pub(super) next_seq: u64,
    pub(super) durability: Durability,
}

/// The state of the events on disk if a power cut follows the mark. The order of the variants is
/// part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Later events may have counted, and neither the files nor the mark may have them.
    Unsynced,
    /// Every event that counted is on disk, though the mark may be out of date.
    Synced,
    /// The run has ended, and the mark is up to date.
    Closed,
    /// The last append failed, so its events may have been delivered without being stored.
    AppendFailed,
}

impl Mark {
    const BYTES: usize = 37;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        bytes.extend_from_slice(&self.next_seq.to_le_bytes());
        bytes.push(self.durability as u8);
        seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = sealed(bytes)?;
        Some(Self {
            epoch: take_u64(&mut fields)?,
            boot: u128::from_le_bytes(take(&mut fields, 16)?.try_into().ok()?),
            next_seq: take_u64(&mut fields)?,
            durability: match fields {
                [0] => Durability::Unsynced,
                [1] => Durability::Synced,
                [2] => Durability::Closed,
                [3] => Durability::AppendFailed,
                _ => return None,
            },
        })
    }
}

/// Appends an encoded record to a buffer.
///
/// # Errors
/// A record must be smaller than 4 GiB, and the path of a namespace smaller than 64 KiB.
pub(super) fn put_record(buffer: &mut Vec<u8>, record: &Record, at: SystemTime) -> io::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&record.seq().to_le_bytes());
    let age = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    buffer.extend_from_slice(&(age.as_millis() as u64).to_le_bytes());
    let namespaces = record.namespaces();
    buffer.extend_from_slice(&(namespaces.len() as u32).to_le_bytes());
    for namespace in namespaces {
        let path = namespace.as_str().as_bytes();
        let length = u16::try_from(path.len())
            .map_err(|_| too_large(record, "a namespace exceeds the maximum of 65535 bytes"))?;
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(path);
    }
    buffer.extend_from_slice(record.bytes());
    let (head, body) = buffer[start..].split_at_mut(8);
    let length = u32::try_from(body.len())
        .map_err(|_| too_large(record, "it exceeds the maximum of 4 GiB"))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(())
}

fn too_large(record: &Record, problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("event {} cannot be stored: {problem}", record.seq()),
    )
}

/// Encodes what follows the header of a segment: the last events before it.
pub(super) fn encode_last_events(last_events: &LastEvents) -> Vec<u8> {
    let body = last_events.encode();
    let numbers = [body.len() as u32, crc32fast::hash(&body)].map(u32::to_le_bytes);
    let mut bytes = seal(numbers.concat());
    bytes.extend_from_slice(&body);
    bytes
}

/// Decodes what follows the header of a segment: the last events before it, if their checksum is
/// right, and its records.
pub(super) fn decode_content(
    bytes: &[u8],
) -> Result<(Option<LastEvents>, Records<'_>), HeaderError> {
    let (numbers, mut rest) = bytes.split_at_checked(12).ok_or(HeaderError::Truncated)?;
    let mut numbers = sealed(numbers).ok_or(HeaderError::Corrupt)?;
    let mut next = || take_u32(&mut numbers).ok_or(HeaderError::Corrupt);
    let (length, checksum) = (next()?, next()?);
    let body = take(&mut rest, length as usize).ok_or(HeaderError::Truncated)?;
    let is_intact = crc32fast::hash(body) == checksum;
    let last_events = is_intact.then(|| LastEvents::decode(body)).flatten();
    let records = Records {
        rest,
        namespace: Namespace::root(),
    };
    Ok((last_events, records))
}

/// Decodes records one after the other, up to the first that is corrupt.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    /// The namespace of the last record, which the next is likely to share.
    namespace: Namespace,
}

impl<'a> Records<'a> {
    /// Returns the count of bytes after the last record that was decoded.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn decode_body(&mut self, mut body: &[u8]) -> Option<(Record, SystemTime)> {
        let body = &mut body;
        let seq = take_u64(body)?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(take_u64(body)?))?;
        let mut namespaces = Vec::new();
        for _ in 0..take_u32(body)? {
            let length = u16::from_le_bytes(take(body, 2)?.try_into().ok()?);
            namespaces.push(self.namespace(take(body, length.into())?)?);
        }
        let record = Record::new(seq, namespaces, Bytes::copy_from_slice(body));
        Some((record, at))
    }

    fn namespace(&mut self, path: &[u8]) -> Option<Namespace> {
        // It was checked when it was published, but limits may have been changed since.
        const ANY: NamespaceLimits = NamespaceLimits {
            segments: usize::MAX,
            segment_bytes: usize::MAX,
            path_bytes: usize::MAX,
        };
        if self.namespace.as_str().as_bytes() != path {
            let path = std::str::from_utf8(path).ok()?;
            self.namespace = Namespace::parse_within(path, &ANY).ok()?;
        }
        Some(self.namespace.clone())
    }
}

impl Iterator for Records<'_> {
    type Item = (Record, SystemTime);

    /// Returns the next record; `None` at the end, and if what follows is not a complete record.
    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest;
        let length = take_u32(&mut rest)?;
        let checksum = take_u32(&mut rest)?;
        let body = take(&mut rest, length as usize)?;
        let is_intact = crc32fast::hash(body) == checksum;
        let record = is_intact.then(|| self.decode_body(body)).flatten()?;
        self.rest = rest;
        Some(record)
    }
}

/// Appends a checksum of all bytes.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Returns the bytes before their checksum, if it is right.
fn sealed(bytes: &[u8]) -> Option<&[u8]> {
    let (fields, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (take_u32(&mut checksum)? == crc32fast::hash(fields)).then_some(fields)
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    from.split_off(..count)
}

fn take_u32(from: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(from, 4)?.try_into().ok()?))
}

fn take_u64(from: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(from, 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            epoch: 7,
            first_seq: 9,
        }
    }

    fn mark() -> Mark {
        Mark {
            epoch: 7,
            boot: 1 << 100,
            next_seq: 9,
            durability: Durability::Synced,
        }
    }

    #[test]
    fn decoding_reverses_encoding_of_headers_and_marks() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        assert_eq!(header().encode().len(), Header::BYTES);
        assert_eq!(mark().encode().len(), Mark::BYTES);
        for durability in [
            Durability::Unsynced,
            Durability::Synced,
            Durability::Closed,
            Durability::AppendFailed,
        ] {
            let mark = Mark {
                durability,
                ..mark()
            };
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
    }

    #[test]
    fn flipped_bits_and_missing_bytes_are_detected() {
        let (header, mark, file) = (header().encode(), mark().encode(), records().0);
        for bit in 0..header.len() * 8 {
            let read = Header::decode(&flipped(&header, bit));
            assert_eq!(read, Err(HeaderError::Corrupt), "bit {bit}");
        }
        for bit in 0..mark.len() * 8 {
            assert_eq!(Mark::decode(&flipped(&mark, bit)), None, "bit {bit}");
        }
        for bit in 0..file.len() * 8 {
            assert!(read(&flipped(&file, bit)).count() < 3, "bit {bit}");
        }
        for end in 0..header.len() {
            assert_eq!(Header::decode(&header[..end]), Err(HeaderError::Truncated));
        }
        for end in 0..mark.len() {
            assert_eq!(Mark::decode(&mark[..end]), None);
        }
    }

    #[test]
    fn a_truncated_record_is_the_end() {
        let (file, ends) = records();
        for end in 0..=file.len() {
            let mut records = read(&file[..end]);
            let whole = ends.iter().filter(|&&at| at <= end).count();
            assert_eq!(records.by_ref().count(), whole);
            let last = ends[..whole].last().unwrap_or(&0);
            assert_eq!(records.left(), end - last);
        }
    }

    #[test]
    fn last_events_are_decoded_as_encoded_or_not_at_all() {
        let mut last_events = LastEvents::default();
        three()
            .iter()
            .for_each(|record| last_events.record(record.seq(), record.namespaces()));
        let mut bytes = encode_last_events(&last_events);
        for end in 0..bytes.len() {
            assert_eq!(
                decode_content(&bytes[..end]).err(),
                Some(HeaderError::Truncated)
            );
        }
        bytes.extend_from_slice(&records().0);
        for bit in 0..12 * 8 {
            let read = decode_content(&flipped(&bytes, bit)).err();
            assert_eq!(read, Some(HeaderError::Corrupt), "bit {bit}");
        }
        for bit in 12 * 8..encode_last_events(&last_events).len() * 8 {
            let bytes = flipped(&bytes, bit);
            let (read, records) = decode_content(&bytes).unwrap();
            assert_eq!((read, records.count()), (None, 3), "bit {bit}");
        }
        let (read, records) = decode_content(&bytes).unwrap();
        assert_eq!((read, records.count()), (Some(last_events), 3));
    }

    #[test]
    fn another_version_is_reported() {
        let mut bytes = header().encode();
        bytes.truncate(Header::BYTES - 4);
        bytes[MAGIC.len()] = 9;
        assert_eq!(Header::decode(&seal(bytes)), Err(HeaderError::Version(9)));
    }

    #[test]
    fn zeros_are_not_a_record() {
        assert_eq!(read(&[0; 4096]).count(), 0);
    }

    #[test]
    fn decoding_reverses_encoding_of_records() {
        let (file, _) = records();
        for ((read, at), written) in read(&file).zip(three()) {
            assert_eq!(read.seq(), written.seq());
            assert_eq!(read.namespaces(), written.namespaces());
            assert_eq!(read.bytes(), written.bytes());
            assert_eq!(at, UNIX_EPOCH + Duration::from_millis(1_234));
        }
    }

    fn three() -> [Record; 3] {
        let namespaces = ["/a/b", "/c"].map(|path| Namespace::parse(path).unwrap());
        [
            Record::new(1, vec![namespaces[0].clone()], &b"data:1\n\n"[..]),
            Record::new(2, namespaces.into(), &b"data:2\n\n"[..]),
            Record::new(1 << 40, vec![], &b"data:3\n\n"[..]),
        ]
    }

    /// The bytes of three records, and where each ends.
    fn records() -> (Vec<u8>, Vec<usize>) {
        let mut file = Vec::new();
        let at = UNIX_EPOCH + Duration::from_micros(1_234_567);
        let ends = three().map(|record| {
            put_record(&mut file, &record, at).unwrap();
            file.len()
        });
        (file, ends.into())
    }

    fn read(rest: &[u8]) -> Records<'_> {
        Records {
            rest,
            namespace: Namespace::root(),
        }
    }

    fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }
}
