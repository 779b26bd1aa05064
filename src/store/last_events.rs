//! What is known of events that are gone: which was the last of each namespace.
//!
//! Owns the comparison that tells a gap from nothing missed. The engine keeps it for the namespaces that are no longer in use, a store for the events that
//! it has deleted. It is bounded: what it does not know for sure counts as gone.

use std::collections::HashMap;

use crate::namespace::Namespace;

/// Namespaces that are known of by themselves.
const MOST: usize = 1 << 16;

/// The last events of namespaces, by number, when they are gone themselves.
///
/// It takes some megabytes at the most: it knows 65,536 namespaces, and beyond that one number for the half whose last events are the oldest, which is the largest
/// of theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastEvents {
    /// The last event that was recorded.
    last_seq: u64,
    /// Of events up to this number nothing is known, in whatever namespace.
    watermark: u64,
    /// By the namespace's hash: a thousand bytes of a path are too much to keep of what is gone. Where two have the same, the later event counts for both.
    by_namespace: HashMap<u64, u64>,
}

impl LastEvents {
    /// The number of the last event that a namespace may have had of those that were recorded; 0 if it had none.
    pub fn last_seq_of(&self, namespace: &Namespace) -> u64 {
        let last = self.by_namespace.get(&hash(namespace.as_str()));
        last.map_or(self.watermark, |&seq| seq.max(self.watermark))
    }

    /// The number of the last event that was recorded.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Records the next event, in the order of their numbers. Those between this one and the last may have gone anywhere, and so may one without
    /// namespaces, which was broadcast.
    pub fn record(&mut self, seq: u64, namespaces: &[Namespace]) {
        if seq > self.last_seq + 1 {
            self.raise_watermark(seq - 1);
        }
        self.last_seq = seq;
        if namespaces.is_empty() {
            self.raise_watermark(seq);
        }
        for namespace in namespaces {
            self.record_hash(hash("/"), seq);
            for_each_on_path(namespace.as_str(), |hash| self.record_hash(hash, seq));
        }
    }

    /// Records that an event may have gone to a namespace.
    pub(crate) fn record_at(&mut self, namespace: &Namespace, seq: u64) {
        self.record_hash(hash(namespace.as_str()), seq);
    }

    fn record_hash(&mut self, hash: u64, seq: u64) {
        if seq <= self.watermark {
            return;
        }
        let last = self.by_namespace.entry(hash).or_default();
        *last = seq.max(*last);
        if self.by_namespace.len() > MOST {
            let mut all: Vec<u64> = self.by_namespace.values().copied().collect();
            let (_, &mut middle, _) = all.select_nth_unstable(MOST / 2);
            self.raise_watermark(middle);
        }
    }

    /// Records that events up to this number may have gone anywhere.
    pub fn raise_watermark(&mut self, seq: u64) {
        self.last_seq = self.last_seq.max(seq);
        self.watermark = self.watermark.max(seq);
        self.by_namespace.retain(|_, seq| *seq > self.watermark);
    }

    /// The bytes from which [`LastEvents::decode`] makes it again, a mebibyte and a few at the most.
    pub fn encode(&self) -> Vec<u8> {
        let mut last: Vec<_> = self.by_namespace.iter().collect();
        last.sort_unstable();
        let pairs = last.into_iter().flat_map(|(&hash, &seq)| [hash, seq]);
        let numbers = [self.last_seq, self.watermark].into_iter().chain(pairs);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// Reads what [`LastEvents::encode`] made; `None` if these bytes are nothing of the kind.
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
        (rest.is_empty() && last_events.by_namespace.len() <= MOST).then_some(last_events)
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 2): the same in every process, and what comes before a slash is the hash of the ancestor.
fn hash(path: &str) -> u64 {
    path.bytes().fold(FNV_BASIS, fnv)
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// The hashes of a namespace and of those above it, but for the root, from there on.
fn for_each_on_path(path: &str, mut each: impl FnMut(u64)) {
    let mut hash = FNV_BASIS;
    for (at, byte) in path.bytes().enumerate() {
        if byte == b'/' && at > 0 {
            each(hash);
        }
        hash = fnv(hash, byte);
    }
    each(hash);
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
    fn the_hash_is_the_one_that_is_published() {
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(hash(text), expected, "{text}");
        }
    }

    #[test]
    fn an_event_is_the_last_of_its_namespaces_and_of_all_above() {
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
    fn what_is_not_known_may_have_gone_anywhere() {
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
    fn of_too_many_namespaces_the_older_half_is_one_number() {
        let mut last_events = LastEvents::default();
        let name = |number: u64| name(&number.to_string());
        let most = MOST as u64;
        for number in 1..=most {
            last_events.record_at(&name(number), number);
        }
        assert_eq!(last_events.last_seq_of(&name(1)), 1);
        assert_eq!(last_events.last_seq_of(&name(most + 1)), 0);
        last_events.record_at(&name(most + 1), most + 1);
        assert!(last_events.by_namespace.len() <= MOST / 2 + 1);
        // What is not known for sure counts as gone.
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
    fn it_is_read_as_it_was_written() {
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
        let too_many = (0..=2 * MOST as u64 + 3).flat_map(u64::to_le_bytes);
        assert_eq!(LastEvents::decode(&too_many.collect::<Vec<u8>>()), None);
    }
}
