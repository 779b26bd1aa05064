//! Runs a server on a separate thread and ends it in an orderly way:
//! `cargo run --example thread`, then `curl -N http://127.0.0.1:8001/subscribe/count`.

use std::time::Duration;

use crossbeam_channel::tick;
use fanfare::{Event, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .keepalive(Duration::from_secs(5))
        .build()?
        .spawn("127.0.0.1:8001")?;

    // The main thread is free for the application, which counts for a minute here.
    let seconds = tick(Duration::from_secs(1));
    for count in 1..=60 {
        seconds.recv()?;
        let event = Event::new("/count", count.to_string());
        server.publisher().send(event)?;
    }

    // Ends all streams within ten seconds. Each client receives a time after which to reconnect.
    server.handle().shutdown(Duration::from_secs(10));
    server.join()?;
    Ok(())
}
