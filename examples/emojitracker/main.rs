//! Every emoji of a stream of posts, counted and lit up in real time: `cargo run --release --example emojitracker`, then open
//! `http://127.0.0.1:8001`. README.md beside this file tells more.

mod emoji;
mod feed;
mod page;
mod post;
mod rankings;
mod tracker;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::Write;

use clap::Parser;

use feed::Feed;
use tracker::Tracker;

/// Counts every emoji of a stream of posts and shows them in the browser as they come.
#[derive(Parser)]
#[command(name = "emojitracker")]
struct Options {
    /// Where to listen; port 0 is any free one.
    #[arg(long, default_value = "127.0.0.1:8001")]
    addr: String,
    /// Simulated posts a second.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Reads posts from standard input instead: one a line, text or a JSON object with a `text`.
    #[arg(long)]
    stdin: bool,
    /// As --stdin.
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with = "stdin")]
    input: Option<String>,
    /// Sends no event ids and keeps nothing for those who reconnect.
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
    let mut out = std::io::stdout();
    writeln!(out, "emojitracker on http://{}", tracker.address()?)?;
    out.flush()?;
    feed.run(|post| tracker.track(&post))?;
    // What came last may still wait for its roll-up. Whoever comes now finds the counts as they are.
    tracker.flush()?;
    tracker.join()
}
