//! `serve --demo`: publishes the time and a random pet once a second.

use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fanfare::{Event, Publisher};

const PETS: [(&str, &str, &[&str]); 2] = [
    (
        "/pets/dogs",
        "new-dog",
        &["Corgi", "Poodle", "Husky", "Beagle", "Dachshund"],
    ),
    (
        "/pets/cats",
        "new-cat",
        &["Persian", "Siamese", "Tabby", "Manx", "Sphynx"],
    ),
];

/// Starts a thread that publishes until `ended` is disconnected.
pub(super) fn start(publisher: &Publisher, ended: &Receiver<()>) {
    let (publisher, ended) = (publisher.clone(), ended.clone());
    std::thread::spawn(move || while publish_for_a_second(&publisher, &ended).is_some() {});
}

/// Publishes a pet at a random time before the next full second, and the time at that second.
/// `None` when the server has ended.
fn publish_for_a_second(publisher: &Publisher, ended: &Receiver<()>) -> Option<()> {
    let to_next_second =
        Duration::from_nanos(1_000_000_000 - u64::from(since_epoch().subsec_nanos()));
    let random = since_epoch().subsec_nanos() as usize / 1_000;
    let to_pet = to_next_second.mul_f64((random % 997) as f64 / 997.0);
    wait(ended, to_pet)?;
    let (namespace, event_type, names) = PETS[random % PETS.len()];
    let name = names[random / 7 % names.len()];
    publisher
        .send(Event::new(namespace, name).event(event_type))
        .ok()?;
    wait(ended, to_next_second - to_pet)?;
    publisher
        .send(Event::new("/time", time_of_day(since_epoch().as_secs())))
        .ok()
}

fn wait(ended: &Receiver<()>, time: Duration) -> Option<()> {
    (ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout)).then_some(())
}

fn since_epoch() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// The time of day in UTC, in the form `6:07:17 pm`.
fn time_of_day(seconds: u64) -> String {
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let half = if hour < 12 { "am" } else { "pm" };
    format!("{}:{minute:02}:{second:02} {half}", (hour + 11) % 12 + 1)
}

#[cfg(test)]
mod tests {
    use super::time_of_day;

    #[test]
    fn the_time_of_day_has_twelve_hours() {
        for (seconds, time) in [
            (0, "12:00:00 am"),
            (43_200, "12:00:00 pm"),
            (65_237, "6:07:17 pm"),
            (86_399, "11:59:59 pm"),
        ] {
            assert_eq!(time_of_day(seconds), time);
        }
    }
}
