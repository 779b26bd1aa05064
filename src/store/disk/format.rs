//! The bytes of a store's files, from values and back. Numbers are little-endian.
//!
//! Knows no files: what is read here is a piece of memory, in which anything may be wrong.
//!
//! | header of a segment | bytes | | record | bytes |
//! |---|---|---|---|---|
//! | `fanfare` | 7 | | length of the body | 4 |
//! | version of the format | 1 | | checksum of the body | 4 |
//! | epoch | 8 | | number of the event | 8 |
//! | number from which on it counts | 8 | | time in ms since 1970 | 8 |
//! | checksum of all that | 4 | | number of namespaces; each with its length | 4; 2 + n |
//! | length and checksum of what follows | 8 | | the event | n |
//! | checksum of these two | 4 | | | |
//! | what is known of the events before it | n | | | |

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::namespace::{Namespace, NamespaceLimits};
use crate::store::LastEvents;
use crate::store::Record;

const MAGIC: &[u8; 7] = b"fanfare";
const VERSION: u8 = 2;

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: u64,
    /// Records from this number on count in no older segment.
    pub(super) first: u64,
}

/// Why bytes are no header, or not what follows one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// There are too few: the end came while the segment was begun, and nothing in it ever counted.
    Truncated,
    Corrupt,
    /// The rest is in a format of this version, which is another. The header is the same in all.
    Version(u8),
}

impl Header {
    pub(super) const BYTES: usize = 28;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        seal(bytes)
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = &mut bytes;
        let mut header = take(bytes, Self::BYTES).ok_or(HeaderError::Truncated)?;
        let mut fields = || {
            header = sealed(header)?.strip_prefix(MAGIC)?;
            let version = take(&mut header, 1)?[0];
            let (epoch, first) = (take_u64(&mut header)?, take_u64(&mut header)?);
            Some((version, Self { epoch, first }))
        };
        match fields().ok_or(HeaderError::Corrupt)? {
            (VERSION, header) => Ok(header),
            (version, _) => Err(HeaderError::Version(version)),
        }
    }
}

/// What the store's last owner did, rewritten in place: where numbers begin that nobody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: u64,
    /// The run of the machine in which it was written.
    pub(super) boot: u128,
    /// The number behind the last event that counted.
    pub(super) next: u64,
    pub(super) durability: Durability,
}

/// What is true of a store if the machine went down behind its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Events may have counted that the disk does not have, nor the mark.
    Unsynced,
    /// Every event that counted is on the disk, though the mark may be old.
    Synced,
    /// The run is over; the mark is the last word.
    Closed,
    /// The last append failed, so events may have got numbers without being stored.
    AppendFailed,
}

impl Mark {
    const BYTES: usize = 37;

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        bytes.extend_from_slice(&self.next.to_le_bytes());
        bytes.push(self.durability as u8);
        seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = sealed(bytes)?;
        Some(Self {
            epoch: take_u64(&mut fields)?,
            boot: u128::from_le_bytes(take(&mut fields, 16)?.try_into().ok()?),
            next: take_u64(&mut fields)?,
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

/// Adds a record to what is to be written.
///
/// # Errors
/// An event of 4 GiB.
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
        let length = u16::try_from(path.len()).map_err(|_| too_large())?;
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(path);
    }
    buffer.extend_from_slice(record.bytes());
    let (head, body) = buffer[start..].split_at_mut(8);
    let length = u32::try_from(body.len()).map_err(|_| too_large())?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(())
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "an event is too large to be stored",
    )
}

/// What follows the header of a segment: what is known of the events before it.
pub(super) fn encode_last_events(last_events: &LastEvents) -> Vec<u8> {
    let body = last_events.encode();
    let numbers = [body.len() as u32, crc32fast::hash(&body)].map(u32::to_le_bytes);
    let mut bytes = seal(numbers.concat());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads what follows the header of a segment: what is known of the events before it, if that is sound, and its records.
pub(super) fn decode_content(
    bytes: &[u8],
) -> Result<(Option<LastEvents>, Records<'_>), HeaderError> {
    let (numbers, mut rest) = bytes.split_at_checked(12).ok_or(HeaderError::Truncated)?;
    let mut numbers = sealed(numbers).ok_or(HeaderError::Corrupt)?;
    let mut next = || take_u32(&mut numbers).ok_or(HeaderError::Corrupt);
    let (length, checksum) = (next()?, next()?);
    let body = take(&mut rest, length as usize).ok_or(HeaderError::Truncated)?;
    let sound = crc32fast::hash(body) == checksum;
    let last_events = sound.then(|| LastEvents::decode(body)).flatten();
    let records = Records {
        rest,
        namespace: Namespace::root(),
    };
    Ok((last_events, records))
}

/// Reads records one after the other, as far as they are sound.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    /// The namespace of the last record, which is likely to be that of the next.
    namespace: Namespace,
}

impl<'a> Records<'a> {
    /// Bytes that are left: behind the last record, those that are none.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn body(&mut self, mut body: &[u8]) -> Option<(Record, SystemTime)> {
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
        // It was checked when it was published, perhaps within other limits than today's.
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

    /// The next record; `None` where nothing is left or what comes is none.
    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest;
        let length = take_u32(&mut rest)?;
        let checksum = take_u32(&mut rest)?;
        let body = take(&mut rest, length as usize)?;
        let sound = crc32fast::hash(body) == checksum;
        let record = sound.then(|| self.body(body)).flatten()?;
        self.rest = rest;
        Some(record)
    }
}

/// Adds a checksum of all bytes before it.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The bytes before their checksum, if it is right.
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
        Header { epoch: 7, first: 9 }
    }

    fn mark() -> Mark {
        Mark {
            epoch: 7,
            boot: 1 << 100,
            next: 9,
            durability: Durability::Synced,
        }
    }

    #[test]
    fn a_header_and_a_mark_are_read_as_they_were_written() {
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
    fn no_flipped_bit_and_no_cut_goes_unseen() {
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
    fn records_end_where_they_are_cut() {
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
    fn what_is_known_of_events_before_is_read_as_it_was_written_or_not_at_all() {
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
    fn another_version_is_told() {
        let mut bytes = header().encode();
        bytes.truncate(Header::BYTES - 4);
        bytes[MAGIC.len()] = 9;
        assert_eq!(Header::decode(&seal(bytes)), Err(HeaderError::Version(9)));
    }

    #[test]
    fn zeros_are_no_records() {
        assert_eq!(read(&[0; 4096]).count(), 0);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
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
