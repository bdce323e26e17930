//! Charts of figures over what grows, as SVG: one panel for each figure, both scales logarithmic.

use std::fmt::Write;

use anyhow::Result;

use super::figures::{Spread, number};

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 220.0;
/// Room for the title and the labels of both axes.
const LEFT: f64 = 20.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 30.0;
const LINE: &str = "#0550ae";
const PALE: &str = "#c3c9d0";

/// A figure at each point.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) points: Vec<(f64, Spread)>,
}

/// Panels side by side; `label` writes what grows.
pub(super) fn chart(panels: &[Panel], label: fn(f64) -> String) -> Result<String> {
    let width = WIDTH * panels.len() as f64;
    let mut body = String::new();
    for (at, panel) in panels.iter().enumerate() {
        draw(&mut body, panel, WIDTH * at as f64, label)?;
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" fill=\"#24292f\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    ))
}

/// Where `value` lies between `least` and `most` on a logarithmic scale, 0 to 1; in the middle if they are one.
fn share(value: f64, least: f64, most: f64) -> f64 {
    if most > least {
        (value / least).ln() / (most / least).ln()
    } else {
        0.5
    }
}

fn draw(body: &mut String, panel: &Panel, from: f64, label: fn(f64) -> String) -> Result<()> {
    let values = || {
        panel
            .points
            .iter()
            .flat_map(|(_, spread)| [spread.min, spread.max])
    };
    // A figure that hardly changes must not look as if it did: the scale is at least fourfold.
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let (low, high) = (low.max(1e-6), high.max(1e-6));
    let widen = (4.0 * low / high).max(1.0).sqrt();
    let (low, high) = (low / widen, high * widen);
    let ends = (panel.points.first(), panel.points.last());
    let (Some((first, _)), Some((last, _))) = ends else {
        return Ok(());
    };
    let x = |value: f64| from + LEFT + 20.0 + (WIDTH - LEFT - RIGHT - 40.0) * share(value, *first, *last);
    let y = |value: f64| {
        HEIGHT - BOTTOM - 12.0 - (HEIGHT - BOTTOM - TOP - 12.0) * share(value.max(low), low, high)
    };
    text(body, from + LEFT, 22.0, 14, "start", panel.title)?;
    let base = HEIGHT - BOTTOM;
    writeln!(
        body,
        r#"<line x1="{:.1}" y1="{base:.1}" x2="{:.1}" y2="{base:.1}" stroke="{PALE}"/>"#,
        from + LEFT,
        from + WIDTH - RIGHT
    )?;
    let line: Vec<_> = panel
        .points
        .iter()
        .map(|(at, spread)| format!("{:.1},{:.1}", x(*at), y(spread.median)))
        .collect();
    writeln!(
        body,
        r#"<polyline points="{}" fill="none" stroke="{LINE}" stroke-width="2"/>"#,
        line.join(" ")
    )?;
    for (at, spread) in &panel.points {
        let (x, top, bottom) = (x(*at), y(spread.max), y(spread.min));
        writeln!(
            body,
            r#"<line x1="{x:.1}" y1="{top:.1}" x2="{x:.1}" y2="{bottom:.1}" stroke="{LINE}"/><circle cx="{x:.1}" cy="{:.1}" r="4" fill="{LINE}"/>"#,
            y(spread.median)
        )?;
        text(body, x, top - 9.0, 12, "middle", &number(spread.median))?;
        text(body, x, base + 18.0, 12, "middle", &label(*at))?;
    }
    Ok(())
}

fn text(body: &mut String, x: f64, y: f64, size: u8, anchor: &str, text: &str) -> Result<()> {
    Ok(writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#
    )?)
}
