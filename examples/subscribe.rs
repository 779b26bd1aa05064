//! Prints the events of a stream until it ends: `cargo run --example subscribe [URL]`.
//!
//! Without a URL it reads the pets of `cargo run --example pets`.

use std::time::Duration;

use fanfare::client::{Error, EventSource, Update};

fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:8001/subscribe/pets".into());
    let source = EventSource::builder(&url)
        .reconnection_time(Duration::from_secs(1))
        .build()?;
    // `source.close_handle()` would end the loop from any other thread.
    for update in source {
        match update {
            Update::Open => println!("connected to {url}"),
            Update::Event(event) => println!("{}: {}", event.event_type, event.data),
            Update::Gap(gap) => println!("events may be missing: {}", gap.reason),
            Update::Lost { error, wait } => println!("{error}; reconnecting in {wait:?}"),
            Update::Closed(error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
