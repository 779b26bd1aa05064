//! The subscribers of a load, from connecting to the results.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, select, tick};
use indicatif::{ProgressBar, ProgressStyle};

use super::super::Failure;
use super::super::target::parse_url;
use super::clock::LoadClock;
use super::results::{Latency, Results, Sample, short, time};
use super::url_template::{NAMESPACE_PLACEHOLDER, UrlTemplate};
use super::worker::{self, Interval, StreamConnection, WorkerConfig, WorkerStatus};
use super::{Bench, PublishedCounts, headers, join};

/// How often a sample is taken.
const TICK: Duration = Duration::from_millis(250);
/// How long all connections may take to open their streams.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long no event may arrive, after publishing has ended, until missing events count as lost.
const QUIET: Duration = Duration::from_secs(2);

struct WorkerThread {
    status: Arc<WorkerStatus>,
    thread: JoinHandle<io::Result<Vec<StreamConnection>>>,
}

/// The subscribers of a load and what they have received. Times are on the clock of the load.
pub(super) struct Load {
    workers: Vec<WorkerThread>,
    slow: Option<WorkerThread>,
    clock: LoadClock,
    total: Interval,
    samples: Vec<Sample>,
    /// When publishing started.
    started: Duration,
    /// When publishing ended.
    ended: Duration,
    /// When the last sample was taken.
    sampled: Duration,
    /// When the last event arrived.
    last_event: Duration,
}

impl Load {
    /// Starts the threads that read.
    pub(super) fn start(options: &Bench, clock: LoadClock) -> Result<Self, Failure> {
        let base = options.target.url.trim_end_matches('/');
        let fanfare = format!("{base}/subscribe/bench/{NAMESPACE_PLACEHOLDER}");
        if options.stream.is_none() {
            // So that an error has the URL as it was given.
            parse_url(&options.target.url)?;
        }
        let template = UrlTemplate::resolve(options.stream.as_deref().unwrap_or(&fanfare))?;
        let headers = headers(options, &template)?;
        let request = |number: u64| {
            let namespace = (number % options.namespaces) as usize;
            let path = template.path(namespace);
            let request =
                format!("GET {path} HTTP/1.1\r\n{headers}Accept: text/event-stream\r\n\r\n");
            (request, namespace)
        };
        let start = |numbers: Range<u64>, is_slow| {
            WorkerThread::start(WorkerConfig {
                address: template.address,
                first: numbers.start as usize,
                requests: numbers.map(request).collect(),
                is_slow,
                publishers: options.publishers,
                clock,
            })
        };
        let first_of = |worker: u64| options.connections * worker / options.workers;
        let workers =
            (0..options.workers).map(|worker| start(first_of(worker)..first_of(worker + 1), false));
        let all = options.connections + options.slow;
        Ok(Self {
            workers: workers.collect(),
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

    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Waits until each connection has an open stream or has failed. Discards what arrived so far.
    pub(super) fn wait_for_streams(
        &mut self,
        options: &Bench,
        interrupted: &Receiver<()>,
    ) -> Result<(), Failure> {
        let progress = progress_bar(options.connections, "{pos} of {len} streams {wide_bar}");
        let (ticks, timeout) = (tick(TICK), after(OPEN_TIMEOUT));
        loop {
            select! {
                recv(ticks) -> _ => {}
                recv(timeout) -> _ => return Err(self.not_all_open(options)),
                recv(interrupted) -> _ => return Err(Failure::Failed("interrupted".into())),
            }
            let open = self.sum(|status| &status.open);
            progress.set_position(open as u64);
            if open + self.sum(|status| &status.closed) >= options.connections as usize {
                progress.finish_and_clear();
                if open == 0 {
                    return Err(self.not_all_open(options));
                }
                break;
            }
        }
        self.take_sample();
        self.total = Interval::new();
        self.samples.clear();
        self.started = self.sampled;
        self.last_event = self.sampled;
        Ok(())
    }

    /// The sum of a count of all workers, without the slow one.
    fn sum(&self, count_of: fn(&WorkerStatus) -> &AtomicUsize) -> usize {
        let counts = self.workers.iter();
        counts
            .map(|worker| count_of(&worker.status).load(Ordering::Relaxed))
            .sum()
    }

    fn not_all_open(&self, options: &Bench) -> Failure {
        let (open, all) = (self.sum(|status| &status.open), options.connections);
        let problem = self.problem().unwrap_or_else(|| "no response".into());
        Failure::Failed(format!("{open} of {all} streams started: {problem}"))
    }

    /// The first failure of a connection, without the slow ones.
    fn problem(&self) -> Option<String> {
        let mut workers = self.workers.iter();
        workers.find_map(|worker| worker.status.problem())
    }

    /// Adds what arrived since the last sample.
    fn take_sample(&mut self) {
        let mut interval = Interval::new();
        for worker in &self.workers {
            interval.merge(&mut worker.status.interval());
        }
        let now = self.clock.now();
        self.last_event = self
            .last_event
            .max(Duration::from_micros(interval.last_event_us));
        // The rate of a very short interval would be noise.
        if now - self.sampled > TICK / 2 {
            let sample = Sample::new(&interval, now - self.started, now - self.sampled);
            self.samples.push(sample);
        }
        self.total.merge(&mut interval);
        self.sampled = now;
    }

    /// Takes and shows samples until the time has passed, or a publisher has failed.
    pub(super) fn watch<T>(
        &mut self,
        options: &Bench,
        publishers: &[JoinHandle<T>],
        interrupted: &Receiver<()>,
    ) {
        let duration_ms = options.duration.0.as_millis() as u64;
        let progress = progress_bar(duration_ms, "{msg} {wide_bar} {eta}");
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

    /// Waits until every published event has arrived, or no event arrives any more.
    pub(super) fn wait_for_remaining_events(
        &mut self,
        options: &Bench,
        published: &[PublishedCounts],
        interrupted: &Receiver<()>,
    ) {
        let subscribers_of = |namespace: u64| {
            let (all, namespaces) = (options.connections, options.namespaces);
            all / namespaces + u64::from(namespace < all % namespaces)
        };
        let expected: u64 = published
            .iter()
            .flat_map(|counts| (0..).zip(counts))
            .map(|(namespace, count)| count * subscribers_of(namespace))
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

    /// Ends the workers. Events that have not arrived by now are lost.
    pub(super) fn finish(
        &mut self,
        options: &Bench,
        published: &[PublishedCounts],
    ) -> Result<Results, Failure> {
        let problem = self.problem();
        let disconnected = self.sum(|status| &status.closed);
        self.take_sample();
        let slow_disconnected = self.slow.take().map_or(Ok(0), WorkerThread::join_slow)?;
        let missing = self.join_workers(published)?;
        let publishing = self.ended - self.started;
        let receiving = self.last_event.max(self.ended) - self.started;
        let counters = &self.total.counters;
        let published = published.iter().flatten().sum();
        Ok(Results {
            connections: options.connections as usize,
            disconnected,
            problem,
            slow_cut: slow_disconnected,
            published,
            received: counters.events,
            lost: counters.lost + missing,
            duplicated: counters.duplicated,
            out_of_order: counters.out_of_order,
            seconds: publishing.as_secs_f64(),
            published_per_second: per_second(published, publishing),
            received_per_second: per_second(counters.events, receiving),
            bytes_per_second: per_second(self.total.bytes, receiving),
            latency_us: Latency::new(&self.total.latency_us),
        })
    }

    /// Ends the workers, without the slow one. Returns how many events are missing at the end of
    /// their open streams.
    fn join_workers(&mut self, published: &[PublishedCounts]) -> Result<u64, Failure> {
        self.workers.iter().for_each(|worker| worker.status.stop());
        let mut missing = 0;
        for worker in self.workers.drain(..) {
            for connection in join(worker.thread, "a reader")? {
                let namespace = connection.namespace;
                let published: Vec<u64> =
                    published.iter().map(|counts| counts[namespace]).collect();
                missing += connection.stream.missing(&published);
            }
        }
        Ok(missing)
    }
}

impl Drop for Load {
    /// Ends all threads, also after an error.
    fn drop(&mut self) {
        let workers = self.workers.iter().chain(&self.slow);
        workers.for_each(|worker| worker.status.stop());
    }
}

impl WorkerThread {
    fn start(config: WorkerConfig) -> Self {
        let status = WorkerStatus::new();
        let thread_status = Arc::clone(&status);
        let thread = std::thread::spawn(move || worker::run(&config, &thread_status));
        Self { status, thread }
    }

    /// Ends a worker of slow readers. Returns how many of them the server has disconnected.
    fn join_slow(self) -> Result<usize, Failure> {
        self.status.stop();
        join(self.thread, "a slow reader")?;
        Ok(self.status.closed.load(Ordering::Relaxed))
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => (count as f64 / seconds).round(),
    }
}

/// A progress bar on standard error, which is hidden unless that is a terminal.
fn progress_bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
