//! Responses of the application, through the `route` hook: they follow the same HTTP rules as the
//! server's.

use crate::support;
use crate::support::{Client, body, builder, header, request, start, status};
use fanfare::{Builder, DisconnectReason, Response, Routing};

/// A server with a page at `/`, some odd pages, and the built-in paths.
fn site() -> Builder {
    builder().route(|head| match head.path() {
        "/" => Routing::Respond(
            Response::new("text/html; charset=utf-8", "<h1>hello</h1>")
                .header("ETag", "\"a\"")
                .header("Cache-Control", "no-cache"),
        ),
        "/echo" => {
            let text = format!("{} {}", head.method(), head.query());
            Routing::Respond(Response::new("text/plain", text).status(201))
        }
        "/nothing" => Routing::Respond(Response::new("text/plain", "unseen").status(204)),
        "/own-cors" => Routing::Respond(
            Response::new("text/plain", "")
                .header("access-control-allow-origin", "https://example.org"),
        ),
        "/split" => Routing::Respond(
            Response::new("text/plain", "").header("X-A", "b\r\nSet-Cookie: stolen"),
        ),
        "/framed" => {
            Routing::Respond(Response::new("text/plain", "").header("Content-Length", "9"))
        }
        "/typed" => Routing::Respond(Response::new("text/plain", "").header("content-type", "a/b")),
        "/bad-type" => Routing::Respond(Response::new("a/b\r\n\r\n", "")),
        "/large" => Routing::Respond(Response::new(
            "application/octet-stream",
            vec![b'x'; 8 << 20],
        )),
        _ => Routing::Default,
    })
}

#[test]
fn a_response_of_the_application_is_complete() {
    let server = start(site());
    let mut client = server.ask("GET /", "");
    client.expect(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: 14\r\n\
         ETag: \"a\"\r\n\
         Cache-Control: no-cache\r\n\
         Access-Control-Allow-Origin: *\r\n\r\n\
         <h1>hello</h1>",
    );
    client.send(request("GET /nothing", "Connection: close\r\n"));
    assert_eq!(
        client.read_to_end(),
        "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn custom_and_built_in_responses_share_a_pipelined_connection() {
    let server = start(site());
    let mut client = server.connect();
    client.send(
        [
            request("GET /echo?1", ""),
            request("GET /healthz", ""),
            request("GET /", ""),
            request("GET /echo?2", ""),
            request("GET /subscribe/a", ""),
        ]
        .concat(),
    );
    for (expected, text) in [
        (201, "GET 1"),
        (200, "ok"),
        (200, "<h1>hello</h1>"),
        (201, "GET 2"),
    ] {
        let response = client.response();
        assert_eq!((status(&response), body(&response)), (expected, text));
        assert_eq!(header(&response, "Connection"), None);
    }
    client.read_stream_start();
    server.publish("/a", "x");
    client.expect("data:x\n\n");
}

#[test]
fn a_head_request_gets_the_length_and_keeps_the_connection() {
    let server = start(site());
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(request("HEAD /", ""));
        let head = client.read_through("\r\n\r\n");
        assert_eq!(status(&head), 200);
        assert_eq!(header(&head, "Content-Length"), Some("14"));
    }
    client.send(request("GET /echo", ""));
    assert_eq!(body(&client.response()), "GET ");
}

#[test]
fn a_body_that_the_client_has_cached_is_not_sent_again() {
    let server = start(site());
    let mut client = server.connect();
    for (line, known, expected) in [
        ("GET /", "\"a\"", 304),
        ("HEAD /", "W/\"a\"", 304),
        ("GET /", "\"b\", \"a\"", 304),
        ("GET /", "*", 304),
        ("GET /", "\"b\"", 200),
        ("GET /", "a", 200),
        // Only a GET or HEAD with status 200 and a tag can be unchanged.
        ("GET /echo", "*", 201),
        ("POST /", "\"a\"", 200),
    ] {
        client.send(request(line, &format!("If-None-Match: {known}\r\n")));
        if expected == 304 {
            client.expect(
                "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: no-cache\r\n\
                 Access-Control-Allow-Origin: *\r\n\r\n",
            );
        } else {
            assert_eq!(status(&client.response()), expected, "{line} {known}");
        }
    }
}

#[test]
fn a_response_cannot_break_the_protocol() {
    let server = start(site());
    let mut client = server.connect();
    for path in ["/split", "/framed", "/typed", "/bad-type"] {
        client.send(request(&format!("GET {path}"), ""));
        let response = client.response();
        assert_eq!(status(&response), 500, "{path}");
        assert!(
            body(&response).starts_with("{\"error\":\"the application's header `"),
            "{response}"
        );
        assert_eq!(header(&response, "Set-Cookie"), None);
    }
}

#[test]
fn cors_headers_are_added_unless_the_response_has_its_own() {
    let server = start(site().cors_origins(["https://a.example"]));
    let mut client = server.connect();
    for (path, origin, allowed) in [
        ("/", "https://a.example", Some("https://a.example")),
        ("/", "https://b.example", None),
        (
            "/own-cors",
            "https://a.example",
            Some("https://example.org"),
        ),
    ] {
        client.send(request(
            &format!("GET {path}"),
            &format!("Origin: {origin}\r\n"),
        ));
        let response = client.response();
        assert_eq!(header(&response, "Access-Control-Allow-Origin"), allowed);
        assert_eq!(header(&response, "Vary"), Some("Origin"), "{path} {origin}");
    }
}

#[test]
fn an_unread_body_ends_the_connection_after_the_response() {
    let server = start(site());
    let mut client = server.ask("POST /echo?q", "Content-Length: 5\r\n");
    client.send("hello");
    let response = client.read_to_end();
    assert_eq!((status(&response), body(&response)), (201, "POST q"));
    assert_eq!(header(&response, "Connection"), Some("close"));
    drop(client);
    assert_eq!(server.next_end().1, DisconnectReason::Client);
}

#[test]
fn a_large_response_waits_for_its_reader_and_delays_no_other() {
    let server = start(site());
    let mut slow = Client::connect_with_small_buffer(server.address);
    slow.send(request("GET /large", ""));
    slow.read_through("\r\n\r\n");
    let mut other = server.subscribe("/subscribe");
    server.publish_last();
    other.expect(support::LAST);
    slow.send(request("GET /echo?after", "Connection: close\r\n"));
    let rest = slow.read_to_end();
    assert!(rest[..8 << 20].bytes().all(|byte| byte == b'x'));
    assert_eq!(body(&rest[8 << 20..]), "GET after");
}
