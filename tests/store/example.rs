//! The store of `examples/event_store.rs` does what the documentation of `EventStore` requires.

#[path = "../../examples/event_store.rs"]
#[allow(dead_code, reason = "the example's server does not run here")]
mod event_store;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, SystemTime};

use event_store::Folder;
use fanfare::{EventStore, Namespace, Record};

use crate::restored::Restored;

const EPOCH: u64 = 5;

fn event(seq: u64) -> Record {
    let namespaces = ["/a", "/b/ü"].map(|path| Namespace::parse(path).unwrap());
    let count = seq as usize % 3;
    let text = format!("event:\"\ndata:{seq}\n\n");
    Record::new(seq, namespaces[..count].to_vec(), text)
}

/// Opens the store, and checks that its events are unchanged. Returns it with the next number and
/// the numbers of the events.
fn open(path: &Path, fresh_epoch: u64) -> (Folder, u64, Vec<u64>) {
    let mut store = Folder(path.join("events"));
    let (restored, recovered) = Restored::from(&mut store, fresh_epoch).unwrap();
    assert_eq!(restored.epoch, Some(EPOCH));
    assert_eq!(recovered.damage, None);
    for (record, at) in &restored.events {
        let written = event(record.seq());
        assert_eq!(record.bytes(), written.bytes());
        assert_eq!(record.namespaces(), written.namespaces());
        assert!(at.elapsed().unwrap() < Duration::from_secs(3600));
    }
    (store, recovered.next_seq, restored.numbers())
}

fn append(store: &mut Folder, numbers: RangeInclusive<u64>) {
    let records: Vec<Record> = numbers.map(event).collect();
    store.append(&records, SystemTime::UNIX_EPOCH).unwrap();
}

#[test]
fn appended_events_are_restored_and_unfinished_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, next_seq, numbers) = open(folder.path(), EPOCH);
    assert_eq!((next_seq, numbers), (1, vec![]));
    append(&mut store, 1..=11);
    fs::write(folder.path().join("events/unfinished"), "/a\nda").unwrap();
    for _ in 0..2 {
        let (_, next_seq, numbers) = open(folder.path(), EPOCH + 1);
        assert_eq!((next_seq, numbers), (12, (1..=11).collect()));
    }
}

#[test]
fn pruned_events_go_and_numbers_continue() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path(), EPOCH);
    append(&mut store, 1..=20);
    store.prune(19).unwrap();
    append(&mut store, 21..=22);
    let (mut store, _, numbers) = open(folder.path(), EPOCH + 1);
    assert_eq!(numbers, [19, 20, 21, 22]);
    store.prune(40).unwrap();
    let (_, next_seq, _) = open(folder.path(), EPOCH + 1);
    assert_eq!(next_seq, 23);
}

#[test]
fn events_whose_append_failed_are_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(folder.path(), EPOCH);
    append(&mut store, 1..=2);
    // A folder is where the file of the fourth event should be.
    let in_the_way = folder.path().join("events/4");
    fs::create_dir(&in_the_way).unwrap();
    let records = [event(3), event(4)];
    store.append(&records, SystemTime::UNIX_EPOCH).unwrap_err();
    fs::remove_dir(in_the_way).unwrap();
    let (_, next_seq, numbers) = open(folder.path(), EPOCH + 1);
    assert_eq!((next_seq, numbers), (3, vec![1, 2]));
}
