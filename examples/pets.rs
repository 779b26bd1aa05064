//! The time each second, and now and then a new pet: `cargo run --example pets`, then
//! `curl -N http://127.0.0.1:8001/subscribe/time` or `…/subscribe/pets`.

use std::time::{Duration, SystemTime};

use crossbeam_channel::tick;
use fanfare::{Event, Publisher, Server};

fn main() -> std::io::Result<()> {
    let server = Server::new();
    let clock = server.publisher();
    std::thread::spawn(move || tell_time(&clock));
    let shelter = server.publisher();
    std::thread::spawn(move || announce_pets(&shelter));
    server.serve("127.0.0.1:8001")
}

fn tell_time(publisher: &Publisher) {
    for _ in tick(Duration::from_secs(1)) {
        let today = seconds() % 86_400;
        let time = format!(
            "{:02}:{:02}:{:02}",
            today / 3600,
            today / 60 % 60,
            today % 60
        );
        if publisher.send(Event::new("/time", time)).is_err() {
            return;
        }
    }
}

fn announce_pets(publisher: &Publisher) {
    let pets = [
        ("dogs", "new-dog", "Corgi"),
        ("cats", "new-cat", "Persian"),
        ("dogs", "new-dog", "Terrier"),
    ];
    for (_, (kind, event, name)) in tick(Duration::from_millis(700))
        .into_iter()
        .zip(pets.iter().cycle())
    {
        let event = Event::new(format!("/pets/{kind}"), *name).event(*event);
        if publisher.send(event).is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the program's clock")]
fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
