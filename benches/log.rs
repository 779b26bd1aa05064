//! The cost of a log, compared with a naive list of frames that are copied together for each write:
//! `cargo bench --bench log`.
//!
//! Measures one turn of a busy topic with 1 to 1,000 events; a write to a lagging subscriber, by
//! the number of retained frames; and an append that drops the oldest frame, by the number of
//! retained frames. Throughput is in bytes.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::internals::{BytesRef, EventLog, Offset, Slices};

/// Bytes of a small event on the wire.
const FRAME: usize = 108;
/// Bytes of one write.
const WRITE: usize = 16 << 10;
/// Events of one turn.
const TURNS: [usize; 4] = [1, 16, 150, 1_000];
/// Frames that are retained.
const RETAINED: [usize; 3] = [200, 2_000, 20_000];

fn frame(bytes: usize) -> Bytes {
    (0..bytes).map(|at| b'a' + (at % 26) as u8).collect()
}

#[derive(Default)]
struct Log {
    log: EventLog,
}

impl Log {
    fn append(&mut self, frame: &Bytes) {
        let seq = self.log.last_seq().next();
        self.log.append(seq, &[], BytesRef::Bytes(frame));
    }

    /// The slices of one write from an offset on.
    fn slices(&self, from: Offset, max_bytes: usize) -> Slices<'_> {
        let mut slices = Slices::new();
        self.log.gather(from, max_bytes, &mut slices);
        slices
    }

    /// Calls `each` with the slices of each write that is needed from an offset to the end.
    fn for_each_write(&self, mut from: Offset, mut each: impl FnMut(&Slices<'_>)) {
        while from < self.log.end() {
            let slices = self.slices(from, usize::MAX);
            from += slices.bytes();
            each(&slices);
        }
    }
}

/// Frames in order, and the offset of the first.
#[derive(Default)]
struct List {
    frames: VecDeque<Bytes>,
    start: u64,
}

impl List {
    fn end(&self) -> u64 {
        self.start
            + self
                .frames
                .iter()
                .map(|frame| frame.len() as u64)
                .sum::<u64>()
    }

    fn concat(&self, from: u64, max_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut start = self.start;
        for frame in &self.frames {
            let skipped = from.saturating_sub(start).min(frame.len() as u64) as usize;
            let taken = (max_bytes - bytes.len()).min(frame.len() - skipped);
            bytes.extend_from_slice(&frame[skipped..skipped + taken]);
            start += frame.len() as u64;
        }
        bytes
    }

    fn drop_before(&mut self, offset: u64) {
        while let Some(frame) = self.frames.front()
            && self.start + frame.len() as u64 <= offset
        {
            self.start += frame.len() as u64;
            self.frames.pop_front();
        }
    }
}

/// A log and a list with `frames` frames of this size.
fn filled(frames: usize, bytes: usize) -> (Log, List) {
    let (mut log, mut list) = (Log::default(), List::default());
    let frame = frame(bytes);
    for _ in 0..frames {
        log.append(&frame);
        list.frames.push_back(frame.clone());
    }
    (log, list)
}

fn turn(criterion: &mut Criterion) {
    for (name, bytes) in [("log/turn", FRAME), ("log/turn of large events", 64 << 10)] {
        let mut group = criterion.benchmark_group(name);
        let frame = frame(bytes);
        for events in TURNS.into_iter().filter(|events| events * bytes <= 2 << 20) {
            let turn = |log: &mut Log| {
                let from = log.log.end();
                (0..events).for_each(|_| log.append(black_box(&frame)));
                log.for_each_write(from, |slices| {
                    black_box(slices);
                });
                log.log.drop_before(log.log.end(), 0)
            };
            let naive_turn = |list: &mut List| {
                let from = list.end();
                (0..events).for_each(|_| list.frames.push_back(black_box(&frame).clone()));
                black_box(list.concat(from, usize::MAX));
                list.drop_before(list.end())
            };
            let (mut log, mut list) = filled(events, bytes);
            let mut written = Vec::new();
            log.for_each_write(Offset::ZERO, |slices| written.extend(slices.to_vec()));
            assert!(
                written == list.concat(0, usize::MAX),
                "both return the same bytes"
            );
            group.throughput(Throughput::Bytes((events * bytes) as u64));
            group.bench_function(BenchmarkId::new("fanfare", events), |b| {
                b.iter(|| turn(&mut log));
            });
            group.bench_function(BenchmarkId::new("naive", events), |b| {
                b.iter(|| naive_turn(&mut list));
            });
        }
        group.finish();
    }
}

fn lagging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/lagging, by frames retained");
    group.throughput(Throughput::Bytes(WRITE as u64));
    for retained in RETAINED {
        let (log, list) = filled(retained, FRAME);
        // In the middle of a frame.
        let from = log.log.end().saturating_sub(WRITE as u64 + 50);
        let offset = from - Offset::ZERO;
        assert_eq!(log.slices(from, WRITE).to_vec(), list.concat(offset, WRITE));
        group.bench_function(BenchmarkId::new("fanfare", retained), |b| {
            b.iter(|| black_box(log.slices(black_box(from), WRITE)).bytes());
        });
        group.bench_function(BenchmarkId::new("naive", retained), |b| {
            b.iter(|| list.concat(black_box(offset), WRITE));
        });
    }
    group.finish();
}

fn retained(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/append, by frames retained");
    group.throughput(Throughput::Bytes(FRAME as u64));
    let frame = frame(FRAME);
    for retained in RETAINED {
        let max_bytes = (retained * FRAME) as u64;
        let append = |log: &mut Log| {
            log.append(black_box(&frame));
            log.log
                .drop_before(log.log.end().saturating_sub(max_bytes), 0);
            log.log.start() - Offset::ZERO
        };
        let naive_append = |list: &mut List| {
            list.frames.push_back(black_box(&frame).clone());
            list.drop_before(list.end() - max_bytes);
            list.start
        };
        let (mut log, mut list) = filled(retained, FRAME);
        assert_eq!(append(&mut log), naive_append(&mut list));
        group.bench_function(BenchmarkId::new("fanfare", retained), |b| {
            b.iter(|| append(&mut log));
        });
        group.bench_function(BenchmarkId::new("naive", retained), |b| {
            b.iter(|| naive_append(&mut list));
        });
    }
    group.finish();
}

criterion_group!(benches, turn, lagging, retained);
criterion_main!(benches);
