//! `fanfare publish`, `fanfare subscribe` and `fanfare bench`: output, errors and exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use crate::support::odd::{OddServer, STREAM, hold, value_of};
use crate::support::program::{Process, Serving, fanfare, read_until, run};
use crate::support::{TIMEOUT, join_within};

fn serve(arguments: &[&str]) -> Serving {
    let mut command = fanfare();
    command.env("FANFARE_ADDR", "127.0.0.1:0");
    // Without history, so that output does not contain IDs, which differ between runs.
    command.env("FANFARE_HISTORY_EVENTS", "0");
    command.args(["serve", "--retry", "1ms", "--log-level", "off"]);
    Serving::start(command.args(arguments))
}

impl Serving {
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `fanfare publish` with these arguments, on this server.
    fn publish(&self, arguments: &[&str]) -> Command {
        let mut command = fanfare();
        command
            .args(["publish", "--url", &self.url()])
            .args(arguments);
        command
    }

    /// `fanfare subscribe` with these arguments, once it is connected.
    fn subscribe(&self, arguments: &[&str]) -> Subscribed {
        let url = self.url();
        let mut all = vec!["subscribe", "--url", &url];
        all.extend(arguments);
        Subscribed::start(fanfare().args(all))
    }
}

/// `fanfare subscribe`, connected.
struct Subscribed {
    child: Process,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Subscribed {
    fn start(command: &mut Command) -> Self {
        let mut child = Process::start(command);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        read_until(&mut stderr, "fanfare: connected to http://");
        Self {
            stdout: child.stdout.take().map(BufReader::new),
            child,
            stderr,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Waits for the end; returns the exit code and the unread rest of both outputs.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut out).unwrap();
        }
        self.stderr.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

/// Runs a command with this standard input; returns the exit code and both outputs.
fn feed(command: &mut Command, input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = Process::start(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    // After an error it does not read the rest.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.output();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn expect_output(output: (Option<i32>, String, String), code: i32, stdout: &str, stderr: &str) {
    assert_eq!(output, (Some(code), stdout.into(), stderr.into()));
}

#[test]
fn published_events_are_printed_in_every_format() {
    let server = serve(&[]);
    for (format, expected) in [
        ("text", "Corgi\n two\nlines\n"),
        (
            "json",
            "{\"id\":null,\"event\":\"message\",\"data\":\"Corgi\"}\n\
             {\"id\":\"7\",\"event\":\"new-dog\",\"data\":\" two\\nlines\"}\n",
        ),
        (
            "raw",
            "data:Corgi\n\nid:7\nevent:new-dog\ndata:  two\ndata:lines\n\n",
        ),
    ] {
        let subscribed = server.subscribe(&["/pets", "--format", format, "--count", "2"]);
        let published = "published to 1 subscriber\n";
        expect_output(
            feed(&mut server.publish(&["/pets/dogs", "Corgi"]), b""),
            0,
            published,
            "",
        );
        let second = [
            "/pets",
            " two\r\nlines",
            "--event",
            "new-dog",
            "--id",
            "7",
            "--retry",
            "5",
        ];
        expect_output(feed(&mut server.publish(&second), b""), 0, published, "");
        expect_output(subscribed.end(), 0, expected, "");
    }
    let none = ["pets and more/é", "x"];
    expect_output(
        feed(&mut server.publish(&none), b""),
        0,
        "published to 0 subscribers\n",
        "",
    );
}

#[test]
fn several_namespaces_are_one_stream() {
    let server = serve(&[]);
    let subscribed = server.subscribe(&["/a b", "/c&d", "--count", "2"]);
    for (namespace, data) in [("/a b/x", "1"), ("/b", "2"), ("/c&d", "3")] {
        assert!(
            server
                .publish(&[namespace, data])
                .status()
                .unwrap()
                .success()
        );
    }
    expect_output(subscribed.end(), 0, "1\n3\n", "");
}

#[test]
fn each_line_is_published_as_soon_as_it_is_read() {
    let server = serve(&[]);
    let mut subscribed = server.subscribe(&["/a", "--format", "json", "--count", "4"]);
    let mut child = Process::start(
        server
            .publish(&["/a", "-", "--event", "e"])
            .stdin(Stdio::piped()),
    );
    let mut stdin = child.stdin.take().unwrap();
    // Each line has arrived before the next is sent.
    for (line, data) in [("one\n", "one"), ("\"two\"\r\n", "\\\"two\\\""), ("\n", "")] {
        stdin.write_all(line.as_bytes()).unwrap();
        let expected = format!("{{\"id\":null,\"event\":\"e\",\"data\":\"{data}\"}}\n");
        assert_eq!(subscribed.line(), expected);
    }
    stdin.write_all(b"no line end").unwrap();
    drop(stdin);
    assert!(subscribed.line().contains("no line end"));
    let output = child.output();
    assert_eq!(output.stdout, b"published 4 events\n");
    expect_output(subscribed.end(), 0, "", "");
}

#[test]
fn many_lines_arrive_in_order_and_once() {
    let server = serve(&[]);
    let lines: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let subscribed = server.subscribe(&["/a", "--count", "200000"]);
    let receiving = std::thread::spawn(move || subscribed.end());
    let output = feed(&mut server.publish(&["/a", "-"]), lines.as_bytes());
    expect_output(output, 0, "published 200000 events\n", "");
    assert!(join_within(TIMEOUT, receiving) == (Some(0), lines, String::new()));
}

#[test]
fn a_refused_line_is_named_with_the_number_of_events_before_it() {
    let server = serve(&[]);
    let good = "{\"namespace\":\"/a\",\"data\":\"x\"}\n";
    let refused = |input: &[u8], message: &str| {
        let (code, out, err) = feed(&mut server.publish(&["--ndjson"]), input);
        assert_eq!((code, &*out), (Some(1), ""), "{err}");
        assert!(err.starts_with(message), "{err}");
        assert!(
            err.ends_with("; published 2 events before it, and none after\n"),
            "{err}"
        );
    };
    let bad = "{\"namespace\":\"/a\",\"dta\":1}\n";
    refused(
        format!("{good}{good}{bad}").as_bytes(),
        "fanfare: line 3 was refused: ",
    );
    refused(
        format!("{good}\n{good}{bad}{good}").as_bytes(),
        "fanfare: line 4 was refused: ",
    );
    // The server ends the connection long before all of this is sent.
    let flood = good.repeat(500_000);
    refused(
        format!("{good}{good}{bad}{flood}").as_bytes(),
        "fanfare: line 3 was refused: ",
    );

    let input = b"one\ntwo\nth\xffree\nfour\n";
    let (code, _, err) = feed(&mut server.publish(&["/a", "-"]), input);
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "fanfare: line 3 is not UTF-8; published 2 events before it, and none after\n"
    );
    expect_output(
        feed(&mut server.publish(&["--ndjson"]), good.trim().as_bytes()),
        0,
        "published 1 event\n",
        "",
    );
}

#[test]
fn a_refused_line_is_noticed_while_standard_input_is_still_open() {
    let server = serve(&[]);
    let mut child = Process::start(server.publish(&["--ndjson"]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stdin.write_all(b"wrong\n").unwrap();
    // The producer writes until the program has ended; its input does not end before.
    while stdin.write_all(b"{\"namespace\":\"/a\"}\n").is_ok() {
        std::thread::yield_now();
    }
    let line = read_until(&mut stderr, "\n");
    assert!(line.starts_with("fanfare: line 1 was refused: "), "{line}");
    assert!(
        line.ends_with("; published 0 events before it, and none after\n"),
        "{line}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_token_is_sent_and_required() {
    let server = serve(&["--publish-token", "secret"]);
    let output = feed(&mut server.publish(&["/a", "x"]), b"");
    assert_eq!(output.0, Some(1));
    assert!(
        output
            .2
            .contains("the server answered 401: publishing needs"),
        "{}",
        output.2
    );
    let output = feed(&mut server.publish(&["/a", "-"]), b"x\n");
    assert_eq!(output.0, Some(1));
    assert!(
        output
            .2
            .contains("the server answered 401: publishing needs")
            && output.2.ends_with("; nothing was published\n"),
        "{}",
        output.2
    );
    let published = "published to 0 subscribers\n";
    expect_output(
        feed(&mut server.publish(&["/a", "x", "--token", "secret"]), b""),
        0,
        published,
        "",
    );
    let mut with_variable = server.publish(&["/a", "x"]);
    expect_output(
        feed(with_variable.env("FANFARE_TOKEN", "secret"), b""),
        0,
        published,
        "",
    );

    let output = run(&["subscribe", &format!("{}/nowhere", server.url())]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with("/nowhere: the server answered 404: unknown path\n"),
        "{stderr}"
    );

    let odd = OddServer::responding("HTTP/1.1 403 No\r\nContent-Length: 8\r\n\r\nnot you\n");
    let output = run(&[
        "subscribe",
        &odd.url("/x?y"),
        "--token",
        "secret",
        "--last-event-id",
        "9",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with(": the server answered 403: not you\n"),
        "{stderr}"
    );
    let request = odd.next_request();
    assert!(request.starts_with("GET /x?y HTTP/1.1\r\n"), "{request}");
    assert_eq!(value_of(&request, "authorization"), Some("Bearer secret"));
    assert_eq!(value_of(&request, "last-event-id"), Some("9"));
}

#[test]
fn a_server_that_is_not_running_is_reported_in_one_line() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = run(&["publish", "/a", "x", "--url", &format!("http://{address}")]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("refused") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn invalid_arguments_are_usage_errors() {
    for arguments in [
        &["publish"][..],
        &["publish", "/a/../b", "x"],
        &["publish", "/a", "-", "--id", "7"],
        &["publish", "/a", "--ndjson"],
        &["publish", "/a", "--evnt=x"],
        &["publish", "/a", "x", "--url", "localhost"],
        &["publish", "/a", "x", "--url", "http://127.0.0.1:65536"],
        &["publish", "/a", "x", "--retry", "soon"],
        &["publish", "/a", "-", "--token", "a\nb"],
        &["subscribe"],
        &["subscribe", "/a", "--url", "localhost"],
        &["subscribe", "/a", "--url", "http://127.0.0.1:65536"],
        &["subscribe", "/a", "http://127.0.0.1:1/"],
        &["subscribe", "/a", "--format", "xml"],
        &["subscribe", "/a", "--timeout", "5"],
        &["subscribe", "/a", "--token", "a\nb"],
    ] {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(
            stderr.starts_with("fanfare: ") && stderr.lines().count() == 1,
            "{stderr}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn subscribe_ends_after_its_timeout() {
    let server = serve(&[]);
    let url = server.url();
    let soon = ["subscribe", "/a", "--url", &url, "--timeout", "50ms"];
    let output = run(&soon);
    assert_eq!((output.status.code(), output.stdout), (Some(0), Vec::new()));
    let output = Process::start(fanfare().args(soon).args(["--count", "3"])).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    assert!(
        stderr.ends_with("fanfare: only 0 of 3 events arrived in time\n"),
        "{stderr}"
    );
}

#[test]
fn it_ends_without_an_error_when_its_output_is_closed() {
    let server = serve(&[]);
    let mut subscribed = server.subscribe(&["/a"]);
    drop(subscribed.stdout.take());
    while subscribed.child.try_wait().unwrap().is_none() {
        Process::start(&mut server.publish(&["/a", "x"])).output();
    }
    expect_output(subscribed.end(), 0, "", "");
}

#[test]
fn it_ends_without_an_error_when_it_is_interrupted() {
    let server = serve(&[]);
    for signal in ["-INT", "-TERM"] {
        let mut subscribed = server.subscribe(&["/a"]);
        Process::start(&mut server.publish(&["/a", "x"])).output();
        assert_eq!(subscribed.line(), "x\n");
        let kill = format!("kill {signal} {}", subscribed.child.id());
        assert!(
            Command::new("bash")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        expect_output(subscribed.end(), 0, "", "");
    }
}

#[test]
fn it_reconnects_to_a_server_that_was_killed() {
    let server = serve(&[]);
    let address = server.address.clone();
    let mut subscribed = server.subscribe(&["/a", "--count", "2"]);
    Process::start(&mut server.publish(&["/a", "before"])).output();
    assert_eq!(subscribed.line(), "before\n");
    drop(server);
    let log = read_until(&mut subscribed.stderr, "reconnecting in");
    assert!(log.contains("fanfare: http://"), "{log}");
    let server = serve(&["--addr", &address]);
    read_until(&mut subscribed.stderr, "connected to");
    Process::start(&mut server.publish(&["/a", "after"])).output();
    expect_output(subscribed.end(), 0, "after\n", "");
}

/// Server and client are killed alternately, and every event is printed once.
#[test]
fn no_event_is_lost_when_either_side_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let start = |address: &str| {
        let history = ["--history-events", "1000", "--data-dir", data];
        serve(&[&["--addr", address], &history[..]].concat())
    };
    let mut server = start("127.0.0.1:0");
    let address = server.address.clone();
    let (mut expected, mut last) = (0, String::new());
    let mut subscribed = server.subscribe(&["/a", "--format", "json"]);
    for round in 0..6 {
        let lines: String = (0..20)
            .map(|line| format!("{}\n", round * 20 + line))
            .collect();
        let (_, reported, _) = feed(&mut server.publish(&["/a/b", "-"]), lines.as_bytes());
        assert_eq!(reported, "published 20 events\n");
        let read = if round % 2 == 0 { 20 } else { 7 };
        for _ in 0..read {
            let line: serde_json::Value = serde_json::from_str(&subscribed.line()).unwrap();
            assert_eq!(line["data"], expected.to_string());
            last = line["id"].as_str().unwrap().to_owned();
            expected += 1;
        }
        if round % 2 == 0 {
            drop(server);
            read_until(&mut subscribed.stderr, "reconnecting in");
            server = start(&address);
            read_until(&mut subscribed.stderr, "connected to");
        } else {
            // It may have received more events than it was asked to show.
            drop(subscribed);
            subscribed = server.subscribe(&["/a", "--format", "json", "--last-event-id", &last]);
            for _ in 7..20 {
                let line: serde_json::Value = serde_json::from_str(&subscribed.line()).unwrap();
                assert_eq!(line["data"], expected.to_string());
                expected += 1;
            }
        }
    }
}

#[test]
fn streams_of_other_servers_are_read() {
    let odd = OddServer::start(|_, _, mut stream| {
        let text =
            format!("{STREAM}: hello\n\nid: 1\r\ndata: first\r\n\r\ndata: second\n\ndata: half");
        stream.write_all(text.as_bytes()).unwrap();
        hold(stream);
    });
    let mut command = fanfare();
    command.args([
        "subscribe",
        &odd.url("/events"),
        "--count",
        "2",
        "--format",
        "json",
    ]);
    let expected = "{\"id\":\"1\",\"event\":\"message\",\"data\":\"first\"}\n\
                    {\"id\":\"1\",\"event\":\"message\",\"data\":\"second\"}\n";
    expect_output(Subscribed::start(&mut command).end(), 0, expected, "");
}

#[test]
fn bench_measures_and_draws_a_plot() {
    let server = serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let url = server.url();
    let load = [
        "bench",
        "--url",
        &url,
        "--connections",
        "60",
        "--slow",
        "2",
        "--duration",
        "300ms",
    ];
    let spread = [
        "--namespaces",
        "7",
        "--publishers",
        "2",
        "--workers",
        "2",
        "--rate",
        "1000",
    ];
    let mut command = fanfare();
    command
        .args(load)
        .args(spread)
        .args(["--size", "64", "--json", "--plot"])
        .arg(&plot);
    let (code, out, table) = feed(&mut command, b"");
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(out.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(number("connections"), 60);
    for nothing in ["lost", "duplicated", "out_of_order", "disconnected"] {
        assert_eq!(number(nothing), 0, "{nothing}: {out}");
    }
    assert!(
        number("published") > 0 && number("received") >= number("published") * (60 / 7),
        "{out}"
    );
    let latency = |name: &str| report["latency_us"][name].as_f64().unwrap();
    assert!(
        latency("p50") > 0.0 && latency("p50") <= latency("p99.9"),
        "{out}"
    );
    assert!(table.contains("latency p99.9"), "{table}");
    let picture = std::fs::read_to_string(plot).unwrap();
    assert!(
        picture.starts_with("<svg") && picture.contains("p99"),
        "{picture}"
    );
}

#[test]
fn bench_reports_lost_events_on_any_server() {
    let server = OddServer::start(|_, request, mut stream| {
        if request.starts_with("POST") {
            while stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok() {
                let mut ignored = [0; 4096];
                if stream.read(&mut ignored).unwrap_or(0) == 0 {
                    return;
                }
            }
            return;
        }
        // The published events are not delivered.
        let _ = stream.write_all(STREAM.as_bytes());
        hold(stream);
    });
    let (stream, post) = (server.url("/events/{}"), server.url("/post/{}"));
    let mut command = fanfare();
    command.args([
        "bench",
        "--stream",
        &stream,
        "--post",
        &post,
        "--connections",
        "2",
    ]);
    command.args(["--duration", "200ms", "--rate", "100", "--json"]);
    let (code, out, err) = feed(&mut command, b"");
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.ends_with("fanfare: not every event arrived once and in order\n"),
        "{err}"
    );
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("published") > 0, "{out}");
    assert_eq!(
        (number("received"), number("lost")),
        (0, 2 * number("published")),
        "{out}"
    );
    assert!(server.next_request().starts_with("GET /events/0 "));
}

#[test]
fn bench_without_a_server_reports_the_error() {
    let gone = OddServer::responding("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let output = run(&["bench", "--url", &gone.url(""), "--connections", "3"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.ends_with("0 of 3 streams started: the server answered 404\n"),
        "{stderr}"
    );
    for arguments in [
        &["--connections", "0"][..],
        &["--url", "https://127.0.0.1"],
        &["--size", "1x"],
        &["--token", "a\nb"],
    ] {
        let output = Process::start(fanfare().arg("bench").args(arguments)).output();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let nowhere = tempfile::tempdir().unwrap().path().join("gone/plot.svg");
    let output = Process::start(fanfare().args(["bench", "--plot"]).arg(nowhere)).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("fanfare: cannot draw "), "{stderr}");
}
