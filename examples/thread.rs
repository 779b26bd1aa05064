//! A server on a thread of its own, beside the application's main loop, and a clean stop:
//! `cargo run --example thread`, then `curl -N http://127.0.0.1:8001/subscribe/count`.

use std::time::Duration;

use fanfare::{Event, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .keepalive(Duration::from_secs(5))
        .build()?
        .spawn("127.0.0.1:8001")?;

    // Whatever else the application does; here it counts for a minute.
    for (count, _) in crossbeam_channel::tick(Duration::from_secs(1))
        .iter()
        .enumerate()
        .take(60)
    {
        server
            .publisher()
            .send(Event::new("/count", count.to_string()))?;
    }

    // Streams end within ten seconds, each told when to come back; then the thread ends.
    server.handle().shutdown(Duration::from_secs(10));
    server.join()?;
    Ok(())
}
