//! History over real sockets: a client that comes back gets the events that it missed, byte for
//! byte, or a gap.
#![cfg(feature = "publish")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fanfare::{
    DisconnectReason, Event, EventStore, LastEvents, Record, Recovered, Restore, Server, Status,
    StoreState,
};

use crate::support;
use crate::support::{Client, Running, body, header, request, start, status};

/// A server with the default history, and heads that are the same each time.
fn with_history() -> fanfare::Builder {
    Server::builder()
        .keepalive(Duration::ZERO)
        .retry(Duration::ZERO)
}

/// A server, and the epoch in the IDs of its events.
struct Remembering {
    server: Running,
    epoch: String,
}

fn remember(builder: fanfare::Builder) -> Remembering {
    let server = start(builder);
    let mut client = server.ask("GET /subscribe", "");
    client.read_through("\r\n\r\nid:");
    let epoch = client.read_through("-");
    let epoch = epoch.trim_end_matches('-').to_owned();
    drop(client);
    server.next_end();
    Remembering { server, epoch }
}

impl Remembering {
    /// Waits until the status is as expected.
    fn wait_until(&self, is_expected: impl Fn(&Status) -> bool) {
        let since = support::now();
        loop {
            let status = self.server.handle.status();
            if is_expected(&status) {
                return;
            }
            assert!(since.elapsed() < support::TIMEOUT, "{status:?}");
            std::thread::yield_now();
        }
    }

    /// Publishes over HTTP; returns the body of the response with `E` for the epoch.
    fn publish(&self, target: &str, data: &str) -> String {
        let mut client = self.server.connect();
        let length = format!("Content-Length: {}\r\n", data.len());
        client.send(request(&format!("POST {target}"), &length) + data);
        body(&client.response()).replace(&self.epoch, "E")
    }

    /// The beginning of a stream: its header `Fanfare-Replay`, and its text up to and including
    /// `end`.
    fn stream(&self, target: &str, last_id: &str, end: &str) -> (String, String) {
        let headers = match last_id {
            "" => String::new(),
            id => format!("Last-Event-ID: {}\r\n", id.replace('E', &self.epoch)),
        };
        let target = target.replace("E-", &format!("{}-", self.epoch));
        let mut client = self.server.ask(&format!("GET {target}"), &headers);
        let head = client.read_through("\r\n\r\n");
        let replay = header(&head, "Fanfare-Replay")
            .expect("each stream has the header")
            .to_owned();
        let text = client.read_through(&end.replace("E-", &format!("{}-", self.epoch)));
        (replay, text.replace(&self.epoch, "E"))
    }

    #[track_caller]
    fn expect(&self, target: &str, last_id: &str, replay: &str, text: &str) {
        let end = &text[text[..text.len() - 2].rfind("\n\n").map_or(0, |at| at + 2)..];
        let got = self.stream(target, last_id, end);
        assert_eq!(
            (got.0.as_str(), got.1.as_str()),
            (replay, text),
            "{target} after {last_id:?}"
        );
    }
}

#[test]
fn a_stream_continues_after_the_event_it_names() {
    let it = remember(with_history());
    assert_eq!(
        it.publish("/publish/a/b", "one"),
        r#"{"id":"E-1","subscribers":0}"#
    );
    assert_eq!(
        it.publish("/publish/a/c?id=mine", "two"),
        r#"{"id":"mine","subscribers":0}"#
    );
    it.publish("/publish/d", "three");
    it.publish("/publish/a/b", "four");
    let (one, two, four) = (
        "id:E-1\ndata:one\n\n",
        "id:mine\ndata:two\n\n",
        "id:E-4\ndata:four\n\n",
    );
    let three = "id:E-3\ndata:three\n\n";
    let rows: &[(&str, &str, &str, &[&str])] = &[
        // In the header, in the query, and in both: the header wins.
        ("/subscribe/a/b", "E-1", "complete", &[four]),
        ("/subscribe/a/b?lastEventId=E-1", "", "complete", &[four]),
        (
            "/subscribe/a/b?lastEventId=E-4&replay=all",
            "E-0",
            "complete",
            &[one, four],
        ),
        (
            "/subscribe/a/b?replay=1&lastEventId=E-0",
            "",
            "complete",
            &[one, four],
        ),
        // After an event of another namespace, or one with a custom ID.
        ("/subscribe/a/b", "E-3", "complete", &[four]),
        ("/subscribe/a/b", "mine", "complete", &[four]),
        // A namespace without subscribers, and its ancestors.
        ("/subscribe/d", "E-0", "complete", &[three]),
        ("/subscribe/a", "E-1", "complete", &[two, four]),
        ("/subscribe", "E-0", "complete", &[one, two, three, four]),
        (
            "/subscribe?ns=/a/b&ns=/d",
            "E-0",
            "complete",
            &[one, three, four],
        ),
        (
            "/subscribe?ns=/a/b&ns=/d",
            "E-1",
            "complete",
            &[three, four],
        ),
        // Only retained events.
        ("/subscribe/a?replay=all", "", "complete", &[one, two, four]),
        ("/subscribe/a?replay=2", "", "complete", &[two, four]),
        (
            "/subscribe?ns=/a/b&ns=/d&ns=/x&replay=2",
            "",
            "complete",
            &[three, four],
        ),
        (
            "/subscribe/a?replay=18446744073709551615",
            "",
            "complete",
            &[one, two, four],
        ),
    ];
    for (target, last_id, replay, events) in rows {
        it.expect(
            target,
            last_id,
            replay,
            &format!(":\n\n{}", events.concat()),
        );
    }
    // With nothing to replay, a stream gets the ID of the latest event.
    for (target, last_id, replay) in [
        ("/subscribe/a/b", "E-4", "complete"),
        ("/subscribe/d", "E-3", "complete"),
        ("/subscribe/x", "E-2", "complete"),
        ("/subscribe/a", "", "none"),
        ("/subscribe/a?replay=0", "", "complete"),
        ("/subscribe/x?replay=all", "", "complete"),
    ] {
        it.expect(target, last_id, replay, "id:E-4\n:\n\n");
    }
}

#[test]
fn a_replay_continues_with_live_events() {
    let it = remember(with_history());
    for number in 0..500 {
        it.server.publish("/a", &number.to_string());
    }
    let mut clients: Vec<Client> = ["/subscribe/a", "/subscribe?ns=/a&ns=/b"]
        .iter()
        .map(|target| {
            it.server.ask(
                &format!("GET {target}"),
                &format!("Last-Event-ID: {}-100\r\n", it.epoch),
            )
        })
        .collect();
    for number in 500..1000 {
        it.server.publish("/a", &number.to_string());
    }
    let expected: String = (100..1000)
        .map(|number| format!("id:{}-{}\ndata:{number}\n\n", it.epoch, number + 1))
        .collect();
    for client in &mut clients {
        client.read_through("\r\n\r\n:\n\n");
        client.expect(&expected);
    }
}

#[test]
fn a_gap_has_the_true_reason() {
    let it = remember(with_history().history_events(2));
    for data in ["one", "two", "three", "four"] {
        it.publish("/publish/a/b?id=", data);
    }
    it.publish("/publish/c", "five");
    let gap = |reason: &str, asked: &str, at: &str| {
        format!(
            ":\n\nevent:gap\ndata:{{\"reason\":\"{reason}\",\"lastEventId\":\"{asked}\",\"resumedAt\":\"{at}\"}}\n\n"
        )
    };
    let (three, four, five) = (
        "id:E-3\ndata:three\n\n",
        "id:E-4\ndata:four\n\n",
        "id:E-5\ndata:five\n\n",
    );
    let rows: &[(&str, &str, &str, &str, &[&str])] = &[
        ("/subscribe/a", "E-1", "expired", "E-3", &[three, four]),
        (
            "/subscribe?ns=/a&ns=/c",
            "E-1",
            "expired",
            "E-3",
            &[three, four, five],
        ),
        ("/subscribe/c", "no such", "unknown", "E-5", &[five]),
        ("/subscribe/c", "E-6", "unknown", "E-5", &[five]),
        (
            "/subscribe/c",
            "E-18446744073709551616",
            "unknown",
            "E-5",
            &[five],
        ),
        ("/subscribe/c", "E-+1", "unknown", "E-5", &[five]),
        ("/subscribe/c", "x-1", "epoch", "E-5", &[five]),
        ("/subscribe/a", "\\\"<", "unknown", "E-3", &[three, four]),
    ];
    for &(target, asked, reason, at, events) in rows {
        let escaped = match asked {
            "\\\"<" => "\\\\\\\"\\u003c",
            plain => plain,
        };
        it.expect(
            target,
            asked,
            "gap",
            &(gap(reason, escaped, at) + &events.concat()),
        );
    }
    // A gap after which nothing is retained comes with an ID but without an event, so that it is
    // not reported twice.
    it.expect(
        "/subscribe/x",
        "x-1",
        "gap",
        &(gap("epoch", "x-1", "E-5") + "id:E-5\n\n"),
    );
    // Nothing is missing where nothing was published, or after the last retained event.
    it.expect(
        "/subscribe/a",
        "E-2",
        "complete",
        &format!(":\n\n{three}{four}"),
    );
    it.expect("/subscribe/c", "E-0", "complete", &format!(":\n\n{five}"));
    it.expect("/subscribe/x", "E-0", "complete", "id:E-5\n:\n\n");
}

#[test]
fn the_event_type_of_a_gap_can_be_changed_or_turned_off() {
    for (name, expected) in [
        ("lücke", ":\n\nevent:lücke\ndata:{"),
        ("", ":\n\nid:E-0\n\n"),
    ] {
        let it = remember(with_history().gap_event(name));
        let (replay, text) = it.stream("/subscribe/a", "x-1", &expected[3..]);
        assert_eq!((replay.as_str(), text.as_str()), ("gap", expected));
    }
}

#[test]
fn response_heads_report_the_replay_and_invalid_requests_are_refused() {
    let it = remember(with_history());
    for (id, replay) in [("E-0", "complete"), ("x-1", "gap"), ("", "none")] {
        let id = format!("Last-Event-ID: {}\r\n", id.replace('E', &it.epoch));
        let head = it.server.ask("HEAD /subscribe/a", &id).read_to_end();
        assert_eq!(header(&head, "Fanfare-Replay"), Some(replay));
    }
    for query in ["replay=some", "replay=-1", "replay=1.5", "lastEventId=%ff"] {
        let response = it
            .server
            .ask(&format!("GET /subscribe/a?{query}"), "")
            .response();
        assert_eq!(status(&response), 400, "{query}");
    }
    // Bytes that are not UTF-8 are an unknown ID.
    let mut client = it.server.connect();
    client.send(b"GET /subscribe/a HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\r\n\r\n");
    assert_eq!(
        header(&client.read_through("\r\n\r\n"), "Fanfare-Replay"),
        Some("gap")
    );
}

#[test]
fn without_history_events_have_no_ids() {
    for builder in [
        with_history().history_events(0),
        with_history().history_age(Duration::ZERO),
        with_history().history_bytes(0),
        with_history().history_total(0),
    ] {
        let server = start(builder);
        let mut client = server.ask("GET /subscribe/a?replay=all", "Last-Event-ID: x-1\r\n");
        assert_eq!(
            header(&client.read_through("\r\n\r\n"), "Fanfare-Replay"),
            Some("none")
        );
        client.expect(":\n\n");
        let mut publisher = server.connect();
        publisher.send(request("POST /publish/a?id=mine", "Content-Length: 1\r\n") + "x");
        assert_eq!(
            body(&publisher.response()),
            r#"{"id":null,"subscribers":1}"#
        );
        client.expect("id:mine\ndata:x\n\n");
        assert_eq!(server.handle.status().retained_events, 0);
    }
}

#[test]
fn every_form_of_event_has_an_id() {
    let it = remember(with_history());
    let mut client = it.server.ask("GET /subscribe", "");
    client.read_through("\n\n");
    for event in [
        Event::new("/a", "x").event("e"),
        Event::comment("/a", "c"),
        Event::encoded("/a", "data:1\r\rid: own\ndata:2\n\n\ndata:3\n\n"),
        Event::new("/a", "y").id("last"),
    ] {
        it.server.publisher.send(event).unwrap();
    }
    let rest = ":c\n\nid:E-3\ndata:1\r\rid: own\ndata:2\n\n\nid:E-5\ndata:3\n\nid:last\ndata:y\n\n";
    let all = format!("id:E-1\nevent:e\ndata:x\n\nid:E-2\n{rest}");
    client.expect(&all.replace("E-", &format!("{}-", it.epoch)));
    it.expect(
        "/subscribe/a",
        "own",
        "complete",
        ":\n\nid:E-5\ndata:3\n\nid:last\ndata:y\n\n",
    );
    it.expect(
        "/subscribe/a",
        "E-4",
        "complete",
        ":\n\nid:E-5\ndata:3\n\nid:last\ndata:y\n\n",
    );
}

#[test]
fn a_broadcast_joins_the_log_of_each_namespace_in_use() {
    let it = remember(with_history());
    it.publish("/publish/a", "one");
    it.publish("/publish?broadcast=1", "two");
    it.expect(
        "/subscribe/a",
        "E-1",
        "complete",
        ":\n\nid:E-2\ndata:two\n\n",
    );
    it.expect(
        "/subscribe?ns=/a&ns=/b",
        "E-0",
        "complete",
        ":\n\nid:E-1\ndata:one\n\nid:E-2\ndata:two\n\n",
    );
    it.expect("/subscribe/b", "E-0", "complete", "id:E-2\n:\n\n");
}

#[test]
fn an_event_that_one_of_two_namespaces_retains_is_not_missing() {
    let it = remember(with_history().history_events(1));
    let send = |event| it.server.publisher.send(event).unwrap();
    let both = |data| Event::new("/a", data).also("/b");
    let either = "/subscribe?ns=/a&ns=/b";
    send(both("1"));
    it.publish("/publish/a", "2");
    let all = ":\n\nid:E-1\ndata:1\n\nid:E-2\ndata:2\n\n";
    it.expect(either, "E-0", "complete", all);
    assert_eq!(it.stream("/subscribe/a", "E-0", "id:E-2").0, "gap");
    // Once neither retains it, it is missing. So is an event that only one of them ever had.
    it.publish("/publish/b", "3");
    let last = "id:E-2\ndata:2\n\nid:E-3\ndata:3\n\n";
    assert_eq!(it.stream(either, "E-0", last).0, "gap");
    it.expect(either, "E-1", "complete", &format!(":\n\n{last}"));
    it.publish("/publish/a", "4");
    send(both("5"));
    it.publish("/publish/a", "6");
    assert_eq!(it.stream(either, "E-1", "id:E-6").0, "gap");
    let last = "id:E-5\ndata:5\n\nid:E-6\ndata:6\n\n";
    it.expect(either, "E-4", "complete", &format!(":\n\n{last}"));
}

#[test]
fn namespaces_retain_by_count_bytes_and_age() {
    let it = remember(with_history().history_events(3));
    for number in 0..10 {
        it.server.publish("/a", &number.to_string());
    }
    it.wait_until(|status| status.events == 10 && status.retained_events == 6);
    // Each log has its own limits, so a busy namespace evicts no events of a quiet one, only of its
    // ancestors.
    it.server.publish("/b", "quiet");
    it.wait_until(|status| status.events == 11 && status.retained_events == 7);

    let it = remember(with_history().history_bytes(100));
    for _ in 0..10 {
        it.server.publish("/", "0123456789");
    }
    it.wait_until(|status| status.events == 10 && (1..=100).contains(&status.retained_bytes));
    it.server.publish("/", &"x".repeat(200));
    it.wait_until(|status| status.events == 11 && status.retained_events == 0);

    let it = remember(with_history().history_age(Duration::from_millis(30)));
    it.publish("/publish/a/b", "soon gone");
    it.wait_until(|status| status.namespaces == 0 && status.retained_memory == 0);
    it.expect("/subscribe/a/b", "E-1", "complete", "id:E-1\n:\n\n");
    let (replay, text) = it.stream("/subscribe/a/b", "E-0", "}\n\n");
    assert_eq!(replay, "gap");
    assert!(text.contains("\"reason\":\"expired\""), "{text}");
    // Nothing is missing in a namespace that never had an event.
    it.expect("/subscribe/never", "E-0", "complete", "id:E-1\n:\n\n");
}

#[test]
fn the_total_is_bounded_and_the_largest_logs_are_evicted() {
    let total = 8 << 20;
    let it = remember(
        with_history()
            .max_event(10_000)
            .history_total(total)
            .history_bytes(64 << 20)
            .history_events(1 << 20),
    );
    for number in 0..5 {
        it.server.publish("/quiet/one", &number.to_string());
    }
    let data = "x".repeat(5_000);
    for _ in 0..6_000 {
        it.server.publish("/noisy", &data);
    }
    it.wait_until(|status| status.events == 6_005);
    let status = it.server.handle.status();
    assert!(
        status.evicted > 0 && status.retained_memory <= total as u64,
        "{status:?}"
    );
    assert!(status.retained_memory > total as u64 / 2, "{status:?}");
    let quiet: String = (0..5)
        .map(|number| format!("id:E-{}\ndata:{number}\n\n", number + 1))
        .collect();
    it.expect(
        "/subscribe/quiet",
        "E-0",
        "complete",
        &format!(":\n\n{quiet}"),
    );
    let (replay, _) = it.stream("/subscribe/noisy", "E-5", "\n\n");
    assert_eq!(replay, "gap");
}

#[test]
fn namespaces_over_the_limit_keep_no_history_and_report_a_gap() {
    let it = remember(with_history().max_namespaces(1));
    it.publish("/publish/a", "one");
    it.publish("/publish/b/c", "two");
    it.expect(
        "/subscribe",
        "E-0",
        "complete",
        ":\n\nid:E-1\ndata:one\n\nid:E-2\ndata:two\n\n",
    );
    let response = it.server.ask("GET /subscribe/b", "").response();
    assert_eq!(status(&response), 503);
    let head = it
        .server
        .ask(
            "HEAD /subscribe/b/c",
            &format!("Last-Event-ID: {}-1\r\n", it.epoch),
        )
        .read_to_end();
    assert_eq!(header(&head, "Fanfare-Replay"), Some("gap"));
}

/// A replay may exceed `max_lag`: a slow reader gets all of it as long as it is retained.
#[test]
fn a_slow_replay_does_not_keep_events_from_expiring() {
    let events = 20_000;
    let it = remember(
        with_history()
            .max_event(2_000)
            .max_lag(1)
            .history_events(events)
            .history_bytes(64 << 20),
    );
    let data = "x".repeat(1_000);
    for _ in 0..events {
        it.server.publish("/a", &data);
    }
    it.wait_until(|status| status.events == events as u64);
    let ask = || {
        let mut client = Client::connect_with_small_buffer(it.server.address);
        client.send(request(
            "GET /subscribe/a",
            &format!("Last-Event-ID: {}-0\r\n", it.epoch),
        ));
        client.read_through("\r\n\r\n:\n\n");
        client
    };
    let (mut slow, mut sleeping) = (ask(), ask());
    for number in 1..=events {
        slow.expect(&format!("id:{}-{number}\ndata:{data}\n\n", it.epoch));
    }
    let retained = it.server.handle.status().retained_events;
    for _ in 0..events {
        it.server.publish("/a", &data);
    }
    it.wait_until(|status| status.events == 2 * events as u64);
    // The events that it is missing are dropped nevertheless, and its connection ends.
    let (info, reason) = loop {
        let (info, reason) = it.server.next_end();
        if !info.namespaces.is_empty() && reason != DisconnectReason::Client {
            break (info, reason);
        }
    };
    assert_eq!(reason, DisconnectReason::Lagged, "{info:?}");
    assert!(it.server.handle.status().retained_events <= retained);
    sleeping.read_to_cut();
}

#[cfg(feature = "disk")]
#[test]
fn a_client_that_missed_nothing_gets_no_gap_after_expiry_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = |age| remember(with_history().history_age(age).data_dir(folder.path()));
    let it = start(Duration::from_millis(1));
    for (target, id) in [("quiet/a", "E-1"), ("busy", "E-2"), ("busy", "E-3")] {
        let reply = it.publish(&format!("/publish/{target}"), "text");
        assert!(reply.contains(id), "{reply}");
    }
    it.wait_until(|status| status.retained_events == 0);
    drop(it);
    for _ in 0..2 {
        let it = start(Duration::from_hours(1));
        for (target, last_id, replay) in [
            ("quiet", "E-1", "complete"),
            ("quiet/a", "E-2", "complete"),
            ("quiet/b", "E-0", "complete"),
            ("busy", "E-3", "complete"),
            ("quiet", "E-0", "gap"),
            ("quiet/a", "E-0", "gap"),
            ("busy", "E-2", "gap"),
            ("", "E-2", "gap"),
        ] {
            let stream = it.stream(&format!("/subscribe/{target}"), last_id, "id:E-3\n");
            assert_eq!(stream.0, replay, "{target} after {last_id}");
        }
    }
}

/// A store in memory that fails on demand.
#[derive(Clone, Default)]
struct FailingStore {
    stored: Arc<Mutex<Vec<(u64, String)>>>,
    fails: Arc<AtomicBool>,
}

impl EventStore for FailingStore {
    fn open(&mut self, _: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
        restore.begin(35, LastEvents::default());
        let stored = self.stored.lock().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
        for (seq, event) in &*stored {
            let namespace = fanfare::Namespace::parse("/a").unwrap();
            restore.event(Record::new(*seq, vec![namespace], event.clone()), at);
        }
        Ok(Recovered::new(stored.last().map_or(1, |(seq, _)| seq + 1)))
    }

    fn append(&mut self, records: &[Record], _: SystemTime) -> io::Result<()> {
        if self.fails.load(Ordering::Acquire) {
            return Err(io::Error::other("not today"));
        }
        let text = |record: &Record| String::from_utf8(record.bytes().to_vec()).unwrap();
        let stored = records.iter().map(|record| (record.seq(), text(record)));
        self.stored.lock().unwrap().extend(stored);
        Ok(())
    }
}

#[test]
fn a_failing_store_refuses_requests_and_streams_go_on() {
    let store = FailingStore::default();
    let it = remember(with_history().event_store(store.clone()));
    assert_eq!(it.epoch, "z");
    assert_eq!(
        it.publish("/publish/a?id=own", "one"),
        r#"{"id":"own","subscribers":0}"#
    );
    let mut stream = it.server.ask("GET /subscribe/a", "");
    stream.read_through("\r\n\r\nid:z-1\n:\n\n");
    store.fails.store(true, Ordering::Release);
    let refused = r#"{"error":"events cannot be stored: not today"}"#;
    assert_eq!(it.publish("/publish/a", "two"), refused);
    let mut client = it.server.connect();
    client.send(request("POST /publish/a", "Content-Length: 0\r\n"));
    let response = client.response();
    assert_eq!(
        (status(&response), body(&response)),
        (507, r#"{"error":"events cannot be stored at the moment"}"#)
    );
    assert_eq!(it.server.handle.status().store, StoreState::Failing);
    #[cfg(feature = "admin")]
    {
        let status = it.server.ask("GET /admin/status.json", "").response();
        assert!(
            status.contains("\"events cannot be stored, so publishing over HTTP is refused\""),
            "{status}"
        );
        let metrics = it.server.ask("GET /metrics", "").response();
        assert!(metrics.contains("\nfanfare_store_failing 1\n"), "{metrics}");
    }
    // Streams go on with events that are published in the process.
    it.server.publish("/a", "three");
    stream.expect("id:z-2\ndata:three\n\n");
    store.fails.store(false, Ordering::Release);
    it.server.publish("/a", "four");
    stream.expect("id:z-3\ndata:four\n\n");
    assert_eq!(it.server.handle.status().store, StoreState::Working);
    assert_eq!(
        it.publish("/publish/a", "five"),
        r#"{"id":"E-4","subscribers":1}"#
    );
    stream.expect("id:z-4\ndata:five\n\n");
    drop(it);
    let stored: Vec<u64> = store
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|(seq, _)| *seq)
        .collect();
    assert_eq!(stored, [1, 3, 4]);
    // The events that the store never had are missing after a restart, which is a gap.
    let it = remember(with_history().event_store(store));
    it.expect(
        "/subscribe/a",
        "z-3",
        "complete",
        ":\n\nid:E-4\ndata:five\n\n",
    );
    let rest = "id:E-3\ndata:four\n\nid:E-4\ndata:five\n\n";
    let gap = "event:gap\ndata:{\"reason\":\"expired\",\"lastEventId\":\"own\",\"resumedAt\":\"E-3\"}\n\n";
    it.expect("/subscribe/a", "own", "gap", &format!(":\n\n{gap}{rest}"));
}

#[test]
fn lines_that_cannot_be_stored_are_named() {
    let store = FailingStore::default();
    let it = remember(with_history().event_store(store.clone()));
    let lines = "\n{\"namespace\":\"/a\"}\n\n{\"namespace\":\"/a\"}\n";
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    let post = |body: &str| {
        let mut client = it.server.connect();
        let length = format!("Content-Length: {}\r\n{ndjson}", body.len());
        client.send(request("POST /publish", &length) + body);
        let response = client.response();
        (status(&response), support::body(&response).to_owned())
    };
    assert_eq!(post(lines), (200, r#"{"published":2}"#.into()));
    let bad = lines.to_owned() + "{}\n";
    assert_eq!(
        post(&bad),
        (
            400,
            concat!(
                r#"{"error":"the event must have a `namespace`, or at least one of `namespaces`","#,
                r#""line":5,"published":2}"#
            )
            .into()
        )
    );
    // One request, of which some lines are stored and some are not.
    let mut client = it.server.connect();
    client.send(request(
        "POST /publish",
        &format!("Transfer-Encoding: chunked\r\n{ndjson}"),
    ));
    let mut chunk = |text: &str| client.send(format!("{:x}\r\n{text}\r\n", text.len()));
    chunk(lines);
    it.wait_until(|status| status.events == 6);
    store.fails.store(true, Ordering::Release);
    chunk(lines);
    let response = client.response();
    let expected = r#"{"error":"events cannot be stored: not today","line":6,"published":2}"#;
    assert_eq!((status(&response), body(&response)), (507, expected));
}

/// A store that keeps nothing, waits until its sender is dropped, and reports the number before
/// which it is to prune.
struct Empty {
    waits: Receiver<()>,
    prunes: Sender<u64>,
}

fn empty() -> (Empty, Sender<()>, Receiver<u64>) {
    let (go_on, waits) = channel();
    let (prunes, pruned) = channel();
    (Empty { waits, prunes }, go_on, pruned)
}

impl EventStore for Empty {
    fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
        restore.begin(fresh_epoch, LastEvents::default());
        Ok(Recovered::new(1))
    }

    fn append(&mut self, _: &[Record], _: SystemTime) -> io::Result<()> {
        // Once the sender is dropped, this returns at once.
        let _ = self.waits.recv();
        Ok(())
    }

    fn prune(&mut self, before: u64) -> io::Result<()> {
        // The test may have dropped the receiver.
        let _ = self.prunes.send(before);
        Ok(())
    }
}

#[test]
fn a_slow_store_delays_publishers_only() {
    const EVENTS: usize = 1000;
    let (store, go_on, _pruned) = empty();
    let it = remember(with_history().event_store(store));
    // Dropped before the server also when the test fails, so that the server can end.
    let go_on = go_on;
    let mut stream = it.server.ask("GET /subscribe", "");
    stream.read_through("\n\n");
    let data = "x".repeat(10_000);
    let sent = Arc::new(AtomicUsize::new(0));
    let (publisher, counter) = (it.server.publisher.clone(), Arc::clone(&sent));
    let event = Event::new("/a", data.clone());
    let sender = std::thread::spawn(move || {
        for _ in 0..EVENTS {
            publisher.send(event.clone()).unwrap();
            counter.fetch_add(1, Ordering::Release);
        }
    });
    it.wait_until(|_| sent.load(Ordering::Acquire) >= 100);
    let mut other = it.server.connect();
    for _ in 0..100 {
        other.send(request("GET /healthz", ""));
        assert_eq!(status(&other.response()), 200);
    }
    // A mebibyte in the queue, one on the way to the store, and a batch that is with it.
    let taken = sent.load(Ordering::Acquire);
    assert!(taken < 400, "{taken} events were taken");
    assert_eq!(it.server.handle.status().events, 0);
    drop(go_on);
    for number in 1..=EVENTS {
        stream.expect(&format!("id:{}-{number}\ndata:{data}\n\n", it.epoch));
    }
    support::join_within(support::TIMEOUT, sender);
}

#[test]
fn a_store_is_pruned_though_no_event_comes() {
    let (store, _, pruned) = empty();
    let builder = with_history().history_age(Duration::from_millis(200));
    let server = start(builder.event_store(store));
    server.publisher.send(Event::new("/a", "text")).unwrap();
    // It is pruned at intervals, also when nothing changed.
    let mut bounds = std::iter::from_fn(|| pruned.recv_timeout(support::TIMEOUT).ok());
    assert_eq!(bounds.find(|before| *before != 1), Some(2));
}

/// The store's reply may come at any moment of a turn. The event loop once missed one that came
/// just before it slept.
#[test]
fn no_stored_event_waits_for_the_next_one() {
    let (store, ..) = empty();
    let server = start(with_history().event_store(store));
    let mut stream = server.ask("GET /subscribe", "");
    stream.read_through("\n\n");
    for number in 0..30_000 {
        let event = Event::new("/a", number.to_string());
        server.publisher.send(event).unwrap();
        stream.read_through(&format!("data:{number}\n\n"));
    }
}
