//! Counts allocations while events are published and delivered: none per delivery, and none that
//! depend on other namespaces.
//!
//! It is a program of its own, because counting replaces the allocator. Growing a vector counts as
//! an allocation.

#[path = "../support/sink_engine.rs"]
mod sink_engine;

use allocation_counter::measure;
use fanfare::Event;
use fanfare::internals::{EventLimits, Frame, Target};

use sink_engine::{SinkEngine, frame, namespace};

/// Turns before counting starts, so that lists have grown to the capacity that they need.
const WARM_UP: usize = 5;
/// Turns that are counted.
const TURNS: usize = 20;

/// The number of allocations in `TURNS` turns that publish and deliver these events.
fn allocations(engine: &mut SinkEngine, frames: &[Frame]) -> u64 {
    (0..WARM_UP).for_each(|_| engine.turn(frames));
    let before = (engine.sink.bytes, engine.sink.writes);
    let counted = measure(|| (0..TURNS).for_each(|_| engine.turn(frames)));
    assert!(
        engine.sink.bytes > before.0 && engine.sink.writes > before.1,
        "nothing was delivered in the counted turns"
    );
    counted.count_total
}

/// The events of one turn, by kind.
fn turns_of(path: &str) -> [(&'static str, Vec<Frame>); 4] {
    [
        ("a lone event", vec![frame(path, 100)]),
        ("150 small events", vec![frame(path, 100); 150]),
        ("more than a pass takes", vec![frame(path, 1000); 200]),
        ("large events", vec![frame(path, 64 << 10); 8]),
    ]
}

#[test]
fn a_delivery_allocates_nothing() {
    // Sockets that take everything, and sockets that are full in the middle of an event.
    for most in [usize::MAX, 10_000] {
        for (what, frames) in turns_of("/a/b") {
            let of = |subscribers| {
                let mut engine = SinkEngine::new();
                engine.sink.most = most;
                engine.join_many("/a", subscribers);
                allocations(&mut engine, &frames)
            };
            assert_eq!(of(1), of(1_000), "{what}, {most} bytes a write");
        }
    }
}

#[test]
fn a_delivery_on_a_stream_of_several_namespaces_allocates_nothing() {
    for (what, frames) in turns_of("/a") {
        let of = |subscribers| {
            let mut engine = SinkEngine::new();
            (0..subscribers).for_each(|_| engine.join(&["/a", "/b", "/c"]));
            allocations(&mut engine, &frames)
        };
        assert_eq!(of(1), of(300), "{what}");
    }
}

#[test]
fn an_event_allocates_at_most_its_entries_in_the_logs() {
    let levels = ["/", "/a", "/a/b"];
    // A log that was empty takes a lone event into memory of its size. Under load, many events
    // share a chunk and the growth of the index; large ones are held by reference.
    let most_per_event_and_log = [1.0, 0.1, 0.25, 0.1];
    for ((what, frames), most) in turns_of("/a/b").iter().zip(most_per_event_and_log) {
        let mut engine = SinkEngine::new();
        levels.iter().for_each(|path| engine.join_many(path, 10));
        let allocations = allocations(&mut engine, frames) as f64;
        let entries = (TURNS * frames.len() * levels.len()) as f64;
        assert!(
            allocations <= most * entries,
            "{what}: {allocations} allocations for {entries} entries in logs"
        );
    }
}

#[test]
fn an_event_without_subscribers_allocates_nothing() {
    let mut engine = SinkEngine::new();
    engine.join(&["/elsewhere"]);
    let unheard = frame("/a/b", 100);
    engine.turn(std::slice::from_ref(&unheard));
    let counted = measure(|| engine.turn(std::slice::from_ref(&unheard)));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_frame_allocates_its_bytes_and_its_namespace() {
    let limits = EventLimits::default();
    for bytes in [0, 100, 10_000, 1 << 20] {
        let event = Event::new("/a/b", "x".repeat(bytes)).event("new-dog");
        let mut made = None;
        let counted = measure(|| made = Some(Frame::new(&event, &limits)));
        let frame = made.unwrap().unwrap();
        assert!(matches!(frame.target, Target::One(path) if path == namespace("/a/b")));
        // The bytes, their reference count, and the namespace.
        assert!(counted.count_total <= 3, "{bytes} bytes: {counted:?}");
    }
}

#[test]
fn a_small_event_goes_into_the_queue_without_an_allocation() {
    let server = fanfare::Server::builder().build().unwrap();
    let server = server.spawn("127.0.0.1:0").unwrap();
    let events: Vec<Event> = (0..1000)
        .map(|number| Event::new("/a/b", number.to_string()).event("new-dog"))
        .collect();
    let publisher = server.publisher();
    let send_all = |events: Vec<Event>| {
        events
            .into_iter()
            .for_each(|event| publisher.send(event).unwrap());
    };
    send_all(events.clone());
    let counted = measure(|| send_all(events));
    // The queue itself may grow a few times more.
    assert!(counted.count_total < 20, "{counted:?}");
}

#[test]
fn publishing_allocates_the_same_with_many_other_namespaces() {
    for (what, frames) in turns_of("/a/b") {
        let with_others = |namespaces: usize, subscribers: usize| {
            let mut engine = SinkEngine::new();
            engine.join_many("/a/b", 10);
            (0..namespaces).for_each(|other| engine.join(&[&format!("/a/other/{other}")]));
            engine.join_many("/a/bb", subscribers);
            allocations(&mut engine, &frames)
        };
        let alone = with_others(0, 0);
        assert_eq!(
            alone,
            with_others(10_000, 0),
            "{what}, with other namespaces"
        );
        assert_eq!(
            alone,
            with_others(0, 10_000),
            "{what}, with other subscribers"
        );
    }
}
