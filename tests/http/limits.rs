//! One test for each limit: the largest input within it works, and the smallest over it does not.

use std::time::Duration;

use crate::support::{
    Client, LAST, STREAM_HEAD, body, builder, header, request, retry_ms, start, status,
};
use fanfare::internals::SURPLUS;
use fanfare::{DisconnectReason, Event, EventError, NamespaceLimits, SendError};

const EVENT_SOURCE: &str = "Accept: text/event-stream\r\n";

/// The status of the response to a request, after which the connection ends.
fn refusal(client: &mut Client) -> u16 {
    let response = client.response();
    assert_eq!(header(&response, "Connection"), Some("close"), "{response}");
    client.expect_end();
    status(&response)
}

#[test]
fn a_request_head_is_limited_to_8_kib() {
    let server = start(builder());
    for (bytes, expected) in [(8192, 200), (8193, 431)] {
        let empty = request("GET /healthz", "A: \r\n").len();
        let padding = format!("A: {}\r\n", "x".repeat(bytes - empty));
        let mut client = server.ask("GET /healthz", &padding);
        let response = client.response();
        assert_eq!(status(&response), expected, "{bytes}");
    }
    let mut client = server.connect();
    client.send("x".repeat(8192));
    assert_eq!(refusal(&mut client), 431);
}

#[test]
fn a_request_head_is_limited_to_64_headers() {
    let server = start(builder());
    // One of them is `Host`.
    let response = server
        .ask("GET /healthz", &"A: b\r\n".repeat(63))
        .response();
    assert_eq!(status(&response), 200);
    let mut client = server.ask("GET /healthz", &"A: b\r\n".repeat(64));
    assert_eq!(refusal(&mut client), 431);
}

#[test]
fn a_request_head_is_limited_in_time() {
    let server = start(builder().head_timeout(Duration::from_millis(50)));
    for bytes in ["", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let mut client = server.connect();
        client.send(bytes);
        assert_eq!(refusal(&mut client), 408, "{bytes:?}");
        drop(client);
        assert_eq!(server.next_end().1, DisconnectReason::Timeout);
    }
    // Between two requests no response is due, so the connection just ends.
    let mut client = server.ask("GET /healthz", "");
    assert_eq!(body(&client.response()), "ok");
    client.expect_end();
    assert_eq!(server.next_end().1, DisconnectReason::Idle);
    // It does not apply to a stream.
    let mut client = server.subscribe("/subscribe");
    let mut late = server.connect();
    assert_eq!(refusal(&mut late), 408);
    server.publish_last();
    client.expect(LAST);
}

#[test]
fn a_stream_is_limited_to_128_namespaces() {
    let server = start(builder());
    let target = |count| -> String {
        let namespaces = (0..count).map(|number| format!("&ns=/n/{number}"));
        "/subscribe?"
            .chars()
            .chain(namespaces.collect::<String>().chars())
            .collect()
    };
    let mut client = server.subscribe(&target(128));
    server.publish("/n/127", "last");
    server.publish("/n/128", "not this");
    server.publish_last();
    client.expect(&LAST.repeat(2));
    let response = server.ask(&format!("GET {}", target(129)), "").response();
    assert_eq!(status(&response), 400);
}

#[test]
fn a_namespace_is_limited_in_segments_and_bytes() {
    let mut configured = NamespaceLimits::default();
    configured.segments = 2;
    configured.segment_bytes = 3;
    configured.path_bytes = 6;
    let usual = start(builder());
    let strict = start(builder().namespace_limits(configured));
    let long = "s".repeat(128);
    for (server, path, within) in [
        (&usual, "/s".repeat(16), true),
        (&usual, "/s".repeat(17), false),
        (&usual, format!("/{long}"), true),
        (&usual, format!("/{long}s"), false),
        (&usual, format!("/{}", &long[1..]).repeat(8), true),
        (
            &usual,
            format!("/{}/s", format!("/{}", &long[1..]).repeat(8)),
            false,
        ),
        (&strict, "/abc/d".into(), true),
        (&strict, "/a/b/c".into(), false),
        (&strict, "/abcd".into(), false),
        (&strict, "/abc/de".into(), false),
    ] {
        let mut client = server.ask(&format!("GET /subscribe{path}"), "");
        let head = client.read_through("\r\n\r\n");
        assert_eq!(status(&head), if within { 200 } else { 400 }, "{path}");
        let sent = server.publisher.send(Event::new(path.as_str(), ""));
        assert_eq!(sent.is_ok(), within, "{path}: {sent:?}");
    }
}

#[test]
fn the_number_of_namespaces_is_limited() {
    let server = start(builder().max_namespaces(2));
    let (mut a, mut b) = (
        server.subscribe("/subscribe/a"),
        server.subscribe("/subscribe/b"),
    );
    for target in ["/subscribe/c", "/subscribe?ns=/a&ns=/c"] {
        let mut client = server.ask(&format!("GET {target}"), "");
        let response = client.response();
        assert_eq!(status(&response), 503, "{target}");
        assert!(header(&response, "Retry-After").is_some());
        drop(client);
        server.next_end();
    }
    let mut second = server.subscribe("/subscribe/a");
    server.publish_last();
    for client in [&mut a, &mut b, &mut second] {
        client.expect(LAST);
    }
    // A namespace that is no longer in use makes room for another.
    drop(b);
    assert_eq!(server.next_end().1, DisconnectReason::Client);
    server.subscribe("/subscribe/c");
}

#[test]
fn a_connection_over_max_connections_gets_503() {
    let server = start(builder().max_connections(2));
    let (_a, b) = (
        server.subscribe("/subscribe"),
        server.subscribe("/subscribe"),
    );
    let mut client = server.ask("GET /subscribe/a", EVENT_SOURCE);
    let stream = client.read_to_end();
    let retry = retry_ms(&stream).unwrap();
    assert_eq!(stream, format!("{STREAM_HEAD}retry:{retry}\n\n"));
    assert!((5_000..=30_000).contains(&retry), "{retry}");
    drop(client);
    let mut client = server.ask("HEAD /subscribe/a", EVENT_SOURCE);
    assert_eq!(client.read_to_end(), STREAM_HEAD);
    for line in ["GET /subscribe", "GET /healthz", "POST /publish/a"] {
        let mut client = server.ask(line, "");
        let response = client.response();
        assert_eq!(status(&response), 503, "{line}");
        let wait: u64 = header(&response, "Retry-After").unwrap().parse().unwrap();
        assert!((5..=30).contains(&wait), "{wait}");
        client.expect_end();
    }
    drop(client);
    for _ in 0..5 {
        assert_eq!(server.next_end().1, DisconnectReason::Overload);
    }
    drop(b);
    assert_eq!(server.next_end().1, DisconnectReason::Client);
    server.subscribe("/subscribe");
}

#[test]
fn connections_over_the_reserve_for_503_are_closed_at_once() {
    let server = start(builder().max_connections(1));
    let mut first = server.subscribe("/subscribe");
    let surplus: Vec<Client> = (0..SURPLUS).map(|_| server.connect()).collect();
    let mut beyond = server.connect();
    assert_eq!(beyond.read_to_cut(), b"");
    let status = server.handle.status();
    assert_eq!(status.connections, 1 + SURPLUS);
    assert_eq!(status.disconnects(DisconnectReason::Overload), 1);
    drop(surplus);
    server.publish_last();
    first.expect(LAST);
}

#[test]
fn a_subscriber_that_lags_by_more_than_max_lag_is_disconnected_and_no_other() {
    const EVENTS: usize = 300;
    let server = start(
        builder()
            .max_event(64 << 10)
            .max_lag(1)
            .send_buffer(16 << 10),
    );
    let mut healthy =
        ["/subscribe/a", "/subscribe?ns=/a&ns=/b"].map(|target| server.subscribe(target));
    let mut stuck: Vec<Client> = ["/subscribe/a", "/subscribe?ns=/a&ns=/b"]
        .map(|target| {
            let mut client = Client::connect_with_small_buffer(server.address);
            client.send(request(&format!("GET {target}"), ""));
            client.read_stream_start();
            client
        })
        .into();
    let data = |number: usize| format!("{number} {}", "x".repeat(60_000));
    // The other subscribers get each event before the next is published: how fast they read must
    // not matter.
    for number in 0..EVENTS {
        server.publish("/a", &data(number));
        for client in &mut healthy {
            client.expect(&format!("data:{}\n\n", data(number)));
        }
    }
    server.publish_last();
    for _ in 0..2 {
        let (info, reason) = server.next_end();
        assert_eq!(reason, DisconnectReason::Lagged, "{info:?}");
        assert!(info.events < EVENTS as u64);
    }
    healthy.iter_mut().for_each(|client| client.expect(LAST));
    // They got the beginning of the stream, which may end in the middle of an event.
    let all: String = (0..EVENTS)
        .map(|number| format!("data:{}\n\n", data(number)))
        .collect();
    for client in &mut stuck {
        let got = client.read_to_cut();
        assert!(!got.is_empty() && all.as_bytes().starts_with(&got));
    }
}

#[test]
fn a_socket_that_takes_nothing_for_write_timeout_is_stalled() {
    let server = start(
        builder()
            .write_timeout(Duration::from_millis(100))
            .send_buffer(16 << 10),
    );
    let mut reads = server.subscribe("/subscribe");
    for target in ["/subscribe", "/subscribe?ns=/a&ns=/b"] {
        let mut stuck = Client::connect_with_small_buffer(server.address);
        stuck.send(request(&format!("GET {target}"), ""));
        stuck.read_stream_start();
        let data = "x".repeat(1 << 20);
        server.publish("/a", &data);
        reads.expect(&format!("data:{data}\n\n"));
        let (info, reason) = server.next_end();
        assert_eq!(reason, DisconnectReason::Stalled, "{target}");
        assert_eq!(info.peer, Some(stuck.stream.local_addr().unwrap()));
        assert!(info.connected >= Duration::from_millis(100));
    }
    server.publish_last();
    reads.expect(LAST);
}

#[test]
fn bytes_after_a_subscribers_request_are_ignored_up_to_a_limit() {
    let server = start(builder());
    let mut behaved = server.subscribe("/subscribe");
    behaved.send("x".repeat(4096));
    server.publish("/", "still here");
    behaved.expect("data:still here\n\n");
    for pause in [true, false] {
        let mut client = server.ask("GET /subscribe", "");
        if pause {
            client.read_stream_start();
        }
        client.send("x".repeat(4097));
        assert_eq!(server.next_end().1, DisconnectReason::Protocol);
        client.read_to_cut();
    }
    server.publish_last();
    behaved.expect(LAST);
}

#[test]
fn an_event_is_limited_in_data_and_fields() {
    let server = start(builder().max_event(10));
    let mut client = server.subscribe("/subscribe");
    let long = "x".repeat(1024);
    let too_large = |field, most| Err(SendError::Refused(EventError::TooLarge(field, most)));
    for (event, expected) in [
        (Event::new("/", "0123456789"), Ok(())),
        (Event::new("/", "0123456789x"), too_large("data", 10)),
        (Event::comment("/", "0123456789x"), too_large("comment", 10)),
        (
            Event::encoded("/", "data:01234\n\n"),
            too_large("encoded event", 10),
        ),
        (Event::new("/", "a").event(long.as_str()), Ok(())),
        (Event::new("/", "a").id(long.as_str()), Ok(())),
        (
            Event::new("/", "a").event(long.clone() + "x"),
            too_large("event", 1024),
        ),
        (
            Event::new("/", "a").id(long.clone() + "x"),
            too_large("id", 1024),
        ),
    ] {
        assert_eq!(server.publisher.send(event), expected);
    }
    client.expect("data:0123456789\n\n");
    client.expect(&format!("event:{long}\ndata:a\n\nid:{long}\ndata:a\n\n"));
}

#[cfg(feature = "publish")]
#[test]
fn a_published_body_is_limited_with_any_framing() {
    let server = start(builder().max_event(1000));
    let mut client = server.subscribe("/subscribe");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = |bytes| format!("Content-Length: {bytes}\r\n");
    let json = "Content-Type: application/json\r\n";
    let most = "x".repeat(1000);
    let of_json = |data: &str| format!("{{\"namespace\":\"/a\",\"data\":\"{data}\"}}");
    for (target, headers, data, expected) in [
        ("/publish/a", length(1000), most.clone(), 200),
        (
            "/publish/a",
            chunked.into(),
            format!("3e8\r\n{most}\r\n0\r\n\r\n"),
            200,
        ),
        ("/publish/a", length(1001), String::new(), 413),
        (
            "/publish/a",
            chunked.into(),
            format!("3e9\r\n{most}x\r\n"),
            413,
        ),
        (
            "/publish/a",
            chunked.into(),
            format!("3e8\r\n{most}\r\n1\r\nx\r\n"),
            413,
        ),
        (
            "/publish",
            json.to_owned() + &length(1028),
            of_json(&most),
            200,
        ),
        (
            "/publish",
            json.to_owned() + &length(1029),
            of_json(&(most.clone() + "x")),
            413,
        ),
        (
            "/publish",
            json.to_owned() + &length(6_000 + 65_537),
            String::new(),
            413,
        ),
    ] {
        let mut publisher = server.connect();
        publisher.send(request(&format!("POST {target}"), &headers) + &data);
        assert_eq!(
            status(&publisher.response()),
            expected,
            "{target} {headers}"
        );
        if expected == 200 {
            client.expect(&format!("data:{most}\n\n"));
        }
    }
}

#[cfg(feature = "publish")]
#[test]
fn a_line_is_limited_with_or_without_an_end() {
    let server = start(builder().max_event(1000));
    let mut subscriber = server.subscribe("/subscribe");
    let most = 6 * 1000 + (64 << 10);
    let good = "{\"namespace\":\"/a\",\"data\":\"x\"}\n";
    for rest in ["", "\n"] {
        let lines = format!("{good}\n{}{rest}", " ".repeat(most + 1));
        let mut client = server.connect();
        let headers = "Content-Type: application/x-ndjson\r\nContent-Length: 999999999\r\n";
        client.send(request("POST /publish", headers) + &lines);
        let response = client.response();
        assert_eq!(status(&response), 400, "{response}");
        assert!(
            body(&response).ends_with(",\"line\":3,\"published\":1}"),
            "{response}"
        );
        subscriber.expect("data:x\n\n");
    }
}

#[cfg(feature = "publish")]
#[test]
fn a_line_can_hold_the_largest_event() {
    let server = start(builder().max_event(20_000));
    let mut subscriber = server.subscribe("/subscribe");
    let line = format!(
        "{{\"namespace\":\"/a\",\"data\":\"{}\"}}",
        "\\u0041".repeat(20_000)
    );
    let headers = format!(
        "Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n",
        line.len()
    );
    let mut client = server.connect();
    client.send(request("POST /publish", &headers) + &line);
    assert_eq!(body(&client.response()), "{\"published\":1}");
    subscriber.expect(&format!("data:{}\n\n", "A".repeat(20_000)));
}

#[cfg(feature = "publish")]
#[test]
fn chunk_lines_and_trailers_are_limited() {
    let server = start(builder());
    let extension = |bytes: usize| format!("0;{}\r\n\r\n", "x".repeat(bytes - 2));
    let trailers = |bytes: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(bytes - 6));
    for (chunks, expected) in [
        (extension(256), 200),
        (extension(257), 400),
        (trailers(8192), 200),
        (trailers(8193), 431),
        ("00000000000000000\r\n\r\n".into(), 400),
    ] {
        let mut client = server.connect();
        let head = request("POST /publish/a", "Transfer-Encoding: chunked\r\n");
        client.send(head + &chunks);
        assert_eq!(status(&client.response()), expected);
    }
}

#[cfg(feature = "publish")]
#[test]
fn a_body_that_stalls_times_out_and_lines_do_not() {
    let server = start(builder().write_timeout(Duration::from_millis(50)));
    let json = "Content-Type: application/json\r\nContent-Length: 9\r\n";
    for (target, headers) in [("/publish/a", "Content-Length: 2\r\n"), ("/publish", json)] {
        let mut lines = server.connect();
        let headers_of_lines = "Content-Type: application/x-ndjson\r\nContent-Length: 2\r\n";
        lines.send(request("POST /publish", headers_of_lines) + "\n");
        let mut client = server.connect();
        client.send(request(&format!("POST {target}"), headers) + "x");
        assert_eq!(refusal(&mut client), 408);
        drop(client);
        assert_eq!(server.next_end().1, DisconnectReason::Timeout);
        lines.send("\n");
        assert_eq!(body(&lines.response()), "{\"published\":0}");
        drop(lines);
        assert_eq!(server.next_end().1, DisconnectReason::Client);
    }
}

#[test]
fn the_memory_of_all_logs_is_limited() {
    // No subscriber lags by too much alone, but together they do: those that lag most are
    // disconnected, the reader stays.
    let server = start(
        builder()
            .max_event(64 << 10)
            .max_lag(8 << 20)
            .history_total(8 << 20)
            .send_buffer(16 << 10),
    );
    let mut reader = server.subscribe("/subscribe/read");
    let _stuck: Vec<Client> = (0..4)
        .map(|number| {
            let mut client = Client::connect_with_small_buffer(server.address);
            client.send(request(&format!("GET /subscribe/stuck/{number}"), ""));
            client.read_stream_start();
            client
        })
        .collect();
    let data = "x".repeat(60_000);
    for number in 0..400 {
        server.publish(&format!("/stuck/{}", number % 4), &data);
        server.publish("/read", "small");
        reader.expect("data:small\n\n");
        assert!(server.handle.status().retained_bytes <= 8 << 20);
    }
    assert_eq!(server.next_end().1, DisconnectReason::Lagged);
    server.publish_last();
    reader.expect(LAST);
}
