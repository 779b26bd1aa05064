//! Receiving events in the same process: `cargo run --example subscription`.

use std::io::Write;
use std::time::Duration;

use fanfare::{Event, Namespace, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new().spawn("127.0.0.1:0")?;
    let pets = server.handle().subscribe(&[Namespace::parse("/pets")?])?;

    let publisher = server.publisher();
    publisher.send(Event::new("/pets/dogs", "Corgi").event("new-dog"))?;
    publisher.send(Event::new("/cars", "nobody here hears of cars"))?;
    publisher.send(Event::new("/pets/cats", "Persian").event("new-cat"))?;
    // What is queued is given out before anything ends, and the iterator ends with the server.
    server.handle().shutdown(Duration::from_secs(1));

    for event in pets {
        writeln!(std::io::stdout(), "{}: {}", event.event_type, event.data)?;
    }
    server.join()?;
    Ok(())
}
