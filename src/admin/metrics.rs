//! The metrics, as text: in the format of OpenMetrics, or in the older one of Prometheus.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::admin::histogram::Histogram;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::namespace::Namespace;
use crate::status::{DisconnectReason, State, Status, StoreState};

/// Top namespaces that have a series of their own; the others share one.
const SERIES_MOST: usize = 64;
/// The name of that one. No namespace begins without a slash.
const OTHERS: &str = "other";
/// Microseconds in one step of a histogram of durations.
const STEP_US: u64 = 100;

/// Events by the first segment of their namespace. Only publishing makes a series, since anybody may subscribe to anything.
#[derive(Debug, Default)]
pub(crate) struct Series {
    index_of: HashMap<Box<str>, usize>,
    names: Vec<Box<str>>,
    events: Vec<u64>,
    other_events: u64,
}

impl Series {
    /// Which series a namespace has, for ever; made if there may be one more, and else that of all others.
    pub(crate) fn of(&mut self, path: &str) -> u32 {
        let top = top_of(path);
        if let Some(&index) = self.index_of.get(top) {
            return index as u32;
        }
        let index = self.names.len();
        if index == SERIES_MOST {
            return u32::MAX;
        }
        self.index_of.insert(top.into(), index);
        self.names.push(top.into());
        self.events.push(0);
        index as u32
    }

    /// Counts an event.
    pub(crate) fn count(&mut self, series: u32) {
        let own = self.events.get_mut(series as usize);
        *own.unwrap_or(&mut self.other_events) += 1;
    }

    /// Room to count subscribers in.
    pub(crate) fn subscribers(&self) -> Vec<usize> {
        vec![0; self.names.len() + 1]
    }

    /// Counts subscribers of a namespace.
    pub(crate) fn add_subscribers(
        &self,
        namespace: &Namespace,
        count: usize,
        subscribers: &mut [usize],
    ) {
        let others = subscribers.len() - 1;
        let index = self.index_of.get(top_of(namespace.as_str())).copied();
        // A series may be younger than the counting.
        subscribers[index.unwrap_or(others).min(others)] += count;
    }
}

/// The namespace of the first segment, or the root.
fn top_of(path: &str) -> &str {
    path[1..].find('/').map_or(path, |at| &path[..=at])
}

/// What is counted on the way of events, beside [`Status`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measures {
    /// From when the first event of a pass was taken in to the end of the pass, in steps.
    publish_to_write: Histogram,
    /// From the beginning to the end of a pass, in steps.
    fan_out: Histogram,
    /// Microseconds in which the event loop was at work.
    pub(crate) busy_us: u64,
    publish_to_write_us: u64,
    fan_out_us: u64,
}

impl Measures {
    /// Counts a pass: when the first of its events was taken in, when it began and when it ended, in microseconds.
    pub(crate) fn count_pass(&mut self, since_us: u64, began_us: u64, ended_us: u64) {
        let (latency, duration) = (
            ended_us.saturating_sub(since_us),
            ended_us.saturating_sub(began_us),
        );
        self.publish_to_write.count(latency.div_ceil(STEP_US));
        self.fan_out.count(duration.div_ceil(STEP_US));
        self.publish_to_write_us += latency;
        self.fan_out_us += duration;
    }
}

/// All that the metrics tell, at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) started_ms: u64,
    pub(crate) queue_bytes: usize,
    pub(crate) retained_limit: usize,
    pub(crate) longest_turn_us: u64,
    pub(crate) measures: Measures,
    /// Whole events in one write to one subscriber.
    pub(crate) write_events: Histogram,
    /// Each series: its namespace, events and subscribers.
    pub(crate) namespaces: Vec<(String, u64, usize)>,
}

impl Snapshot {
    /// The series, with how many subscribers each has.
    pub(crate) fn namespaces(series: &Series, subscribers: &[usize]) -> Vec<(String, u64, usize)> {
        let others = subscribers.len() - 1;
        let own = series.names.iter().zip(&series.events).zip(subscribers);
        let mut all: Vec<_> = own
            .take(others)
            .map(|((name, &events), &subscribers)| (name.to_string(), events, subscribers))
            .collect();
        all.push((OTHERS.into(), series.other_events, subscribers[others]));
        all
    }

    /// The answer to a scrape, in the format that it asks for.
    pub(crate) fn answer(self, head: &RequestHead) -> Response {
        let mut registry = Registry::with_prefix("fanfare");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes all there is");
        let open = head
            .header("accept")
            .is_some_and(|accept| accept.contains("application/openmetrics-text"));
        let (content_type, text) = if open {
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text,
            )
        } else {
            (
                "text/plain; version=0.0.4; charset=utf-8",
                in_older_format(&text),
            )
        };
        Response::new(content_type, text)
    }
}

/// The older format says in front too what a counter's name ends in, and knows neither infos nor units nor an end.
fn in_older_format(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        let rest = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '));
        match rest {
            _ if line.starts_with("# HELP ") => help = line,
            _ if line.starts_with("# UNIT ") || line == "# EOF" => {}
            Some((name, kind)) => {
                let (end, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                let words = help["# HELP ".len()..]
                    .strip_prefix(name)
                    .unwrap_or_default();
                out.push_str(&format!(
                    "# HELP {name}{end}{words}\n# TYPE {name}{end} {kind}\n"
                ));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_server(&mut out)?;
        self.encode_connections(&mut out)?;
        self.encode_events(&mut out)?;
        self.encode_namespaces(&mut out)
    }
}

impl Snapshot {
    fn encode_server(&self, out: &mut Out<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.family(
            "build",
            "The version that runs",
            None,
            MetricType::Info,
            |metric| Info::new(version).encode(metric),
        )?;
        let started = self.started_ms as f64 / 1e3;
        out.gauge(
            "start_time",
            "When the server started, in Unix time",
            Some(Unit::Seconds),
            started,
        )?;
        let draining = self.status.state == State::Draining;
        out.gauge(
            "draining",
            "1 while the server ends its connections",
            None,
            i64::from(draining),
        )?;
        let busy = self.measures.busy_us as f64 / 1e6;
        out.counter(
            "loop_busy",
            "Time in which the event loop was at work",
            Some(Unit::Seconds),
            busy,
        )?;
        let longest = self.longest_turn_us as f64 / 1e6;
        out.gauge(
            "loop_longest_turn",
            "The longest turn of the event loop in the last 5 to 10 seconds",
            Some(Unit::Seconds),
            longest,
        )
    }

    fn encode_connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        out.gauge(
            "connections",
            "Connections, event streams or not",
            None,
            status.connections as i64,
        )?;
        out.gauge(
            "connections_peak",
            "The most connections there were at once",
            None,
            status.connections_peak as i64,
        )?;
        out.counter(
            "connections_accepted",
            "Connections accepted",
            None,
            status.connections_total,
        )?;
        out.gauge(
            "subscribers",
            "Event streams",
            None,
            status.subscribers as i64,
        )?;
        let reasons = DisconnectReason::ALL;
        out.family(
            "disconnects",
            "Connections that ended, by reason",
            None,
            MetricType::Counter,
            |mut metric| {
                reasons.into_iter().try_for_each(|reason| {
                    let labels = [("reason", reason.as_str())];
                    ConstCounter::new(status.disconnects(reason))
                        .encode(metric.encode_family(&labels)?)
                })
            },
        )
    }

    fn encode_events(&self, out: &mut Out<'_>) -> fmt::Result {
        let (status, measures) = (&self.status, &self.measures);
        out.counter(
            "events",
            "Events taken from publishers",
            None,
            status.events,
        )?;
        out.counter(
            "deliveries",
            "Events given to subscribers, one for each subscriber",
            None,
            status.deliveries,
        )?;
        out.counter(
            "sent",
            "Bytes given to sockets",
            Some(Unit::Bytes),
            status.bytes,
        )?;
        out.gauge(
            "queue_events",
            "Events that wait between publishers and the event loop",
            None,
            status.queued as i64,
        )?;
        out.gauge(
            "queue",
            "Bytes of events that wait between publishers and the event loop",
            Some(Unit::Bytes),
            self.queue_bytes as i64,
        )?;
        out.gauge(
            "retained_events",
            "Events in memory",
            None,
            status.retained_events as i64,
        )?;
        out.gauge(
            "retained",
            "Bytes of events in memory",
            Some(Unit::Bytes),
            status.retained_bytes as i64,
        )?;
        out.gauge(
            "retained_memory",
            "Memory that events take, with what it takes to find them",
            Some(Unit::Bytes),
            status.retained_memory as i64,
        )?;
        out.gauge(
            "retained_memory_limit",
            "Memory that events may take",
            Some(Unit::Bytes),
            self.retained_limit as i64,
        )?;
        out.counter(
            "evicted_events",
            "Events that were dropped before their time as memory was full",
            None,
            status.evicted,
        )?;
        out.gauge(
            "store_failing",
            "Whether events cannot be stored",
            None,
            i64::from(status.store == StoreState::Failing),
        )?;
        let step = STEP_US as f64 / 1e6;
        let seconds = |us: u64| us as f64 / 1e6;
        out.histogram(
            "publish_to_write",
            "Time from taking in the first event of a pass over subscribers until all of them were written to",
            Some(Unit::Seconds),
            (&measures.publish_to_write, step, seconds(measures.publish_to_write_us)),
        )?;
        out.histogram(
            "fan_out",
            "Time that a pass over the subscribers of a namespace takes",
            Some(Unit::Seconds),
            (&measures.fan_out, step, seconds(measures.fan_out_us)),
        )?;
        let events = &self.write_events;
        out.histogram(
            "write_events",
            "Events that one write to a subscriber completes",
            None,
            (events, 1.0, events.sum() as f64),
        )
    }

    fn encode_namespaces(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge(
            "namespaces",
            "Namespaces with subscribers or retained events",
            None,
            self.status.namespaces as i64,
        )?;
        let help = "Events published to a top namespace and below";
        out.family(
            "namespace_events",
            help,
            None,
            MetricType::Counter,
            |mut metric| {
                self.namespaces.iter().try_for_each(|(name, events, _)| {
                    ConstCounter::new(*events)
                        .encode(metric.encode_family(&[("namespace", name.as_str())])?)
                })
            },
        )?;
        let help = "Subscribers of a top namespace and below; a stream of several namespaces counts in each";
        out.family(
            "namespace_subscribers",
            help,
            None,
            MetricType::Gauge,
            |mut metric| {
                self.namespaces
                    .iter()
                    .try_for_each(|(name, _, subscribers)| {
                        ConstGauge::new(*subscribers as i64)
                            .encode(metric.encode_family(&[("namespace", name.as_str())])?)
                    })
            },
        )
    }
}

type NoLabels = [(&'static str, &'static str); 0];

/// Writes metrics of one line, or of several.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        metrics: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        metrics(self.0.encode_descriptor(name, help, unit.as_ref(), kind)?)
    }

    fn gauge<N>(&mut self, name: &str, help: &str, unit: Option<Unit>, value: N) -> fmt::Result
    where
        ConstGauge<N>: EncodeMetric,
    {
        self.family(name, help, unit, MetricType::Gauge, |metric| {
            ConstGauge::new(value).encode(metric)
        })
    }

    fn counter<N>(&mut self, name: &str, help: &str, unit: Option<Unit>, value: N) -> fmt::Result
    where
        ConstCounter<N>: EncodeMetric,
    {
        self.family(name, help, unit, MetricType::Counter, |metric| {
            ConstCounter::new(value).encode(metric)
        })
    }

    /// A histogram, with what one step of it is worth, and the exact sum.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        (histogram, step, sum): (&Histogram, f64, f64),
    ) -> fmt::Result {
        let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 * step);
        let buckets: Vec<_> = histogram
            .ranges()
            .map(|(range, count)| (bound(range), count))
            .collect();
        self.family(name, help, unit, MetricType::Histogram, |mut metric| {
            metric.encode_histogram::<NoLabels>(sum, histogram.total(), &buckets, None)
        })
    }
}
