//! Fails when a rule takes many times as long as a plain loop that does the same work, measured in turns in the same
//! run: a ratio, which holds on slow and busy machines too. `make ratios`.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kuroshio_core_benches::{Case, Work, cases};

/// Turns of rule and reference. The least time of each counts: whatever disturbs only ever adds.
const TURNS: u32 = 60;
/// At least as long is a turn.
const TURN: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    match checked() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            writeln!(stdout(), "ratios: {why}").ok();
            ExitCode::FAILURE
        }
    }
}

fn checked() -> Result<bool, Box<dyn std::error::Error>> {
    let mut all = true;
    for mut case in cases()? {
        let ratio = ratio(&mut case);
        let good = ratio <= case.limit;
        all &= good;
        let verdict = if good { "ok" } else { "TOO SLOW" };
        let (name, limit) = (case.name, case.limit);
        writeln!(
            stdout(),
            "{verdict:8} {ratio:6.2}, at most {limit:4.1} of its reference: {name}"
        )?;
    }
    Ok(all)
}

fn ratio(case: &mut Case) -> f64 {
    let (rule, reference) = (calls(&mut case.rule), calls(&mut case.reference));
    let (mut least, mut least_reference) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        least = least.min(each(&mut case.rule, rule));
        least_reference = least_reference.min(each(&mut case.reference, reference));
    }
    least / least_reference
}

/// How many calls fill a turn.
fn calls(work: &mut Work) -> u32 {
    let mut calls = 1;
    while each(work, calls) * f64::from(calls) < TURN.as_secs_f64() {
        calls *= 2;
    }
    calls
}

/// Seconds of one call, as the mean of `calls`.
fn each(work: &mut Work, calls: u32) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed().as_secs_f64() / f64::from(calls)
}
