//! What is told at the end.

use std::fmt::Write as _;

use anyhow::Result;

use super::judge::Outcome;

/// A table in Markdown: one row for each story and delivery.
pub(super) fn of(rows: &[(String, Result<[Outcome; 2]>)]) -> String {
    let mut text = "| fault | delivery | runs | records | lost | duplicated | reordered | fresh again after | nothing missing after | metrics held against it |\n\
                    |---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, outcomes) in rows {
        let Ok(outcomes) = outcomes else {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | both | 1 | FAILED | | | | | | |");
            continue;
        };
        for outcome in outcomes {
            let lost = if outcome.told_lost > 0.0 {
                format!("{} (told: {})", outcome.lost, outcome.told_lost)
            } else {
                outcome.lost.to_string()
            };
            let recovered = outcome
                .recovered
                .map_or("-".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
            let _ = writeln!(
                text,
                "| {name} | {} | 1 | {} | {lost} | {} | {} | {recovered} | {:.1} s | {} |",
                outcome.delivery,
                outcome.records,
                outcome.duplicated,
                outcome.reordered,
                outcome.converged.as_secs_f64(),
                outcome.claims,
            );
        }
    }
    text
}
