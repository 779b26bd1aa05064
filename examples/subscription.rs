//! Receives events in the process that publishes them: `cargo run --example subscription`.

use std::time::Duration;

use fanfare::{Event, Namespace, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new().spawn("127.0.0.1:0")?;
    let pets = server.handle().subscribe(&[Namespace::parse("/pets")?])?;

    let publisher = server.publisher();
    publisher.send(Event::new("/pets/dogs", "Corgi").event("new-dog"))?;
    publisher.send(Event::new("/cars", "not received by subscribers of /pets"))?;
    publisher.send(Event::new("/pets/cats", "Persian").event("new-cat"))?;
    // The server delivers queued events before it ends, and the subscription ends with it.
    server.handle().shutdown(Duration::from_secs(1));

    for event in pets {
        println!("{}: {}", event.event_type, event.data);
    }
    server.join()?;
    Ok(())
}
