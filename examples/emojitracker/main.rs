//! Counts every emoji of a stream of posts and lights it up in the browser:
//! `cargo run --release --example emojitracker`, then open `http://127.0.0.1:8001`. See the
//! README.md in this directory.

mod emoji;
mod feed;
mod page;
mod post;
mod rankings;
mod tracker;

#[cfg(test)]
mod tests;

use std::error::Error;

use clap::Parser;

use feed::Feed;
use tracker::Tracker;

/// Counts every emoji of a stream of posts and shows the counts in the browser.
#[derive(Parser)]
#[command(name = "emojitracker")]
struct Options {
    /// Address to listen on; port 0 chooses a free port
    #[arg(long, default_value = "127.0.0.1:8001")]
    addr: String,
    /// Simulated posts per second
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Read posts from standard input instead: one per line, text or a JSON object with a `text`
    #[arg(long)]
    stdin: bool,
    /// Same as --stdin
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with = "stdin")]
    input: Option<String>,
    /// Send no event IDs and retain no events for clients that reconnect
    #[arg(long)]
    no_history: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let feed = match options.stdin || options.input.is_some() {
        true => Feed::Stdin,
        false => Feed::Simulated(options.rate),
    };
    let tracker = Tracker::start(&options.addr, !options.no_history, feed.name())?;
    println!("emojitracker on http://{}", tracker.address()?);
    feed.run(|post| tracker.track(&post))?;
    // The last counts may still wait for their roll-up. The server goes on to serve them.
    tracker.flush()?;
    tracker.join()
}
