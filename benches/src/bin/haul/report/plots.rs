//! Plots as SVG, drawn by hand: bars and ranges need no library (plotters has had no release since 2024).

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;

use super::figures::{Figures, Spread, number};
use crate::carriers::Carrier;
use crate::data::DataSet;
use crate::results::{Latency, Results};

const WIDTH: f64 = 860.0;
/// Where bars begin and end; their names stand before, their values behind.
pub(super) const LEFT: f64 = 230.0;
pub(super) const RIGHT: f64 = 760.0;
const ROW: f64 = 22.0;
const TITLE: f64 = 34.0;
const GAP: f64 = 16.0;
const DARK: &str = "#24292f";

/// CPU per record.
pub(super) fn cpu(results: &Results) -> Result<String> {
    bars(results, "CPU µs per record (less is better)", |figures| {
        figures.cpu_us
    })
}

/// Records per second.
pub(super) fn rate(results: &Results) -> Result<String> {
    bars(results, "records per second (more is better)", |figures| {
        figures.rate
    })
}

/// Peak memory.
pub(super) fn rss(results: &Results) -> Result<String> {
    bars(results, "peak RSS, MiB (less is better)", |figures| {
        figures.rss_mib
    })
}

pub(super) fn color(carrier: Option<Carrier>) -> &'static str {
    match carrier {
        Some(Carrier::Mm2Defaults) => "#f0b37e",
        Some(Carrier::Mm2Tuned) => "#d9730d",
        Some(Carrier::KuroshioAtLeastOnce) => "#54aeff",
        Some(Carrier::KuroshioExactlyOnce) => "#0550ae",
        Some(Carrier::Copy) => "#8c959f",
        Some(Carrier::RawVerbatim | Carrier::RawTagged) | None => "#c3c9d0",
    }
}

/// A drawing that grows downwards.
pub(super) struct Drawing {
    body: String,
    y: f64,
}

impl Drawing {
    pub(super) fn new(title: &str) -> Result<Self> {
        let mut drawing = Self {
            body: String::new(),
            y: 26.0,
        };
        drawing.text(12.0, 17, "start", title)?;
        Ok(drawing)
    }

    /// Begins a panel.
    pub(super) fn panel(&mut self, title: &str) -> Result<()> {
        self.y += TITLE;
        self.text(12.0, 14, "start", title)
    }

    /// Begins a row.
    pub(super) fn row(&mut self, name: &str) -> Result<()> {
        self.y += ROW;
        self.text(LEFT - 8.0, 13, "end", name)
    }

    /// A line of text on the present row.
    pub(super) fn text(&mut self, x: f64, size: u8, anchor: &str, text: &str) -> Result<()> {
        let y = self.y;
        Ok(writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#
        )?)
    }

    pub(super) fn rect(&mut self, x: f64, width: f64, height: f64, color: &str) -> Result<()> {
        let y = self.y - 4.0 - height / 2.0;
        Ok(writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#
        )?)
    }

    pub(super) fn end(self) -> String {
        let height = self.y + GAP;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"system-ui, sans-serif\" fill=\"{DARK}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// A panel of bars for each data set, each with a scale of its own; thin lines from least to most.
fn bars(results: &Results, title: &str, of: fn(&Figures) -> Spread) -> Result<String> {
    let mut drawing = Drawing::new(title)?;
    for data in DataSet::ALL {
        let rows: Vec<_> = Carrier::ALL
            .into_iter()
            .filter_map(|carrier| Some((carrier, of(&Figures::find(results, carrier, data)?))))
            .collect();
        let most = rows
            .iter()
            .map(|(_, spread)| spread.max)
            .fold(f64::MIN_POSITIVE, f64::max);
        if rows.is_empty() {
            continue;
        }
        drawing.panel(data.title())?;
        for (carrier, spread) in rows {
            drawing.row(carrier.title())?;
            let x = |value: f64| LEFT + (RIGHT - LEFT) * value / most;
            drawing.rect(LEFT, x(spread.median) - LEFT, 15.0, color(Some(carrier)))?;
            drawing.rect(x(spread.min), (x(spread.max) - x(spread.min)).max(1.0), 2.0, DARK)?;
            drawing.text(x(spread.max) + 6.0, 12, "start", &number(spread.median))?;
        }
    }
    Ok(drawing.end())
}

/// A panel for each rate: from p50 over p99 to p99.9, on a logarithmic scale that all panels share.
pub(super) fn latency(results: &Results) -> Result<String> {
    let mut drawing = Drawing::new("latency in ms: p50 ● to p99 ● to p99.9 | (logarithmic, less is better)")?;
    let all = &results.latencies;
    let least = all
        .iter()
        .map(|latency| latency.p50_ms)
        .fold(1.0, f64::min)
        .max(0.1);
    let most = all.iter().map(|latency| latency.p999_ms).fold(10.0, f64::max);
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (ms.max(least) / least).ln() / (most / least).ln();
    let rates: BTreeSet<u32> = all.iter().map(|latency| latency.rate).collect();
    for rate in rates {
        drawing.panel(&format!("{} records/s", number(f64::from(rate))))?;
        for latency in all.iter().filter(|latency| latency.rate == rate) {
            range(&mut drawing, latency, x)?;
        }
    }
    Ok(drawing.end())
}

fn range(drawing: &mut Drawing, latency: &Latency, x: impl Fn(f64) -> f64) -> Result<()> {
    let color = color(latency.carrier);
    let title = latency.carrier.map_or("the source itself", Carrier::title);
    let (p50, p99, p999) = (x(latency.p50_ms), x(latency.p99_ms), x(latency.p999_ms));
    drawing.row(title)?;
    drawing.rect(p50, p999 - p50, 2.0, color)?;
    drawing.rect(p50, p99 - p50, 6.0, color)?;
    drawing.rect(p999, 2.0, 12.0, color)?;
    let y = drawing.y - 4.0;
    for at in [p50, p99] {
        writeln!(
            drawing.body,
            r#"<circle cx="{at:.1}" cy="{y:.1}" r="5" fill="{color}"/>"#
        )?;
    }
    let values = format!("{} / {}", number(latency.p50_ms), number(latency.p99_ms));
    drawing.text(p999.max(p99) + 10.0, 12, "start", &values)
}
