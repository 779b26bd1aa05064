//! The store that `examples/history.rs` shows does what the documentation of `EventStore` asks for.

#[path = "../../examples/history.rs"]
#[allow(dead_code, reason = "what the example runs is its server")]
mod example;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use example::Journal;
use fanfare::{EventStore, Namespace, Record, Recovered};

fn event(seq: u64) -> Record {
    let namespaces = ["/a", "/b/ü"].map(|path| Namespace::parse(path).unwrap());
    let count = seq as usize % 3;
    let text = format!("event:\"\ndata:{seq}\n\n");
    Record::new(seq, namespaces[..count.min(2)].to_vec(), text)
}

fn recover(path: &Path, fresh: u64) -> (Journal, Recovered, Vec<u64>) {
    let mut journal = Journal::open(path).unwrap();
    let mut numbers = Vec::new();
    assert_eq!(journal.epoch(fresh).unwrap(), 5);
    let recovered = journal.recover(&mut |record, at| {
        let written = event(record.seq());
        assert_eq!(record.bytes(), written.bytes());
        assert_eq!(record.namespaces(), written.namespaces());
        assert_eq!(at, UNIX_EPOCH + Duration::from_secs(3));
        numbers.push(record.seq());
    });
    (journal, recovered.unwrap(), numbers)
}

fn append(journal: &mut Journal, numbers: std::ops::RangeInclusive<u64>) {
    let records: Vec<Record> = numbers.map(event).collect();
    journal
        .append(&records, UNIX_EPOCH + Duration::from_secs(3))
        .unwrap();
}

#[test]
fn what_is_appended_is_there_and_half_a_line_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.json");
    let (mut journal, fresh, none) = recover(&path, 5);
    assert_eq!((fresh.next, none), (1, vec![]));
    append(&mut journal, 1..=3);
    drop(journal);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"{\"epoch\":5,\"seq\":4").unwrap();
    for _ in 0..2 {
        let (_, again, numbers) = recover(&path, 6);
        assert_eq!((again.next, numbers), (4, vec![1, 2, 3]));
    }
}

#[test]
fn what_is_pruned_goes_and_the_count_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.json");
    let (mut journal, ..) = recover(&path, 5);
    append(&mut journal, 1..=20_000);
    journal.prune(19_999).unwrap();
    append(&mut journal, 20_001..=20_002);
    let (_, _, numbers) = recover(&path, 5);
    assert_eq!(numbers, [19_999, 20_000, 20_001, 20_002]);
    // What is left is what is known of them: every third one was broadcast, and may have gone anywhere.
    journal.prune(40_000).unwrap();
    let (mut journal, recovered, numbers) = recover(&path, 6);
    assert_eq!((recovered.next, numbers), (20_003, vec![]));
    let last_events = journal.last_events().unwrap();
    let last =
        ["/a", "/b", "/c"].map(|path| last_events.last_seq_of(&Namespace::parse(path).unwrap()));
    assert_eq!(
        (last_events.last_seq(), last),
        (20_002, [20_002, 20_001, 20_001])
    );
}
