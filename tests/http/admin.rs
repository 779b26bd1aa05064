//! The status page, its data and the metrics, over real sockets: access, content, and the escaping
//! of text from clients.
#![cfg(feature = "admin")]

use std::net::SocketAddr;

use crate::support;
use crate::support::{Client, Running, TIMEOUT, body, builder, header, start, start_at, status};
use fanfare::{Admin, Builder, DisconnectReason, Event};
use serde_json::{Value, json};

/// The headers of every response that only the same origin may read.
const GUARD: &str = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n";

fn get(server: &Running, target: &str) -> String {
    get_with(server, target, "")
}

fn get_with(server: &Running, target: &str, headers: &str) -> String {
    server.ask(&format!("GET {target}"), headers).response()
}

fn post(server: &Running, target: &str, headers: &str, text: &str) -> String {
    let headers = format!("{headers}Content-Length: {}\r\n", text.len());
    let mut client = server.ask(&format!("POST {target}"), &headers);
    client.send(text);
    client.response()
}

/// The JSON at a path.
#[track_caller]
fn json_at(server: &Running, target: &str) -> Value {
    let response = get(server, target);
    assert_eq!(status(&response), 200, "{response}");
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    serde_json::from_str(body(&response)).unwrap()
}

/// The values of a field in all rows.
fn fields(rows: &Value, name: &str) -> Vec<Value> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row[name].clone())
        .collect()
}

/// The IDs of all streams in the order of a query.
fn ids(server: &Running, query: &str) -> Vec<u64> {
    let answer = json_at(server, &format!("/admin/status.json?{query}"));
    let ids = fields(&answer["connections"], "id");
    ids.iter().map(|id| id.as_u64().unwrap()).collect()
}

/// A subscriber that sends a User-Agent and other headers.
fn subscribe_with(server: &Running, target: &str, headers: &str) -> Client {
    let mut client = server.ask(&format!("GET {target}"), headers);
    client.read_stream_start();
    client
}

fn with_token() -> Builder {
    builder().admin_token("a;\"b")
}

// Access

#[test]
fn without_a_token_a_loopback_server_is_open_to_loopback_names_and_its_own_pages() {
    let server = start(builder());
    let own = format!("Origin: http://localhost:{}\r\n", server.address.port());
    for (headers, expected) in [
        ("", 200),
        ("Sec-Fetch-Site: same-origin\r\n", 200),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Origin: https://example.org\r\n", 403),
        (&*own, 403),
        ("Origin: http://localhost\r\n", 200),
    ] {
        for path in ["/admin/status.json", "/admin/namespaces.json", "/metrics"] {
            let response = get_with(&server, path, headers);
            assert_eq!(status(&response), expected, "{path} {headers}");
            assert_eq!(header(&response, "access-control-allow-origin"), None);
        }
    }
    for path in [
        "/admin/status.json",
        "/admin/events",
        "/admin/connection.json?id=1",
        "/metrics",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: rebound.example.org\r\n\r\n"
        ));
        client.expect(&format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 68\r\n{GUARD}\r\n\
             {{\"error\":\"without an admin token, the Host must be a loopback name\"}}"
        ));
    }
    let response = post(
        &server,
        "/admin/disconnect",
        "Origin: https://example.org\r\n",
        r#"{"namespace":"/"}"#,
    );
    assert_eq!(
        body(&response),
        r#"{"error":"requests from pages of other origins are not allowed"}"#
    );
    assert_eq!(status(&response), 403);
}

#[test]
fn without_a_token_a_server_on_a_network_is_closed() {
    let server = start_at(builder(), "0.0.0.0:0");
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], server.address.port())));
    for path in [
        "/admin/status.json",
        "/admin/namespaces.json",
        "/admin/events",
        "/metrics",
    ] {
        client.send(support::request(&format!("GET {path}"), ""));
        let response = client.response();
        assert_eq!(status(&response), 403, "{path}");
        assert!(body(&response).contains("access is closed: set admin-token"));
    }
    // The page itself is public, and learns whether it needs a token.
    client.send(support::request("GET /admin/", ""));
    assert_eq!(status(&client.response()), 200);
    client.send(support::request("GET /admin/session.json", ""));
    assert_eq!(
        body(&client.response()),
        r#"{"login":false,"signed_in":false,"publish":"closed"}"#
    );
}

#[test]
fn a_token_is_accepted_in_a_header_or_in_the_session_cookie() {
    let server = start(with_token());
    let sign_in = |token: &str| {
        post(
            &server,
            "/admin/login",
            "",
            &json!({ "token": token }).to_string(),
        )
    };
    let response = get(&server, "/admin/status.json");
    assert_eq!(status(&response), 401);
    assert_eq!(
        header(&response, "www-authenticate"),
        Some("Bearer realm=\"fanfare admin\"")
    );
    let response = sign_in("a;\"c");
    assert_eq!(
        (status(&response), header(&response, "set-cookie")),
        (401, None)
    );
    let response = sign_in("a;\"b");
    assert_eq!(status(&response), 204);
    let cookie = "fanfare-admin=613b2262";
    assert_eq!(
        header(&response, "set-cookie"),
        Some(format!("{cookie}; Max-Age=2592000; HttpOnly; SameSite=Strict").as_str())
    );
    for (headers, expected) in [
        ("Authorization: Bearer a;\"b\r\n", 200),
        ("Authorization: bearer  a;\"b\r\n", 200),
        ("Authorization: Bearer a;\"bc\r\n", 401),
        ("Authorization: Bearer a;\"\r\n", 401),
        ("Authorization: Basic a;\"b\r\n", 401),
        ("Cookie: fanfare-admin=613b2262\r\n", 200),
        ("Cookie: x=y; fanfare-admin=613b2262; z\r\n", 200),
        ("Cookie: fanfare-admin=613b2263\r\n", 401),
        ("Cookie: fanfare-admin=\r\n", 401),
        (
            "Cookie: fanfare-admin=613b2262\r\nOrigin: https://example.org\r\n",
            403,
        ),
        (
            "Cookie: fanfare-admin=613b2262\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
    ] {
        for path in ["/admin/status.json", "/admin/namespaces.json", "/metrics"] {
            let response = get_with(&server, path, headers);
            assert_eq!(status(&response), expected, "{path} {headers}");
        }
        let session = get_with(&server, "/admin/session.json", headers);
        if status(&session) == 200 {
            let session: Value = serde_json::from_str(body(&session)).unwrap();
            assert_eq!(
                session,
                json!({"login": true, "signed_in": expected == 200, "publish": "open"})
            );
        }
    }
    // With the token, any host name is accepted.
    let mut client = server.connect();
    client.send(format!(
        "GET /metrics HTTP/1.1\r\nHost: example.org\r\nCookie: {cookie}\r\n\r\n"
    ));
    assert_eq!(status(&client.response()), 200);
    let response = post(&server, "/admin/logout", "", "");
    assert_eq!(status(&response), 204);
    assert_eq!(
        header(&response, "set-cookie"),
        Some("fanfare-admin=; Max-Age=0; HttpOnly; SameSite=Strict")
    );
}

#[test]
fn an_invalid_sign_in_is_refused() {
    for (server, text, expected) in [
        (start(builder()), r#"{"token":"x"}"#, 409),
        (start(with_token()), "", 400),
        (start(with_token()), r#"{"token":1}"#, 400),
        (start(with_token()), r#"{"token":"a","x":1}"#, 400),
    ] {
        assert_eq!(
            status(&post(&server, "/admin/login", "", text)),
            expected,
            "{text}"
        );
        let large = post(&server, "/admin/login", "", &"x".repeat(10_000));
        assert_eq!(
            body(&large),
            r#"{"error":"the body exceeds the maximum of 8192 bytes"}"#
        );
    }
}

#[test]
fn a_trusted_proxy_decides_whether_the_cookie_is_secure() {
    let server = start(with_token().trusted_proxies(["127.0.0.0/8".parse().unwrap()]));
    let sign_in = |headers: &str| post(&server, "/admin/login", headers, r#"{"token":"a;\"b"}"#);
    for (headers, secure) in [
        ("X-Forwarded-Proto: https\r\n", true),
        ("X-Forwarded-Proto: http\r\n", false),
    ] {
        let response = sign_in(headers);
        assert_eq!(
            header(&response, "set-cookie")
                .unwrap()
                .ends_with("; Secure"),
            secure
        );
    }
    let server = start(with_token());
    let response = post(
        &server,
        "/admin/login",
        "X-Forwarded-Proto: https\r\n",
        r#"{"token":"a;\"b"}"#,
    );
    assert!(!header(&response, "set-cookie").unwrap().contains("Secure"));
}

#[test]
fn an_admin_page_that_is_off_refuses_every_path_and_says_why() {
    let server = start(builder().admin(Admin::Off).admin_token("x"));
    for path in [
        "/admin",
        "/admin/",
        "/admin/app.js",
        "/admin/status.json",
        "/admin/session.json",
        "/metrics",
    ] {
        let response = get_with(&server, path, "Authorization: Bearer x\r\n");
        assert_eq!(status(&response), 403, "{path}");
        assert_eq!(
            body(&response),
            r#"{"error":"the status page and the metrics are disabled: admin=off"}"#
        );
    }
    assert_eq!(status(&get(&server, "/healthz")), 200);
}

#[test]
fn an_admin_listener_serves_only_the_admin_page_and_others_do_not() {
    let own = Admin::At(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = start(builder().admin(own));
    let address = server.handle.admin_addr().unwrap();
    assert_ne!(address, server.address);
    let ask = |address, path: &str| {
        let mut client = Client::connect(address);
        client.send(support::request(&format!("GET {path}"), ""));
        status(&client.response())
    };
    for path in ["/admin", "/admin/", "/admin/status.json", "/metrics"] {
        assert_eq!(ask(server.address, path), 404, "{path}");
        assert!([200, 308].contains(&ask(address, path)), "{path}");
    }
    for path in ["/subscribe", "/publish", "/"] {
        assert_eq!(ask(address, path), 404, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!((ask(address, path), ask(server.address, path)), (200, 200));
    }
    let mut client = Client::connect(address);
    client.send(support::request("GET /admin/session.json", ""));
    assert_eq!(
        body(&client.response()),
        r#"{"login":false,"signed_in":true,"publish":"elsewhere"}"#
    );
}

// Files

#[test]
fn files_are_compressed_on_request_and_revalidated_by_etag() {
    let server = start(with_token());
    for (path, content_type) in [
        ("/admin/", "text/html; charset=utf-8"),
        ("/admin/index.html", "text/html; charset=utf-8"),
        ("/admin/app.js", "text/javascript; charset=utf-8"),
        ("/admin/app.css", "text/css; charset=utf-8"),
        ("/admin/icon.svg", "image/svg+xml"),
    ] {
        let plain = get(&server, path);
        assert_eq!(
            (status(&plain), header(&plain, "content-type")),
            (200, Some(content_type))
        );
        assert_eq!(header(&plain, "content-encoding"), None);
        for (name, expected) in [
            ("cache-control", "no-cache"),
            ("vary", "Accept-Encoding"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(header(&plain, name), Some(expected), "{path}");
        }
        assert_eq!(header(&plain, "access-control-allow-origin"), None);
        let mut client = server.ask(
            &format!("HEAD {path}"),
            "Accept-Encoding: br, GZIP;q=0.5\r\nConnection: close\r\n",
        );
        let packed = client.read_to_end();
        assert_eq!(header(&packed, "content-encoding"), Some("gzip"));
        let tag = header(&packed, "etag").unwrap();
        assert_ne!(
            Some(tag),
            header(&plain, "etag"),
            "another form is another thing"
        );
        let headers = format!(
            "Accept-Encoding: gzip\r\nIf-None-Match: \"x\", W/{tag}\r\nConnection: close\r\n"
        );
        let unchanged = server.ask(&format!("GET {path}"), &headers).read_to_end();
        assert_eq!((status(&unchanged), body(&unchanged)), (304, ""));
        assert_eq!(header(&unchanged, "etag"), Some(tag));
        let refused = get_with(&server, path, "Accept-Encoding: gzip;q=0, *\r\n");
        assert_eq!(body(&refused), body(&plain));
    }
}

#[test]
fn paths_and_methods_are_as_described() {
    let server = start(builder());
    let mut client = server.ask("GET /admin", "");
    client.expect(&format!(
        "HTTP/1.1 308 Permanent Redirect\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\n\
         Location: admin/\r\n{GUARD}\r\n"
    ));
    for (line, expected, allow) in [
        ("GET /admin/nothing", 404, None),
        ("GET /admin/app.js.gz", 404, None),
        ("GET /admin//admin/app.js", 404, None),
        ("GET /admin/../healthz", 404, None),
        ("GET /administrator", 404, None),
        ("GET /metrics/", 404, None),
        ("POST /admin/status.json", 405, Some("GET, HEAD, OPTIONS")),
        ("DELETE /admin/", 405, Some("GET, HEAD, OPTIONS")),
        ("GET /admin/disconnect", 405, Some("POST, OPTIONS")),
        ("OPTIONS /admin/login", 204, Some("POST, OPTIONS")),
        ("GET /admin/status.json?limit=1001", 400, None),
        ("GET /admin/status.json?sort=lagg", 400, None),
        ("GET /admin/namespaces.json?under=/a/..", 400, None),
        ("GET /admin/connection.json", 400, None),
        ("GET /admin/connection.json?id=1", 404, None),
    ] {
        let response = server.ask(line, "").response();
        assert_eq!(
            (status(&response), header(&response, "allow")),
            (expected, allow),
            "{line}"
        );
    }
}

// Content

#[test]
fn the_status_describes_the_server_and_its_streams() {
    let server = start(builder());
    let mut client = subscribe_with(
        &server,
        "/subscribe/pets?ns=/b&token=secret",
        "User-Agent: a <script>alert(1)</script> \"agent\"\r\n",
    );
    for data in ["one", "two"] {
        server.publish("/pets/dogs", data);
        client.read_through(&format!("data:{data}\n\n"));
    }
    let answer = json_at(&server, "/admin/status.json");
    for (name, expected) in [
        ("status", json!("OK")),
        ("state", json!("serving")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("msgs_broadcast", json!(2)),
        ("events", json!(2)),
        ("deliveries", json!(2)),
        ("connections_now", json!(2)),
        ("subscribers", json!(1)),
        ("namespaces", json!(2)),
        ("queue_events", json!(0)),
        ("retained_limit", json!(256 << 20)),
        ("total", json!(1)),
        ("matched", json!(1)),
        ("limit", json!(100)),
        ("offset", json!(0)),
        (
            "warnings",
            json!([
                "publishing is open to everyone on this machine: no publish token is set",
                "this page is open to everyone on this machine: no admin token is set",
            ]),
        ),
    ] {
        assert_eq!(answer[name], expected, "{name}");
    }
    let (started, now) = (
        answer["startup_time"].as_u64().unwrap(),
        answer["reported_at"].as_u64().unwrap(),
    );
    assert!(started > 1_700_000_000 && now >= started);
    assert!(!answer["node"].as_str().unwrap().is_empty());
    let reasons = answer["disconnects"].as_object().unwrap();
    assert_eq!(reasons.len(), DisconnectReason::ALL.len());
    assert!(reasons.contains_key("lagged"));
    let row = &answer["connections"][0];
    for (name, expected) in [
        ("id", json!(1)),
        ("request_path", json!("/subscribe/pets")),
        ("namespace", json!("/b")),
        ("namespaces", json!(["/b", "/pets"])),
        ("client_ip", json!("127.0.0.1")),
        ("user_agent", json!("a <script>alert(1)</script> \"agent\"")),
        ("msgs_sent", json!(2)),
        ("bytes_sent", json!(client.received)),
        ("lag", json!(0)),
    ] {
        assert_eq!(row[name], expected, "{name}");
    }
    assert!((started..=now).contains(&row["created_at"].as_u64().unwrap()));
    assert_eq!(
        json_at(&server, "/admin/connection.json?id=1")["namespaces"],
        row["namespaces"]
    );
}

#[test]
fn markup_in_namespaces_and_agents_is_escaped_in_json_and_metrics() {
    let server = start(builder());
    let hostile = "/<script>alert(1)</script>\"\\";
    let path = "/subscribe/%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%5C";
    let _client = subscribe_with(
        &server,
        path,
        "User-Agent: </script>\\\"\u{7}ü\r\n"
            .replace('\u{7}', "")
            .as_str(),
    );
    server.publisher.send(Event::new(hostile, "x")).unwrap();
    let answer = json_at(&server, "/admin/status.json?filter=SCRIPT");
    // `%2F` is a separator like any other.
    assert_eq!(answer["connections"][0]["namespace"], json!(hostile));
    assert_eq!(
        answer["connections"][0]["user_agent"],
        json!("</script>\\\"ü")
    );
    assert_eq!(answer["connections"][0]["request_path"], json!(path));
    let names = json_at(&server, "/admin/namespaces.json?sort=-namespace&limit=1");
    assert_eq!(names["namespaces"][0]["namespace"], json!(hostile));
    let metrics = get(&server, "/metrics");
    assert!(
        metrics.contains("fanfare_namespace_events_total{namespace=\"/<script>alert(1)<\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn lists_are_sorted_filtered_and_paged() {
    let server = start(builder());
    let mut clients: Vec<Client> = (0..5)
        .map(|number| {
            let headers = format!("User-Agent: agent {}\r\n", 4 - number);
            subscribe_with(
                &server,
                &format!("/subscribe/{}/{number}", ["x", "y"][number % 2]),
                &headers,
            )
        })
        .collect();
    server.publish("/y/1", "one");
    server.publish("/y/1", "two");
    server.publish("/x/4", "three");
    clients[1].read_through("data:two\n\n");
    clients[4].read_through("data:three\n\n");
    for (query, expected) in [
        ("", &[1, 2, 3, 4, 5][..]),
        ("sort=-id", &[5, 4, 3, 2, 1]),
        ("sort=-created_at&limit=2&offset=1", &[4, 3]),
        ("sort=namespace", &[1, 3, 5, 2, 4]),
        ("sort=user_agent", &[5, 4, 3, 2, 1]),
        ("sort=-msgs_sent&limit=3", &[2, 5, 1]),
        ("sort=-bytes_sent&limit=1", &[2]),
        ("filter=%2FY%2F", &[2, 4]),
        ("filter=AGENT+4", &[1]),
        ("filter=127.0.0&offset=4", &[5]),
        ("filter=unknown", &[]),
        ("limit=0", &[]),
    ] {
        assert_eq!(ids(&server, query), expected, "{query}");
    }
    let answer = json_at(&server, "/admin/status.json?filter=/y&limit=1");
    assert_eq!(
        (&answer["total"], &answer["matched"], &answer["limit"]),
        (&json!(5), &json!(2), &json!(1))
    );
}

#[test]
fn a_subscription_in_process_is_listed_without_an_address() {
    let server = start(builder().admin(Admin::On));
    let namespace = "/here".parse().unwrap();
    let subscription = server.handle.subscribe(&[namespace]).unwrap();
    let row = json_at(
        &server,
        &format!("/admin/connection.json?id={}", subscription.id()),
    );
    assert_eq!(
        (&row["client_ip"], &row["user_agent"], &row["request_path"]),
        (&json!(""), &json!(""), &json!(""))
    );
}

#[test]
fn the_tree_of_namespaces_is_read_level_by_level() {
    let server = start(builder().history_events(10));
    let _clients: Vec<Client> = [
        "/subscribe/a",
        "/subscribe/a/b/c",
        "/subscribe/a/b/d",
        "/subscribe?ns=/a/b/c&ns=/e",
    ]
    .map(|target| server.subscribe(target))
    .into();
    for _ in 0..3 {
        server.publish("/a/b/c", "12345");
    }
    server.publish_last();
    let all = json_at(&server, "/admin/namespaces.json");
    assert_eq!(
        json!(fields(&all["namespaces"], "namespace")),
        json!(["/", "/a", "/a/b", "/a/b/c", "/a/b/d", "/e"])
    );
    assert_eq!(
        json!(fields(&all["namespaces"], "subscribers")),
        json!([0, 1, 0, 2, 1, 1])
    );
    assert_eq!(
        json!(fields(&all["namespaces"], "subscribers_below")),
        json!([4, 4, 3, 2, 1, 1]),
        "a stream of several namespaces counts once above them"
    );
    assert_eq!(
        json!(fields(&all["namespaces"], "children")),
        json!([2, 1, 2, 0, 0, 0])
    );
    assert_eq!(
        json!(fields(&all["namespaces"], "events")),
        json!([4, 4, 4, 4, 1, 1])
    );
    assert_eq!(all["total"], json!(6));
    let below = json_at(&server, "/admin/namespaces.json?under=/a/b&sort=-events");
    assert_eq!(
        json!(fields(&below["namespaces"], "namespace")),
        json!(["/a/b/c", "/a/b/d"])
    );
    assert_eq!(below["at"]["namespace"], json!("/a/b"));
    assert_eq!(below["at"]["subscribers_below"], json!(3));
    let row = &below["namespaces"][0];
    assert_eq!(
        (&row["retained_events"], &row["subscribers"]),
        (&json!(4), &json!(2))
    );
    assert!(row["retained_bytes"].as_u64().unwrap() > 4 * 10);
    assert!(row["last_event_at"].as_u64().unwrap() > 1_700_000_000_000);
    let first = json_at(&server, "/admin/namespaces.json?under=/&filter=A");
    assert_eq!(
        (
            json!(fields(&first["namespaces"], "namespace")),
            &first["total"],
            &first["matched"]
        ),
        (json!(["/a"]), &json!(2), &json!(1))
    );
    let none = json_at(&server, "/admin/namespaces.json?under=/nowhere");
    assert_eq!(
        (
            &none["namespaces"],
            &none["at"]["subscribers"],
            &none["at"]["last_event_at"]
        ),
        (&json!([]), &json!(0), &Value::Null)
    );
}

#[test]
fn a_report_over_many_slices_has_every_stream_once() {
    const STREAMS: usize = 2_500;
    let server = start(builder().max_connections(STREAMS + 100));
    let subscriptions: Vec<_> = (0..STREAMS)
        .map(|number| {
            server
                .handle
                .subscribe(&[format!("/{number}").parse().unwrap()])
                .unwrap()
        })
        .collect();
    let mut seen = Vec::new();
    for offset in (0..STREAMS).step_by(1_000) {
        seen.extend(ids(
            &server,
            &format!("limit=1000&offset={offset}&sort=namespace"),
        ));
    }
    seen.sort_unstable();
    let expected: Vec<u64> = subscriptions
        .iter()
        .map(fanfare::Subscription::id)
        .collect();
    assert_eq!(seen, expected);
    let names = json_at(&server, "/admin/namespaces.json?limit=1000&offset=2000");
    assert_eq!(
        (
            &names["total"],
            names["namespaces"].as_array().unwrap().len()
        ),
        (&json!(STREAMS + 1), 501)
    );
    let metrics = get(&server, "/metrics");
    assert!(metrics.contains(&format!(
        "fanfare_namespace_subscribers{{namespace=\"other\"}} {STREAMS}\n"
    )));
}

#[test]
fn pipelined_requests_wait_for_a_report_before_them() {
    let server = start(builder());
    let mut client = server.connect();
    let ask = |path: &str| support::request(&format!("GET {path}"), "");
    client.send([ask("/metrics"), ask("/admin/status.json"), ask("/healthz")].concat());
    assert!(body(&client.response()).starts_with("# HELP"));
    assert!(body(&client.response()).starts_with("{\"node\""));
    assert_eq!(body(&client.response()), "ok");
    client.send(ask("/admin/namespaces.json"));
    client.finish();
    assert_eq!(status(&client.response()), 200);
    client.expect_end();
}

// Watching

fn next_status(watcher: &mut Client) -> Value {
    let event = watcher.read_through("\n\n");
    let data = event.strip_prefix("event:status\ndata:").unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn watchers_get_the_status_at_once_and_then_each_second() {
    let server = start(builder());
    let mut watcher = server.ask("GET /admin/events", "");
    watcher.expect(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache, no-transform\r\n\
         X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
    );
    let first = next_status(&mut watcher);
    assert_eq!(
        (&first["events"], &first["subscribers"]),
        (&json!(0), &json!(0))
    );
    assert!(first.get("connections").is_none() && first.get("total").is_none());
    let _subscriber = server.subscribe("/subscribe");
    server.publish("/a", "x");
    let second = next_status(&mut watcher);
    assert_eq!(
        (&second["events"], &second["subscribers"]),
        (&json!(1), &json!(1))
    );
    let between = second["uptime_ms"].as_u64().unwrap() - first["uptime_ms"].as_u64().unwrap();
    assert!(between >= 1_000, "{between} ms");
    // It is not an event stream of a namespace: it gets no events, and no list contains it.
    server.publish_last();
    assert_eq!(json_at(&server, "/admin/status.json")["total"], json!(1));
    assert_eq!(next_status(&mut watcher)["events"], json!(2));
    drop(watcher);
    assert_eq!(server.next_end().1, DisconnectReason::Client);
    let head = server.ask("HEAD /admin/events", "").read_to_end();
    assert!(head.ends_with("\r\n\r\n") && status(&head) == 200);
}

#[test]
fn watchers_do_not_delay_the_end() {
    let server = start(builder());
    let mut watcher = server.ask("GET /admin/events", "");
    watcher.read_through("\n\n");
    let _subscriber = server.subscribe("/subscribe");
    server.handle.shutdown(TIMEOUT * 2);
    watcher.read_to_end();
    let mut reasons = Vec::new();
    for _ in 0..2 {
        reasons.push(server.next_end().1);
    }
    assert_eq!(reasons, [DisconnectReason::Shutdown; 2]);
    server.join();
}

// Actions

#[test]
fn one_stream_or_all_of_a_namespace_can_be_disconnected() {
    let server = start(builder());
    let mut clients: Vec<Client> = ["/subscribe/a", "/subscribe/a/b", "/subscribe/c"]
        .map(|target| server.subscribe(target))
        .into();
    for (text, expected) in [
        (r#"{"id":3}"#, r#"{"disconnected":1}"#),
        (r#"{"id":3}"#, r#"{"disconnected":0}"#),
        (r#"{"namespace":"a"}"#, r#"{"disconnected":2}"#),
        (r#"{"namespace":"/nowhere"}"#, r#"{"disconnected":0}"#),
    ] {
        let response = post(&server, "/admin/disconnect", "", text);
        assert_eq!(
            (status(&response), body(&response)),
            (200, expected),
            "{text}"
        );
    }
    for client in &mut clients {
        client.expect_end();
    }
    let mut kicked = 0;
    for _ in 0..3 {
        kicked += usize::from(loop {
            let (info, reason) = server.next_end();
            if info.is_stream() {
                break reason == DisconnectReason::Kicked;
            }
        });
    }
    assert_eq!(kicked, 3);
    for text in [
        "",
        "{}",
        "[]",
        r#"{"id":"3"}"#,
        r#"{"id":1,"namespace":"/"}"#,
        r#"{"namespace":"/.."}"#,
        r#"{"id":1,"x":2}"#,
    ] {
        assert_eq!(
            status(&post(&server, "/admin/disconnect", "", text)),
            400,
            "{text}"
        );
    }
    let answer = json_at(&server, "/admin/status.json");
    assert_eq!(
        (&answer["disconnects"]["kicked"], &answer["subscribers"]),
        (&json!(3), &json!(0))
    );
}

// Addresses

#[test]
fn addresses_are_those_that_a_trusted_proxy_reports() {
    let server = start(builder().trusted_proxies(["127.0.0.1".parse().unwrap()]));
    let forwarded = "X-Forwarded-For: 6.6.6.6, 203.0.113.77\r\n";
    let client = subscribe_with(&server, "/subscribe", forwarded);
    let row = json_at(&server, "/admin/connection.json?id=1");
    assert_eq!(row["client_ip"], json!("203.0.113.77"));
    drop(client);
    let ended =
        std::iter::from_fn(|| Some(server.next_end().0)).find(fanfare::ConnectionInfo::is_stream);
    assert_eq!(
        ended.unwrap().peer,
        Some(SocketAddr::from(([203, 0, 113, 77], 0)))
    );
    // The header is ignored from other addresses.
    let server = start(builder().trusted_proxies(["127.0.0.2".parse().unwrap()]));
    let _client = subscribe_with(&server, "/subscribe", forwarded);
    assert_eq!(
        json_at(&server, "/admin/connection.json?id=1")["client_ip"],
        json!("127.0.0.1")
    );
}

#[test]
fn masked_addresses_are_masked_everywhere() {
    let server = start(
        builder()
            .mask_addresses(true)
            .trusted_proxies(["127.0.0.1".parse().unwrap()]),
    );
    let client = subscribe_with(&server, "/subscribe", "X-Real-IP: 203.0.113.77\r\n");
    assert_eq!(
        json_at(&server, "/admin/connection.json?id=1")["client_ip"],
        json!("203.0.113.0")
    );
    assert_eq!(ids(&server, "filter=113.77"), [] as [u64; 0]);
    drop(client);
    let ended =
        std::iter::from_fn(|| Some(server.next_end().0)).find(fanfare::ConnectionInfo::is_stream);
    assert_eq!(
        ended.unwrap().peer,
        Some(SocketAddr::from(([203, 0, 113, 0], 0)))
    );
}

// Metrics

#[test]
fn metrics_have_the_format_that_is_asked_for() {
    let server = start(builder());
    let mut client = server.subscribe("/subscribe/pets");
    server.publish("/pets/dogs", "one");
    server.publish("/cars", "two");
    client.read_through("data:one\n\n");
    let plain = get(&server, "/metrics");
    assert_eq!(
        header(&plain, "content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    for line in [
        "# TYPE fanfare_build_info gauge",
        "# TYPE fanfare_events_total counter",
        "# HELP fanfare_events_total Events received from publishers",
        "fanfare_events_total 2",
        "fanfare_deliveries_total 1",
        "fanfare_subscribers 1",
        "fanfare_disconnects_total{reason=\"lagged\"} 0",
        "# TYPE fanfare_fan_out_seconds histogram",
        "fanfare_write_events_count 1",
        "fanfare_write_events_bucket{le=\"1.0\"} 1",
        "fanfare_write_events_bucket{le=\"+Inf\"} 1",
        "fanfare_namespace_events_total{namespace=\"/pets\"} 1",
        "fanfare_namespace_events_total{namespace=\"/cars\"} 1",
        "fanfare_namespace_subscribers{namespace=\"/pets\"} 1",
        "fanfare_namespace_subscribers{namespace=\"other\"} 0",
    ] {
        assert!(
            body(&plain).lines().any(|found| found == line),
            "{line} is not in {plain}"
        );
    }
    assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"));
    let open = get_with(
        &server,
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
    );
    assert_eq!(
        header(&open, "content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(
        open.contains("# TYPE fanfare_events counter\nfanfare_events_total 2\n"),
        "{open}"
    );
    assert!(open.contains("# UNIT fanfare_fan_out_seconds seconds\n") && open.ends_with("# EOF\n"));
}

#[test]
fn namespaces_over_the_limit_share_one_series() {
    let server = start(builder());
    for number in 0..100 {
        server.publish(&format!("/n{number}/a"), "x");
    }
    let mut probe = server.subscribe("/subscribe/n0");
    server.publish("/n0", "last");
    probe.read_through("data:last\n\n");
    let metrics = get(&server, "/metrics");
    assert_eq!(
        metrics.matches("fanfare_namespace_events_total{").count(),
        65
    );
    assert!(metrics.contains("fanfare_namespace_events_total{namespace=\"/n0\"} 2\n"));
    assert!(metrics.contains("fanfare_namespace_events_total{namespace=\"other\"} 36\n"));
}

#[test]
fn events_are_counted_by_first_segment_wherever_subscribers_listen() {
    for history in [0, 100] {
        for listens_at in ["/", "/a", "/a/x"] {
            let server = start(builder().history_events(history));
            let mut stream = server.subscribe(&format!("/subscribe{listens_at}"));
            for namespace in ["/a", "/b/x", "/a/x", "/b", "/", "/ab"] {
                server.publish(namespace, "x");
            }
            server.publish("/a/x", "last");
            stream.read_through("data:last\n\n");
            let metrics = get(&server, "/metrics");
            for (namespace, events) in [("/a", 3), ("/b", 2), ("/", 1), ("/ab", 1)] {
                let name = "fanfare_namespace_events_total";
                let line = format!("{name}{{namespace=\"{namespace}\"}} {events}\n");
                assert!(metrics.contains(&line), "{listens_at}: {line}{metrics}");
            }
        }
    }
}

#[test]
fn dashboard_and_alerts_use_only_existing_metrics() {
    let server = start(builder());
    let metrics = get(&server, "/metrics");
    for text in [
        include_str!("../../admin-ui/grafana.json"),
        include_str!("../../admin-ui/alerts.yaml"),
    ] {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_part(c));
        let names: Vec<&str> = words.filter(|word| word.starts_with("fanfare_")).collect();
        assert!(names.len() > 5);
        for name in names {
            let has = |end| metrics.contains(&format!("\n{name}{end}"));
            assert!(has('{') || has(' '), "{name} is not a metric");
        }
    }
}
