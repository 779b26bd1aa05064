//! The results of a load: as a table, as JSON, and over time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::worker::Interval;

/// The results of a load. Latency is the time from when an event was due to when it was read.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Results {
    pub(super) connections: usize,
    /// Connections that failed or that the server ended early, without slow readers.
    pub(super) disconnected: usize,
    /// Why the first of these failed.
    pub(super) problem: Option<String>,
    /// Slow readers that the server disconnected.
    pub(super) slow_cut: usize,
    pub(super) published: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    pub(super) seconds: f64,
    pub(super) published_per_second: f64,
    pub(super) received_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) latency_us: Latency,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Latency {
    pub(super) min: u64,
    pub(super) mean: f64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    #[serde(rename = "p99.9")]
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Latency {
    pub(super) fn new(histogram: &Histogram<u64>) -> Self {
        Self {
            min: histogram.min(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// The results of one interval, for the plot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// The end of the interval, in seconds since publishing started.
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) latency: Latency,
}

impl Sample {
    pub(super) fn new(interval: &Interval, end: Duration, length: Duration) -> Self {
        Self {
            seconds: end.as_secs_f64(),
            per_second: interval.counters.events as f64 / length.as_secs_f64(),
            latency: Latency::new(&interval.latency_us),
        }
    }
}

impl Results {
    /// Checks that every reader, slow ones aside, received every event once and in order.
    ///
    /// # Errors
    /// The first problem.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.disconnected > 0 {
            let (count, all) = (self.disconnected, self.connections);
            let problem = self.problem.as_deref().unwrap_or("no response");
            return Err(format!("{count} of {all} connections failed: {problem}"));
        }
        if self.lost + self.duplicated + self.out_of_order > 0 {
            return Err("not every event arrived once and in order".into());
        }
        Ok(())
    }

    pub(super) fn table(&self) -> String {
        let latency = &self.latency_us;
        let time = |us: f64| match latency.max {
            0 => "not measured".into(),
            _ => time(us),
        };
        let rows = [
            ("connections", self.connections.to_string()),
            ("disconnected", self.disconnected.to_string()),
            ("slow readers cut", self.slow_cut.to_string()),
            (
                "published",
                format!(
                    "{} ({}/s)",
                    self.published,
                    short(self.published_per_second)
                ),
            ),
            (
                "received",
                format!("{} ({}/s)", self.received, short(self.received_per_second)),
            ),
            ("bytes", format!("{}B/s", short(self.bytes_per_second))),
            ("lost", self.lost.to_string()),
            ("duplicated", self.duplicated.to_string()),
            ("out of order", self.out_of_order.to_string()),
            ("latency min", time(latency.min as f64)),
            ("latency mean", time(latency.mean)),
            ("latency p50", time(latency.p50 as f64)),
            ("latency p90", time(latency.p90 as f64)),
            ("latency p99", time(latency.p99 as f64)),
            ("latency p99.9", time(latency.p999 as f64)),
            ("latency max", time(latency.max as f64)),
        ];
        rows.iter()
            .map(|(name, value)| format!("{name:<18}{value}\n"))
            .collect()
    }
}

/// A number with three to five characters and the prefix of a unit, such as `1.23 k`.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, " "),
    };
    match scaled {
        n if n >= 100.0 => format!("{n:.0}{unit}"),
        n => format!("{n:.2}{unit}"),
    }
}

/// A time in microseconds with a unit, such as `1.50 ms`.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_units() {
        for (number, text) in [
            (0.0, "0.00 "),
            (12.345, "12.35 "),
            (999.0, "999 "),
            (1234.0, "1.23 k"),
            (12_345_678.0, "12.35 M"),
            (2.5e9, "2.50 G"),
        ] {
            assert_eq!(short(number), text);
        }
        for (us, text) in [(7.0, "7 µs"), (1500.0, "1.50 ms"), (2_500_000.0, "2.50 s")] {
            assert_eq!(time(us), text);
        }
    }

    #[test]
    fn one_event_too_few_or_too_many_is_an_error() {
        let clean = Results::default();
        assert_eq!(clean.check(), Ok(()));
        for spoil in [
            |results: &mut Results| results.lost = 1,
            |results: &mut Results| results.duplicated = 1,
            |results: &mut Results| results.out_of_order = 1,
            |results: &mut Results| results.disconnected = 1,
        ] {
            let mut results = clean.clone();
            spoil(&mut results);
            assert!(results.check().is_err());
        }
    }
}
