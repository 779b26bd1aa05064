//! Changes by key, merged until they are taken: what a [`Rollup`](crate::Rollup) gathers.
//!
//! Owns how changes merge, how many keys there may be, and when what has gathered is due. Must not know who publishes it; the time is told.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use crate::json::json_string;

/// No interval is longer, so that the time at which a pending is due always exists.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Changes that have gathered, in the order of their keys.
#[derive(Debug)]
pub(crate) struct PendingCounts<V> {
    entries: BTreeMap<String, V>,
    merge: fn(&mut V, V),
    interval: Duration,
    max_keys: usize,
    /// When the first of the changes came.
    since: Option<Instant>,
}

impl<V> PendingCounts<V> {
    /// An empty pending that is due `interval` after its first change.
    pub(crate) fn new(merge: fn(&mut V, V), interval: Duration, max_keys: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            merge,
            interval: interval.min(LONGEST),
            max_keys: max_keys.max(1),
            since: None,
        }
    }

    /// Merges a change.
    ///
    /// # Errors
    /// Gives the value back when its key would be one too many.
    pub(crate) fn add(&mut self, key: &str, value: V, now: Instant) -> Result<(), V> {
        if let Some(held) = self.entries.get_mut(key) {
            (self.merge)(held, value);
            return Ok(());
        }
        if self.entries.len() == self.max_keys {
            return Err(value);
        }
        self.since.get_or_insert(now);
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }

    /// When what has gathered is to be published; `None` while there is nothing.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.interval)
    }

    /// Takes what has gathered; what comes next is due an interval after its own first change.
    pub(crate) fn take(&mut self) -> BTreeMap<String, V> {
        self.since = None;
        std::mem::take(&mut self.entries)
    }
}

/// Entries as a JSON object, keys sorted. Values are displayed as they are, so that must be JSON.
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
        reason = "time begins somewhere; from there on it is told"
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
            PendingCounts::new(|held, new| *held = new, INTERVAL, 2);
        for value in ["1", "[2]", "{\"x\":3}"] {
            assert_eq!(latest.add("a", value.to_owned(), now), Ok(()));
        }
        assert_eq!(json_object(&latest.take()), r#"{"a":{"x":3}}"#);
    }

    #[test]
    fn it_is_due_an_interval_after_its_first_change_and_never_while_empty() {
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
    fn a_key_too_many_is_refused_and_changes_nothing() {
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
