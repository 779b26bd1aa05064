//! The client against servers that misbehave, over real sockets.
#![cfg(feature = "client")]

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use fanfare::client::{
    Error, EventSource, EventSourceBuilder, GapReason, ReadyState, StreamEvent, Update,
};
use support::odd::{CuttingProxy, OddServer, STREAM, hold, value_of};
use support::{TIMEOUT, join_within, now, within};

const GONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// An event source that reconnects without waiting.
fn source(url: &str) -> EventSourceBuilder {
    EventSource::builder(url)
        .reconnection_time(Duration::ZERO)
        .max_backoff(Duration::ZERO)
        .proxy(None)
}

/// The updates of an event source. The test fails if they take longer than `TIMEOUT` in all.
fn updates(source: EventSource) -> impl Iterator<Item = Update> {
    let end = now() + TIMEOUT;
    let mut source = Some(source);
    std::iter::from_fn(move || {
        let mut waiting = source.take()?;
        let (update, waiting) = within(end - now(), move || (waiting.next(), waiting));
        source = Some(waiting);
        update
    })
}

/// The events until the event source ends, and the error that ended it.
fn run(builder: EventSourceBuilder) -> (Vec<StreamEvent>, Error) {
    let mut events = Vec::new();
    for update in updates(builder.build().unwrap()) {
        match update {
            Update::Event(event) => events.push(event),
            Update::Closed(error) => return (events, error),
            Update::Open | Update::Lost { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("it ended without an error after {events:?}");
}

fn closed(builder: EventSourceBuilder) -> Error {
    run(builder).1
}

fn data(events: &[StreamEvent]) -> Vec<&str> {
    events.iter().map(|event| &*event.data).collect()
}

fn status(status: u16, body: &str) -> Error {
    Error::Status {
        status,
        body: body.into(),
    }
}

#[test]
fn a_stream_that_is_cut_at_any_byte_is_resumed() {
    let events = [
        "id:1\ndata:a\n\n",
        "id:2\nevent:e\ndata:b\ndata:c\n\n",
        "id:3\r\ndata:d\r\n\r\n",
    ];
    let whole = format!("{STREAM}retry:0\n:\n\n{}", events.concat());
    for cut in 0..=whole.len() {
        let first = whole[..cut].to_owned();
        let server = OddServer::start(move |number, request, mut stream| {
            let seen = value_of(request, "last-event-id").map_or(0, |id| id.parse().unwrap());
            let text = match number {
                0 => first.clone(),
                1 => format!("{STREAM}{}", events[seen..].concat()),
                _ => GONE.into(),
            };
            stream.write_all(text.as_bytes()).unwrap();
        });
        let (events, error) = run(source(&server.url("/")));
        assert_eq!(data(&events), ["a", "b\nc", "d"], "cut at {cut}");
        assert_eq!(error, Error::NoContent);
    }
}

#[test]
fn a_response_that_is_not_a_stream_ends_it() {
    for (response, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\ndata:x\n\n",
            Error::ContentType("text/html".into()),
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\ndata:x\n\n",
            Error::ContentType(String::new()),
        ),
        (GONE, Error::NoContent),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            status(404, ""),
        ),
        (
            "HTTP/1.1 500 Oh\r\nContent-Type: text/event-stream\r\n\r\ndata:x\n\n",
            status(500, "data:x"),
        ),
        (
            "HTTP/1.1 503 Later\r\nContent-Length: 9\r\n\r\nnot now\r\n",
            status(503, "not now"),
        ),
        // A body that is shorter than its `Content-Length`.
        (
            "HTTP/1.1 401 No\r\nContent-Length: 99\r\n\r\nwho?",
            status(401, "who?"),
        ),
        (
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
            status(302, ""),
        ),
    ] {
        let server = OddServer::responding(response);
        assert_eq!(closed(source(&server.url("/"))), expected, "{response}");
    }
}

#[test]
fn only_the_start_of_an_endless_error_body_is_kept() {
    let server = OddServer::start(|_, _, mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 No\r\n\r\n");
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    assert_eq!(
        closed(source(&server.url("/"))),
        status(400, &"x".repeat(1024))
    );
}

#[test]
fn it_reconnects_after_a_response_that_is_not_http() {
    let server = OddServer::start(|number, _, mut stream| {
        let text = match number {
            0 => "SSH-2.0-OpenSSH_9.2\r\n",
            1 => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                 Content-Type: text/event-stream\r\n\r\nzz\r\n"
            }
            2 => "\r\n\r\n\r\n",
            _ => GONE,
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let source = source(&server.url("/")).build().unwrap();
    let updates: Vec<Update> = updates(source)
        .filter(|update| *update != Update::Open)
        .collect();
    let (last, lost) = updates.split_last().unwrap();
    assert_eq!(*last, Update::Closed(Error::NoContent));
    assert_eq!(lost.len(), 3);
    assert!(
        lost.iter()
            .all(|update| matches!(update, Update::Lost { .. }))
    );
}

#[test]
fn bodies_with_any_framing_are_read() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 16\r\n\r\ndata:a\n\ndata:b\n\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\ndat\r\n1\r\na\r\nb\r\n:a\n\ndata:b\n\r\n1\r\n\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\u{feff}data:a\n\ndata:b\n\n",
    ] {
        let server = OddServer::start(move |number, _, mut stream| {
            let text = if number == 0 { response } else { GONE };
            let _ = stream.write_all(text.as_bytes());
        });
        let (events, _) = run(source(&server.url("/")));
        assert_eq!(data(&events), ["a", "b"], "{response}");
    }
}

#[test]
fn a_stream_can_arrive_byte_by_byte() {
    let server = OddServer::start(|number, _, mut stream| {
        let text = if number == 0 {
            format!("{STREAM}data:a\n\nid:7\ndata:b\n\n")
        } else {
            GONE.into()
        };
        stream.set_nodelay(true).unwrap();
        for byte in text.bytes() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::yield_now();
        }
    });
    assert_eq!(data(&run(source(&server.url("/"))).0), ["a", "b"]);
}

#[test]
fn it_reconnects_when_the_server_is_silent() {
    let server = OddServer::start(|number, _, mut stream| {
        let text = match number {
            0 => "",
            1 => STREAM,
            2 => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata:half",
            _ => GONE,
        };
        let _ = stream.write_all(text.as_bytes());
        if number < 3 {
            hold(stream);
        }
    });
    let source = source(&server.url("/")).read_timeout(Duration::from_millis(50));
    let updates: Vec<Update> = updates(source.build().unwrap()).collect();
    let timeout = || Update::Lost {
        error: Error::Timeout,
        wait: Duration::ZERO,
    };
    assert_eq!(
        updates,
        [
            timeout(),
            Update::Open,
            timeout(),
            Update::Open,
            timeout(),
            Update::Closed(Error::NoContent)
        ]
    );
}

#[test]
fn an_endless_line_ends_it() {
    let server = OddServer::start(|_, _, mut stream| {
        let _ = stream.write_all(STREAM.as_bytes());
        let _ = stream.write_all(b"data:a\n\n");
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    let (events, error) = run(source(&server.url("/")).max_event(100_000));
    assert_eq!(data(&events), ["a"]);
    assert_eq!(error, Error::TooLarge(100_000));
}

#[test]
fn an_endless_event_ends_it() {
    let server = OddServer::start(|_, _, mut stream| {
        let _ = stream.write_all(STREAM.as_bytes());
        while stream.write_all(b"data:0123456789\n").is_ok() {}
    });
    assert_eq!(
        closed(source(&server.url("/")).max_event(10_000)),
        Error::TooLarge(10_000)
    );
}

#[test]
fn secrets_are_only_sent_to_the_origin_of_the_url() {
    let elsewhere = OddServer::responding(GONE);
    let target = elsewhere.url("/b");
    let server = OddServer::start(move |_, request, mut stream| {
        let location = if request.starts_with("GET /a ") {
            "here?x=1"
        } else {
            &target
        };
        let _ = write!(
            stream,
            "HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        );
    });
    let source = source(&server.url("/a"))
        .bearer("secret")
        .header("X-Key", "secret");
    assert_eq!(closed(source.last_event_id("7")), Error::NoContent);

    let first = server.next_request();
    assert!(first.starts_with("GET /a HTTP/1.1\r\n"), "{first}");
    let second = server.next_request();
    assert!(second.starts_with("GET /here?x=1 HTTP/1.1\r\n"), "{second}");
    for request in [&first, &second] {
        assert_eq!(value_of(request, "authorization"), Some("Bearer secret"));
        assert_eq!(value_of(request, "x-key"), Some("secret"));
    }
    let third = elsewhere.next_request();
    assert!(third.starts_with("GET /b HTTP/1.1\r\n"), "{third}");
    assert!(!third.contains("secret"), "{third}");
    for request in [&first, &second, &third] {
        assert_eq!(value_of(request, "accept"), Some("text/event-stream"));
        assert_eq!(value_of(request, "cache-control"), Some("no-cache"));
        assert_eq!(value_of(request, "last-event-id"), Some("7"));
    }
}

#[test]
fn an_invalid_redirect_ends_it() {
    for (location, reason) in [
        ("/again", "in a row"),
        ("ftp://a/", "ftp"),
        ("http://", "must be a URL"),
    ] {
        let response =
            format!("HTTP/1.1 302 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let server = OddServer::responding(response);
        let Error::Redirect(problem) = closed(source(&server.url("/"))) else {
            panic!("the redirect to {location} is not an error");
        };
        assert!(problem.contains(reason), "{problem}");
    }
}

#[test]
fn a_reconnection_starts_at_the_first_url() {
    let server = OddServer::start(|number, request, mut stream| {
        let text = match (number, request.starts_with("GET /a ")) {
            (0 | 2, true) => "HTTP/1.1 301 Go\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".into(),
            (1, false) => format!("{STREAM}data:x\n\n"),
            _ => GONE.into(),
        };
        let _ = stream.write_all(text.as_bytes());
    });
    assert_eq!(data(&run(source(&server.url("/a"))).0), ["x"]);
    for path in ["/a", "/b", "/a", "/b"] {
        let request = server.next_request();
        assert!(request.starts_with(&format!("GET {path} ")), "{request}");
    }
}

#[test]
fn a_post_is_repeated_on_reconnection() {
    let server = OddServer::start(|number, _, mut stream| {
        let _ = stream.write_all(if number == 0 { STREAM } else { GONE }.as_bytes());
    });
    closed(source(&server.url("/")).post("application/json", r#"{"ask":1}"#));
    for _ in 0..2 {
        let request = server.next_request();
        assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
        assert_eq!(value_of(&request, "content-type"), Some("application/json"));
        assert!(request.ends_with("\r\n\r\n{\"ask\":1}"), "{request}");
    }
}

#[test]
fn the_last_event_id_survives_reconnections_and_events_without_an_id() {
    let server = OddServer::start(|number, _, mut stream| {
        let text = match number {
            0 => format!("{STREAM}id:é1\ndata:a\n\ndata:b\n\nid:lost\ndata:incomplete\n"),
            1 => format!("{STREAM}data:c\n\n"),
            2 => format!("{STREAM}id\ndata:d\n\n"),
            _ => GONE.into(),
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let (events, _) = run(source(&server.url("/")));
    let ids: Vec<&str> = events.iter().map(|event| &*event.last_event_id).collect();
    assert_eq!(
        (data(&events), ids),
        (vec!["a", "b", "c", "d"], vec!["é1", "é1", "é1", ""])
    );
    let asked: Vec<String> = (0..4).map(|_| server.next_request()).collect();
    let asked: Vec<_> = asked
        .iter()
        .map(|it| value_of(it, "last-event-id"))
        .collect();
    assert_eq!(asked, [None, Some("é1"), Some("é1"), None]);
}

#[test]
fn the_stream_sets_the_reconnection_time() {
    let server = OddServer::responding(format!("{STREAM}retry:3600000\n"));
    let source = EventSource::builder(&server.url("/"))
        .max_backoff(Duration::ZERO)
        .build()
        .unwrap();
    let close_handle = source.close_handle();
    let mut states = Vec::new();
    for update in updates(source) {
        states.push(close_handle.state());
        if let Update::Lost { error, wait } = update {
            assert_eq!((error, wait), (Error::Ended, Duration::from_secs(3600)));
            close_handle.close();
        }
    }
    assert_eq!(states, [ReadyState::Open, ReadyState::Connecting]);
    assert_eq!(close_handle.state(), ReadyState::Closed);
}

#[test]
fn only_the_first_event_of_a_stream_can_be_a_gap() {
    let gap = "event:gap\ndata:{\"reason\":\"expired\",\"lastEventId\":\"a-1\",\"resumedAt\":\"a-9\"}\n\n";
    let server = OddServer::start(move |number, _, mut stream| {
        let text = match number {
            0 => format!("{STREAM}{gap}{gap}"),
            1 => format!("{STREAM}event:gap\ndata:mind it\n\n"),
            _ => GONE.into(),
        };
        let _ = stream.write_all(text.as_bytes());
    });
    let source = source(&server.url("/")).build().unwrap();
    let reported: Vec<String> = updates(source)
        .filter_map(|update| match update {
            Update::Gap(gap) => {
                assert_eq!(
                    (gap.reason, &*gap.last_event_id),
                    (GapReason::Expired, "a-1")
                );
                Some("a gap".into())
            }
            Update::Event(event) => Some(event.data),
            _ => None,
        })
        .collect();
    assert_eq!(reported.len(), 3);
    assert_eq!((&*reported[0], &*reported[2]), ("a gap", "mind it"));
    assert!(reported[1].starts_with('{'));
}

#[test]
fn an_explicit_proxy_is_used() {
    let proxy = OddServer::start(|_, _, mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(GONE.as_bytes()).unwrap();
    });
    let error = closed(source("http://events.invalid/x").proxy(Some(&proxy.url(""))));
    assert_eq!(error, Error::NoContent);
    let request = proxy.next_request();
    assert!(
        request.starts_with("CONNECT events.invalid:80 "),
        "{request}"
    );
}

#[test]
fn invalid_settings_are_reported_before_it_connects() {
    let url = "http://127.0.0.1:1/";
    for builder in [
        EventSource::builder("localhost:80"),
        source(url).header("a b", "c"),
        source(url).header("a", "b\r\nc: d"),
        source(url).bearer("a\nb"),
        source(url).proxy(Some("::")),
    ] {
        assert!(matches!(builder.build(), Err(Error::Request(_))));
    }
}

/// Runs an event source on a thread. The channel receives the number of its updates when it ends.
fn on_a_thread(
    source: EventSource,
    mut each: impl FnMut(&Update) + Send + 'static,
) -> Receiver<usize> {
    let (sender, ended) = channel();
    thread::spawn(move || {
        let count = source.inspect(|update| each(update)).count();
        let _ = sender.send(count);
    });
    ended
}

#[test]
fn closing_interrupts_a_read() {
    let server = OddServer::start(|_, _, mut stream| {
        let _ = stream.write_all(STREAM.as_bytes());
        hold(stream);
    });
    let source = source(&server.url("/"))
        .read_timeout(Duration::ZERO)
        .build()
        .unwrap();
    let close_handle = source.close_handle();
    let (sender, open) = channel();
    let ended = on_a_thread(source, move |_| sender.send(()).unwrap());
    open.recv_timeout(TIMEOUT).unwrap();
    close_handle.close();
    close_handle.close();
    assert_eq!(ended.recv_timeout(TIMEOUT), Ok(1));
}

#[test]
fn closing_interrupts_the_wait_for_a_response() {
    let server = OddServer::start(|_, _, stream| hold(stream));
    let source = source(&server.url("/"))
        .read_timeout(Duration::ZERO)
        .build()
        .unwrap();
    let close_handle = source.close_handle();
    let ended = on_a_thread(source, |_| {});
    server.next_request();
    close_handle.close();
    assert_eq!(ended.recv_timeout(TIMEOUT), Ok(0));
}

/// An address where connecting gets no answer, because the backlog is full.
fn full_backlog() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = new();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = (0..4).map(|_| {
        let socket = new();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    (listener, queued.collect(), address.as_socket().unwrap())
}

#[test]
fn closing_interrupts_connecting() {
    let (_listener, _queued, address) = full_backlog();
    let source = source(&format!("http://{address}/")).connect_timeout(Duration::ZERO);
    let source = source.build().unwrap();
    let close_handle = source.close_handle();
    let ended = on_a_thread(source, |_| {});
    close_handle.close();
    assert_eq!(ended.recv_timeout(TIMEOUT), Ok(0));
}

#[test]
fn connecting_has_a_timeout() {
    let (_listener, _queued, address) = full_backlog();
    let url = format!("http://{address}/");
    let source = source(&url)
        .connect_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let lost = Update::Lost {
        error: Error::Timeout,
        wait: Duration::ZERO,
    };
    assert_eq!(updates(source).next(), Some(lost));
}

#[test]
fn it_connects_once_a_server_listens() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let source = source(&format!("http://{address}/")).build().unwrap();
    let mut updates = updates(source);
    for _ in 0..3 {
        let update = updates.next();
        assert!(
            matches!(
                &update,
                Some(Update::Lost {
                    error: Error::Network(_),
                    ..
                })
            ),
            "{update:?}"
        );
    }
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(GONE.as_bytes()).unwrap();
        hold(stream);
    });
    assert_eq!(updates.last(), Some(Update::Closed(Error::NoContent)));
}

#[test]
fn the_channel_of_a_thread_ends_when_it_is_closed() {
    let server = OddServer::start(|_, _, mut stream| {
        let _ = stream.write_all(STREAM.as_bytes());
        while stream.write_all(b"data:x\n\n").is_ok() {}
    });
    let source = source(&server.url("/")).buffer(4).spawn().unwrap();
    let updates = source.receiver().clone();
    assert_eq!(updates.recv_timeout(TIMEOUT), Ok(Update::Open));
    for _ in 0..1000 {
        assert!(matches!(
            updates.recv_timeout(TIMEOUT),
            Ok(Update::Event(_))
        ));
    }
    assert_eq!(source.state(), ReadyState::Open);
    source.close();
    // One update may already have left the channel when it was closed.
    assert!(within(TIMEOUT, move || updates.iter().count()) <= 1);
}

#[test]
fn a_thread_ends_with_its_source() {
    let server = OddServer::responding(GONE);
    let source = source(&server.url("/")).spawn().unwrap();
    let updates = source.receiver().clone();
    let last = within(TIMEOUT, || source.last());
    assert_eq!(last, Some(Update::Closed(Error::NoContent)));
    assert!(updates.recv_timeout(TIMEOUT).is_err());
}

#[test]
fn no_event_arrives_twice_or_out_of_order_when_connections_are_cut() {
    let server = support::start(support::builder().retry(Duration::ZERO));
    // It cuts heads, events and the space between events.
    let proxy = CuttingProxy::start(server.address, |number| (number as u64 * 7919) % 997 + 1);
    let source = source(&proxy.url("/subscribe/a")).build().unwrap();
    let (publisher, close_handle) = (server.publisher.clone(), source.close_handle());
    let publishing = thread::spawn(move || {
        for number in 0_u64.. {
            if close_handle.state() == ReadyState::Closed
                || publisher
                    .send(fanfare::Event::new("/a", number.to_string()))
                    .is_err()
            {
                return number;
            }
            thread::yield_now();
        }
        0
    });
    let (mut lost, mut seen) = (0, Vec::new());
    for update in updates(source) {
        match update {
            Update::Lost { .. } => lost += 1,
            Update::Event(event) => seen.push(event.data.parse::<u64>().unwrap()),
            Update::Open => {}
            other => panic!("{other:?}"),
        }
        if lost == 200 {
            break;
        }
    }
    let published = join_within(TIMEOUT, publishing);
    assert!(!seen.is_empty() && seen.iter().all(|number| *number < published));
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

#[test]
fn with_history_each_event_arrives_once_when_connections_are_cut() {
    let server = support::start(fanfare::Server::builder().retry(Duration::ZERO));
    // It cuts events and the space between events; the first cut is in a head.
    let proxy = CuttingProxy::start(server.address, |number| (number as u64 * 7919) % 1500 + 200);
    let source = source(&proxy.url("/subscribe?ns=/a&ns=/b/c"))
        .build()
        .unwrap();
    let mut updates = updates(source);
    let mut lost = 0;
    let mut next = || loop {
        match updates.next() {
            Some(Update::Lost { .. }) => lost += 1,
            Some(update) => return update,
            None => panic!("the event source has ended"),
        }
    };
    // An event published before the stream is open would not be received.
    assert_eq!(next(), Update::Open);
    let publisher = server.publisher.clone();
    let publishing = thread::spawn(move || {
        for number in 0..500 {
            let namespace = ["/a/x", "/b/c"][number % 2];
            publisher
                .send(fanfare::Event::new(namespace, number.to_string()))
                .unwrap();
            thread::yield_now();
        }
    });
    for number in 0..500 {
        let event = loop {
            match next() {
                Update::Open => {}
                Update::Event(event) => break event,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(event.data, number.to_string());
    }
    join_within(TIMEOUT, publishing);
    assert!(lost > 5, "{lost} cuts");
}

#[test]
fn it_reconnects_to_a_restarted_server() {
    let server = support::start(support::builder().retry(Duration::ZERO));
    let address = server.address;
    let source = source(&format!("http://{address}/subscribe/a"))
        .build()
        .unwrap();
    let mut updates = updates(source);
    let mut wait_for_open = || {
        let opens = updates.any(|update| update == Update::Open);
        assert!(opens, "the event source has ended");
    };
    wait_for_open();
    drop(server);
    let server = support::start_at(
        support::builder().retry(Duration::ZERO),
        &address.to_string(),
    );
    wait_for_open();
    server.publish("/a", "back");
    let update = updates.next();
    assert!(
        matches!(&update, Some(Update::Event(event)) if event.data == "back"),
        "{update:?}"
    );
}

#[test]
fn dropping_it_closes_the_connection() {
    let (sender, closed) = channel();
    let server = OddServer::start(move |_, _, mut stream| {
        let _ = stream.write_all(STREAM.as_bytes());
        hold(stream);
        let _ = sender.send(());
    });
    let source = source(&server.url("/")).build().unwrap();
    let mut updates = updates(source);
    assert_eq!(updates.next(), Some(Update::Open));
    drop(updates);
    closed.recv_timeout(TIMEOUT).unwrap();
    // The server still accepts connections.
    TcpStream::connect(server.address()).unwrap();
}
