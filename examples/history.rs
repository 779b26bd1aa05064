//! An application's own store of events, here one file with a line of JSON for each, so that history outlives the process:
//! `cargo run --example history`, then `curl -N http://127.0.0.1:8001/subscribe?replay=all`, now and after a restart.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::{Event, History, Namespace, Record, Recovered, Server};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .history(Journal::open("events.json".into())?)
        .build()?;
    let publisher = server.publisher();
    std::thread::spawn(move || {
        for count in crossbeam_channel::tick(Duration::from_secs(1)).iter().zip(1..) {
            let event = Event::new("/count", count.1.to_string());
            if publisher.send(event).is_err() {
                return;
            }
        }
    });
    server.serve("127.0.0.1:8001")?;
    Ok(())
}

/// A first line with the epoch, then one for each event. A database would hold the same in two tables.
struct Journal {
    path: PathBuf,
    file: File,
    epoch: u64,
    /// Bytes of the lines that count.
    bytes: u64,
    /// Events before this number are not wanted, and before this one they are gone.
    forget: u64,
    forgot: u64,
}

