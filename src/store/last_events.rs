//! The last event of each namespace, kept when the event itself is gone.
//!
//! Owns the comparison that distinguishes a gap from nothing missed. The engine keeps one for the
//! namespaces that are no longer in use, a store for the events that it has deleted. It is bounded:
//! an event that may be missing counts as missing.

use std::collections::HashMap;

use crate::namespace::Namespace;

/// The number of namespaces with an entry of their own.
const MAX_NAMESPACES: usize = 1 << 16;

/// The number of the last deleted event in each namespace.
///
/// A client that resumes after an event has missed nothing if the last event of its namespace is
/// not a later one. A store records each event that it deletes, keeps the result with its events,
/// and passes it to [`Restore::begin`](crate::Restore::begin).
///
/// ```
/// use fanfare::{LastEvents, Namespace};
///
/// let [pets, dogs, time] =
///     ["/pets", "/pets/dogs", "/time"].map(|path| Namespace::parse(path).unwrap());
/// let mut last_events = LastEvents::default();
/// last_events.record(1, &[pets.clone()]);
/// last_events.record(2, &[dogs.clone()]);
/// assert_eq!(last_events.last_seq_of(&pets), 2);
/// assert_eq!(last_events.last_seq_of(&time), 0);
///
/// let stored: Vec<u8> = last_events.encode();
/// assert_eq!(LastEvents::decode(&stored), Some(last_events));
/// ```
///
/// # Limits
/// It holds 65,536 namespaces, which takes a few megabytes. Beyond that, the half with the oldest
/// last events is replaced by one number, the *watermark*: every namespace counts as having had an
/// event of that number. So the answer may be too high, never too low.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastEvents {
    last_seq: u64,
    /// Up to this number, any event may have gone to any namespace.
    watermark: u64,
    /// By the hash of the path, because a path may take a thousand bytes. If two paths have the same
    /// hash, the later event counts for both.
    by_namespace: HashMap<u64, u64>,
}

impl LastEvents {
    /// Returns the number of the last recorded event that may have reached a namespace; 0 if there
    /// is none.
    pub fn last_seq_of(&self, namespace: &Namespace) -> u64 {
        let hash = hash_of(namespace.as_str());
        let last = self.by_namespace.get(&hash);
        last.map_or(self.watermark, |&seq| seq.max(self.watermark))
    }

    /// Returns the number of the last recorded event; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Returns the number up to which every namespace counts as having had an event.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Records an event in its namespaces and all above. Events come in ascending order of their
    /// numbers.
    ///
    /// Events with numbers that are left out may have gone anywhere, as may an event without
    /// namespaces, which was broadcast: they raise the watermark.
    pub fn record(&mut self, seq: u64, namespaces: &[Namespace]) {
        if seq > self.last_seq + 1 {
            self.raise_watermark(seq - 1);
        }
        self.last_seq = self.last_seq.max(seq);
        if namespaces.is_empty() {
            self.raise_watermark(seq);
        }
        for namespace in namespaces {
            self.record_hash(hash_of("/"), seq);
            for_each_on_path(namespace.as_str(), |hash| self.record_hash(hash, seq));
        }
    }

    /// Records an event in one namespace, and not in those above.
    pub(crate) fn record_at(&mut self, namespace: &Namespace, seq: u64) {
        self.record_hash(hash_of(namespace.as_str()), seq);
    }

    fn record_hash(&mut self, hash: u64, seq: u64) {
        if seq <= self.watermark {
            return;
        }
        let last = self.by_namespace.entry(hash).or_default();
        *last = seq.max(*last);
        if self.by_namespace.len() > MAX_NAMESPACES {
            let mut all: Vec<u64> = self.by_namespace.values().copied().collect();
            let (_, &mut median, _) = all.select_nth_unstable(MAX_NAMESPACES / 2);
            self.raise_watermark(median);
        }
    }

    /// Records that events up to this number may have gone to any namespace.
    pub fn raise_watermark(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq);
        self.watermark = self.watermark.max(seq);
        self.by_namespace.retain(|_, seq| *seq > self.watermark);
    }

    /// Encodes it for [`LastEvents::decode`]. The result has 16 bytes and 16 more per namespace, at
    /// most about 1 MiB.
    ///
    /// The format is the same on every machine.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.by_namespace.iter().collect();
        entries.sort_unstable();
        let entries = entries.into_iter().flat_map(|(&hash, &seq)| [hash, seq]);
        let numbers = [self.last_seq, self.watermark].into_iter().chain(entries);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// Decodes the result of [`LastEvents::encode`]; `None` if the bytes are invalid. It does not
    /// detect changed bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let mut numbers = numbers.iter().copied().map(u64::from_le_bytes);
        let mut last_events = Self {
            last_seq: numbers.next()?,
            watermark: numbers.next()?,
            by_namespace: HashMap::with_capacity(numbers.len() / 2),
        };
        while let Some(hash) = numbers.next() {
            last_events.by_namespace.insert(hash, numbers.next()?);
        }
        let is_valid = rest.is_empty() && last_events.by_namespace.len() <= MAX_NAMESPACES;
        is_valid.then_some(last_events)
    }
}

/// The FNV-1a hash with 64 bits (draft-eastlake-fnv, section 2), which is the same in every
/// process.
#[derive(Clone, Copy)]
struct Fnv1a(u64);

impl Fnv1a {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Returns the hash of the bytes so far and one more.
    fn then(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

fn hash_of(path: &str) -> u64 {
    path.bytes().fold(Fnv1a::EMPTY, Fnv1a::then).0
}

/// Calls `each` with the hashes of a namespace and of those above it, except the root, from the top
/// down.
///
/// FNV-1a runs over the path byte by byte, so the hash before a slash is that of an ancestor.
fn for_each_on_path(path: &str, mut each: impl FnMut(u64)) {
    let mut hash = Fnv1a::EMPTY;
    for (at, byte) in path.bytes().enumerate() {
        if byte == b'/' && at > 0 {
            each(hash.0);
        }
        hash = hash.then(byte);
    }
    each(hash.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Namespace {
        Namespace::parse(path).unwrap()
    }

    fn names(paths: &[&str]) -> Vec<Namespace> {
        paths.iter().map(|path| name(path)).collect()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(hash_of(text), expected, "{text}");
        }
    }

    #[test]
    fn an_event_is_recorded_in_its_namespaces_and_all_above() {
        let mut last_events = LastEvents::default();
        last_events.record(1, &names(&["/a/b", "/c"]));
        last_events.record(2, &names(&["/"]));
        last_events.record(3, &names(&["/a/d"]));
        for (path, last) in [
            ("/", 3),
            ("/a", 3),
            ("/a/b", 1),
            ("/a/d", 3),
            ("/c", 1),
            ("/a/b/e", 0),
            ("/ab", 0),
        ] {
            assert_eq!(last_events.last_seq_of(&name(path)), last, "{path}");
        }
        assert_eq!(last_events.last_seq(), 3);
    }

    #[test]
    fn events_left_out_or_broadcast_may_have_gone_anywhere() {
        let mut last_events = LastEvents::default();
        last_events.record(1, &names(&["/a"]));
        last_events.record(5, &names(&["/b"]));
        assert_eq!(
            ["/a", "/b", "/c"].map(|path| last_events.last_seq_of(&name(path))),
            [4, 5, 4]
        );
        last_events.record(6, &names(&[]));
        assert_eq!(
            ["/a", "/b", "/c"].map(|path| last_events.last_seq_of(&name(path))),
            [6; 3]
        );
        last_events.raise_watermark(9);
        assert_eq!(
            (last_events.last_seq_of(&name("/a")), last_events.last_seq()),
            (9, 9)
        );
    }

    #[test]
    fn the_older_half_of_too_many_namespaces_becomes_the_watermark() {
        let mut last_events = LastEvents::default();
        let name = |number: u64| name(&number.to_string());
        let most = MAX_NAMESPACES as u64;
        for number in 1..=most {
            last_events.record_at(&name(number), number);
        }
        assert_eq!(last_events.last_seq_of(&name(1)), 1);
        assert_eq!(last_events.last_seq_of(&name(most + 1)), 0);
        last_events.record_at(&name(most + 1), most + 1);
        assert!(last_events.by_namespace.len() <= MAX_NAMESPACES / 2 + 1);
        let watermark = last_events.last_seq_of(&Namespace::root());
        assert!((most / 2..=most / 2 + 1).contains(&watermark));
        for number in [1, most / 2, most, most + 1] {
            assert_eq!(
                last_events.last_seq_of(&name(number)),
                number.max(watermark)
            );
        }
    }

    #[test]
    fn decode_reverses_encode() {
        let mut last_events = LastEvents::default();
        assert_eq!(
            LastEvents::decode(&last_events.encode()),
            Some(last_events.clone())
        );
        last_events.record(3, &names(&["/a/b", "/c"]));
        last_events.record(4, &names(&["/d"]));
        let bytes = last_events.encode();
        assert_eq!(LastEvents::decode(&bytes), Some(last_events));
        assert_eq!(bytes.len(), 16 + 16 * 5);
        for end in 0..bytes.len() {
            let whole = end % 16 == 0 && end > 0;
            assert_eq!(LastEvents::decode(&bytes[..end]).is_some(), whole, "{end}");
        }
        let too_many = (0..=2 * MAX_NAMESPACES as u64 + 3).flat_map(u64::to_le_bytes);
        assert_eq!(LastEvents::decode(&too_many.collect::<Vec<u8>>()), None);
    }
}
