//! Receiving the events of a server, and all that can happen on the way: `cargo run --example subscribe [URL]`.
//!
//! Without a URL it starts a server of its own, which ends after three events.

use std::io::Write;
use std::time::Duration;

use fanfare::client::{EventSource, Update};
use fanfare::{Event, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let given = std::env::args().nth(1);
    let server = Server::new().spawn("127.0.0.1:0")?;
    let address = server.handle().local_addr().ok_or("the server is bound")?;
    let url = given.unwrap_or_else(|| format!("http://{address}/subscribe/pets"));

    let source = EventSource::builder(&url)
        .reconnection_time(Duration::from_secs(1))
        .build()?;
    let close_handle = source.close_handle(); // closes it from any thread
    for update in source {
        match update {
            Update::Open => {
                writeln!(out, "connected to {url}")?;
                for name in ["Corgi", "Poodle", "Husky"] {
                    let event = Event::new("/pets/dogs", name).event("new-dog");
                    server.publisher().send(event)?;
                }
            }
            Update::Event(event) => {
                writeln!(out, "{}: {}", event.event_type, event.data)?;
                if event.data == "Husky" {
                    close_handle.close();
                }
            }
            Update::Gap(gap) => writeln!(out, "events are gone for good: {:?}", gap.reason)?,
            Update::Lost { error, wait } => writeln!(out, "{error}; again in {wait:?}")?,
            Update::Closed(error) => return Err(error.into()),
            _ => {}
        }
    }
    server.handle().shutdown(Duration::ZERO);
    server.join()?;
    Ok(())
}
