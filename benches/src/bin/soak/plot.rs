//! The samples as SVG: one panel for each figure, a line for each instance, scales from zero.

use std::fmt::Write;

use anyhow::Result;

use crate::samples::{NAMES, Samples};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 24.0;
const LINES: [&str; 2] = ["#0550ae", "#bc4c00"];

/// The whole picture.
pub(crate) fn draw(samples: &Samples) -> Result<String> {
    let end = samples.0.last().map_or(1.0, |sample| sample.at).max(1.0);
    let mut body = String::new();
    for (value, name) in NAMES.iter().enumerate() {
        let from = HEIGHT * value as f64;
        let most = samples
            .0
            .iter()
            .map(|sample| sample.values[value])
            .fold(1.0, f64::max)
            * 1.1;
        let base = from + HEIGHT - BOTTOM;
        let x = |at: f64| LEFT + (WIDTH - LEFT - 20.0) * at / end;
        let y = |value: f64| base - (HEIGHT - TOP - BOTTOM) * value / most;
        writeln!(
            body,
            r#"<text x="{LEFT}" y="{:.0}" font-size="14">{name}</text>"#,
            from + 22.0
        )?;
        for part in [0.0, 0.5, 1.0] {
            let level = most * part;
            writeln!(
                body,
                r##"<line x1="{LEFT}" y1="{0:.1}" x2="{1:.1}" y2="{0:.1}" stroke="#d0d7de"/><text x="{2:.1}" y="{3:.1}" font-size="11" text-anchor="end">{level:.0}</text>"##,
                y(level),
                WIDTH - 20.0,
                LEFT - 6.0,
                y(level) + 4.0
            )?;
        }
        for (process, color) in (0..samples.processes()).zip(LINES) {
            let points = samples.of(process);
            let points = points.map(|sample| format!("{:.1},{:.1}", x(sample.at), y(sample.values[value])));
            let points = points.collect::<Vec<_>>().join(" ");
            writeln!(
                body,
                r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>"#
            )?;
        }
        writeln!(
            body,
            r#"<text x="{:.1}" y="{:.1}" font-size="11" text-anchor="end">{:.0} min</text>"#,
            WIDTH - 20.0,
            base + 16.0,
            end / 60.0
        )?;
    }
    let height = HEIGHT * NAMES.len() as f64;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" fill=\"#24292f\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    ))
}
