//! Metrics as text: in the OpenMetrics format, or in the older text format of Prometheus.
//!
//! Sources: <https://prometheus.io/docs/specs/om/open_metrics_spec/> and
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{self, Write};

use crate::admin::histogram::Histogram;

/// The first part of every metric's name.
const PREFIX: &str = "fanfare_";

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFormat {
    OpenMetrics,
    Prometheus,
}

/// Metrics of one name: what they are and their values.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    /// Without the prefix and without the suffix of a counter or info. A unit is its last word.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) values: Values<'a>,
}

/// The values of a family, by its type.
#[derive(Debug)]
pub(crate) enum Values<'a> {
    Gauge(Number),
    Counter(Number),
    /// The constant 1 with a label.
    Info(Label<'a>),
    Gauges(Vec<(Label<'a>, Number)>),
    Counters(Vec<(Label<'a>, Number)>),
    Histogram(Buckets<'a>),
}

/// The name and value of a label.
pub(crate) type Label<'a> = (&'static str, &'a str);

/// A histogram, what one step of its bounds is worth, and the exact sum of its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets<'a> {
    pub(crate) histogram: &'a Histogram,
    pub(crate) step: f64,
    pub(crate) sum: f64,
}

/// A value. Integers keep all their digits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Integer(u64),
    Float(f64),
}

impl TextFormat {
    /// The format for a request with this `Accept` header: OpenMetrics only if the header names it.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// The media type of the format.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The text of all families.
    pub(crate) fn encode(self, families: &[Family<'_>]) -> String {
        let mut out = String::new();
        for family in families {
            self.push(&mut out, family)
                .expect("writing to a string does not fail");
        }
        if self == Self::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    fn push(self, out: &mut String, family: &Family<'_>) -> fmt::Result {
        let Family { name, help, values } = family;
        let (kind, suffix) = (values.kind(), values.suffix());
        match self {
            Self::OpenMetrics => {
                writeln!(out, "# HELP {PREFIX}{name} {help}")?;
                writeln!(out, "# TYPE {PREFIX}{name} {kind}")?;
                if let Some(unit) = unit(name) {
                    writeln!(out, "# UNIT {PREFIX}{name} {unit}")?;
                }
            }
            // Describes a metric by its full name, and has neither infos nor units.
            Self::Prometheus => {
                let kind = if kind == "info" { "gauge" } else { kind };
                writeln!(out, "# HELP {PREFIX}{name}{suffix} {help}")?;
                writeln!(out, "# TYPE {PREFIX}{name}{suffix} {kind}")?;
            }
        }
        let mut sample = |suffix: &str, label: Option<Label<'_>>, number: Number| {
            write!(out, "{PREFIX}{name}{suffix}")?;
            if let Some((name, value)) = label {
                write!(out, "{{{name}=\"{}\"}}", Escaped(value))?;
            }
            writeln!(out, " {number}")
        };
        match values {
            Values::Gauge(number) | Values::Counter(number) => sample(suffix, None, *number),
            Values::Info(label) => sample(suffix, Some(*label), Number::Integer(1)),
            Values::Gauges(all) | Values::Counters(all) => all
                .iter()
                .try_for_each(|(label, number)| sample(suffix, Some(*label), *number)),
            Values::Histogram(buckets) => buckets.samples(sample),
        }
    }
}

impl Values<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Gauge(_) | Self::Gauges(_) => "gauge",
            Self::Counter(_) | Self::Counters(_) => "counter",
            Self::Info(_) => "info",
            Self::Histogram(_) => "histogram",
        }
    }

    /// The end of each metric's name, after the name of the family.
    fn suffix(&self) -> &'static str {
        match self {
            Self::Counter(_) | Self::Counters(_) => "_total",
            Self::Info(_) => "_info",
            Self::Gauge(_) | Self::Gauges(_) | Self::Histogram(_) => "",
        }
    }
}

impl Buckets<'_> {
    /// The samples of the histogram. The count of a bucket includes those of all buckets below it.
    fn samples(
        &self,
        mut sample: impl FnMut(&str, Option<Label<'_>>, Number) -> fmt::Result,
    ) -> fmt::Result {
        sample("_sum", None, Number::Float(self.sum))?;
        sample("_count", None, Number::Integer(self.histogram.total()))?;
        let mut below = 0;
        for (bound, count) in self.histogram.ranges() {
            below += count;
            let bound = bound.map_or(f64::INFINITY, |bound| bound as f64 * self.step);
            let label = ("le", &*Number::Float(bound).to_string());
            sample("_bucket", Some(label), Number::Integer(below))?;
        }
        Ok(())
    }
}

/// The unit in a name, which is its last word.
fn unit(name: &str) -> Option<&str> {
    let (_, last) = name.rsplit_once('_').unwrap_or(("", name));
    ["seconds", "bytes"].contains(&last).then_some(last)
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Integer(number as u64)
    }
}

impl From<bool> for Number {
    fn from(holds: bool) -> Self {
        Self::Integer(holds.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(f64::INFINITY) => f.write_str("+Inf"),
            // `Debug` writes the fraction of a whole number, which OpenMetrics asks for in `le`.
            Self::Float(number) => write!(f, "{number:?}"),
        }
    }
}

/// The value of a label, with its special characters escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_own_names_and_descriptions() {
        for (name, values, open, plain) in [
            (
                "store_failing",
                Values::Gauge(Number::Integer(0)),
                "# HELP fanfare_store_failing Help\n# TYPE fanfare_store_failing gauge\n\
                 fanfare_store_failing 0\n",
                "# HELP fanfare_store_failing Help\n# TYPE fanfare_store_failing gauge\n\
                 fanfare_store_failing 0\n",
            ),
            (
                "loop_busy_seconds",
                Values::Counter(Number::Float(1.5)),
                "# HELP fanfare_loop_busy_seconds Help\n# TYPE fanfare_loop_busy_seconds counter\n\
                 # UNIT fanfare_loop_busy_seconds seconds\nfanfare_loop_busy_seconds_total 1.5\n",
                "# HELP fanfare_loop_busy_seconds_total Help\n\
                 # TYPE fanfare_loop_busy_seconds_total counter\n\
                 fanfare_loop_busy_seconds_total 1.5\n",
            ),
            (
                "build",
                Values::Info(("version", "1.2")),
                "# HELP fanfare_build Help\n# TYPE fanfare_build info\n\
                 fanfare_build_info{version=\"1.2\"} 1\n",
                "# HELP fanfare_build_info Help\n# TYPE fanfare_build_info gauge\n\
                 fanfare_build_info{version=\"1.2\"} 1\n",
            ),
            (
                "disconnects",
                Values::Counters(vec![
                    (("reason", "client"), Number::Integer(2)),
                    (("reason", "error"), Number::Integer(0)),
                ]),
                "# HELP fanfare_disconnects Help\n# TYPE fanfare_disconnects counter\n\
                 fanfare_disconnects_total{reason=\"client\"} 2\n\
                 fanfare_disconnects_total{reason=\"error\"} 0\n",
                "# HELP fanfare_disconnects_total Help\n# TYPE fanfare_disconnects_total counter\n\
                 fanfare_disconnects_total{reason=\"client\"} 2\n\
                 fanfare_disconnects_total{reason=\"error\"} 0\n",
            ),
        ] {
            let help = "Help";
            let families = [Family { name, help, values }];
            assert_eq!(
                TextFormat::OpenMetrics.encode(&families),
                format!("{open}# EOF\n")
            );
            assert_eq!(TextFormat::Prometheus.encode(&families), plain);
        }
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative() {
        let mut histogram = Histogram::default();
        for value in [0, 2, 2, 5, 1 << 20] {
            histogram.count(value);
        }
        let values = Values::Histogram(Buckets {
            histogram: &histogram,
            step: 0.5,
            sum: 7.0,
        });
        let (name, help) = ("fan_out_seconds", "Help");
        let text = TextFormat::Prometheus.encode(&[Family { name, help, values }]);
        for line in [
            "# TYPE fanfare_fan_out_seconds histogram",
            "fanfare_fan_out_seconds_sum 7.0",
            "fanfare_fan_out_seconds_count 5",
            "fanfare_fan_out_seconds_bucket{le=\"0.0\"} 1",
            "fanfare_fan_out_seconds_bucket{le=\"0.5\"} 1",
            "fanfare_fan_out_seconds_bucket{le=\"1.0\"} 3",
            "fanfare_fan_out_seconds_bucket{le=\"4.0\"} 4",
            "fanfare_fan_out_seconds_bucket{le=\"8192.0\"} 4",
            "fanfare_fan_out_seconds_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn labels_are_escaped_and_numbers_exact() {
        for (value, expected) in [("/a", "/a"), ("\\\"\n", "\\\\\\\"\\n"), ("ü", "ü")] {
            assert_eq!(Escaped(value).to_string(), expected);
        }
        for (number, expected) in [
            (Number::Integer(u64::MAX), "18446744073709551615"),
            (Number::Float(0.0), "0.0"),
            (Number::Float(1.6384), "1.6384"),
            (Number::Float(f64::INFINITY), "+Inf"),
        ] {
            assert_eq!(number.to_string(), expected);
        }
    }

    #[test]
    fn openmetrics_is_sent_only_if_it_is_named() {
        for (accept, expected) in [
            (None, TextFormat::Prometheus),
            (Some("*/*"), TextFormat::Prometheus),
            (Some("text/plain;version=0.0.4"), TextFormat::Prometheus),
            (
                Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
                TextFormat::OpenMetrics,
            ),
        ] {
            assert_eq!(TextFormat::accepted(accept), expected, "{accept:?}");
        }
    }
}
