//! One small test for each bug that was found, named after the right behavior.

#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fanfare::internals::{
    Access, ConnId, Engine, EventLimits, Frame, Namespaces, Outlet, PublishAccess, ReadInterest,
    Slices,
};
use fanfare::{
    Config, DisconnectReason, Event, Namespace, RecvTimeoutError, State, SubscribeError,
};
use support::{
    Client, LAST, Running, TIMEOUT, builder, expect_no_event, now, request, start, status, within,
};

/// Sockets that take as many bytes of each write as a function returns.
struct Sockets<F>(F);

impl<F: FnMut(ConnId, &Slices<'_>) -> usize> Outlet for Sockets<F> {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        Ok((self.0)(conn, slices))
    }

    fn publish_pages(&mut self, _: &Slices<'_>, _: usize) {}

    fn finish(&mut self, _: ConnId) {}
}

/// Sockets that take the listed numbers of bytes, one for each write, and then everything.
fn taking(
    counts: impl IntoIterator<Item = usize>,
) -> Sockets<impl FnMut(ConnId, &Slices<'_>) -> usize> {
    let mut counts: VecDeque<usize> = counts.into_iter().collect();
    Sockets(move |_, slices: &Slices<'_>| counts.pop_front().unwrap_or(slices.bytes()))
}

/// Writes until the engine has nothing left to do.
fn flush(engine: &mut Engine, outlet: &mut impl Outlet, now: Instant) {
    let most = 1_000;
    let flushes = (0..most).take_while(|_| engine.flush(outlet, now)).count();
    assert!(flushes < most, "it always has more to do");
}

/// An event to publish, with this number of bytes of data.
fn frame(path: &str, data_bytes: usize) -> Frame {
    let event = Event::new(path, "x".repeat(data_bytes));
    Frame::new(&event, &EventLimits::default()).unwrap()
}

fn engine(now: Instant) -> Engine {
    engine_with(without_history(), now)
}

fn without_history() -> Config {
    let mut config = Config::default();
    config.history_events = 0;
    config
}

fn engine_with(config: Config, now: Instant) -> Engine {
    let access = Access {
        publish: PublishAccess::Open,
        loopback: true,
    };
    Engine::new(config, access, 10, None, 1, 1, now)
}

#[test]
fn a_flood_of_pipelined_requests_is_not_read_faster_than_answered() {
    let now = now();
    let mut engine = engine(now);
    let conn = engine.accept("127.0.0.1:1".parse().unwrap(), now).unwrap();
    let requests = request("GET /healthz", "").repeat(10);
    assert_eq!(
        engine.receive(conn, requests.as_bytes(), now),
        ReadInterest::Pause
    );
    for _ in 0..9 {
        engine.flush(&mut taking([]), now);
        assert!(engine.take_readable_again().is_empty());
    }
    engine.flush(&mut taking([]), now);
    assert_eq!(engine.take_readable_again(), [conn]);
}

#[cfg(feature = "publish")]
#[test]
fn pipelined_publish_requests_do_not_wait_for_a_timer() {
    let server = start(
        builder()
            .head_timeout(TIMEOUT * 2)
            .write_timeout(TIMEOUT * 2),
    );
    let mut client = server.connect();
    client.send((request("POST /publish/a", "Content-Length: 1\r\n") + "x").repeat(3));
    for _ in 0..3 {
        assert_eq!(status(&client.response()), 200);
    }
}

#[test]
fn a_subscriber_is_not_stalled_by_events_that_wait_for_coalesce() {
    let server = start(
        builder()
            .coalesce(Duration::from_secs(1))
            .write_timeout(Duration::from_millis(20)),
    );
    let mut one = server.subscribe("/subscribe/a");
    let mut several = server.subscribe("/subscribe?ns=/a&ns=/b");
    for number in 0..2 {
        // The second event waits until a second is over.
        server.publish("/a", &number.to_string());
        for client in [&mut one, &mut several] {
            client.expect(&format!("data:{number}\n\n"));
        }
    }
}

#[test]
fn a_stream_requested_during_a_drain_does_not_delay_the_end() {
    let server = start(builder());
    let mut late: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut late {
        client.send(request("GET /healthz", ""));
        client.response();
        client.send("GET /subscribe HTTP/1.1\r\nHost: h\r\n");
    }
    assert_eq!(server.handle.status().state, State::Serving);
    server.handle.shutdown(Duration::from_secs(3600));
    let refused = server.handle.subscribe(&[Namespace::root()]);
    assert_eq!(refused.err(), Some(SubscribeError::Closed));
    late[0].send("\r\n");
    assert_eq!(status(&late[0].response()), 503);
    // A browser does not reconnect after any other status.
    late[1].send("Accept: text/event-stream\r\n\r\n");
    let stream = late[1].read_to_end();
    assert_eq!(status(&stream), 200);
    assert!(stream.contains("\r\n\r\nretry:"), "{stream:?}");
    drop(late);
    server.join();
}

/// A server whose event loop stops when a stream starts. Returns the channel that reports this, and
/// one that lets the loop continue once it is dropped.
fn start_with_stops() -> (Running, Receiver<()>, Sender<()>) {
    let (stopped, has_stopped) = channel();
    let (release, released) = channel::<()>();
    let server = start(builder().on_connect(move |_| {
        // The test may have ended.
        let _ = stopped.send(());
        let _ = released.recv_timeout(TIMEOUT);
    }));
    (server, has_stopped, release)
}

#[test]
fn a_response_written_as_the_drain_begins_does_not_delay_the_end() {
    let (server, has_stopped, release) = start_with_stops();
    let mut client = server.connect();
    client.send(request("GET /healthz", ""));
    assert_eq!(status(&client.response()), 200);
    // The loop is stopped, so that the request and the shutdown come in one turn.
    let _stream = server.ask("GET /subscribe", "");
    has_stopped.recv_timeout(TIMEOUT).unwrap();
    client.send(request("GET /healthz", ""));
    server.handle.shutdown(Duration::from_secs(3600));
    drop(release);
    assert_eq!(status(&client.response()), 200);
    client.expect_end();
    server.join();
}

#[test]
fn events_queued_at_shutdown_reach_each_stream_before_it_ends() {
    const EVENTS: usize = 12_000;
    let (server, has_stopped, release) = start_with_stops();
    let mut client = server.subscribe("/subscribe");
    has_stopped.recv_timeout(TIMEOUT).unwrap();
    for number in 0..EVENTS {
        let data = format!("{number:050}");
        server.publisher.try_send(Event::new("/", data)).unwrap();
    }
    server.handle.shutdown(Duration::from_secs(60));
    drop(release);
    for number in 0..EVENTS {
        client.expect(&format!("data:{number:050}\n\n"));
    }
    assert!(client.read_to_end().starts_with("retry:"));
    server.join();
}

#[test]
fn a_hook_that_panics_does_not_leave_subscriptions_waiting() {
    let server = builder()
        .route(|_| std::panic::resume_unwind(Box::new("a hook's own bug")))
        .build()
        .unwrap();
    let publisher = server.publisher();
    let thread = server.spawn("127.0.0.1:0").unwrap();
    let handle = thread.handle().clone();
    let mut subscription = handle.subscribe(&[Namespace::root()]).unwrap();
    let mut client = Client::connect(handle.local_addr().unwrap());
    client.send(request("GET /", ""));
    let ended = subscription.recv_timeout(TIMEOUT);
    assert_eq!(ended, Err(RecvTimeoutError::Ended(DisconnectReason::Error)));
    drop(expect_no_event(subscription));
    client.read_to_cut();
    let panic = catch_unwind(AssertUnwindSafe(|| within(TIMEOUT, || thread.join())));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"a hook's own bug"));
    assert_eq!(handle.status().state, State::Stopped);
    assert!(publisher.send(Event::new("/", "")).is_err());
}

#[test]
fn a_request_line_of_four_words_is_malformed() {
    let server = start(builder());
    let mut client = server.connect();
    client.send("GET / x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&client.response()), 400);
    let mut client = server.subscribe("/subscribe");
    server.publish_last();
    client.expect(LAST);
}

#[test]
fn a_stream_begins_with_one_write() {
    let now = now();
    let mut engine = engine(now);
    let conn = engine.accept("127.0.0.1:1".parse().unwrap(), now).unwrap();
    engine.receive(conn, request("GET /subscribe", "").as_bytes(), now);
    let mut writes: Vec<Vec<u8>> = Vec::new();
    let mut outlet = Sockets(|_, slices: &Slices<'_>| {
        let bytes = slices.as_slice().iter().flat_map(|slice| slice.to_vec());
        writes.push(bytes.collect());
        slices.bytes()
    });
    flush(&mut engine, &mut outlet, now);
    let [write] = &*writes else {
        panic!("{} writes", writes.len());
    };
    let text = std::str::from_utf8(write).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(
        text.contains("\r\n\r\nretry:") && text.ends_with("\n\n"),
        "{text}"
    );
}

#[test]
fn events_that_all_subscribers_took_during_a_pass_are_dropped() {
    let now = now();
    // The last subscriber to join is written to first, and takes the first event and a byte.
    for paths in [&["/a"][..], &["/a", "/b"]] {
        let namespaces = paths.iter().map(|path| Namespace::parse(path).unwrap());
        let namespaces = Namespaces::new(namespaces.collect()).unwrap();
        let mut engine = engine(now);
        engine.set_slice(1);
        engine.subscribe(&namespaces, now).unwrap();
        let first = engine.subscribe(&namespaces, now).unwrap();
        let event = frame("/a", 1);
        engine.publish(&event, now);
        engine.publish(&event, now);
        engine.end_intake(true, now);
        let mut outlet = taking([event.bytes.len() + 1]);
        assert!(engine.flush(&mut outlet, now));
        engine.writable(first, now);
        for _ in 0..4 {
            engine.flush(&mut outlet, now);
            engine.end_intake(true, now);
        }
        assert_eq!(engine.status(now).retained_bytes, 0);
    }
}

#[test]
fn events_that_only_a_gone_subscriber_needed_are_dropped_without_a_new_event() {
    let now = now();
    let mut engine = engine(now);
    engine.subscribe(&Namespace::root().into(), now).unwrap();
    let full = engine.subscribe(&Namespace::root().into(), now).unwrap();
    let event = frame("/", 1);
    engine.publish(&event, now);
    engine.end_intake(true, now);
    let mut outlet = taking([0]);
    assert!(!engine.flush(&mut outlet, now));
    engine.disconnect(full, DisconnectReason::Client);
    engine.reap(|_, _, _| {});
    assert!(engine.can_append());
    assert_eq!(engine.next_deadline(), Some(now));
    engine.end_intake(true, now);
    engine.flush(&mut outlet, now);
    assert_eq!(engine.status(now).retained_bytes, 0);
}

#[test]
fn events_are_batched_while_more_arrive_but_not_for_long() {
    let now = now();
    let mut engine = engine(now);
    engine.subscribe(&Namespace::root().into(), now).unwrap();
    let event = frame("/", 1);
    let mut outlet = taking([]);
    let delivered = |engine: &Engine| engine.status(now).deliveries;
    engine.publish(&event, now);
    engine.end_intake(false, now);
    engine.flush(&mut outlet, now);
    assert!(engine.is_batching());
    assert_eq!(delivered(&engine), 0);
    let later = engine.next_deadline().unwrap();
    assert!(later > now && later <= now + Duration::from_millis(20));
    engine.end_intake(false, later);
    engine.flush(&mut outlet, later);
    assert!(!engine.is_batching());
    assert_eq!(delivered(&engine), 1);
    engine.publish(&event, later);
    engine.end_intake(true, later);
    engine.flush(&mut outlet, later);
    assert!(!engine.is_batching());
    assert_eq!(delivered(&engine), 2);
}

#[test]
fn a_batch_of_one_namespace_is_not_flushed_by_events_of_another() {
    let begun = now();
    let mut engine = engine(begun);
    for name in ["/a", "/b"] {
        let namespace = Namespace::parse(name).unwrap();
        engine.subscribe(&namespace.into(), begun).unwrap();
    }
    let (a, b, large) = (frame("/a", 1), frame("/b", 1), frame("/a", 20_000));
    // The time, the event that is published then, and the number of deliveries after it.
    let steps: [(u64, Option<&Frame>, u64); 7] = [
        (0, Some(&b), 0),
        (1, Some(&a), 0),
        // It is large enough for a write, after which a new batch begins.
        (5, Some(&large), 2),
        (6, Some(&a), 2),
        (20, None, 3),
        (21, None, 3),
        (26, None, 4),
    ];
    for (ms, frame, delivered) in steps {
        let now = begun + Duration::from_millis(ms);
        if let Some(frame) = frame {
            engine.publish(frame, now);
        }
        engine.end_intake(false, now);
        flush(&mut engine, &mut taking([]), now);
        assert_eq!(engine.status(now).deliveries, delivered, "after {ms} ms");
        assert_eq!(engine.is_batching(), delivered < 4);
    }
}

#[test]
fn a_write_fills_its_budget_and_does_not_exceed_it() {
    let now = now();
    for budget in [100, 4 << 10, 16 << 10, 64 << 10] {
        let mut config = without_history();
        config.write_budget = budget;
        let mut engine = engine_with(config, now);
        engine.subscribe(&Namespace::root().into(), now).unwrap();
        let event = frame("/", 93);
        let bytes = event.bytes.len();
        let mut writes = Vec::new();
        let mut outlet = Sockets(|_, slices: &Slices<'_>| {
            writes.push(slices.bytes());
            slices.bytes()
        });
        for _ in 0..4000 {
            engine.publish(&event, now);
            engine.end_intake(false, now);
            engine.flush(&mut outlet, now);
        }
        // The first writes are smaller, because the log begins with small chunks.
        let whole = budget / bytes * bytes;
        let tail = &writes[3..];
        assert!(tail.len() >= 3);
        assert_eq!(tail, vec![whole; tail.len()]);
    }
}

#[test]
fn a_fast_publisher_does_not_outrun_a_reader_that_keeps_reading() {
    let mut now = now();
    let begun = now;
    let max_lag = 1 << 20;
    let mut config = without_history();
    config.max_lag = max_lag;
    config.max_event = 16 << 10;
    let mut engine = engine_with(config, now);
    let conn = engine.subscribe(&Namespace::root().into(), now).unwrap();
    let event = frame("/", 10_000);
    // Publishes until the engine pauses, or until more than any lag is published.
    let flood = |engine: &mut Engine, outlet: &mut _, now| {
        let mut published = 0;
        while engine.can_append() && published < 2 * max_lag {
            engine.publish(&event, now);
            published += event.bytes.len();
            engine.end_intake(false, now);
            flush(engine, outlet, now);
        }
        published
    };
    // While its socket is full, publishing pauses before its lag reaches the limit. Publishing
    // resumes as soon as it takes something.
    for _ in 0..3 {
        let mut outlet = taking([0]);
        let published = flood(&mut engine, &mut outlet, now);
        assert!((64 << 10..max_lag).contains(&published), "{published}");
        assert!(engine.is_paused());
        engine.writable(conn, now);
        flush(&mut engine, &mut outlet, now);
        assert!(engine.can_append());
        assert_eq!(engine.status(now).subscribers, 1);
    }
    // A subscriber that takes nothing is disconnected, but only after a time in which a working one
    // takes something.
    let mut outlet = taking([0]);
    let mut reason = None;
    while reason.is_none() {
        assert!(now - begun < TIMEOUT, "it is still connected");
        flood(&mut engine, &mut outlet, now);
        engine.reap(|_, _, why| reason = Some(why));
        now = engine.next_deadline().unwrap_or(now).max(now);
        engine.tick(now);
        engine.end_intake(true, now);
        flush(&mut engine, &mut outlet, now);
    }
    assert_eq!(reason, Some(DisconnectReason::Lagged));
    assert!(now - begun >= Duration::from_millis(900));
}

#[test]
fn publishing_resumes_when_the_readers_that_blocked_it_leave() {
    let now = now();
    let mut config = without_history();
    config.max_lag = 1 << 20;
    config.max_event = 16 << 10;
    let mut engine = engine_with(config, now);
    let conns = [(); 2].map(|()| engine.subscribe(&Namespace::root().into(), now).unwrap());
    let event = frame("/", 10_000);
    let mut outlet = taking([0, 0]);
    for _ in 0..200 {
        if engine.can_append() {
            engine.publish(&event, now);
            engine.end_intake(false, now);
            flush(&mut engine, &mut outlet, now);
        }
    }
    assert!(engine.is_paused());
    for conn in conns {
        engine.disconnect(conn, DisconnectReason::Client);
    }
    engine.reap(|_, _, _| {});
    assert!(engine.can_append());
}

#[test]
fn a_slow_reader_catches_up_also_if_events_may_exceed_max_lag() {
    let begun = now();
    let mut config = without_history();
    config.max_lag = 1 << 20;
    // So that a subscriber may lag by six events of this size.
    config.max_event = 1 << 20;
    let mut engine = engine_with(config, begun);
    let slow = engine.subscribe(&Namespace::root().into(), begun).unwrap();
    for _ in 0..3 {
        engine.subscribe(&Namespace::root().into(), begun).unwrap();
    }
    let event = frame("/", 1000);
    // One of the connections takes a mebibyte in 300 milliseconds, the others all bytes at once.
    let room = Cell::new(0);
    let mut outlet = Sockets(|conn, slices: &Slices<'_>| {
        if conn != slow {
            return slices.bytes();
        }
        let taken = slices.bytes().min(room.get());
        room.set(room.get() - taken);
        taken
    });
    let mut published = 0;
    for ms in 0..3000 {
        let now = begun + Duration::from_millis(ms);
        room.set(room.get() + (1 << 20) / 300);
        engine.writable(slow, now);
        // As fast as the others read: 50 megabytes a second.
        for _ in 0..50 {
            if !engine.can_append() {
                break;
            }
            engine.publish(&event, now);
            published += event.bytes.len();
            engine.end_intake(false, now);
            flush(&mut engine, &mut outlet, now);
        }
        engine.tick(now);
        engine.end_intake(true, now);
        flush(&mut engine, &mut outlet, now);
        engine.reap(|conn, _, why| panic!("{conn:?} was cut after {ms} ms: {why:?}"));
    }
    // It delays the others by no more than this.
    assert!(published > 8 << 20, "{published}");
}

#[test]
#[cfg(feature = "publish")]
fn a_request_after_a_refused_last_line_is_answered() {
    let server = start(builder());
    let mut client = server.connect();
    let lines = "{\"namespace\":\"/a\"}\n{}\n";
    let headers = format!(
        "Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n",
        lines.len()
    );
    client.send(request("POST /publish", &headers) + lines + &request("GET /healthz", ""));
    assert_eq!(status(&client.response()), 400);
    assert_eq!(status(&client.response()), 200);
}
