//! `fanfare serve` and its configuration: output, errors and exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::program::{Process, Serving, fanfare, read_until, run};

/// Writes a file with this text for a test; returns its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn an_error_is_reported_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let yaml = file(folder.path(), "a.yaml", "max-lag: 4MiB\nmax-lagg: 3\n");
    let toml = file(folder.path(), "a.toml", "retry = \"3s\"\nfoo = 1\n");
    let unit = file(folder.path(), "unit.yml", "\nkeepalive: 5\n");
    let broken = file(folder.path(), "broken.toml", "retry = = 3\n");
    let range = file(folder.path(), "range.toml", "max-event = 0\n");
    let kind = file(folder.path(), "kind.yaml", "retry: 3s\nqueue: many\n");
    let level = file(folder.path(), "level.toml", "log-level = \"loud\"\n");
    let twice = file(
        folder.path(),
        "twice.yaml",
        "max-lag: 1MiB\nmax_lag: 2MiB\n",
    );
    let list = file(folder.path(), "list.toml", "retry = [\"3s\"]\n");
    let item = file(
        folder.path(),
        "item.yaml",
        "trusted-proxies:\n  - 10.0.0.0/33\n",
    );
    let header = file(
        folder.path(),
        "header.yaml",
        "headers:\n  X-A: |\n    b\n    X-C: d\n",
    );
    let total = file(folder.path(), "total.yaml", "history-total: 1MiB\n");
    let ini = file(folder.path(), "a.ini", "");
    let rows: &[(&[&str], i32, &[&str])] = &[
        (&[], 2, &["a command is required"]),
        (&["sevre"], 2, &["sevre"]),
        (&["serve", "--max-lagg", "3"], 2, &["--max-lagg"]),
        (
            &["serve", "--max-lag", "3x"],
            2,
            &["max-lag: invalid value `3x`: unknown size unit `x`: use B"],
        ),
        (
            &["serve", "--retry", "5"],
            2,
            &["retry: ", "`5`", "needs a unit"],
        ),
        (
            &["serve", "--max-event", "0"],
            2,
            &["max-event: 0 is less than the minimum of 1B"],
        ),
        (
            &["serve", "--headers", "Content-Length: 3"],
            2,
            &["headers", "Content-Length"],
        ),
        (
            &["serve", "--cors-origins", "example.org"],
            2,
            &["cors-origins", "example.org"],
        ),
        (&["serve", "--addr", &taken], 1, &[&taken, "in use"]),
        (
            &["serve", "--admin", "maybe"],
            2,
            &["admin: invalid value `maybe`: expected `on`, `off` or"],
        ),
        (
            &["serve", "--addr", "127.0.0.1:0", "--admin", &taken],
            1,
            &["the status page cannot listen on", &taken],
        ),
        (
            &["serve", "--admin-token", "a b"],
            2,
            &["admin-token", "visible"],
        ),
        (
            &["serve", "--trusted-proxies", "::1,10.0.0.0/33"],
            2,
            &["trusted-proxies: ", "`10.0.0.0/33`"],
        ),
        (
            &["serve", "--addr", "192.0.2.1:80"],
            1,
            &["192.0.2.1:80", "assign"],
        ),
        (&["serve", "--addr", "nowhere"], 1, &["nowhere"]),
        (
            &["serve", "--config", "/nonexistent.yaml"],
            2,
            &["/nonexistent.yaml", "No such file"],
        ),
        (&["serve", "--config", &yaml], 2, &["a.yaml:2", "max-lagg"]),
        (&["check-config", &yaml], 2, &["a.yaml:2", "max-lagg"]),
        (&["check-config", &toml], 2, &["a.toml:2", "foo"]),
        (
            &["check-config", &unit],
            2,
            &["unit.yml:2: keepalive: ", "needs a unit"],
        ),
        (&["check-config", &kind], 2, &["kind.yaml:2: queue: "]),
        (
            &["check-config", &level],
            2,
            &["level.toml:1: log-level: ", "loud", "debug"],
        ),
        (
            &["serve", "--config", &range],
            2,
            &["range.toml:1: max-event: 0 is"],
        ),
        (
            &["check-config", &twice],
            2,
            &["twice.yaml:2: ", "duplicate option `max_lag`"],
        ),
        (
            &["check-config", &list],
            2,
            &["list.toml:1: retry: ", "expected a text or a number"],
        ),
        (
            &["check-config", &item],
            2,
            &["item.yaml:", ": trusted-proxies: ", "10.0.0.0/33"],
        ),
        (
            &["check-config", &header],
            2,
            &["header.yaml:2: headers: invalid value"],
        ),
        (
            &["check-config", &total],
            2,
            &["total.yaml: history-total: 1MiB is less than"],
        ),
        (
            &["serve", "--config", &total],
            2,
            &["total.yaml: history-total: 1MiB is less than"],
        ),
        (
            &["check-config", "a\nb.yaml"],
            2,
            &["a\u{fffd}b.yaml: No such"],
        ),
        (&["check-config", &broken], 2, &["broken.toml:1"]),
        (&["check-config", &range], 2, &["range.toml", "max-event"]),
        (
            &["check-config", &ini],
            2,
            &["a.ini", ".yaml, .yml or .toml"],
        ),
        (&["completions", "tcsh"], 2, &["tcsh"]),
    ];
    for (arguments, code, expected) in rows {
        let output = run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let error = stderr.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(error.starts_with("fanfare: "), "{arguments:?}: {stderr}");
        assert!(
            expected.iter().all(|part| error.contains(part)),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr.matches("fanfare: ").count(), 1);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn invalid_and_unknown_variables_are_named() {
    for (name, value, expected) in [
        ("FANFARE_MAX_LAG", "7q", "(from FANFARE_MAX_LAG)"),
        ("FANFARE_MAX_EVENT", "0", "(from FANFARE_MAX_EVENT)"),
        (
            "FANFARE_HISTORY_TOTAL",
            "1MiB",
            "(from FANFARE_HISTORY_TOTAL)",
        ),
        ("FANFARE_PORT", "8001", "unknown variable FANFARE_PORT"),
        ("FANFARE_MAX_LAGG", "7", "unknown variable FANFARE_MAX_LAGG"),
    ] {
        let output = Process::start(fanfare().arg("serve").env(name, value)).output();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr.contains(expected) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_ignored() {
    let serving = Serving::start(
        fanfare()
            .args(["serve", "--addr", "127.0.0.1:0"])
            .env("FANFARE_SERVICE_HOST", "10.0.0.1")
            .env("FANFARE_SERVICE_PORT_HTTP", "8001")
            .env("FANFARE_PORT", "tcp://10.0.0.1:8001")
            .env("FANFARE_PORT_8001_TCP_ADDR", "10.0.0.1"),
    );
    serving.stream_until("", "\n\n");
}

#[test]
fn an_argument_that_is_not_unicode_does_not_panic() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"\xff.yaml");
    let mut command = fanfare();
    command.args(["serve", "--config"]).arg(name);
    let output = Process::start(command.args(["--fsync", "maybe"])).output();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.starts_with(b"fanfare: invalid value 'maybe'"));
}

#[test]
fn it_continues_to_serve_when_its_log_is_closed() {
    let mut serving =
        Serving::start(fanfare().args(["serve", "--addr", "127.0.0.1:0", "--log-level", "debug"]));
    drop(serving.child.stderr.take());
    for _ in 0..3 {
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        serving
            .request(health)
            .read_to_string(&mut answer)
            .expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    serving.signal("-TERM");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn spaces_between_origins_are_ignored() {
    let origins = "https://a.example, https://b.example";
    let arguments = ["serve", "--addr", "127.0.0.1:0", "--cors-origins", origins];
    let serving = Serving::start(fanfare().args(arguments));
    let stream = serving
        .request("GET /subscribe HTTP/1.1\r\nHost: localhost\r\nOrigin: https://b.example\r\n\r\n");
    let head: Vec<String> = BufReader::new(stream)
        .lines()
        .map(|line| line.unwrap().to_lowercase())
        .take_while(|line| !line.is_empty())
        .collect();
    let allowed = "access-control-allow-origin: https://b.example";
    assert!(head.iter().any(|line| line == allowed), "{head:?}");
}

#[test]
fn a_secret_is_not_in_the_help() {
    let mut command = fanfare();
    command.args(["serve", "--help"]);
    let output = Process::start(command.env("FANFARE_PUBLISH_TOKEN", "hush")).output();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("FANFARE_PUBLISH_TOKEN") && !help.contains("hush"));
}

#[test]
fn a_valid_file_is_accepted_and_help_goes_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "a.yaml",
            "addr: 127.0.0.1:0\nmax_lag: 4MiB\nsend-buffer: 4096\ncors-origins: [https://a.b]\nheaders:\n  X-A: b\n",
        ),
        (
            "a.toml",
            "keepalive = 0\nretry = \"500ms\"\ncors-origins = \"*\"\nlog-format = \"json\"\n[headers]\nX-A = \"b\"\n",
        ),
        (
            "admin.yaml",
            "admin: on\nadmin-token: hush\nmask-addresses: true\ntrusted-proxies: [10.0.0.0/8, \"::1\"]\n",
        ),
        (
            "admin.toml",
            "admin = \"127.0.0.1:9001\"\ntrusted-proxies = \"10.0.0.0/8\"\n",
        ),
        ("off.yaml", "admin: off\n"),
        ("false.toml", "admin = false\n"),
        ("empty.yml", ""),
        (
            "plain.yaml",
            "data-dir:\npublish-token: 0123\nkeepalive-text: 1.50\nmask-addresses: yes\nkeepalive: 0\n",
        ),
        ("no-list.yaml", "cors-origins: []\n"),
    ] {
        let path = file(folder.path(), name, text);
        let output = run(&["check-config", &path]);
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{path}: ok\n")
        );
        assert!(output.status.success());
    }
    for (arguments, part) in [
        (&["--help"][..], "check-config"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["serve", "--help"], "FANFARE_WRITE_BUDGET"),
        (&["completions", "bash"], "complete -F"),
    ] {
        let output = run(arguments);
        assert!(
            output.status.success() && String::from_utf8(output.stdout).unwrap().contains(part),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_flag_overrides_a_variable_a_file_and_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(
        folder.path(),
        "a.yaml",
        "addr: 127.0.0.1:0\nretry: 0\nkeepalive-text: from the file\n",
    );
    let rows: [(&[&str], Option<&str>, &str); 3] = [
        (&[], None, "\r\n\r\n:from the file\n\n"),
        (&[], Some("from a variable"), "\r\n\r\n:from a variable\n\n"),
        (
            &["--keepalive-text", "from a flag"],
            Some("from a variable"),
            "\r\n\r\n:from a flag\n\n",
        ),
    ];
    for (flags, variable, prefix) in rows {
        let mut command = fanfare();
        command
            .args(["serve", "--history-events", "0", "--config", &config])
            .args(flags);
        if let Some(text) = variable {
            command.env("FANFARE_KEEPALIVE_TEXT", text);
        }
        let text = Serving::start(&mut command).stream_until("", "\n\n");
        assert!(text.ends_with(prefix), "{text}");
    }
    let text =
        Serving::start(fanfare().args(["serve", "--addr", "127.0.0.1:0", "--history-events", "0"]))
            .stream_until("", "\n\n");
    assert!(
        text.contains("\r\n\r\nretry:") && text.ends_with("\n:\n\n"),
        "{text}"
    );
}

#[test]
fn the_demo_publishes_the_time() {
    let serving = Serving::start(fanfare().args(["serve", "--demo", "--addr", "127.0.0.1:0"]));
    let text = serving.stream_until("/time", "m\n\n");
    let line = text.lines().find(|line| line.starts_with("data:")).unwrap();
    assert!(line.ends_with(" am") || line.ends_with(" pm"), "{line}");
    serving.stream_until("/pets", "event:new-");
    serving.signal("-TERM");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn a_signal_drains_and_the_log_names_the_reason() {
    for (format, expected) in [
        ("text", "reason=\"shutdown\""),
        ("json", "\"reason\":\"shutdown\""),
    ] {
        let arguments = [
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--drain",
            "2s",
            "--log-format",
            format,
        ];
        let serving = Serving::start(fanfare().args(arguments));
        let stream = serving.request("GET /subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = BufReader::new(stream);
        read_until(&mut stream, "\n\n");
        serving.signal("-INT");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(
            rest.starts_with("retry:") && rest.ends_with("\n\n"),
            "{rest}"
        );
        let (code, log) = serving.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(
            log.contains(expected) && log.contains("event stream ended"),
            "{log}"
        );
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let serving =
        Serving::start(fanfare().args(["serve", "--addr", "127.0.0.1:0", "--drain", "1h"]));
    // An upload that never ends delays the drain.
    let upload = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                  Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = BufReader::new(serving.request(upload));
    assert!(read_until(&mut stream, "\n").starts_with("HTTP/1.1 100 "));
    serving.signal("-TERM");
    // The drain has begun when no connection is accepted any more.
    while TcpStream::connect(&serving.address).is_ok() {
        std::thread::yield_now();
    }
    serving.signal("-TERM");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn at_the_descriptor_limit_it_continues_and_recovers() {
    let mut command = Command::new("bash");
    let program = env!("CARGO_BIN_EXE_fanfare");
    command.args([
        "-c",
        &format!("ulimit -n 64; exec {program} serve --addr 127.0.0.1:0 --max-connections 1000"),
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut serving = Serving::start(&mut command);
    let first = serving.request("GET /subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let crowd: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(&serving.address).unwrap())
        .collect();
    // It logs a warning, but not in a loop.
    let mut log = BufReader::new(serving.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("cannot accept") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0);
    }
    // Open connections are served meanwhile.
    let mut reader = BufReader::new(first);
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    drop(crowd);
    let text = serving.stream_until("/b", "\n\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
    line.clear();
    serving.signal("-TERM");
    let mut rest = String::new();
    serving.stdout.read_to_string(&mut rest).unwrap();
    assert!(serving.child.wait().unwrap().success());
}
