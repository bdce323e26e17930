//! What a link between the regions costs.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;

use super::figures::number;
use super::plots::{Drawing, LEFT, RIGHT, color};
use crate::carriers::Carrier;
use crate::results::Results;
use crate::wan::{Backlog, Between, DELAYS, WanRun, find};

/// Carriers that were measured, in their usual order.
fn carriers(results: &Results) -> impl Iterator<Item = Carrier> {
    let there = |carrier: &Carrier| results.wan.iter().any(|run| run.carrier == *carrier);
    Carrier::ALL.into_iter().filter(there)
}

/// One table for delays, one for everything else.
pub(super) fn tables(results: &Results) -> Result<String> {
    let brokers: BTreeSet<String> = results.wan.iter().map(|run| run.brokers.to_string()).collect();
    let brokers: Vec<String> = brokers.into_iter().collect();
    let mut text = format!(
        "\n## Over a link between regions\n\nJSON of ~350 B, lz4. Brokers of the source: {}. The carrier sits beside the target and the source is far, unless said otherwise. All runs, also those with 0 ms, go through \
                    the same proxy, which takes CPU from the same cores; TCP ends at the proxy, so that its windows are those of the \
                    table and not of a real network. Where a case was measured several times the run of median speed is shown. MB/s of keys and values / of bytes on the link (share of the local network's):\n\n| |",
        brokers.join(", ")
    );
    for backlog in Backlog::ALL {
        for between in DELAYS {
            write!(text, " {}, {between} |", backlog.title())?;
        }
    }
    writeln!(
        text,
        "\n|---|{}",
        "---|".repeat(Backlog::ALL.len() * DELAYS.len())
    )?;
    for carrier in carriers(results) {
        write!(text, "| {} |", carrier.title())?;
        for backlog in Backlog::ALL {
            let near = find(&results.wan, carrier, backlog, DELAYS[0]);
            for between in DELAYS {
                match find(&results.wan, carrier, backlog, between) {
                    Some(run) => write!(text, " {} |", cell(run, near))?,
                    None => text.push_str(" – |"),
                }
            }
        }
        text.push('\n');
    }
    others(&mut text, results)?;
    Ok(text)
}

fn cell(run: &WanRun, near: Option<&WanRun>) -> String {
    let (rate, wire) = (run.mb_per_second(), run.wire_mb_per_second());
    let share = near.filter(|_| run.between.round_trip > 0).map(|near| {
        let share = rate / near.mb_per_second() * 100.0;
        format!(" ({share:.0}%)")
    });
    format!("{} / {}{}", number(rate), number(wire), share.unwrap_or_default())
}

/// Limits, stalls, windows, and the wrong side.
fn others(text: &mut String, results: &Results) -> Result<()> {
    let others: BTreeSet<Between> = results.wan.iter().map(|run| run.between).collect();
    text.push_str("\n| link | backlog | | MB/s | share of the limit | all, once | peak RSS MiB |\n|---|---|---|---|---|---|---|\n");
    for between in others.into_iter().filter(|between| !DELAYS.contains(between)) {
        for (backlog, carrier) in Backlog::ALL
            .into_iter()
            .flat_map(|backlog| carriers(results).map(move |carrier| (backlog, carrier)))
        {
            let Some(run) = find(&results.wan, carrier, backlog, between) else {
                continue;
            };
            let wire = run.wire_mb_per_second();
            let used = between.limit.map_or("–".to_owned(), |limit| {
                format!("{:.0}%", wire / limit as f64 * 100.0)
            });
            let exact = match run.exact {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            writeln!(
                text,
                "| {between} | {} | {} | {} | {used} | {exact} | {} |",
                backlog.title(),
                carrier.title(),
                number(run.mb_per_second()),
                run.peak_rss_bytes >> 20
            )?;
        }
    }
    Ok(())
}

/// MB/s by delay.
pub(super) fn plot(results: &Results) -> Result<String> {
    let mut drawing = Drawing::new("MB/s over a link, by round trip (more is better)")?;
    let most = |backlog| {
        let rates = results.wan.iter().filter(|run| run.backlog == backlog);
        rates.map(WanRun::mb_per_second).fold(f64::MIN_POSITIVE, f64::max)
    };
    for backlog in Backlog::ALL {
        for between in DELAYS {
            drawing.panel(&format!("{}, {between}", backlog.title()))?;
            for carrier in carriers(results) {
                let Some(run) = find(&results.wan, carrier, backlog, between) else {
                    continue;
                };
                drawing.row(carrier.title())?;
                let width = (RIGHT - LEFT) * run.mb_per_second() / most(backlog);
                drawing.rect(LEFT, width, 15.0, color(Some(carrier)))?;
                drawing.text(LEFT + width + 6.0, 12, "start", &number(run.mb_per_second()))?;
            }
        }
    }
    Ok(drawing.end())
}
