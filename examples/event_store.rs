//! An event store of the application's own: a folder with a file for each event, so that history
//! outlives the process.
//!
//! `cargo run --example event_store`, then
//! `curl -N 'http://127.0.0.1:8001/subscribe?replay=all'`, also after a restart.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

use fanfare::{Event, EventStore, LastEvents, Namespace, Record, Recovered, Restore, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Folder("events".into());
    let server = Server::builder().event_store(store).build()?;
    let publisher = server.publisher();
    let ticks = crossbeam_channel::tick(Duration::from_secs(1));
    thread::spawn(move || {
        let mut counts = (1..).zip(ticks).map(|(count, _)| count.to_string());
        counts.try_for_each(|count| publisher.send(Event::new("/count", count)))
    });
    Ok(server.serve("127.0.0.1:8001")?)
}

/// A file's name is its event's number. Its first line lists the namespaces; the rest is the event.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn path(&self, seq: u64) -> PathBuf {
        self.0.join(seq.to_string())
    }

    fn numbers(&self) -> io::Result<BTreeSet<u64>> {
        let files = fs::read_dir(&self.0)?.collect::<io::Result<Vec<_>>>()?;
        let number = |file: &fs::DirEntry| file.file_name().to_str()?.parse().ok();
        Ok(files.iter().filter_map(number).collect())
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let namespaces: Vec<_> = record.namespaces().iter().map(Namespace::as_str).collect();
        let line = namespaces.join("\t") + "\n";
        // The file gets its name when it is complete, because the process may end before.
        let unfinished = self.0.join("unfinished");
        fs::write(&unfinished, [line.as_bytes(), record.bytes()].concat())?;
        fs::rename(unfinished, self.path(record.seq()))
    }

    fn read(&self, seq: u64) -> io::Result<(Record, SystemTime)> {
        let content = fs::read_to_string(self.path(seq))?;
        let (line, event) = content.split_once('\n').ok_or(io::ErrorKind::InvalidData)?;
        let namespaces = line.split_terminator('\t').map(Namespace::parse);
        let namespaces = namespaces.collect::<Result<_, _>>();
        let record = Record::new(seq, namespaces.map_err(io::Error::other)?, event.to_owned());
        Ok((record, fs::metadata(self.path(seq))?.modified()?))
    }
}

impl EventStore for Folder {
    fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
        fs::create_dir_all(&self.0)?;
        let numbers = self.numbers()?;
        let epoch = self.0.join("epoch");
        if numbers.is_empty() {
            fs::write(&epoch, fresh_epoch.to_string())?;
        }
        let epoch = fs::read_to_string(epoch)?
            .parse()
            .map_err(io::Error::other)?;
        restore.begin(epoch, LastEvents::default());
        for &seq in &numbers {
            let (record, at) = self.read(seq)?;
            restore.event(record, at);
        }
        Ok(Recovered::new(numbers.last().map_or(1, |last| last + 1)))
    }

    fn append(&mut self, records: &[Record], _at: SystemTime) -> io::Result<()> {
        let written = records.iter().try_for_each(|record| self.write(record));
        if written.is_err() {
            // None of these events may be restored after a restart.
            let remove = |record: &Record| fs::remove_file(self.path(record.seq()));
            records.iter().map(remove).for_each(drop);
        }
        written
    }

    fn prune(&mut self, before: u64) -> io::Result<()> {
        let mut numbers = self.numbers()?;
        // The newest event stays: the next one's number follows from it.
        numbers.pop_last();
        let mut old = numbers.range(..before);
        old.try_for_each(|&seq| fs::remove_file(self.path(seq)))
    }
}
