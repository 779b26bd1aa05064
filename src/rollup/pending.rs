//! The changes that a [`Rollup`](crate::Rollup) has not published, merged by key.
//!
//! Owns how changes merge, the limit on keys, and the time at which changes are due. Reads no clock
//! and does not publish: its caller does both.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use crate::json::json_string;

/// The longest interval: one day. Adding a much longer one to an [`Instant`] would panic.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);

/// Merged changes in the order of their keys.
#[derive(Debug)]
pub(crate) struct PendingCounts<V> {
    entries: BTreeMap<String, V>,
    merge: fn(&mut V, V),
    interval: Duration,
    max_keys: usize,
    /// When the first of these changes was added.
    since: Option<Instant>,
}

impl<V> PendingCounts<V> {
    /// Creates an empty set of changes. All become due `interval` after the first one.
    pub(crate) fn new(merge: fn(&mut V, V), interval: Duration, max_keys: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            merge,
            interval: interval.min(MAX_INTERVAL),
            max_keys: max_keys.max(1),
            since: None,
        }
    }

    /// Merges a change.
    ///
    /// # Errors
    /// Returns the value if its key is new and there are `max_keys` keys already.
    pub(crate) fn add(&mut self, key: &str, value: V, now: Instant) -> Result<(), V> {
        if let Some(merged) = self.entries.get_mut(key) {
            (self.merge)(merged, value);
            return Ok(());
        }
        if self.entries.len() == self.max_keys {
            return Err(value);
        }
        self.since.get_or_insert(now);
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }

    /// The time at which the changes must be published; `None` without changes.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.interval)
    }

    /// Takes all changes. The next change starts a new interval.
    pub(crate) fn take(&mut self) -> BTreeMap<String, V> {
        self.since = None;
        std::mem::take(&mut self.entries)
    }
}

/// Writes entries as a JSON object with sorted keys. The `Display` of a value must be JSON.
pub(crate) fn json_object<V: Display>(entries: &BTreeMap<String, V>) -> String {
    let mut json = String::from("{");
    for (key, value) in entries {
        if json.len() > 1 {
            json.push(',');
        }
        json_string(key, &mut json);
        // Writing to a string cannot fail.
        let _ = write!(json, ":{value}");
    }
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(17);

    fn counts(max_keys: usize) -> PendingCounts<u64> {
        PendingCounts::new(|total, more| *total += more, INTERVAL, max_keys)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the clock is the only source of an Instant"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn changes_of_one_key_merge_and_keys_are_sorted() {
        let now = start();
        let mut pending = counts(10);
        for (key, count) in [("b", 1), ("a", 2), ("b", 3), ("\"", 1), ("1F604", 1)] {
            assert_eq!(pending.add(key, count, now), Ok(()));
        }
        assert_eq!(
            json_object(&pending.take()),
            r#"{"\"":1,"1F604":1,"a":2,"b":4}"#
        );
        assert_eq!(pending.add("b", 5, now), Ok(()));
        assert_eq!(json_object(&pending.take()), r#"{"b":5}"#);
        let mut latest: PendingCounts<String> =
            PendingCounts::new(|last, new| *last = new, INTERVAL, 2);
        for value in ["1", "[2]", "{\"x\":3}"] {
            assert_eq!(latest.add("a", value.to_owned(), now), Ok(()));
        }
        assert_eq!(json_object(&latest.take()), r#"{"a":{"x":3}}"#);
    }

    #[test]
    fn changes_are_due_an_interval_after_the_first_and_never_while_empty() {
        let now = start();
        let ms = |ms| now + Duration::from_millis(ms);
        let mut pending = counts(10);
        assert_eq!(pending.due(), None);
        pending.add("a", 1, ms(5)).unwrap();
        pending.add("b", 1, ms(9)).unwrap();
        assert_eq!(pending.due(), Some(ms(22)));
        pending.take();
        assert_eq!(pending.due(), None);
        pending.add("a", 1, ms(100)).unwrap();
        assert_eq!(pending.due(), Some(ms(117)));
    }

    #[test]
    fn a_key_over_the_limit_is_refused_and_changes_nothing() {
        let now = start();
        let mut pending = counts(2);
        pending.add("a", 1, now).unwrap();
        pending.add("b", 1, now).unwrap();
        assert_eq!(pending.add("c", 7, now), Err(7));
        assert_eq!(pending.add("a", 1, now), Ok(()));
        assert_eq!(json_object(&pending.take()), r#"{"a":2,"b":1}"#);
        assert_eq!(pending.add("c", 7, now), Ok(()));
    }
}
