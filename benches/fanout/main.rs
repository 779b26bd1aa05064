//! Measures the cost of a delivery over real sockets, of fanfare, of a bare loop of `write` calls
//! and of axum: `cargo bench --bench fanout`.
//!
//! The writer runs in a process of its own, pinned to one core. Another core reads the subscribers
//! and checks that no event is lost, duplicated or out of order. Figures are medians of three runs,
//! taken in turn. Absolute figures depend on the machine. The ratio to the bare loop, which writes
//! the same bytes to as many sockets and does nothing else, applies elsewhere too.
//!
//! `cargo bench --bench fanout -- many` runs the workloads whose names start with `many`, and
//! `--json FILE` writes a line of JSON for each row.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod frame;
mod peer;
mod subscribers;
mod workloads;
mod writer;

use std::io::Write;
use std::time::Duration;

use subscribers::Latency;
use workloads::{ROWS, Row};

const RUNS: usize = 3;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("--writer").is_some() {
        let row = arguments
            .next()
            .ok_or("--writer needs the number of a row")?
            .parse::<usize>()?;
        return match arguments.next().as_deref() {
            Some("--short") => writer::run(&ROWS[row].shortened()),
            _ => writer::run(&ROWS[row]),
        };
    }
    let (mut measuring, mut json, mut workloads) = (false, None, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => measuring = true,
            "--json" => json = Some(arguments.next().ok_or("--json needs a file")?),
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}").into());
            }
            prefix => workloads.push(prefix.to_owned()),
        }
    }
    if measuring {
        return measure(&workloads, json.as_deref());
    }
    // `cargo test --benches` checks that each of them runs.
    subscribers::prepare_process()?;
    for row in ROWS {
        subscribers::run_short(row).map_err(|error| format!("{}: {error}", row.name))?;
    }
    Ok(())
}

fn measure(workloads: &[String], json: Option<&str>) -> Result<()> {
    subscribers::prepare_process()?;
    let selected = |row: &Row| {
        workloads.is_empty()
            || workloads
                .iter()
                .any(|prefix| row.name.starts_with(prefix.as_str()))
    };
    let mut figures: Vec<(&Row, Figures)> = Vec::new();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "medians of {RUNS} runs; latency in ms, from publishing to each receipt and to the last one\n"
    )?;
    writeln!(
        out,
        "{:<40}{:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6}  ratio per CPU second",
        "workload / writer",
        "M/s",
        "M/CPU s",
        "µs each",
        "p50",
        "p99",
        "max",
        "last50",
        "last99",
        "lastmax",
        "B/conn"
    )?;
    let rows: Vec<&Row> = ROWS.iter().filter(|row| selected(row)).collect();
    for group in rows.chunk_by(|a, b| a.workload() == b.workload()) {
        // In turn, so that other activity of the machine affects all rows alike.
        let mut runs: Vec<Vec<Measurement>> = group.iter().map(|_| Vec::new()).collect();
        for _ in 0..RUNS {
            for (row, runs) in group.iter().zip(&mut runs) {
                runs.push(subscribers::run(row).map_err(|error| format!("{}: {error}", row.name))?);
            }
        }
        for (row, runs) in group.iter().zip(runs) {
            let row_figures = Figures::of(&runs);
            figures.push((row, row_figures));
        }
        for (row, own) in &figures[figures.len() - group.len()..] {
            print_row(&mut out, row, own, &figures)?;
        }
        writeln!(out)?;
    }
    if let Some(path) = json {
        let mut file = std::fs::File::create(path)?;
        for (row, own) in &figures {
            writeln!(file, "{}", to_json(row, own, &figures))?;
        }
    }
    Ok(())
}

/// The result of one run.
pub(crate) struct Measurement {
    deliveries: u64,
    wall: Duration,
    /// The CPU time of the writing process.
    cpu: Duration,
    latency: Latency,
    bytes_per_connection: f64,
    connects_per_second: f64,
    connects_per_cpu_second: f64,
}

/// Medians over all runs of a row.
struct Figures {
    per_second: f64,
    per_cpu_second: f64,
    /// The least and the largest deliveries per CPU second.
    spread: (f64, f64),
    /// In milliseconds: median, 99th percentile and maximum of all receipts, then of the last
    /// receipt of each event.
    latency_ms: [f64; 6],
    bytes_per_connection: f64,
    connects_per_second: f64,
    connects_per_cpu_second: f64,
}

impl Figures {
    fn of(runs: &[Measurement]) -> Self {
        let median_of =
            |figure: &dyn Fn(&Measurement) -> f64| median(runs.iter().map(figure).collect());
        let per_cpu = |run: &Measurement| run.deliveries as f64 / run.cpu.as_secs_f64();
        Self {
            per_second: median_of(&|run| run.deliveries as f64 / run.wall.as_secs_f64()),
            per_cpu_second: median_of(&per_cpu),
            spread: (
                runs.iter().map(per_cpu).fold(f64::INFINITY, f64::min),
                runs.iter().map(per_cpu).fold(0.0, f64::max),
            ),
            latency_ms: std::array::from_fn(|index| {
                median_of(&|run| run.latency.figures_ms()[index])
            }),
            bytes_per_connection: median_of(&|run| run.bytes_per_connection),
            connects_per_second: median_of(&|run| run.connects_per_second),
            connects_per_cpu_second: median_of(&|run| run.connects_per_cpu_second),
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The names of the rows that a row is compared with, and its ratio to each: of deliveries per CPU
/// second of the writer, or without deliveries, of connects per second.
fn ratios<'a>(row: &Row, own: &Figures, all: &'a [(&Row, Figures)]) -> Vec<(&'a str, f64)> {
    let against = |name: &&str| all.iter().find(|(other, _)| other.name == *name);
    let ratio = |(other, figures): &'a (&Row, Figures)| {
        let ratio = if row.events() {
            own.per_cpu_second / figures.per_cpu_second
        } else {
            own.connects_per_second / figures.connects_per_second
        };
        (other.name, ratio)
    };
    row.against.iter().filter_map(against).map(ratio).collect()
}

fn print_row(
    out: &mut impl Write,
    row: &Row,
    own: &Figures,
    all: &[(&Row, Figures)],
) -> Result<()> {
    write!(out, "{:<40}", row.name)?;
    if row.events() {
        let [millions, per_cpu] = [own.per_second, own.per_cpu_second].map(|figure| figure / 1e6);
        write!(out, "{millions:>8.3} {per_cpu:>8.3} {:>8.4}", 1.0 / per_cpu)?;
        for figure in own.latency_ms {
            write!(out, " {figure:>7.2}")?;
        }
    } else {
        write!(
            out,
            "  {:>6.0} connects per second, {:>6.0} per CPU second {:>31}",
            own.connects_per_second, own.connects_per_cpu_second, ""
        )?;
    }
    write!(out, " {:>6.0} ", own.bytes_per_connection)?;
    for (name, ratio) in ratios(row, own, all) {
        write!(out, " {ratio:.2} of {name};")?;
    }
    Ok(writeln!(out)?)
}

fn to_json(row: &Row, own: &Figures, all: &[(&Row, Figures)]) -> serde_json::Value {
    let ratios: serde_json::Map<_, _> = ratios(row, own, all)
        .into_iter()
        .map(|(name, ratio)| (name.to_owned(), ratio.into()))
        .collect();
    serde_json::json!({
        "row": row.name,
        "subscribers": row.subscribers,
        "frame_bytes": row.frame,
        "deliveries_per_second": own.per_second,
        "deliveries_per_cpu_second": own.per_cpu_second,
        "deliveries_per_cpu_second_least": own.spread.0,
        "deliveries_per_cpu_second_most": own.spread.1,
        "receipt_p50_ms": own.latency_ms[0],
        "receipt_p99_ms": own.latency_ms[1],
        "receipt_max_ms": own.latency_ms[2],
        "last_p50_ms": own.latency_ms[3],
        "last_p99_ms": own.latency_ms[4],
        "last_max_ms": own.latency_ms[5],
        "bytes_per_connection": own.bytes_per_connection,
        "connects_per_second": own.connects_per_second,
        "connects_per_cpu_second": own.connects_per_cpu_second,
        "ratio_per_cpu_second": ratios,
    })
}
