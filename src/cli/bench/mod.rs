//! `fanfare bench`: measures a server under a load of subscribers and publishers.

mod clock;
mod load;
mod plot;
mod publisher;
mod results;
mod stream;
mod url_template;
mod worker;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use fanfare::config::{ByteSize, Span};

use super::target::ServerTarget;
use super::{Failure, interruption, print, whole_number};
use clock::LoadClock;
use load::Load;
use publisher::{PublishMethod, PublisherConfig};
use results::Results;
use url_template::UrlTemplate;

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(flatten)]
    target: ServerTarget,
    /// Streams of another server, with {} for the number of the namespace:
    /// http://127.0.0.1:3000/events/{}
    #[arg(long, value_name = "URL")]
    stream: Option<String>,
    /// Where another server accepts each event as the body of a POST, with {} for the number of the
    /// namespace: http://127.0.0.1:3000/publish/{}
    #[arg(long, value_name = "URL")]
    post: Option<String>,
    /// Number of connections that read
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = at_least_one)]
    connections: u64,
    /// Number of namespaces that connections and events are spread over
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = at_least_one)]
    namespaces: u64,
    /// Events published per second in total; 0 publishes as fast as the server accepts them
    #[arg(long, value_name = "EVENTS", default_value_t = 1000, value_parser = whole_number::<u64>)]
    rate: u64,
    /// Size of the data of an event, such as 64KiB
    #[arg(long, value_name = "SIZE", default_value = "100")]
    size: ByteSize,
    /// How long to publish, such as 500ms, 10s or 5m
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    duration: Span,
    /// Number of threads that publish; with 0, only events of other publishers are received
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = whole_number::<usize>)]
    publishers: usize,
    /// Number of additional connections that read too slowly
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = whole_number::<u64>)]
    slow: u64,
    /// Number of threads that read
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = at_least_one)]
    workers: u64,
    /// Print the results as one line of JSON on standard output, and the table on standard error
    #[arg(long)]
    json: bool,
    /// Draw throughput and latency over time into this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let number = whole_number(text).ok().filter(|&number| number > 0);
    number.ok_or_else(|| "expected a whole number of at least 1".into())
}

/// The number of events that one publisher has sent to each namespace.
type PublishedCounts = Vec<u64>;

/// Runs the load and prints its results.
pub(super) fn bench(options: &Bench) -> Result<(), Failure> {
    // Create the file first, so that a wrong path is reported before the load and not after it.
    let plot = options.plot.as_deref().map(create).transpose()?;
    super::serve::raise_descriptor_limit();
    let interrupted = interruption()?;
    let clock = LoadClock::start();
    let mut load = Load::start(options, clock)?;
    load.wait_for_streams(options, &interrupted)?;
    let (stop, stopped) = bounded(0);
    let publishers = start_publishers(options, clock, &stopped)?;
    load.watch(options, &publishers, &interrupted);
    drop::<Sender<()>>(stop);
    let published = publishers
        .into_iter()
        .map(|publisher| join(publisher, "a publisher"))
        .collect::<Result<Vec<_>, _>>()?;
    load.wait_for_remaining_events(options, &published, &interrupted);
    let results = load.finish(options, &published)?;
    let drawn = plot.map_or(Ok(()), |(path, file)| {
        plot::draw(&file, load.samples()).map_err(|error| plot_failure(path, &error))
    });
    show(options, &results).and(drawn)
}

fn create(path: &Path) -> Result<(&Path, File), Failure> {
    let file = File::create(path).map_err(|error| plot_failure(path, &error))?;
    Ok((path, file))
}

fn plot_failure(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot draw {}: {error}", path.display()))
}

/// Waits for a thread. `name` starts the error message.
fn join<T>(thread: JoinHandle<io::Result<T>>, name: &str) -> Result<T, Failure> {
    let result = thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
    result.map_err(|error| Failure::Failed(format!("{name}: {error}")))
}

fn show(options: &Bench, results: &Results) -> Result<(), Failure> {
    if options.json {
        // A failed write to standard error cannot be reported anywhere.
        let _ = io::stderr().write_all(results.table().as_bytes());
        let json = serde_json::to_string(results)
            .map_err(|error| Failure::Failed(format!("cannot encode the results: {error}")))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&results.table())?;
    }
    results.check().map_err(Failure::Failed)
}

/// The header lines of a request that do not depend on its method.
fn headers(options: &Bench, template: &UrlTemplate) -> Result<String, Failure> {
    let mut headers = format!("Host: {}\r\n", template.host);
    if let Some(token) = options.target.token()? {
        headers.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    Ok(headers)
}

fn start_publishers(
    options: &Bench,
    clock: LoadClock,
    stopped: &Receiver<()>,
) -> Result<Vec<JoinHandle<io::Result<PublishedCounts>>>, Failure> {
    let Some(config) = publisher_config(options, clock)? else {
        return Ok(Vec::new());
    };
    let start = |number| {
        let config = PublisherConfig {
            number,
            ..config.clone()
        };
        let stopped = stopped.clone();
        std::thread::spawn(move || publisher::run(&config, &stopped))
    };
    Ok((0..options.publishers).map(start).collect())
}

/// The configuration of the first publisher. `None` if the options do not say how another server
/// receives events.
fn publisher_config(options: &Bench, clock: LoadClock) -> Result<Option<PublisherConfig>, Failure> {
    let base = options.target.url.trim_end_matches('/');
    let (method, url) = match (&options.post, &options.stream) {
        (Some(url), _) => (PublishMethod::Posts, url.clone()),
        (None, None) => (PublishMethod::Lines, format!("{base}/publish")),
        (None, Some(_)) => return Ok(None),
    };
    let template = UrlTemplate::resolve(&url)?;
    let targets = (0..options.namespaces as usize).map(|namespace| match method {
        PublishMethod::Lines => format!("/bench/{namespace}"),
        PublishMethod::Posts => template.path(namespace),
    });
    Ok(Some(PublisherConfig {
        address: template.address,
        method,
        path: template.path(0),
        headers: headers(options, &template)?,
        number: 0,
        targets: targets.collect(),
        data_bytes: options.size.0,
        rate: options.rate as f64 / options.publishers.max(1) as f64,
        clock,
    }))
}
