//! Measures the cost of a delivery inside the engine, without sockets: `cargo bench --bench
//! broadcast`.
//!
//! The engine writes to sinks that accept and count all bytes: one namespace with up to 100,000
//! subscribers, few namespaces with many, and many namespaces with few, with single events and with
//! 150 per write. Throughput is in deliveries. `broadcast/other` measures an event to one
//! subscriber while other parts of the tree have many namespaces or subscribers; it must not cost
//! more.

#[path = "../tests/support/sink_engine.rs"]
mod sink_engine;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use fanfare::internals::Frame;

use sink_engine::{SinkEngine, frame};

/// Bytes of an event's data.
const DATA: usize = 100;
/// Events per turn under load, as many as the write budget holds.
const BATCH: usize = 150;

/// Measures turns that publish these events. `deliveries` is the number of deliveries of a turn.
fn turns(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    engine: impl Fn() -> SinkEngine,
    frames: &[Frame],
    deliveries: usize,
) {
    group.throughput(Throughput::Elements(deliveries as u64));
    // A benchmark that is filtered out does not build its engine.
    group.bench_function(id, |b| {
        let mut engine = engine();
        engine.turn(frames);
        let bytes = (deliveries * frames[0].bytes.len()) as u64;
        assert_eq!(
            engine.sink.bytes, bytes,
            "each event reaches all its subscribers"
        );
        b.iter(|| engine.turn(frames));
    });
}

fn path(n: usize) -> String {
    format!("/namespace/{n}")
}

/// An engine with this many namespaces, and subscribers of each.
fn spread(namespaces: usize, each: usize) -> SinkEngine {
    let mut engine = SinkEngine::new();
    (0..namespaces).for_each(|n| engine.join_many(&path(n), each));
    engine
}

fn broadcast(criterion: &mut Criterion) {
    for (name, events) in [("broadcast/lone", 1), ("broadcast/loaded", BATCH)] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        let frames = vec![frame("/namespace/0", DATA); events];
        for sinks in [1, 10, 100, 1_000, 10_000, 100_000] {
            let id = BenchmarkId::from_parameter(sinks);
            turns(&mut group, id, || spread(1, sinks), &frames, sinks * events);
        }
        group.finish();
    }
}

/// One event to each of the namespaces.
fn namespaces(criterion: &mut Criterion) {
    for (name, shapes) in [
        ("broadcast/dense", [(1, 10_000), (10, 1_000), (100, 100)]),
        ("broadcast/sparse", [(1_000, 10), (10_000, 1), (100_000, 1)]),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        for (count, each) in shapes {
            let id = BenchmarkId::from_parameter(format!("{count} of {each}"));
            let frames: Vec<Frame> = (0..count).map(|n| frame(&path(n), DATA)).collect();
            turns(
                &mut group,
                id,
                || spread(count, each),
                &frames,
                count * each,
            );
        }
        group.finish();
    }
}

/// One event to one subscriber.
fn other_namespaces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast/other");
    let frames = [frame("/a/b", DATA)];
    for (what, namespaces, each) in [
        ("nothing", 0, 0),
        ("10000 namespaces", 10_000, 1),
        ("100000 namespaces", 100_000, 1),
        ("10000 subscribers", 1, 10_000),
        ("100000 subscribers", 1, 100_000),
    ] {
        let engine = || {
            let mut engine = spread(namespaces, each);
            engine.join(&["/a/b"]);
            engine
        };
        turns(
            &mut group,
            BenchmarkId::from_parameter(what),
            engine,
            &frames,
            1,
        );
    }
    group.finish();
}

criterion_group!(benches, broadcast, namespaces, other_namespaces);
criterion_main!(benches);
