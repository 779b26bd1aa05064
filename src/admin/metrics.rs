//! The metrics: what is counted for them, and their names and help texts.

use std::collections::HashMap;

use crate::admin::exposition::{Buckets, Family, Label, Number, TextFormat, Values};
use crate::admin::histogram::Histogram;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::namespace::Namespace;
use crate::status::{DisconnectReason, State, Status, StoreState};

/// Maximum number of top-level namespaces with a series of their own; all others share one.
const MAX_SERIES: usize = 64;
/// The name of the shared series. Names of namespaces begin with a slash, so it is never one of
/// them.
const OTHERS: &str = "other";
/// Microseconds in one step of a histogram of durations.
const STEP_US: u64 = 100;

/// Events by top-level namespace, the first segment of their namespace.
///
/// Only publishing creates a series, since any client may subscribe to any namespace.
#[derive(Debug, Default)]
pub(crate) struct Series {
    index_of: HashMap<Box<str>, usize>,
    names: Vec<Box<str>>,
    events: Vec<u64>,
    other_events: u64,
}

impl Series {
    /// The series of a namespace, which never changes. Creates one if there are fewer than
    /// [`MAX_SERIES`]; otherwise the namespace belongs to the shared series.
    pub(crate) fn of(&mut self, path: &str) -> u32 {
        let top = top_of(path);
        if let Some(&index) = self.index_of.get(top) {
            return index as u32;
        }
        let index = self.names.len();
        if index == MAX_SERIES {
            return u32::MAX;
        }
        self.index_of.insert(top.into(), index);
        self.names.push(top.into());
        self.events.push(0);
        index as u32
    }

    /// Counts an event in a series.
    pub(crate) fn count(&mut self, series: u32) {
        let own = self.events.get_mut(series as usize);
        *own.unwrap_or(&mut self.other_events) += 1;
    }

    /// A counter of subscribers for each series, the shared one last; all are 0.
    pub(crate) fn subscribers(&self) -> Vec<usize> {
        vec![0; self.names.len() + 1]
    }

    /// Adds the subscribers of a namespace to the counter of its series.
    pub(crate) fn add_subscribers(
        &self,
        namespace: &Namespace,
        count: usize,
        subscribers: &mut [usize],
    ) {
        let others = subscribers.len() - 1;
        let index = self.index_of.get(top_of(namespace.as_str())).copied();
        // A series created after the counters belongs to the shared one.
        subscribers[index.unwrap_or(others).min(others)] += count;
    }

    /// The counts of every series, given the counters of [`Self::subscribers`].
    pub(crate) fn counts(&self, subscribers: &[usize]) -> Vec<SeriesCounts> {
        let others = subscribers.len() - 1;
        let own = self.names.iter().zip(&self.events).zip(subscribers);
        let own = own
            .take(others)
            .map(|((name, &events), &subscribers)| SeriesCounts {
                name: name.to_string(),
                events,
                subscribers,
            });
        let shared = SeriesCounts {
            name: OTHERS.into(),
            events: self.other_events,
            subscribers: subscribers[others],
        };
        own.chain([shared]).collect()
    }
}

/// The counts of one series.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeriesCounts {
    name: String,
    events: u64,
    subscribers: usize,
}

/// The namespace of the first segment, or the root.
fn top_of(path: &str) -> &str {
    path[1..].find('/').map_or(path, |at| &path[..=at])
}

/// Times measured by the engine, for the metrics only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measures {
    /// From receiving the first event of a pass to the end of the pass, in steps of [`STEP_US`].
    publish_to_write: Histogram,
    /// Duration of a pass, in steps of [`STEP_US`].
    fan_out: Histogram,
    /// Microseconds in which the event loop was working.
    pub(crate) busy_us: u64,
    publish_to_write_us: u64,
    fan_out_us: u64,
}

impl Measures {
    /// Counts a pass over a group, given when its first event arrived, when it started, and when it
    /// ended.
    pub(crate) fn count_pass(&mut self, first_event_us: u64, started_us: u64, ended_us: u64) {
        let latency_us = ended_us.saturating_sub(first_event_us);
        let duration_us = ended_us.saturating_sub(started_us);
        self.publish_to_write.count(latency_us.div_ceil(STEP_US));
        self.fan_out.count(duration_us.div_ceil(STEP_US));
        self.publish_to_write_us += latency_us;
        self.fan_out_us += duration_us;
    }
}

/// The values of all metrics at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    /// Unix time at which the server started, in milliseconds.
    pub(crate) started_ms: u64,
    pub(crate) queue_bytes: usize,
    pub(crate) retained_limit: usize,
    pub(crate) longest_turn_us: u64,
    pub(crate) measures: Measures,
    /// Whole events in one write to one subscriber.
    pub(crate) write_events: Histogram,
    pub(crate) namespaces: Vec<SeriesCounts>,
}

impl Snapshot {
    /// The response to a scrape, in the format that the request accepts.
    pub(crate) fn response(&self, head: &RequestHead) -> Response {
        let format = TextFormat::accepted(head.header("accept"));
        let families = [
            self.server(),
            self.connections(),
            self.events(),
            self.retained(),
            self.times(),
            self.by_namespace(),
        ];
        let families: Vec<Family<'_>> = families.into_iter().flatten().collect();
        Response::new(format.content_type(), format.encode(&families))
    }

    fn server(&self) -> Vec<Family<'_>> {
        let draining = self.status.state == State::Draining;
        vec![
            Family {
                name: "build",
                help: "The version of the server",
                values: Values::Info(("version", env!("CARGO_PKG_VERSION"))),
            },
            gauge(
                "start_time_seconds",
                "Unix time at which the server started",
                self.started_ms as f64 / 1e3,
            ),
            gauge(
                "draining",
                "1 while the server ends its connections before it exits",
                draining,
            ),
            counter(
                "loop_busy_seconds",
                "Time in which the event loop was working",
                seconds(self.measures.busy_us),
            ),
            gauge(
                "loop_longest_turn_seconds",
                "Longest turn of the event loop in the last 5 to 10 seconds",
                seconds(self.longest_turn_us),
            ),
        ]
    }

    fn connections(&self) -> Vec<Family<'_>> {
        let status = &self.status;
        let disconnects = DisconnectReason::ALL.iter().map(|&reason| {
            let label = ("reason", reason.as_str());
            (label, status.disconnects(reason).into())
        });
        vec![
            gauge(
                "connections",
                "Open connections, including event streams",
                status.connections,
            ),
            gauge(
                "connections_peak",
                "Largest number of connections open at once",
                status.connections_peak,
            ),
            counter(
                "connections_accepted",
                "Connections accepted",
                status.connections_total,
            ),
            gauge("subscribers", "Open event streams", status.subscribers),
            Family {
                name: "disconnects",
                help: "Ended connections by reason",
                values: Values::Counters(disconnects.collect()),
            },
        ]
    }

    fn events(&self) -> Vec<Family<'_>> {
        let status = &self.status;
        vec![
            counter("events", "Events received from publishers", status.events),
            counter(
                "deliveries",
                "Events delivered, counted once per subscriber",
                status.deliveries,
            ),
            counter("sent_bytes", "Bytes written to sockets", status.bytes),
            gauge("queue_events", "Events in the publish queue", status.queued),
            gauge(
                "queue_bytes",
                "Bytes of events in the publish queue",
                self.queue_bytes,
            ),
        ]
    }

    fn retained(&self) -> Vec<Family<'_>> {
        let status = &self.status;
        vec![
            gauge(
                "retained_events",
                "Events in memory",
                status.retained_events,
            ),
            gauge(
                "retained_bytes",
                "Bytes of events in memory",
                status.retained_bytes,
            ),
            gauge(
                "retained_memory_bytes",
                "Memory used by events, including their index",
                status.retained_memory,
            ),
            gauge(
                "retained_memory_limit_bytes",
                "Maximum of retained_memory_bytes",
                self.retained_limit,
            ),
            counter(
                "evicted_events",
                "Retained events dropped early because the memory limit was reached",
                status.evicted,
            ),
            gauge(
                "store_failing",
                "1 while events cannot be stored",
                status.store == StoreState::Failing,
            ),
        ]
    }

    fn times(&self) -> Vec<Family<'_>> {
        let measures = &self.measures;
        let step = seconds(STEP_US);
        vec![
            histogram(
                "publish_to_write_seconds",
                "Time from receiving the first event of a pass to the end of the pass",
                Buckets {
                    histogram: &measures.publish_to_write,
                    step,
                    sum: seconds(measures.publish_to_write_us),
                },
            ),
            histogram(
                "fan_out_seconds",
                "Duration of a pass over the subscribers of a namespace",
                Buckets {
                    histogram: &measures.fan_out,
                    step,
                    sum: seconds(measures.fan_out_us),
                },
            ),
            histogram(
                "write_events",
                "Events completed by one write to a subscriber",
                Buckets {
                    histogram: &self.write_events,
                    step: 1.0,
                    sum: self.write_events.sum() as f64,
                },
            ),
        ]
    }

    fn by_namespace(&self) -> Vec<Family<'_>> {
        vec![
            gauge(
                "namespaces",
                "Namespaces with subscribers or retained events",
                self.status.namespaces,
            ),
            Family {
                name: "namespace_events",
                help: "Events published to a top-level namespace and those below it",
                values: Values::Counters(self.samples(|series| series.events.into())),
            },
            Family {
                name: "namespace_subscribers",
                help: "Subscribers of a top-level namespace and those below it; \
                       a stream of several namespaces counts in each",
                values: Values::Gauges(self.samples(|series| series.subscribers.into())),
            },
        ]
    }

    fn samples(&self, count: fn(&SeriesCounts) -> Number) -> Vec<(Label<'_>, Number)> {
        let all = self.namespaces.iter();
        all.map(|series| (("namespace", &*series.name), count(series)))
            .collect()
    }
}

fn gauge<'a>(name: &'static str, help: &'static str, value: impl Into<Number>) -> Family<'a> {
    let values = Values::Gauge(value.into());
    Family { name, help, values }
}

fn counter<'a>(name: &'static str, help: &'static str, value: impl Into<Number>) -> Family<'a> {
    let values = Values::Counter(value.into());
    Family { name, help, values }
}

fn histogram<'a>(name: &'static str, help: &'static str, buckets: Buckets<'a>) -> Family<'a> {
    let values = Values::Histogram(buckets);
    Family { name, help, values }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_belongs_to_the_series_of_its_first_segment() {
        for (path, top) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/b", "/a"),
            ("/a/b/c", "/a"),
            ("/ab", "/ab"),
        ] {
            assert_eq!(top_of(path), top, "{path}");
        }
    }

    #[test]
    fn series_beyond_the_maximum_share_one() {
        let mut series = Series::default();
        for number in 0..MAX_SERIES + 2 {
            let own = series.of(&format!("/{number}/x"));
            series.count(own);
        }
        assert_eq!(series.of("/0"), 0);
        assert_eq!(series.of("/64"), u32::MAX);
        let mut subscribers = series.subscribers();
        for (namespace, count) in [("/0/y", 2), ("/65", 3), ("/unpublished", 4)] {
            series.add_subscribers(&namespace.parse().unwrap(), count, &mut subscribers);
        }
        let counts = series.counts(&subscribers);
        let expect = |name: &str, events, subscribers| SeriesCounts {
            name: name.into(),
            events,
            subscribers,
        };
        assert_eq!(counts.len(), MAX_SERIES + 1);
        assert_eq!(counts[0], expect("/0", 1, 2));
        assert_eq!(counts[1], expect("/1", 1, 0));
        assert_eq!(counts[MAX_SERIES], expect(OTHERS, 2, 7));
    }

    #[test]
    fn a_series_created_during_the_count_is_left_to_the_shared_one() {
        let mut series = Series::default();
        series.of("/a");
        let mut subscribers = series.subscribers();
        series.of("/b");
        series.add_subscribers(&"/b".parse().unwrap(), 5, &mut subscribers);
        assert_eq!(subscribers, [0, 5]);
        assert_eq!(series.counts(&subscribers).len(), 2);
    }
}
