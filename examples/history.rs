//! An application's own store of events, here one file with a line of JSON for each, so that history outlives the process:
//! `cargo run --example history`, then `curl -N http://127.0.0.1:8001/subscribe?replay=all`, now and after a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::{Event, EventStore, LastEvents, Namespace, Record, Recovered, Server};
use serde_json::{Value, json};

/// So many events that are no longer wanted may be in the file.
const STALE: u64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let journal = Journal::open(Path::new("events.json"))?;
    let server = Server::builder().event_store(journal).build()?;
    let publisher = server.publisher();
    std::thread::spawn(move || {
        let ticks = crossbeam_channel::tick(Duration::from_secs(1));
        for (count, _) in ticks.iter().enumerate() {
            if publisher
                .send(Event::new("/count", count.to_string()))
                .is_err()
            {
                return;
            }
        }
    });
    server.serve("127.0.0.1:8001")?;
    Ok(())
}

pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    epoch: u64,
    /// Bytes of the lines that count.
    bytes: u64,
    /// What is known of the events that are no longer in the file.
    last_events: LastEvents,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        Ok(Self {
            path: path.into(),
            file,
            epoch: 0,
            bytes: 0,
            last_events: LastEvents::default(),
        })
    }
}

impl EventStore for Journal {
    /// Any line says it.
    fn epoch(&mut self, fresh: u64) -> io::Result<u64> {
        let mut first = String::new();
        BufReader::new(File::open(&self.path)?).read_line(&mut first)?;
        let value: Value = serde_json::from_str(&first).unwrap_or_default();
        self.epoch = value["epoch"].as_u64().unwrap_or(fresh);
        self.last_events = last_events_from_json(&value).unwrap_or_default();
        Ok(self.epoch)
    }

    fn last_events(&mut self) -> io::Result<LastEvents> {
        Ok(self.last_events.clone())
    }

    fn recover(&mut self, each: &mut dyn FnMut(Record, SystemTime)) -> io::Result<Recovered> {
        let mut next = self.last_events.last_seq() + 1;
        let mut lines = BufReader::new(&self.file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let value: Value = serde_json::from_str(&line)?;
            self.bytes += line.len() as u64;
            line.clear();
            if last_events_from_json(&value).is_none() {
                let (record, at) = from_json(&value).ok_or(io::ErrorKind::InvalidData)?;
                next = record.seq() + 1;
                each(record, at);
            }
        }
        // Half a line is from an append that did not come to its end, so nobody has seen it.
        self.file.set_len(self.bytes)?;
        Ok(Recovered {
            next,
            dropped: None,
        })
    }

    fn append(&mut self, records: &[Record], at: SystemTime) -> io::Result<()> {
        let mut lines = String::new();
        for record in records {
            lines += &to_json(record, at, self.epoch).to_string();
            lines.push('\n');
        }
        // Synced each time, so the last line always tells how far numbers have come.
        let stored = self.file.write_all(lines.as_bytes());
        if let Err(error) = stored.and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Writes the file anew when enough of it is not wanted. The first line then tells of that.
    fn prune(&mut self, before: u64) -> io::Result<()> {
        if before < self.last_events.last_seq() + STALE {
            return Ok(());
        }
        let mut last_events = self.last_events.clone();
        let mut kept = Vec::new();
        let text = fs::read_to_string(&self.path)?;
        for line in text.lines() {
            let value: Value = serde_json::from_str(line)?;
            match from_json(&value) {
                Some((record, _)) if record.seq() < before => {
                    last_events.record(record.seq(), record.namespaces())
                }
                Some(_) => kept.push(line),
                None => {}
            }
        }
        let first = json!({ "epoch": self.epoch, "last_events": last_events.encode() }).to_string();
        kept.insert(0, &first);
        let text: String = kept.iter().flat_map(|line| [line, "\n"]).collect();
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, &text)?;
        let file = OpenOptions::new().read(true).append(true).open(&fresh)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        (self.file, self.bytes, self.last_events) = (file, text.len() as u64, last_events);
        Ok(())
    }
}

fn to_json(record: &Record, at: SystemTime, epoch: u64) -> Value {
    let namespaces: Vec<&str> = record.namespaces().iter().map(Namespace::as_str).collect();
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "epoch": epoch,
        "seq": record.seq(),
        "at_ms": since.as_millis() as u64,
        "namespaces": namespaces,
        "event": String::from_utf8_lossy(record.bytes()),
    })
}

fn from_json(value: &Value) -> Option<(Record, SystemTime)> {
    let paths = value["namespaces"].as_array()?.iter();
    let namespaces = paths.map(|path| Namespace::parse(path.as_str()?).ok());
    let event = value["event"].as_str()?.to_string();
    let record = Record::new(
        value["seq"].as_u64()?,
        namespaces.collect::<Option<_>>()?,
        event,
    );
    let at = UNIX_EPOCH + Duration::from_millis(value["at_ms"].as_u64()?);
    Some((record, at))
}

fn last_events_from_json(value: &Value) -> Option<LastEvents> {
    let bytes = value["last_events"].as_array()?.iter();
    let bytes = bytes.map(|byte| u8::try_from(byte.as_u64()?).ok());
    LastEvents::decode(&bytes.collect::<Option<Vec<_>>>()?)
}
