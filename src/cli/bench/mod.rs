//! `fanfare bench`: a load of readers and publishers on a server, and honest figures of how it does.

mod plot;
mod publisher;
mod results;
mod stream;
mod worker;

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, select, tick};
use fanfare::config::{ByteSize, Span};
use indicatif::{ProgressBar, ProgressStyle};

use super::target::{Target, parse_url};
use super::{Failure, interruption, print};
use publisher::{PublishMethod, PublisherConfig};
use results::{Latency, Results, Sample, short, time};
use stream::Counters;
use worker::{Connection, Interval, WorkerConfig, WorkerStatus};

/// How often figures are taken.
const TICK: Duration = Duration::from_millis(250);
/// How long all connections may take to get their streams.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing more may come at the end before what is missing is lost.
const QUIET: Duration = Duration::from_secs(2);
/// What stands for a namespace's number in a URL.
const NAMESPACE_PLACEHOLDER: &str = "{}";

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(flatten)]
    target: Target,
    /// The streams of another server, {} standing for the namespace's number: http://127.0.0.1:3000/events/{}
    #[arg(long, value_name = "URL")]
    stream: Option<String>,
    /// Where another server takes an event as the body of a POST, likewise: http://127.0.0.1:3000/publish/{}
    #[arg(long, value_name = "URL")]
    post: Option<String>,
    /// Connections that read
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = at_least_one())]
    connections: u64,
    /// Namespaces that they are spread over, and events with them
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = at_least_one())]
    namespaces: u64,
    /// Events published a second, in all; 0 is as fast as the server takes them
    #[arg(long, value_name = "EVENTS", default_value_t = 1000)]
    rate: u64,
    /// Bytes of data of an event, such as 64KiB
    #[arg(long, value_name = "SIZE", default_value = "100")]
    size: ByteSize,
    /// How long to publish, such as 500ms, 10s or 5m
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    duration: Span,
    /// Threads that publish; with 0 what others publish is received
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    publishers: usize,
    /// Further connections that read far too slowly
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    slow: u64,
    /// Threads that read
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = at_least_one())]
    workers: u64,
    /// Write the figures to standard output as one line of JSON, and the table to standard error
    #[arg(long)]
    json: bool,
    /// Draw throughput and latency over time into this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..)
}

/// The time since the load began, the same for all its threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "the load's threads measure time themselves"
)]
impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Duration {
        Instant::now() - self.0
    }

    pub(super) fn now_us(self) -> u64 {
        self.now().as_micros() as u64
    }
}

/// Where a URL of the load leads: the address, and the path with a place for the namespace's number.
struct UrlTemplate {
    address: SocketAddr,
    host: String,
    path: String,
}

impl UrlTemplate {
    fn parse(text: &str) -> Result<Self, Failure> {
        let url = parse_url(text)?;
        if url.is_https() {
            return Err(Failure::Usage(format!(
                "`{text}` must be an http URL: the load generator does not support TLS"
            )));
        }
        let (host, port) = (url.host(), url.port());
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (name, port)
            .to_socket_addrs()
            .map_err(|error| Failure::Failed(format!("cannot resolve {host}: {error}")))?;
        let address = addresses
            .next()
            .ok_or_else(|| Failure::Failed(format!("cannot resolve {host}: it has no address")))?;
        Ok(Self {
            address,
            host: format!("{host}:{port}"),
            path: url.path_and_query(),
        })
    }

    fn path(&self, namespace: usize) -> String {
        self.path
            .replace(NAMESPACE_PLACEHOLDER, &namespace.to_string())
    }
}

type Reader = (Arc<WorkerStatus>, JoinHandle<io::Result<Vec<Connection>>>);

/// The readers of a load, and what they have brought.
struct Load {
    readers: Vec<Reader>,
    slow: Option<Reader>,
    clock: Clock,
    total: Interval,
    samples: Vec<Sample>,
    /// When publishing began and ended, figures were last taken, and an event last came.
    started: Duration,
    ended: Duration,
    sampled: Duration,
    last_event: Duration,
}

/// Puts the load on the server and tells what came of it.
pub(super) fn bench(options: &Bench) -> Result<(), Failure> {
    // A file that cannot be is found out before the load, not after it.
    let plot = options.plot.as_deref().map(create).transpose()?;
    super::serve::raise_descriptor_limit();
    let interrupted = interruption()?;
    let clock = Clock::start();
    let mut load = Load::start(options, clock)?;
    load.wait_for_streams(options, &interrupted)?;
    let (stop, stopped) = bounded(0);
    let publishers = start_publishers(options, clock, &stopped)?;
    load.watch(options, &publishers, &interrupted);
    drop::<Sender<()>>(stop);
    let published = publishers
        .into_iter()
        .map(|publisher| joined(publisher, "a publisher"))
        .collect::<Result<Vec<_>, _>>()?;
    load.wait_for_the_rest(options, &published, &interrupted);
    let results = load.finish(options, &published)?;
    let drawn = plot.map_or(Ok(()), |(path, file)| {
        plot::draw(&file, &load.samples).map_err(|error| undrawn(path, &error))
    });
    show(options, &results).and(drawn)
}

fn create(path: &Path) -> Result<(&Path, File), Failure> {
    let file = File::create(path).map_err(|error| undrawn(path, &error))?;
    Ok((path, file))
}

fn undrawn(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot draw {}: {error}", path.display()))
}

fn joined<T>(thread: JoinHandle<io::Result<T>>, what: &str) -> Result<T, Failure> {
    let result = thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("it panicked")));
    result.map_err(|error| Failure::Failed(format!("{what}: {error}")))
}

fn show(options: &Bench, results: &Results) -> Result<(), Failure> {
    if options.json {
        // Nobody is left to tell when standard error is gone.
        let _ = io::stderr().write_all(results.table().as_bytes());
        let json = serde_json::to_string(results)
            .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&results.table())?;
    }
    results.verdict().map_err(Failure::Failed)
}

fn headers(options: &Bench, template: &UrlTemplate) -> Result<String, Failure> {
    let mut headers = format!("Host: {}\r\n", template.host);
    if let Some(token) = options.target.token()? {
        headers.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    Ok(headers)
}

fn start_publishers(
    options: &Bench,
    clock: Clock,
    stopped: &Receiver<()>,
) -> Result<Vec<JoinHandle<io::Result<Vec<u64>>>>, Failure> {
    let base = options.target.url.trim_end_matches('/');
    let (method, url) = match (&options.post, &options.stream) {
        (Some(url), _) => (PublishMethod::Posts, url.clone()),
        (None, None) => (PublishMethod::Lines, format!("{base}/publish")),
        // Nothing is said of how events get to that server.
        (None, Some(_)) => return Ok(Vec::new()),
    };
    let template = UrlTemplate::parse(&url)?;
    let targets = (0..options.namespaces as usize).map(|namespace| match method {
        PublishMethod::Lines => format!("/bench/{namespace}"),
        PublishMethod::Posts => template.path(namespace),
    });
    let config = PublisherConfig {
        address: template.address,
        method,
        path: template.path.clone(),
        headers: headers(options, &template)?,
        number: 0,
        targets: targets.collect(),
        size: options.size.0,
        rate: options.rate as f64 / options.publishers.max(1) as f64,
        clock,
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

impl Load {
    /// Starts the threads that read.
    fn start(options: &Bench, clock: Clock) -> Result<Self, Failure> {
        let base = options.target.url.trim_end_matches('/');
        let fanfare = format!("{base}/subscribe/bench/{NAMESPACE_PLACEHOLDER}");
        let template = UrlTemplate::parse(options.stream.as_deref().unwrap_or(&fanfare))?;
        let headers = headers(options, &template)?;
        let request = |number: u64| {
            let namespace = (number % options.namespaces) as usize;
            let path = template.path(namespace);
            let request =
                format!("GET {path} HTTP/1.1\r\n{headers}Accept: text/event-stream\r\n\r\n");
            (request, namespace)
        };
        let start = |numbers: std::ops::Range<u64>, slow| -> Reader {
            let config = WorkerConfig {
                address: template.address,
                first: numbers.start as usize,
                requests: numbers.map(request).collect(),
                slow,
                publishers: options.publishers,
                clock,
            };
            let status = WorkerStatus::new();
            let thread_status = Arc::clone(&status);
            let thread = std::thread::spawn(move || worker::run(&config, &thread_status));
            (status, thread)
        };
        let share = |worker: u64| options.connections * worker / options.workers;
        let readers =
            (0..options.workers).map(|worker| start(share(worker)..share(worker + 1), false));
        let all = options.connections + options.slow;
        Ok(Self {
            readers: readers.collect(),
            slow: (options.slow > 0).then(|| start(options.connections..all, true)),
            clock,
            total: Interval::new(),
            samples: Vec::new(),
            started: Duration::ZERO,
            ended: Duration::ZERO,
            sampled: Duration::ZERO,
            last_event: Duration::ZERO,
        })
    }

    /// Waits until every connection has its stream or has failed.
    fn wait_for_streams(
        &mut self,
        options: &Bench,
        interrupted: &Receiver<()>,
    ) -> Result<(), Failure> {
        let progress = progress(options.connections, "{pos} of {len} streams {wide_bar}");
        let (ticks, timeout) = (tick(TICK), after(CONNECT_PATIENCE));
        loop {
            select! {
                recv(ticks) -> _ => {}
                recv(timeout) -> _ => return Err(self.too_few(options)),
                recv(interrupted) -> _ => return Err(Failure::Failed("interrupted".into())),
            }
            let open = self.count(|status| &status.open);
            progress.set_position(open as u64);
            if open + self.count(|status| &status.gone) >= options.connections as usize {
                progress.finish_and_clear();
                if open == 0 {
                    return Err(self.too_few(options));
                }
                break;
            }
        }
        // What came with the streams is no part of the load.
        self.take_sample();
        self.total = Interval::new();
        self.samples.clear();
        self.started = self.sampled;
        self.last_event = self.sampled;
        Ok(())
    }

    fn count(&self, of: fn(&WorkerStatus) -> &AtomicUsize) -> usize {
        let counts = self.readers.iter();
        counts
            .map(|(status, _)| of(status).load(Ordering::Relaxed))
            .sum()
    }

    fn too_few(&self, options: &Bench) -> Failure {
        let (open, all) = (self.count(|status| &status.open), options.connections);
        let problem = self.problem().unwrap_or_else(|| "no answer".into());
        Failure::Failed(format!("{open} of {all} streams started: {problem}"))
    }

    /// What went wrong with a reader that was to keep up.
    fn problem(&self) -> Option<String> {
        let mut readers = self.readers.iter();
        readers.find_map(|(status, _)| status.problem())
    }

    /// Takes what came since the last time.
    fn take_sample(&mut self) {
        let mut interval = Interval::new();
        for (status, _) in &self.readers {
            interval.drain(&mut status.interval());
        }
        let now = self.clock.now();
        self.last_event = self.last_event.max(Duration::from_micros(interval.last_us));
        // The rate of a moment would be noise.
        if now - self.sampled > TICK / 2 {
            let sample = Sample::of(&interval, now - self.started, now - self.sampled);
            self.samples.push(sample);
        }
        self.total.drain(&mut interval);
        self.sampled = now;
    }

    /// Takes figures and shows them until the time is over, or a publisher has failed.
    fn watch<T>(
        &mut self,
        options: &Bench,
        publishers: &[JoinHandle<T>],
        interrupted: &Receiver<()>,
    ) {
        let span_ms = options.duration.0.as_millis() as u64;
        let progress = progress(span_ms, "{msg} {wide_bar} {eta}");
        let (ticks, end) = (tick(TICK), after(options.duration.0));
        loop {
            select! {
                recv(ticks) -> _ => {}
                recv(end) -> _ => break,
                recv(interrupted) -> _ => break,
            }
            if publishers.iter().any(JoinHandle::is_finished) {
                break;
            }
            self.take_sample();
            progress.set_position((self.sampled - self.started).as_millis() as u64);
            if let Some(sample) = self.samples.last() {
                let (rate, p99) = (short(sample.per_second), time(sample.latency.p99 as f64));
                let lost = self.total.counters.lost;
                progress.set_message(format!("{rate}events/s, p99 {p99}, {lost} lost"));
            }
        }
        progress.finish_and_clear();
        self.ended = self.clock.now();
    }

    /// Waits until every event has come, or nothing more does.
    fn wait_for_the_rest(
        &mut self,
        options: &Bench,
        published: &[Vec<u64>],
        interrupted: &Receiver<()>,
    ) {
        let readers_of = |namespace: u64| {
            let (all, namespaces) = (options.connections, options.namespaces);
            all / namespaces + u64::from(namespace < all % namespaces)
        };
        let expected: u64 = published
            .iter()
            .flat_map(|counts| (0..).zip(counts))
            .map(|(namespace, count)| count * readers_of(namespace))
            .sum();
        let ticks = tick(TICK);
        let waiting_since = self.clock.now();
        loop {
            self.take_sample();
            let quiet = self.sampled - self.last_event.max(waiting_since);
            if self.total.counters.events >= expected || quiet > QUIET {
                return;
            }
            select! {
                recv(ticks) -> _ => {}
                recv(interrupted) -> _ => return,
            }
        }
    }

    /// Ends the readers; what they have not got by now is lost.
    fn finish(&mut self, options: &Bench, published: &[Vec<u64>]) -> Result<Results, Failure> {
        let problem = self.problem();
        let disconnected = self.count(|status| &status.gone);
        self.take_sample();
        let slow_cut = self.slow.take().map_or(Ok(0), slow_cut)?;
        self.readers.iter().for_each(|(status, _)| status.end());
        let mut missing = 0;
        for (_, thread) in self.readers.drain(..) {
            for connection in joined(thread, "a reader")? {
                let namespace = connection.namespace;
                let published: Vec<u64> =
                    published.iter().map(|counts| counts[namespace]).collect();
                missing += connection.stream.missing(&published);
            }
        }
        let Counters {
            events,
            lost,
            duplicated,
            out_of_order,
        } = self.total.counters;
        let publishing = self.ended - self.started;
        let receiving = self.last_event.max(self.ended) - self.started;
        let per_second = |count: u64, time: Duration| match time.as_secs_f64() {
            0.0 => 0.0,
            seconds => (count as f64 / seconds).round(),
        };
        let published = published.iter().flatten().sum();
        Ok(Results {
            connections: options.connections as usize,
            disconnected,
            problem,
            slow_cut,
            published,
            received: events,
            lost: lost + missing,
            duplicated,
            out_of_order,
            seconds: publishing.as_secs_f64(),
            published_per_second: per_second(published, publishing),
            received_per_second: per_second(events, receiving),
            bytes_per_second: per_second(self.total.bytes, receiving),
            latency_us: Latency::of(&self.total.latency_us),
        })
    }
}

/// Ends the slow readers; returns how many the server had cut.
fn slow_cut((status, thread): Reader) -> Result<usize, Failure> {
    status.end();
    joined(thread, "a slow reader")?;
    Ok(status.gone.load(Ordering::Relaxed))
}

impl Drop for Load {
    /// No reader is left behind, whatever went wrong.
    fn drop(&mut self) {
        let readers = self.readers.iter().chain(&self.slow);
        readers.for_each(|(status, _)| status.end());
    }
}

/// A bar on standard error, if that is a terminal.
fn progress(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
