//! The program as the tests start it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::TIMEOUT;

/// The longest life of a program: one that hangs is killed, so that its test fails instead.
const LIFETIME: Duration = TIMEOUT.saturating_mul(3);

/// A running program, which ends with its test.
pub(crate) struct Process {
    /// `None` once its output is waited for.
    child: Option<Child>,
    /// Dropped when the program has ended.
    _is_running: Sender<()>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (is_running, ended) = channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(LIFETIME) == Err(RecvTimeoutError::Timeout) {
                // It may end at this very moment.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Self {
            child: Some(child),
            _is_running: is_running,
        }
    }

    /// Waits for the end; returns the unread rest of its outputs.
    pub(crate) fn output(mut self) -> Output {
        let child = self.child.take().expect("only this takes it");
        child.wait_with_output().unwrap()
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.child.as_ref().expect("the output is asked for last")
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        self.child.as_mut().expect("the output is asked for last")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

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
    Process::start(fanfare().args(arguments)).output()
}

/// Reads lines until the text contains `expected`.
pub(crate) fn read_until(stream: &mut impl BufRead, expected: &str) -> String {
    let mut text = String::new();
    while !text.contains(expected) {
        let count = stream.read_line(&mut text).unwrap();
        assert!(count > 0, "the stream ended: {text}");
    }
    text
}

/// The program, serving on a port of its own.
pub(crate) struct Serving {
    pub(crate) child: Process,
    pub(crate) stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = Process::start(command);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.strip_prefix("fanfare listening on http://") else {
            let output = child.output();
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
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Subscribes, and reads until the stream contains `expected`.
    pub(crate) fn stream_until(&self, namespace: &str, expected: &str) -> String {
        let stream = self.request(&format!(
            "GET /subscribe{namespace} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        read_until(&mut BufReader::new(stream), expected)
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(
            // A minimal machine has no `kill` but the shell's.
            Command::new("bash")
                .args(["-c", &format!("kill {name} {}", self.child.id())])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; returns the exit code and the log.
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
