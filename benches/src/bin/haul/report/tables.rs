//! RESULTS.md, but for its verdicts.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;

use super::figures::{Figures, Spread, number};
use crate::carriers::Carrier;
use crate::clusters::PARTITIONS;
use crate::data::DataSet;
use crate::results::Results;

/// What was measured, where, and with what.
pub(super) fn preamble(results: &Results) -> Result<String> {
    let mut text = format!(
        "# Results\n\nWritten by `haul` from what it measured; [README.md](README.md) says how, and what the figures \
         mean. Compare ratios, not\nnumbers of two machines: the brokers of both clusters and the reader share the \
         cores with the carrier.\n\n- Machine: {}\n",
        results.machine
    );
    let used: BTreeSet<usize> = (results.hauls.iter().map(|haul| haul.invocation))
        .chain(results.starts.iter().map(|start| start.invocation))
        .chain(results.latencies.iter().map(|latency| latency.invocation))
        .chain(results.idle.iter().map(|idle| idle.invocation))
        .chain(results.growth.iter().map(|growth| growth.invocation))
        .chain(results.wan.iter().map(|run| run.invocation))
        .collect();
    for invocation in used
        .into_iter()
        .filter_map(|index| results.invocations.get(index))
    {
        let versions = &invocation.versions;
        writeln!(
            text,
            "- {}: `{}` with Kuroshio {}, Kafka and MirrorMaker 2 {}, librdkafka {}, {}",
            invocation.date,
            invocation.command,
            versions.kuroshio,
            versions.kafka,
            versions.librdkafka,
            versions.java
        )?;
    }
    if results.hauls.iter().any(|haul| haul.scale < 1.0) {
        text.push_str(
            "- **Some hauls are at a scale below 1: the JVM is not warm in them, and their ratios flatter Kuroshio.**\n",
        );
    }
    writeln!(
        text,
        "- Two clusters of one broker (heap 1 GiB); {PARTITIONS} partitions; medians with (least..most) of all runs.\n\
         - Rate and CPU: of the carrier's process from the first record that a read_committed reader of the target \
         could see\n  to the last, the source being full before the carrier started. MB are of keys and values, \
         uncompressed.\n"
    )?;
    Ok(text)
}

/// One table for each data set.
pub(super) fn hauls(results: &Results) -> Result<String> {
    let mut text = String::new();
    for data in DataSet::ALL {
        let rows: Vec<_> = Carrier::ALL
            .into_iter()
            .filter_map(|carrier| Some((carrier, Figures::find(results, carrier, data)?)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let hauls = || results.hauls.iter().filter(|haul| haul.data == data);
        let records: BTreeSet<u64> = hauls()
            .flat_map(|haul| &haul.runs)
            .map(|run| run.records)
            .collect();
        let records: Vec<_> = records.into_iter().map(|count| number(count as f64)).collect();
        let runs = Spread::of(hauls().map(|haul| haul.runs.len() as f64));
        write!(
            text,
            "\n## {}\n\n{} records, {}..{} runs.\n\n| | records/s | MB/s | CPU µs/record | CPU s/GiB | CPU µs/record with \
             start | peak RSS MiB | start → first record s |\n|---|---|---|---|---|---|---|---|\n",
            data.title(),
            records.join(" or "),
            runs.min,
            runs.max
        )?;
        for (carrier, figures) in &rows {
            writeln!(
                text,
                "| {}{} | {} | {} | {} | {} | {} | {} | {} |",
                carrier.title(),
                if figures.short { " \\*" } else { "" },
                figures.rate,
                number(figures.mb_per_second.median),
                figures.cpu_us,
                number(figures.cpu_per_gib.median),
                number(figures.cpu_whole_us.median),
                figures.rss_mib,
                figures.start
            )?;
        }
        if rows.iter().any(|(_, figures)| figures.short) {
            text.push_str(
                "\n\\* Less than 1 s, or less than 80% of the records, came after the first was seen: read \"with start\", or raise `--scale`.\n",
            );
        }
        let mut against = vec![Carrier::Mm2Tuned];
        if data == DataSet::Random {
            against.push(Carrier::Mm2Defaults);
        }
        for base in against {
            ratios(&mut text, base, &rows)?;
        }
    }
    Ok(text)
}

fn ratios(text: &mut String, base: Carrier, rows: &[(Carrier, Figures)]) -> Result<()> {
    let Some((_, base_figures)) = rows.iter().find(|(carrier, _)| *carrier == base) else {
        return Ok(());
    };
    write!(
        text,
        "\n| against {} | records/s | CPU per record | CPU with start | peak RSS | start → first record |\n|---|---|---|---|---|---|\n",
        base.title()
    )?;
    for (carrier, figures) in rows.iter().filter(|(carrier, _)| *carrier != base) {
        let less = |of: fn(&Figures) -> Spread| less(of(figures).median / of(base_figures).median);
        writeln!(
            text,
            "| {} | {}× | {} | {} | {} | {} |",
            carrier.title(),
            number(figures.rate.median / base_figures.rate.median),
            less(|figures| figures.cpu_us),
            less(|figures| figures.cpu_whole_us),
            less(|figures| figures.rss_mib),
            less(|figures| figures.start)
        )?;
    }
    Ok(())
}

/// A ratio of costs: `1/3.5` if it is less than one, else `1.2×`.
pub(super) fn less(ratio: f64) -> String {
    if ratio < 1.0 {
        format!("1/{}", number(1.0 / ratio))
    } else {
        format!("{}×", number(ratio))
    }
}

/// Starts with the default delay.
pub(super) fn starts(results: &Results) -> Result<String> {
    if results.starts.is_empty() {
        return Ok(String::new());
    }
    let mut text = "\n## Start on a target with `group.initial.rebalance.delay.ms` at its default of 3 s\n\nThe tables above have it \
                    at 0.\n\n| | start → first record s |\n|---|---|\n"
        .to_owned();
    for start in &results.starts {
        let spread = Spread::of(start.seconds.iter().copied());
        writeln!(text, "| {} | {spread} |", start.carrier.title())?;
    }
    Ok(text)
}

/// Latencies by rate.
pub(super) fn latencies(results: &Results) -> Result<String> {
    let mut text = String::new();
    let rates: BTreeSet<u32> = results.latencies.iter().map(|latency| latency.rate).collect();
    for rate in rates {
        write!(
            text,
            "\n## Latency at {} records/s\n\n| | p50 ms | p99 ms | p99.9 ms | most ms | came |\n|---|---|---|---|---|---|\n",
            number(f64::from(rate))
        )?;
        for latency in results.latencies.iter().filter(|latency| latency.rate == rate) {
            let title = latency
                .carrier
                .map_or("(read from the source itself)", Carrier::title);
            let spread = latency
                .p50_spread_ms
                .map(|(least, most)| format!(" ({}..{})", number(least), number(most)));
            writeln!(
                text,
                "| {title} | {}{} | {} | {} | {} | {:.1}% |",
                number(latency.p50_ms),
                spread.unwrap_or_default(),
                number(latency.p99_ms),
                number(latency.p999_ms),
                number(latency.max_ms),
                latency.arrived as f64 / latency.sent as f64 * 100.0
            )?;
        }
    }
    Ok(text)
}

/// What idling costs.
pub(super) fn idle(results: &Results) -> Result<String> {
    if results.idle.is_empty() {
        return Ok(String::new());
    }
    let mut text =
        "\n## Idle\n\n| | partitions | share of a core | peak RSS MiB |\n|---|---|---|---|\n".to_owned();
    for idle in &results.idle {
        writeln!(
            text,
            "| {} | {} | {:.1}% | {} |",
            idle.carrier.title(),
            number(idle.partitions as f64),
            idle.cores * 100.0,
            number(idle.peak_rss_bytes as f64 / 1024.0 / 1024.0)
        )?;
    }
    Ok(text)
}
