//! The program as the tests start it.

#![allow(dead_code, reason = "each test program uses a part of what they share")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with nothing on its standard input.
pub(crate) fn fanfare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    fanfare().args(arguments).output().unwrap()
}

/// Reads line by line, as a bare `read` may be interrupted, until something in the text is there.
pub(crate) fn read_until(stream: &mut impl BufRead, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let count = stream.read_line(&mut text).unwrap();
        assert!(count > 0, "the stream ended: {text}");
    }
    text
}

/// The program, serving on a port of its own.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.strip_prefix("fanfare listening on http://") else {
            let output = child.wait_with_output().unwrap();
            panic!("{line}{}", String::from_utf8_lossy(&output.stderr));
        };
        let address = address.trim();
        Self {
            child,
            stdout,
            address: address.into(),
        }
    }

    pub(crate) fn request(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Subscribes, and reads until something in the stream is there.
    pub(crate) fn stream_until(&self, namespace: &str, wanted: &str) -> String {
        let stream = self.request(&format!(
            "GET /subscribe{namespace} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        read_until(&mut BufReader::new(stream), wanted)
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            // The shell's own: a bare machine has no other.
            Command::new("bash")
                .args(["-c", &format!("kill {name} {}", self.child.id())])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; returns the exit code and what was logged.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
