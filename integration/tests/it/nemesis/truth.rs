//! Whether the metrics told the truth while faults held.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cut;
use super::faults::{Fault, Struck};
use super::stage::{PARTITIONS, Scene, Side};
use super::watch::{History, Lane, Said};

/// How late lag may begin to rise: a sample is taken once a second, and waits three seconds for a source that does not answer; what was under
/// way still arrives, and the machine has other work.
const LATE: f64 = 6.0;
/// Promised for the health of a region.
const TURNS: Duration = Duration::from_secs(20);
/// Between what is true and what our own looks see of it.
const LOOK: Duration = Duration::from_secs(2);
/// Lag of a flow that keeps up: positions that only passed copies wait for ten commit intervals, and two cores run six brokers beside it.
const FRESH: f64 = 8.0;
/// How long metrics may still tell of something that was done to a process before.
const AFTER: Duration = Duration::from_secs(20);

/// A deployment, and what it says something of.
pub(super) struct Named {
    pub(super) number: usize,
    /// The flows to tw and to jp.
    flows: [String; 2],
    /// Partitions that its flows read, of topics of applications.
    pub(super) lanes: usize,
    /// Whether it has heartbeats.
    beats: bool,
}

impl Named {
    pub(super) fn of(scene: &Scene<'_>, number: usize, story: &[Struck]) -> Self {
        let of = &scene.deployments[number];
        let cut = story.iter().any(|struck| matches!(struck.fault, Fault::Cut(_)));
        Self {
            number,
            flows: Side::BOTH.map(|side| of.flow_to(side)),
            // Both flows read every topic; of one that is written on the other side all is skipped.
            lanes: 2 * (of.topics().len() * PARTITIONS as usize + if cut { cut::TOPICS } else { 0 }),
            beats: of.is_exact(),
        }
    }

    fn flow_to(&self, side: Side) -> &str {
        let [tw, jp] = &self.flows;
        match side {
            Side::Tw => tw,
            Side::Jp => jp,
        }
    }
}

/// What was not true, and how many claims were looked at.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) looked_at: usize,
    pub(super) lies: Vec<String>,
}

impl Verdict {
    fn claim(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !holds {
            self.lies.push(otherwise());
        }
    }
}

/// Holds what a deployment said against the faults of its story.
pub(super) fn judge(history: &History, story: &[Struck], named: &Named) -> Verdict {
    let mut verdict = Verdict::default();
    for (number, struck) in story.iter().enumerate() {
        let others: Vec<&Struck> = story
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
            .map(|(_, struck)| struck)
            .collect();
        blocked(&mut verdict, history, struck, &others, named);
        unhealthy(&mut verdict, history, struck, &others, named);
        quarantined(&mut verdict, history, struck, &others, named);
    }
    verdict
}

/// Whether a fault that `concerns` was there at some time between.
fn any(others: &[&Struck], from: Instant, to: Instant, concerns: impl Fn(&Struck) -> bool) -> bool {
    others
        .iter()
        .any(|other| other.from < to && other.to > from && concerns(other))
}

/// Something was done to an instance of late, so that it tells nothing, or tells of before.
fn disturbed(others: &[&Struck], struck: &Struck) -> bool {
    let from = struck.from.checked_sub(AFTER).unwrap_or(struck.from);
    any(others, from, struck.to, |other| {
        other.fault.strikes(0) || other.fault.strikes(1)
    })
}

/// Where nothing can be written, lag rises; where nothing can be read, the age of the newest heartbeat does.
fn blocked(verdict: &mut Verdict, history: &History, struck: &Struck, others: &[&Struck], named: &Named) {
    let held = (struck.to - struck.from).as_secs_f64();
    let Some(side) = struck.fault.refusing() else {
        return;
    };
    let source_gone = |other: &Struck| other.fault.unreachable() == Some(side.other());
    if held < 10.0 || disturbed(others, struck) || any(others, struck.from, struck.to, source_gone) {
        return;
    }
    let (from, to) = (struck.from, struck.to + LOOK);
    let flow = named.flow_to(side);
    let (mut seconds, mut records) = (0.0_f64, 0.0_f64);
    for said in history.within(named.number, from, to) {
        let of_flow = |lanes: BTreeMap<Lane, f64>| {
            let of = lanes.into_iter().filter(|((name, _, _), _)| name == flow);
            of.map(|(_, value)| value).fold(0.0, f64::max)
        };
        seconds = seconds.max(of_flow(
            history.lanes_at(named.number, said.at, |said| &said.lag_seconds),
        ));
        records = records.max(of_flow(
            history.lanes_at(named.number, said.at, |said| &said.lag_records),
        ));
    }
    verdict.claim(seconds >= held - LATE && records > 0.0, || {
        format!("{:?} held {held:.1} s: kuroshio_lag_seconds of {flow} rose to {seconds:.1}, kuroshio_lag_records to {records}", struck.fault)
    });
    if !named.beats || struck.fault.unreachable().is_none() {
        return;
    }
    for flow in &named.flows {
        let rpo = history
            .within(named.number, from, to)
            .filter_map(|said| said.rpo_seconds.get(flow))
            .fold(0.0_f64, |most, value| most.max(*value));
        verdict.claim(rpo >= held - LATE, || {
            format!(
                "{:?} held {held:.1} s: kuroshio_rpo_seconds of {flow} rose to {rpo:.1}",
                struck.fault
            )
        });
    }
}

/// A cluster that nobody reaches is down in the metrics, and its region unhealthy, within 20 s.
fn unhealthy(verdict: &mut Verdict, history: &History, struck: &Struck, others: &[&Struck], named: &Named) {
    let Some(side) = struck.fault.unreachable() else {
        return;
    };
    let turned = struck.from + TURNS + LOOK;
    if turned >= struck.to || disturbed(others, struck) {
        return;
    }
    let at = Side::BOTH
        .iter()
        .position(|other| *other == side)
        .unwrap_or_default();
    let said: Vec<&Said> = history.within(named.number, turned, struck.to).collect();
    let wrong = said
        .iter()
        .find(|said| said.health[at] != 503 || said.up[at] != Some(0.0));
    verdict.claim(!said.is_empty() && wrong.is_none(), || {
        format!("{:?} for more than 20 s: {wrong:?}", struck.fault)
    });
}

/// What the target refuses for good is quarantined, and told.
fn quarantined(verdict: &mut Verdict, history: &History, struck: &Struck, others: &[&Struck], named: &Named) {
    let Fault::TooLarge(side) = struck.fault else {
        return;
    };
    let held = (struck.to - struck.from).as_secs_f64();
    // Who cannot write at all is refused nothing.
    let written = |_: &Struck| true;
    if held < LATE || disturbed(others, struck) || any(others, struck.from, struck.to, written) {
        return;
    }
    let flow = named.flow_to(side);
    let most = history
        .within(named.number, struck.from, struck.to + LOOK)
        .filter_map(|said| said.quarantined.get(flow))
        .fold(0.0_f64, |most, value| most.max(*value));
    verdict.claim(most > 0.0, || {
        format!(
            "{:?} held {held:.1} s: kuroshio_quarantined_partitions of {flow} was {most}",
            struck.fault
        )
    });
}

/// From when on, after `from`, no lane of either flow was behind any more; none: until the end some were.
pub(super) fn fresh_from(history: &History, from: Instant, named: &Named) -> Option<Instant> {
    let mut since = None;
    let to = history.0.last()?.at;
    for said in history.within(named.number, from, to) {
        let lanes = history.lanes_at(named.number, said.at, |said| &said.lag_seconds);
        if lanes.len() == named.lanes && lanes.values().all(|lag| *lag <= FRESH) {
            since.get_or_insert(said.at);
        } else {
            since = None;
        }
    }
    since
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an instance says in each second of a story of 40 s in which jp is gone from second 5 to 31, with one thing changed.
    fn told(change: impl Fn(u64, &mut Said)) -> Verdict {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let lane = ("tw-jp".to_owned(), "orders".to_owned(), "0".to_owned());
        let said = (0..40).map(|second| {
            let gone = (5..=31).contains(&second);
            let lag = if gone { second as f64 - 5.0 } else { 0.0 };
            let unhealthy = gone && second > 20;
            let mut said = Said {
                at: at(second),
                time: String::new(),
                deployment: 0,
                instance: 0,
                lag_seconds: [(lane.clone(), lag)].into(),
                lag_records: [(lane.clone(), lag * 9.0)].into(),
                rpo_seconds: ["tw-jp", "jp-tw"].map(|flow| (flow.to_owned(), lag)).into(),
                quarantined: BTreeMap::new(),
                cut: BTreeMap::new(),
                lost: 0.0,
                up: [Some(1.0), Some(f64::from(u8::from(!unhealthy)))],
                health: [200, if unhealthy { 503 } else { 200 }],
            };
            change(second, &mut said);
            said
        });
        let story = [Struck {
            fault: Fault::ClusterCut(Side::Jp),
            from: at(5),
            to: at(31),
        }];
        let named = Named {
            number: 0,
            flows: ["jp-tw", "tw-jp"].map(str::to_owned),
            lanes: 1,
            beats: true,
        };
        judge(&History(said.collect()), &story, &named)
    }

    #[test]
    fn every_lie_is_found() {
        let honest = told(|_, _| ());
        assert_eq!((honest.looked_at, honest.lies), (4, Vec::new()));
        let lies = [
            told(|_, said| said.lag_seconds.values_mut().for_each(|lag| *lag = 0.0)),
            told(|_, said| said.lag_records.values_mut().for_each(|lag| *lag = 0.0)),
            told(|_, said| *said.rpo_seconds.get_mut("jp-tw").unwrap() = 0.0),
            told(|_, said| said.health[1] = 200),
            told(|_, said| said.up[1] = Some(1.0)),
            told(|second, said| {
                if second == 30 {
                    said.health[1] = 200;
                }
            }),
        ];
        for (number, told) in lies.iter().enumerate() {
            assert_eq!((told.looked_at, told.lies.len()), (4, 1), "{number}: {told:?}");
        }
    }
}
