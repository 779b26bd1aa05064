//! The cost of encoding an event, compared with a naive encoder that formats each line:
//! `cargo bench --bench encode`.
//!
//! The data has one line or many, from 16 bytes to 64 KiB. Throughput is in bytes of data.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::Event;

/// Bytes of data.
const SIZES: [usize; 4] = [16, 100, 1 << 10, 64 << 10];
/// Bytes of each line, if the data has many.
const LINE: usize = 40;

/// The naive encoder.
fn naive(event_type: &str, data: &str) -> String {
    let data = data.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = format!("event:{event_type}\n");
    for line in data.split('\n') {
        let space = if line.starts_with(' ') { " " } else { "" };
        text += &format!("data:{space}{line}\n");
    }
    text + "\n"
}

fn encode(criterion: &mut Criterion) {
    compare(criterion, "encode/one line", |size| "x".repeat(size));
    compare(criterion, "encode/lines", |size| {
        let line = "x".repeat(LINE - 1) + "\n";
        line.chars().cycle().take(size).collect()
    });
}

fn compare(criterion: &mut Criterion, name: &str, data: fn(usize) -> String) {
    let mut group = criterion.benchmark_group(name);
    for size in SIZES {
        let data = data(size);
        let event = Event::new("/pets/dogs", data.as_str()).event("new-dog");
        let encoded = event.encode().expect("plain text is valid");
        assert_eq!(encoded, naive("new-dog", &data));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("fanfare", size), &event, |b, event| {
            b.iter(|| black_box(event).encode());
        });
        group.bench_with_input(BenchmarkId::new("naive", size), &data, |b, data| {
            b.iter(|| naive(black_box("new-dog"), black_box(data)));
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
