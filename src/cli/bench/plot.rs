//! Throughput and latency over time, as a picture.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::report::{Point, short, time};

const SIZE: (u32, u32) = (960, 640);

/// A line of a chart: its name, its colour and what it shows of a point.
type Line = (&'static str, RGBColor, fn(&Point) -> f64);

const THROUGHPUT: [Line; 1] = [("events received a second", BLUE, |point| point.per_second)];
const LATENCY: [Line; 3] = [
    ("p50", GREEN, |point| point.latency.p50 as f64),
    ("p99", MAGENTA, |point| point.latency.p99 as f64),
    ("max", RED, |point| point.latency.max as f64),
];

/// Draws both charts into an SVG file.
pub(super) fn draw(path: &Path, points: &[Point]) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        chart(&upper, "throughput", points, &THROUGHPUT, &short)?;
        chart(&lower, "latency", points, &LATENCY, &time)?;
        root.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    points: &[Point],
    lines: &[Line],
    label: &dyn Fn(f64) -> String,
) -> Result<(), Box<dyn Error>> {
    let until = points.last().map_or(1.0, |point| point.at);
    let values = points
        .iter()
        .flat_map(|point| lines.iter().map(move |(_, _, value)| value(point)));
    let most = values.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..until, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_label_formatter(&|value| label(*value))
        .draw()?;
    for (name, colour, value) in lines {
        let colour = *colour;
        let line = points.iter().map(|point| (point.at, value(point)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
