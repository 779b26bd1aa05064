//! Draws throughput and latency over time.

use std::error::Error;
use std::fs::File;
use std::io::Write;

use plotters::prelude::*;

use super::results::{Sample, short, time};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 640);

/// A line of a chart: its name, its color, and the value of a sample.
type ChartLine = (&'static str, RGBColor, fn(&Sample) -> f64);

const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(240, 140, 20);
const RED: RGBColor = RGBColor(200, 40, 50);
const GRID: RGBColor = RGBColor(224, 224, 224);

const THROUGHPUT: [ChartLine; 1] = [("all", BLUE, |sample| sample.per_second)];
const LATENCY: [ChartLine; 3] = [
    ("p50", BLUE, |sample| sample.latency.p50 as f64),
    ("p99", ORANGE, |sample| sample.latency.p99 as f64),
    ("max", RED, |sample| sample.latency.max as f64),
];

/// Draws both charts into an SVG file.
pub(super) fn draw(mut file: &File, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let end = samples.last().map_or(1.0, |sample| sample.seconds);
    // Latency is undefined in an interval without events; it must not be drawn as zero.
    let with_latency: Vec<Sample> = samples
        .iter()
        .copied()
        .filter(|sample| sample.latency.max > 0)
        .collect();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        chart(
            &upper,
            "events received per second",
            end,
            samples,
            &THROUGHPUT,
            short,
        )?;
        chart(
            &lower,
            "latency, from due to received",
            end,
            &with_latency,
            &LATENCY,
            time,
        )?;
        root.present()?;
    }
    file.write_all(svg.as_bytes())?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    end: f64,
    samples: &[Sample],
    lines: &[ChartLine],
    label: fn(f64) -> String,
) -> Result<(), Box<dyn Error>> {
    let values = samples
        .iter()
        .flat_map(|sample| lines.iter().map(move |(_, _, value)| value(sample)));
    let most = values.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_label_formatter(&|value| trim_zeros(&label(*value)))
        .axis_style(BLACK.mix(0.4))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (_, color, value) in lines {
        let line = samples.iter().map(|sample| (sample.seconds, value(sample)));
        chart.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
    }
    if lines.len() > 1 {
        legend(area, lines)?;
    }
    Ok(())
}

/// Removes trailing zeros: `4.5 ms` for `4.50 ms`.
fn trim_zeros(label: &str) -> String {
    match label.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{number} {unit}")
        }
        _ => label.into(),
    }
}

/// Names the lines next to the title.
fn legend(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    lines: &[ChartLine],
) -> Result<(), Box<dyn Error>> {
    let width = 64;
    let mut x = SIZE.0 as i32 - 24 - width * lines.len() as i32;
    for (name, color, _) in lines {
        let stroke = PathElement::new([(x, 22), (x + 20, 22)], color.stroke_width(2));
        area.draw(&stroke)?;
        area.draw(&Text::new(*name, (x + 26, 16), ("sans-serif", 13)))?;
        x += width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_no_trailing_zeros() {
        for (label, expected) in [
            ("4.50 ms", "4.5 ms"),
            ("0.00 ", "0 "),
            ("50.00 k", "50 k"),
            ("1.25 M", "1.25 M"),
            ("200 k", "200 k"),
            ("500 µs", "500 µs"),
        ] {
            assert_eq!(trim_zeros(label), expected);
        }
    }
}
