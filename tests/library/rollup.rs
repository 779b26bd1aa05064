//! Roll-ups: the published events add up to the changes that were added, however events divide
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Running, TIMEOUT, builder, join_within, next_data, start};
use fanfare::{Event, EventError, Namespace, Rollup, RollupError, SendError, Server, Subscription};

/// Longer than any test, so that changes are published by `flush` or by dropping the last clone
/// only.
const NEVER: Duration = Duration::from_secs(3600);

fn subscribe(server: &Running) -> Subscription {
    let all = [Namespace::root()];
    server.handle.subscribe(&all).expect("the server runs")
}

fn event(json: String) -> Event {
    Event::new("/sums", json)
}

#[test]
fn changes_between_two_events_are_one_event() {
    let server = start(builder());
    let mut events = subscribe(&server);
    let counts = Rollup::counts(server.publisher.clone(), NEVER, 10, event).unwrap();
    let latest = Rollup::latest(server.publisher.clone(), NEVER, 10, event).unwrap();
    for (key, count) in [("b", 1), ("a", 2), ("b", 40), ("a \"key\"", 1)] {
        counts.clone().add(key, count).unwrap();
        latest.add(key, format!("\"{count}\"")).unwrap();
    }
    counts.flush().unwrap();
    assert_eq!(next_data(&mut events), r#"{"a":2,"a \"key\"":1,"b":41}"#);
    latest.flush().unwrap();
    assert_eq!(
        next_data(&mut events),
        r#"{"a":"2","a \"key\"":"1","b":"40"}"#
    );
    // Nothing has changed, so nothing is published and the next event is the one sent here.
    counts.flush().unwrap();
    latest.flush().unwrap();
    server.publish("/", "next");
    assert_eq!(next_data(&mut events), "next");
}

#[test]
fn events_add_up_to_the_changes_of_many_threads() {
    const EACH: u64 = 20_000;
    let server = start(builder());
    let events = subscribe(&server);
    let mut number = 0;
    let rollup = Rollup::counts(
        server.publisher.clone(),
        Duration::from_millis(1),
        // Fewer than there are keys, so that some callers have to wait.
        50,
        move |json| {
            number += 1;
            Event::new("/sums", json).id(number.to_string())
        },
    )
    .unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let rollup = rollup.clone();
            std::thread::spawn(move || {
                for n in 0..EACH {
                    rollup.add(&format!("{}", n * 7 % 83), thread + 1).unwrap();
                }
            })
        })
        .collect();
    drop(rollup);
    let reader = std::thread::spawn(move || {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let mut total = 0;
        for (index, event) in events.enumerate() {
            assert_eq!(event.last_event_id, (index + 1).to_string());
            let counts: BTreeMap<String, u64> = serde_json::from_str(&event.data).unwrap();
            assert!((1..=50).contains(&counts.len()));
            for (key, count) in counts {
                *sums.entry(key).or_default() += count;
                total += count;
            }
            if total == EACH * 10 {
                break;
            }
        }
        sums
    });
    threads
        .into_iter()
        .for_each(|thread| join_within(TIMEOUT, thread));
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for n in 0..EACH {
        *expected.entry(format!("{}", n * 7 % 83)).or_default() += 10;
    }
    assert_eq!(join_within(TIMEOUT, reader), expected);
}

#[test]
fn a_key_over_the_limit_is_refused_or_waits_for_the_next_event() {
    let server = start(builder());
    let mut events = subscribe(&server);
    let rollup = Rollup::counts(server.publisher.clone(), NEVER, 1, event).unwrap();
    assert_eq!(rollup.try_add("a", 1), Ok(()));
    assert_eq!(rollup.try_add("b", 1), Err(RollupError::Full));
    assert_eq!(rollup.try_add("a", 1), Ok(()));
    let waits = rollup.clone();
    let waiter = std::thread::spawn(move || waits.add("b", 5).and_then(|()| waits.flush()));
    // If this comes before the waiter waits, the waiter finds room at once.
    rollup.flush().unwrap();
    assert_eq!(join_within(TIMEOUT, waiter), Ok(()));
    assert_eq!(next_data(&mut events), r#"{"a":2}"#);
    assert_eq!(next_data(&mut events), r#"{"b":5}"#);
}

#[test]
fn dropping_the_last_clone_publishes_the_pending_changes() {
    let server = start(builder());
    let mut events = subscribe(&server);
    let rollup = Rollup::counts(server.publisher.clone(), NEVER, 1, event).unwrap();
    let clone = rollup.clone();
    rollup.add("a", 1).unwrap();
    drop(rollup);
    clone.add("a", 1).unwrap();
    drop(clone);
    assert_eq!(next_data(&mut events), r#"{"a":2}"#);
}

#[test]
fn an_event_that_cannot_be_published_ends_the_rollup_and_all_calls_report_why() {
    let server = start(builder());
    let refused = EventError::ForbiddenCharacter("event");
    let rollup = Rollup::counts(server.publisher.clone(), NEVER, 1, |json| {
        event(json).event("a\nb")
    })
    .unwrap();
    rollup.add("a", 1).unwrap();
    let ended = RollupError::Ended(Some(SendError::Refused(refused)));
    assert_eq!(rollup.flush(), Err(ended.clone()));
    assert_eq!(rollup.add("a", 1), Err(ended.clone()));
    assert_eq!(rollup.try_add("b", 1), Err(ended.clone()));
    let source = std::error::Error::source(&ended).expect("the error of the event");
    assert!(source.is::<SendError>());

    let gone = Server::new();
    let rollup = Rollup::counts(gone.publisher(), NEVER, 1, event).unwrap();
    drop(gone);
    rollup.add("a", 1).unwrap();
    assert!(matches!(
        rollup.flush(),
        Err(RollupError::Ended(Some(SendError::Closed(_))))
    ));

    let rollup = Rollup::counts(server.publisher.clone(), NEVER, 1, |_| {
        panic!("a fault of the application")
    })
    .unwrap();
    rollup.add("a", 1).unwrap();
    assert_eq!(rollup.flush(), Err(RollupError::Ended(None)));
}
