//! Publishes the time every second and a pet every 0.7 s: `cargo run --example pets`, then
//! `curl -N http://127.0.0.1:8001/subscribe/time`, or `/subscribe/pets` for the pets.

use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::tick;
use fanfare::{Event, Publisher, Server};

const PETS: [(&str, &str, &str); 3] = [
    ("/pets/dogs", "new-dog", "Corgi"),
    ("/pets/cats", "new-cat", "Persian"),
    ("/pets/dogs", "new-dog", "Terrier"),
];

fn main() -> std::io::Result<()> {
    let server = Server::new();
    let publisher = server.publisher();
    thread::spawn(move || publish_time(&publisher));
    let publisher = server.publisher();
    thread::spawn(move || publish_pets(&publisher));
    server.serve("127.0.0.1:8001")
}

fn publish_time(publisher: &Publisher) {
    for _ in tick(Duration::from_secs(1)) {
        let event = Event::new("/time", time_of_day());
        if publisher.send(event).is_err() {
            return; // The server has ended.
        }
    }
}

fn publish_pets(publisher: &Publisher) {
    for (number, _) in tick(Duration::from_millis(700)).iter().enumerate() {
        let (namespace, event_type, name) = PETS[number % PETS.len()];
        let event = Event::new(namespace, name).event(event_type);
        if publisher.send(event).is_err() {
            return; // The server has ended.
        }
    }
}

/// The time in UTC, such as `18:07:17`.
fn time_of_day() -> String {
    let seconds = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}
