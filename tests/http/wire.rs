//! The bytes on the wire: whole responses and whole streams, over real sockets.

use std::time::Duration;

#[cfg(feature = "publish")]
use crate::support::start_at;
use crate::support::{
    Client, LAST, STREAM_HEAD, TIMEOUT, body, builder, header, join_within, request, retry_ms,
    start, status,
};
use fanfare::{DisconnectReason, Event, State};

#[cfg(feature = "publish")]
const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
#[cfg(feature = "publish")]
const JSON: &str = "Content-Type: application/json\r\n";

/// A whole response with a body.
fn answer(status: &str, content_type: &str, body: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Access-Control-Allow-Origin: *\r\n{more}\r\n{body}",
        body.len()
    )
}

fn ok() -> String {
    answer("200 OK", "text/plain; charset=utf-8", "ok", "")
}

#[cfg(feature = "publish")]
fn published(subscribers: usize) -> String {
    let body = format!("{{\"id\":null,\"subscribers\":{subscribers}}}");
    answer("200 OK", "application/json", &body, "")
}

// Streams

#[test]
fn a_stream_begins_with_its_head_retry_and_comment() {
    let server = start(builder().keepalive_text("hello"));
    let mut client = server.ask("GET /subscribe/pets", "");
    let start = client.read_through(":hello\n\n");
    let retry = retry_ms(&start).unwrap();
    assert_eq!(start, format!("{STREAM_HEAD}retry:{retry}\n:hello\n\n"));
    server
        .publisher
        .send(Event::new("/pets/dogs", "Corgi").event("new-dog"))
        .unwrap();
    client.expect("event:new-dog\ndata:Corgi\n\n");
}

#[test]
fn readers_of_any_speed_get_the_same_bytes() {
    // Large writes to many sockets are sent from shared pages; a lagging socket gets parts of them.
    let server = start(builder().write_budget(64 << 10));
    let mut expected = [String::new(), String::new()];
    let readers: Vec<_> = (0..60)
        .map(|index| {
            let namespace = index % 2;
            let mut client = match index < 10 {
                true => Client::connect_with_small_buffer(server.address),
                false => server.connect(),
            };
            client.send(request(&format!("GET /subscribe/{namespace}"), ""));
            client.read_stream_start();
            (namespace, client)
        })
        .collect();
    let events: Vec<(usize, String)> = (0..30_000)
        .map(|number| {
            (
                number % 2,
                format!("{number}{}", "x".repeat(number * 7 % 150)),
            )
        })
        .collect();
    for (namespace, data) in &events {
        expected[*namespace] += &format!("data:{data}\n\n");
    }
    std::thread::scope(|scope| {
        for (namespace, mut client) in readers {
            let expected = &expected[namespace];
            scope.spawn(move || client.expect(expected));
        }
        for (namespace, data) in &events {
            server.publish(&format!("/{namespace}"), data);
        }
    });
}

#[test]
fn reconnection_times_vary_by_half_around_the_configured_one() {
    let server = start(builder().retry(Duration::from_millis(1000)));
    let mut times: Vec<u64> = (0..64)
        .map(|_| {
            let start = server.ask("GET /subscribe", "").read_stream_start();
            retry_ms(&start).unwrap()
        })
        .collect();
    times.sort_unstable();
    assert!(times[0] >= 500 && times[63] <= 1500, "{times:?}");
    times.dedup();
    assert!(times.len() > 32, "{times:?}");
}

#[test]
fn a_reconnection_time_of_zero_is_not_sent() {
    let server = start(builder().retry(Duration::ZERO));
    let mut client = server.ask("GET /subscribe", "");
    client.expect(&format!("{STREAM_HEAD}:\n\n"));
}

#[test]
fn a_quiet_stream_gets_keepalive_comments() {
    let server = start(
        builder()
            .retry(Duration::ZERO)
            .keepalive(Duration::from_millis(20))
            .keepalive_text("still here"),
    );
    let mut client = server.ask("GET /subscribe", "");
    client.expect(STREAM_HEAD);
    client.expect(&":still here\n\n".repeat(4));
}

#[test]
fn event_fields_are_in_order_with_one_data_field_per_line() {
    let server = start(builder());
    let mut client = server.subscribe("/subscribe");
    let all = |data: &str| {
        Event::new("/", data)
            .retry(Duration::from_millis(7))
            .event("e")
            .id("i")
    };
    for (event, expected) in [
        (Event::new("/", ""), "data:\n\n"),
        (Event::new("/", " a"), "data:  a\n\n"),
        (Event::new("/", "ü 😀"), "data:ü 😀\n\n"),
        (
            Event::new("/", "a\r\nb\rc\n\nd\n"),
            "data:a\ndata:b\ndata:c\ndata:\ndata:d\ndata:\n\n",
        ),
        (all("x"), "id:i\nevent:e\nretry:7\ndata:x\n\n"),
        (Event::new("/", "x").event(" e"), "event:  e\ndata:x\n\n"),
        (Event::comment("/", "c"), ":c\n\n"),
        (Event::encoded("/", "data: own\n\n"), "data: own\n\n"),
    ] {
        server.publisher.send(event).unwrap();
        client.expect(expected);
    }
}

/// Each target, and which of a fixed series of events it gets.
#[test]
fn events_reach_their_namespace_and_its_ancestors() {
    let targets = [
        ("/subscribe", "abcdefgh"),
        ("/subscribe/", "abcdefgh"),
        ("/subscribe/pets", "bcdfgh"),
        ("/subscribe/pets/", "bcdfgh"),
        ("/subscribe//pets//", "bcdfgh"),
        ("/subscribe/pets/dogs", "cfh"),
        ("/subscribe/pets%2Fdogs", "cfh"),
        ("/subscribe/pets/dogs/x", "h"),
        ("/subscribe/pet", "h"),
        ("/subscribe/petsandmore", "eh"),
        ("/subscribe/Pets", "h"),
        ("/subscribe/%C3%BC%20%2B+", "gh"),
        ("/subscribe?ns=/pets/dogs&ns=/petsandmore", "cefh"),
        ("/subscribe?ns=/pets&ns=/pets/dogs", "bcdfgh"),
        (
            "/subscribe?ns=/pets/dogs&ns=/pets/cats&ns=/%C3%BC%20%2B%2b",
            "cdfgh",
        ),
        ("/subscribe/pets/cats?ns=/petsandmore", "degh"),
        ("/subscribe?ns=", "abcdefgh"),
    ];
    let server = start(builder());
    let mut clients: Vec<Client> = targets
        .iter()
        .map(|(target, _)| server.subscribe(target))
        .collect();
    for event in [
        Event::new("/", "a"),
        Event::new("/pets", "b"),
        Event::new("/pets/dogs", "c"),
        Event::new("pets//cats/", "d"),
        Event::new("/petsandmore", "e"),
        Event::new("/pets", "f").also("/pets/dogs"),
        Event::new("/ü ++", "g").also("/pets/cats").also("/pets"),
    ] {
        server.publisher.send(event).unwrap();
    }
    server
        .publisher
        .broadcast(Event::new("/pets", "h"))
        .unwrap();
    server.publish_last();
    for (client, (target, names)) in clients.iter_mut().zip(targets) {
        let expected: String = names
            .chars()
            .map(|name| format!("data:{name}\n\n"))
            .collect();
        assert_eq!(client.read_through_last(), expected + LAST, "{target}");
    }
}

#[test]
fn several_namespaces_make_one_stream_in_the_total_order() {
    let server = start(builder());
    let mut several = server.subscribe("/subscribe?ns=/a&ns=/b&ns=/c/d");
    let mut root = server.subscribe("/subscribe");
    let threads: Vec<_> = ["/a", "/b/x", "/c/d", "/c"]
        .into_iter()
        .map(|namespace| {
            let publisher = server.publisher.clone();
            std::thread::spawn(move || {
                for number in 0..2_000 {
                    let event = Event::new(namespace, format!("{namespace} {number}"));
                    let event = if number % 3 == 0 {
                        event.also("/a/also")
                    } else {
                        event
                    };
                    publisher.send(event).unwrap();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| join_within(TIMEOUT, thread));
    server.publish_last();
    let all = root.read_through_last();
    assert_eq!(all.matches("data:").count(), 4 * 2_000 + 1);
    let has = |event: &&str| {
        let namespace = event.strip_prefix("data:").unwrap();
        let (namespace, number) = namespace.split_once(' ').unwrap_or((namespace, "0"));
        namespace != "/c" || number.trim_end().parse::<u32>().unwrap() % 3 == 0
    };
    let expected: String = all.split_inclusive("\n\n").filter(has).collect();
    assert!(several.read_through_last() == expected);
}

#[test]
fn a_publisher_in_another_thread_wakes_the_event_loop() {
    let server = start(builder());
    let mut client = server.subscribe("/subscribe/time");
    let publisher = server.publisher.clone();
    let (sender, numbers) = std::sync::mpsc::channel::<u32>();
    let thread = std::thread::spawn(move || {
        for number in numbers {
            publisher
                .send(Event::new("/time", number.to_string()))
                .unwrap();
        }
    });
    // One at a time: the loop sleeps in between, so each event has to wake it.
    for number in 0..500 {
        sender.send(number).unwrap();
        client.expect(&format!("data:{number}\n\n"));
    }
    drop(sender);
    join_within(TIMEOUT, thread);
}

#[test]
fn a_subscriber_may_leave_at_any_time() {
    let server = start(builder());
    let (mut stays, leaves) = (
        server.subscribe("/subscribe"),
        server.subscribe("/subscribe"),
    );
    drop(leaves);
    assert_eq!(server.next_end().1, DisconnectReason::Client);
    server.publish_last();
    stays.expect(LAST);
    assert_eq!(server.handle.status().subscribers, 1);
}

// Requests and responses

#[test]
fn a_head_request_gets_only_the_head() {
    let server = start(builder());
    for target in ["/subscribe", "/subscribe/pets", "/subscribe?ns=/a&ns=/b"] {
        let mut client = server.ask(&format!("HEAD {target}"), "");
        client.expect(STREAM_HEAD);
        client.expect_end();
    }
    let mut client = server.ask("HEAD /healthz", "Connection: close\r\n");
    let expected = ok().replace("\r\n\r\nok", "\r\nConnection: close\r\n\r\n");
    client.expect(&expected);
    client.expect_end();
}

#[test]
fn a_preflight_is_answered_on_any_path() {
    let server = start(builder());
    let mut client = server.connect();
    for target in ["/subscribe/pets", "/publish/a", "/healthz", "/nowhere", "*"] {
        let headers = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n";
        client.send(request(&format!("OPTIONS {target}"), headers));
        client.expect(
            "HTTP/1.1 204 No Content\r\n\
             Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n\
             Access-Control-Allow-Headers: Authorization, Cache-Control, Content-Type, Last-Event-ID\r\n\
             Access-Control-Max-Age: 86400\r\n\
             Access-Control-Allow-Origin: *\r\n\r\n",
        );
    }
}

#[test]
fn only_listed_origins_are_echoed_with_vary() {
    let server = start(builder().cors_origins(["https://a.example", "http://b.example:81"]));
    for (origin, allowed) in [
        ("", None),
        ("https://a.example", Some("https://a.example")),
        ("http://b.example:81", Some("http://b.example:81")),
        ("http://b.example", None),
        ("https://a.example.evil", None),
        ("null", None),
    ] {
        let origin = match origin {
            "" => String::new(),
            origin => format!("Origin: {origin}\r\n"),
        };
        for line in [
            "GET /subscribe",
            "GET /healthz",
            "OPTIONS /subscribe",
            "GET /x",
        ] {
            let mut client = server.ask(line, &origin);
            let head = client.read_through("\r\n\r\n");
            let name = "Access-Control-Allow-Origin";
            assert_eq!(header(&head, name), allowed, "{line} {origin}");
            assert_eq!(header(&head, "Vary"), Some("Origin"), "{line} {origin}");
            let credentials = header(&head, "Access-Control-Allow-Credentials");
            assert_eq!(credentials, None);
        }
    }
}

#[test]
fn configured_headers_replace_the_default_ones() {
    let headers = [
        ("X-Accel-Buffering", "yes"),
        ("cache-control", "no-store"),
        ("X-More", "1"),
    ];
    let server = start(builder().headers(headers).retry(Duration::ZERO));
    let mut client = server.ask("GET /subscribe", "");
    client.expect(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: text/event-stream; charset=utf-8\r\n\
         Access-Control-Allow-Origin: *\r\n\
         Fanfare-Replay: none\r\n\
         X-Accel-Buffering: yes\r\n\
         cache-control: no-store\r\n\
         X-More: 1\r\n\
         Connection: close\r\n\r\n:\n\n",
    );
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let server = start(builder());
    let mut client = server.connect();
    let count = 300;
    client.send((request("GET /healthz", "") + &request("GET /nowhere", "")).repeat(count));
    client.send(request("GET /subscribe", ""));
    let not_found = answer(
        "404 Not Found",
        "application/json",
        "{\"error\":\"unknown path\"}",
        "",
    );
    for _ in 0..count {
        client.expect(&ok());
        client.expect(&not_found);
    }
    client.read_stream_start();
    server.publish_last();
    client.expect(LAST);
}

#[test]
fn a_connection_stays_open_as_its_version_and_header_say() {
    let server = start(builder());
    let close = ok().replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let kept = ok().replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    for (version, connection, expected, goes_on) in [
        ("1.1", "", ok(), true),
        ("1.1", "Connection: close\r\n", close.clone(), false),
        ("1.1", "Connection: x, Close\r\n", close.clone(), false),
        ("1.0", "", close.clone(), false),
        ("1.0", "Connection: Keep-Alive\r\n", kept, true),
        ("1.0", "Connection: keep-alive, close\r\n", close, false),
    ] {
        let mut client = server.connect();
        let request = format!("GET /readyz HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        client.send(&request);
        client.expect(&expected);
        if goes_on {
            client.send(&request);
            client.expect(&expected);
        } else {
            client.expect_end();
        }
    }
    let mut client = server.connect();
    client.send("GET /subscribe HTTP/1.0\r\n\r\n");
    client.expect(STREAM_HEAD);
}

#[test]
fn a_client_that_closes_its_side_gets_every_response() {
    let server = start(builder());
    let mut client = server.connect();
    client.send(request("GET /healthz", "").repeat(3));
    client.finish();
    client.expect(&ok().repeat(3));
    client.expect_end();
}

#[test]
fn a_request_can_arrive_byte_by_byte() {
    let server = start(builder());
    let mut client = server.connect();
    for byte in request("GET /healthz", "Accept: */*\r\n").bytes() {
        client.send([byte]);
    }
    client.expect(&ok());
    for byte in request("GET /subscribe/a", "").bytes() {
        client.send([byte]);
    }
    client.read_stream_start();
    server.publish_last();
    client.expect(LAST);
}

/// Sends a request that gets an error in JSON, after which the connection stays open.
#[test]
fn errors_name_the_problem() {
    let server = start(builder());
    let mut client = server.connect();
    for (line, expected, allow) in [
        ("GET /", 404, None),
        ("GET /subscribers", 404, None),
        ("GET /healthz/", 404, None),
        ("POST /subscribe", 405, Some("GET, HEAD, OPTIONS")),
        ("DELETE /subscribe/a", 405, Some("GET, HEAD, OPTIONS")),
        ("PUT /healthz", 405, Some("GET, HEAD, OPTIONS")),
        ("GET /publish/a", 405, Some("POST, OPTIONS")),
        ("GET /subscribe/a/../b", 400, None),
        ("GET /subscribe/%2e/b", 400, None),
        ("GET /subscribe/%", 400, None),
        ("GET /subscribe/%zz", 400, None),
        ("GET /subscribe/%ff", 400, None),
        ("GET /subscribe/%0a", 400, None),
        ("GET /subscribe?ns=/ok&ns=%00", 400, None),
    ] {
        client.send(request(line, ""));
        let response = client.response();
        assert_eq!(status(&response), expected, "{line}");
        assert_eq!(header(&response, "Allow"), allow, "{line}");
        assert_eq!(header(&response, "Content-Type"), Some("application/json"));
        let error: serde_json::Value = serde_json::from_str(body(&response)).unwrap();
        assert!(
            error["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty())
        );
    }
    client.send(request("GET /healthz", ""));
    client.expect(&ok());
}

#[test]
fn a_malformed_request_is_refused_and_the_connection_ends() {
    let server = start(builder());
    let host = "Host: h\r\n";
    for (bytes, expected) in [
        ("\r\n\r\n\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".into(), 400),
        ("GET /\r\n\r\n".into(), 400),
        (format!("GET / HTTP/1.1\n{host}\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\rC: d\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\0\r\n\r\n"), 400),
        (
            format!("GET / HTTP/1.1\r\n{host}A: b\r\n folded\r\n\r\n"),
            400,
        ),
        (format!("GET / HTTP/1.1\r\n {host}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}: b\r\n\r\n"), 400),
        (format!("GET  / HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET / x HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET x HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET * HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET /#x HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("G(T / HTTP/1.1\r\n{host}\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), 400),
        (
            format!("GET / HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
            400,
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Content-Length: 1, 1\r\n\r\n"),
            400,
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
            400,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"
            ),
            400,
        ),
        (
            format!("GET / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"),
            501,
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            501,
        ),
        (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
        ("\x16\x03\x01\x02\0".into(), 400),
    ] {
        let mut client = server.connect();
        client.send(&bytes);
        let response = client.response();
        assert_eq!(status(&response), expected, "{bytes:?}");
        assert_eq!(header(&response, "Connection"), Some("close"), "{bytes:?}");
        client.expect_end();
        drop(client);
        assert_eq!(server.next_end().1, DisconnectReason::Protocol, "{bytes:?}");
    }
}

// Publishing

#[cfg(feature = "publish")]
#[test]
fn a_body_is_published_as_it_is() {
    let server = start(builder());
    let mut client = server.connect();
    let mut subscriber = server.subscribe("/subscribe/pets");
    for (target, data, subscribers, expected) in [
        ("/publish/pets/dogs", "Corgi", 1, "data:Corgi\n\n"),
        (
            "/publish/pets/?event=new+dog&id=%37&retry=50",
            "a\r\nb\n",
            1,
            "id:7\nevent:new dog\nretry:50\ndata:a\ndata:b\ndata:\n\n",
        ),
        ("/publish/pets%2Fdogs?event=&id=&retry=", "", 1, "data:\n\n"),
        ("/publish/other", "unheard", 0, ""),
        ("/publish/other?broadcast=1", "heard", 1, "data:heard\n\n"),
        ("/publish?broadcast=1", "too", 1, "data:too\n\n"),
        ("/publish/", "root", 0, ""),
    ] {
        let length = format!("Content-Length: {}\r\n", data.len());
        client.send(request(&format!("POST {target}"), &length) + data);
        client.expect(&published(subscribers));
        subscriber.expect(expected);
    }
    server.publish_last();
    subscriber.expect(LAST);
}

#[cfg(feature = "publish")]
#[test]
fn json_names_the_namespaces_of_an_event() {
    let server = start(builder());
    let mut client = server.connect();
    let mut subscriber = server.subscribe("/subscribe?ns=/a&ns=/b");
    let mut other = server.subscribe("/subscribe/b/c");
    for (json, subscribers, expected, of_other) in [
        (r#"{"namespace":"/a","data":"x"}"#, 1, "data:x\n\n", ""),
        (
            r#"{"namespaces":["/a","/b/c"],"data":"x","event":"e","id":"i","retry":5}"#,
            2,
            "id:i\nevent:e\nretry:5\ndata:x\n\n",
            "id:i\nevent:e\nretry:5\ndata:x\n\n",
        ),
        (
            "{ \"namespace\" : \"b\",\r\n\"data\" : { \"n\" : [ 1.0, \"a b\" ] } }\n",
            1,
            "data:{\"n\":[1.0,\"a b\"]}\n\n",
            "",
        ),
        (r#"{"namespace":"/","data":"x"}"#, 0, "", ""),
        (r#"{"namespace":"/a"}"#, 1, "data:\n\n", ""),
    ] {
        let length = format!("{JSON}Content-Length: {}\r\n", json.len());
        client.send(request("POST /publish", &length) + json);
        client.expect(&published(subscribers));
        subscriber.expect(expected);
        other.expect(of_other);
    }
    for json in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"namespace":"/../x","data":"x"}"#,
        r#"{"namespace":"/a","event":"a\nb"}"#,
        r#"{"namespace":"/a","id":"a\u0000b"}"#,
        r#"{"namespace":"/a","dta":"x"}"#,
        r#"{"namespace":"/a","data":"x"} {}"#,
        "{\"namespace\":\"/a\",\"data\":\"\n\"}",
    ] {
        let length = format!("{JSON}Content-Length: {}\r\n", json.len());
        client.send(request("POST /publish", &length) + json);
        let response = client.response();
        assert_eq!(status(&response), 400, "{json}");
        assert!(body(&response).starts_with("{\"error\":\""), "{json}");
    }
    server.publish_last();
    subscriber.expect(LAST);
    other.expect(LAST);
}

#[cfg(feature = "publish")]
#[test]
fn lines_are_published_as_they_arrive() {
    let server = start(builder());
    let mut client = server.connect();
    let mut subscriber = server.subscribe("/subscribe");
    let headers = format!("{NDJSON}Transfer-Encoding: chunked\r\n");
    client.send(request("POST /publish", &headers));
    for number in 0..3 {
        let line = format!("{{\"namespace\":\"/a\",\"data\":{number}}}\n");
        client.send(format!("{:x}\r\n{line}\r\n", line.len()));
        subscriber.expect(&format!("data:{number}\n\n"));
    }
    // The last line needs no end, and empty lines are ignored.
    let rest = "\r\n  \n{\"namespace\":\"/b\",\"data\":\"end\"}";
    client.send(format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()));
    subscriber.expect("data:end\n\n");
    client.expect(&answer(
        "200 OK",
        "application/json",
        "{\"published\":4}",
        "",
    ));
    client.send(request("GET /healthz", ""));
    client.expect(&ok());
}

#[cfg(feature = "publish")]
#[test]
fn an_invalid_line_is_named_and_the_lines_before_it_are_published() {
    let server = start(builder());
    let mut subscriber = server.subscribe("/subscribe");
    let good = "{\"namespace\":\"/a\",\"data\":\"x\"}\n";
    for (lines, line, published) in [
        ("x\n".to_owned(), 1, 0),
        (format!("{good}\n{good}{{}}\n{good}"), 4, 2),
        (format!("{good}{{\"namespace\":\"/..\"}}"), 2, 1),
        (format!("{good}{good}{{\"namespace\":\"/a\""), 3, 2),
    ] {
        let length = format!("{NDJSON}Content-Length: {}\r\n", lines.len());
        let mut client = server.connect();
        client.send(request("POST /publish", &length) + &lines);
        let response = client.response();
        assert_eq!(status(&response), 400, "{lines}");
        let error: serde_json::Value = serde_json::from_str(body(&response)).unwrap();
        assert!(
            error["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty())
        );
        assert_eq!(
            (&error["line"], &error["published"]),
            (&line.into(), &published.into())
        );
        subscriber.expect(&"data:x\n\n".repeat(published));
    }
    server.publish_last();
    subscriber.expect(LAST);
}

#[cfg(feature = "publish")]
#[test]
fn a_hundred_thousand_lines_reach_a_subscriber_once_and_in_order() {
    const LINES: usize = 100_000;
    let server = start(builder());
    let mut subscriber = server.subscribe("/subscribe/a");
    let mut client = server.connect();
    let lines: String = (0..LINES)
        .map(|number| format!("{{\"namespace\":\"/a/b\",\"data\":\"{number}\"}}\n"))
        .collect();
    let writer = std::thread::spawn(move || {
        let length = format!("{NDJSON}Content-Length: {}\r\n", lines.len());
        client.send(request("POST /publish", &length));
        client.send(lines);
        client.response()
    });
    for number in 0..LINES {
        subscriber.expect(&format!("data:{number}\n\n"));
    }
    let response = join_within(TIMEOUT, writer);
    assert_eq!(body(&response), format!("{{\"published\":{LINES}}}"));
    server.publish_last();
    subscriber.expect(LAST);
}

#[cfg(feature = "publish")]
#[test]
fn bodies_can_be_chunked_or_wait_for_100_continue() {
    let server = start(builder());
    let mut subscriber = server.subscribe("/subscribe");
    let mut client = server.connect();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunks = "3;x=y\r\nCor\r\n2\r\ngi\r\n0\r\nTrailer: x\r\n\r\n";
    client.send(request("POST /publish/a", chunked) + chunks);
    client.expect(&published(1));
    subscriber.expect("data:Corgi\n\n");
    for byte in (request("POST /publish/a", chunked) + chunks).bytes() {
        client.send([byte]);
    }
    client.expect(&published(1));
    subscriber.expect("data:Corgi\n\n");
    client.send(request(
        "POST /publish/a",
        "Expect: 100-continue\r\nContent-Length: 2\r\n",
    ));
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi");
    client.expect(&published(1));
    subscriber.expect("data:hi\n\n");
    // A request that is refused gets its response at once.
    client.send(request(
        "POST /publish",
        "Expect: 100-continue\r\nContent-Length: 2\r\n",
    ));
    assert_eq!(status(&client.response()), 415);
    client.expect_end();
    let mut client = server.connect();
    client.send(request("POST /publish/a", chunked) + "zz\r\n");
    assert_eq!(status(&client.response()), 400);
    client.expect_end();
}

#[cfg(feature = "publish")]
#[test]
fn pipelined_bodies_are_published_in_order() {
    let server = start(builder());
    let mut subscriber = server.subscribe("/subscribe");
    let mut client = server.connect();
    let one = |number: usize| {
        let data = number.to_string();
        let length = format!("Content-Length: {}\r\n", data.len());
        request("POST /publish/a", &length) + &data
    };
    client.send((0..200).map(one).collect::<String>());
    for number in 0..200 {
        client.expect(&published(1));
        subscriber.expect(&format!("data:{number}\n\n"));
    }
}

#[cfg(feature = "publish")]
#[test]
fn an_invalid_event_is_refused() {
    let server = start(builder());
    let mut subscriber = server.subscribe("/subscribe");
    for (line, headers, data, expected) in [
        ("POST /publish", "", "x", 415),
        ("POST /publish", "Content-Type: text/plain\r\n", "x", 415),
        ("POST /publish/a/../b", "", "x", 400),
        ("POST /publish/%ff", "", "x", 400),
        ("POST /publish/a?event=a%0Ab", "", "x", 400),
        ("POST /publish/a?id=%00", "", "x", 400),
        ("POST /publish/a?retry=soon", "", "x", 400),
        ("POST /publish/a?broadcast=yes", "", "x", 400),
        (
            "POST /publish/a",
            "Origin: https://evil.example\r\n",
            "x",
            403,
        ),
        ("POST /publish/a", "Origin: null\r\n", "x", 403),
        (
            "POST /publish/a",
            "Sec-Fetch-Site: cross-site\r\n",
            "x",
            403,
        ),
    ] {
        let length = format!("{headers}Content-Length: {}\r\n", data.len());
        let mut client = server.connect();
        client.send(request(line, &length) + data);
        assert_eq!(status(&client.response()), expected, "{line} {headers}");
    }
    let mut client = server.connect();
    client.send(request("POST /publish/a", "Content-Length: 2\r\n"));
    client.send(b"a\xff");
    assert_eq!(status(&client.response()), 400);
    let mut client = server.connect();
    client.send("POST /publish/a HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(status(&client.response()), 403);
    server.publish_last();
    subscriber.expect(LAST);
}

#[cfg(feature = "publish")]
#[test]
fn publishing_with_a_token_needs_the_token() {
    let server = start(builder().publish_token("s3cret"));
    for (headers, expected) in [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        ("Authorization: Bearer s3cre\r\n", 401),
        ("Authorization: Bearer s3crets\r\n", 401),
        ("Authorization: Basic s3cret\r\n", 401),
        ("Authorization: s3cret\r\n", 401),
        ("Authorization: Bearer s3cret\r\n", 200),
        ("authorization: bearer s3cret\r\n", 200),
        (
            "Authorization: Bearer s3cret\r\nOrigin: https://evil.example\r\n",
            403,
        ),
    ] {
        let mut client = server.connect();
        // Behind a proxy the host can have any name.
        client.send(format!(
            "POST /publish/a HTTP/1.1\r\nHost: sse.example\r\n{headers}Content-Length: 1\r\n\r\nx"
        ));
        let response = client.response();
        assert_eq!(status(&response), expected, "{headers}");
        let challenge = header(&response, "WWW-Authenticate");
        assert_eq!(challenge.is_some(), expected == 401, "{headers}");
        assert!(challenge.is_none_or(|challenge| challenge.starts_with("Bearer")));
    }
    // Streams and probes stay open.
    server.subscribe("/subscribe/a");
}

#[cfg(feature = "publish")]
#[test]
fn without_a_token_publishing_is_closed_to_the_network() {
    let server = start_at(builder(), "0.0.0.0:0");
    let address = (std::net::Ipv4Addr::LOCALHOST, server.address.port()).into();
    let mut client = Client::connect(address);
    client.send(request("POST /publish/a", "Content-Length: 1\r\n") + "x");
    let response = client.response();
    assert_eq!(status(&response), 403);
    assert!(body(&response).contains("publish token"), "{response}");
    let mut client = Client::connect(address);
    client.send(request("GET /subscribe", ""));
    client.read_stream_start();
    drop(server);
    let server = start_at(builder().publish_token("t"), "0.0.0.0:0");
    let address = (std::net::Ipv4Addr::LOCALHOST, server.address.port()).into();
    let mut client = Client::connect(address);
    client.send(
        request(
            "POST /publish/a",
            "Authorization: Bearer t\r\nContent-Length: 1\r\n",
        ) + "x",
    );
    client.expect(&published(0));
}

#[cfg(not(feature = "publish"))]
#[test]
fn without_the_feature_nothing_is_published_over_http() {
    let server = start(builder());
    let mut client = server.ask("POST /publish/a", "");
    let body = "{\"error\":\"unknown path\"}";
    client.expect(&answer("404 Not Found", "application/json", body, ""));
}

// The end

#[test]
fn a_drain_refuses_requests_flushes_and_ends_each_stream_with_a_reconnection_time() {
    const GRACE_MS: u64 = 10_000;
    let server = start(builder());
    let mut subscribers: Vec<Client> = ["/subscribe", "/subscribe/a", "/subscribe?ns=/a&ns=/b"]
        .into_iter()
        .map(|target| server.subscribe(target))
        .collect();
    // A connection that is in the middle of a request when the drain begins.
    let mut asks = server.ask("GET /readyz", "");
    asks.expect(&ok());
    asks.send("GET /readyz HTTP/1.1\r\nHost: h\r\n");
    assert_eq!(server.handle.status().state, State::Serving);
    let idle = server.ask("GET /healthz", "").response();
    assert_eq!(idle, ok());
    for number in 0..100 {
        server.publish("/a", &number.to_string());
    }
    server.handle.shutdown(Duration::from_millis(GRACE_MS));
    assert_eq!(server.handle.status().state, State::Draining);
    assert!(std::net::TcpStream::connect(server.address).is_err());
    asks.send("\r\n");
    let response = asks.response();
    assert_eq!(status(&response), 503);
    assert_eq!(header(&response, "Connection"), Some("close"));
    asks.expect_end();
    drop(asks);
    let events: String = (0..100)
        .map(|number| format!("data:{number}\n\n"))
        .collect();
    for client in &mut subscribers {
        let rest = client.read_to_end();
        let closing_notice = rest.strip_prefix(&events).unwrap();
        let retry = retry_ms(closing_notice).unwrap();
        assert_eq!(closing_notice, format!("retry:{retry}\n\n"));
        assert!((1..=GRACE_MS).contains(&retry), "{retry}");
    }
    server.join();
}

#[test]
fn a_second_shutdown_ends_at_once() {
    let server = start(builder());
    let mut client = server.connect();
    client.send("GET /healthz HTTP/1.1\r\n");
    let mut stuck = Client::connect_with_small_buffer(server.address);
    stuck.send(request("GET /subscribe", ""));
    stuck.read_stream_start();
    server.publish("/", &"x".repeat(1 << 20));
    server.handle.shutdown(Duration::from_secs(3600));
    assert_eq!(server.handle.status().state, State::Draining);
    server.handle.shutdown(Duration::ZERO);
    let handle = server.handle.clone();
    server.join();
    assert_eq!(handle.status().state, State::Stopped);
    assert_eq!(handle.status().connections, 0);
    assert_eq!(handle.status().disconnects(DisconnectReason::Shutdown), 2);
}
