//! A run: processes with their pumps, faults, applications, and the end at which all must have come true.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use kuroshio_core::flow::{Delivery, Phase};
use kuroshio_core::slots::Assignment;

use crate::log::Cluster;
use crate::net::{Broken, Caller, Ev, FlowSpec, Net, Part, Shared};
use crate::pump::{End, Pump};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub delivery: Delivery,
    /// Two clusters, active-active; else a ring of three with relays.
    pub pair: bool,
    pub broken: Broken,
    /// Milliseconds of faults and applications.
    pub storm: u64,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    pub trace: u64,
    pub seen: BTreeMap<&'static str, u64>,
    /// Records that had to be copied, and copies that came again (at_least_once).
    pub owed: usize,
    pub again: u64,
    pub fault: Option<String>,
}

/// What happens to a process at the next moment of its kind.
#[derive(Clone, Copy, Debug)]
pub enum Doom {
    /// Killed while one of its pumps commits.
    KillAtCommit,
    /// Stopped for so many milliseconds while one of its pumps commits.
    StopAtCommit(u64),
    /// Killed while one of its pumps has joined and is not assigned.
    KillAtSync,
}

/// A process: the pumps of one instance of one flow.
pub struct Process {
    pub pumps: Vec<usize>,
    pub life: u32,
    pub frozen: bool,
    /// What its network and timers have for it when it wakes.
    pub kept: Vec<Ev>,
    /// It leaves the group when it stops, as for a scale-down.
    pub retired: bool,
    pub doom: Option<Doom>,
}

pub struct World {
    pub net: Shared,
    pub pumps: Vec<Option<Pump>>,
    pub names: Vec<Arc<str>>,
    pub processes: Vec<Process>,
    pub of: Vec<usize>,
    until: u64,
}

const PUMPS: usize = 2;
const INSTANCES: usize = 2;

impl World {
    pub fn new(seed: u64, setup: Setup) -> Self {
        let aliases: &[&'static str] = if setup.pair {
            &["tw", "jp"]
        } else {
            &["tw", "jp", "sg"]
        };
        let count = aliases.len();
        let clusters = aliases
            .iter()
            .map(|alias| Cluster {
                alias,
                ..Cluster::default()
            })
            .collect();
        let flow = |source: usize| {
            let target = (source + 1) % count;
            let name = format!("{}-{}", aliases[source], aliases[target]).into();
            FlowSpec {
                name,
                source,
                target,
                relay: !setup.pair,
            }
        };
        let flows: Vec<FlowSpec> = (0..count).map(flow).collect();
        let mut net = Net::new(seed, clusters, flows.clone(), setup.delivery, setup.broken);
        let (mut names, mut processes, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for (at, flow) in flows.iter().enumerate() {
            for instance in 0..INSTANCES {
                let first = names.len();
                for pump in 0..PUMPS {
                    names.push(format!("kuroshio.{}.pod-{instance}.{pump}", flow.name).into());
                    net.pumps.push(at);
                    of.push(processes.len());
                }
                let ms = net.rng.u64(0..3_000);
                net.after(ms, Ev::Start(processes.len()));
                let pumps = (first..names.len()).collect();
                processes.push(Process {
                    pumps,
                    life: 0,
                    frozen: false,
                    kept: Vec::new(),
                    retired: false,
                    doom: None,
                });
            }
        }
        for cluster in 0..count {
            net.add_topic(cluster, "orders", 3);
            net.add_topic(cluster, "pay", 1);
        }
        for ev in [Ev::Brokers, Ev::Application, Ev::Fault] {
            net.after(1, ev);
        }
        let pumps = names.iter().map(|_| None).collect();
        let net = Rc::new(RefCell::new(net));
        Self {
            net,
            pumps,
            names,
            processes,
            of,
            until: setup.storm,
        }
    }

    /// Storms, settles, and proves that it is silent then.
    pub fn run(mut self) -> Outcome {
        self.pass(self.until);
        self.calm();
        // Transactions of the dead end, at the latest by their timeout.
        let mut settle = self.until + 30_000;
        self.pass(settle);
        // The longest wait that a quarantined lane may have, and more.
        while settle < self.until + 900_000 && !self.is_settled() && self.fault().is_none() {
            settle += 5_000;
            self.pass(settle);
        }
        if !self.is_settled() {
            let why = self.what_is_missing();
            self.net.borrow_mut().judge.fail(why);
        }
        let before = self.ends();
        self.pass(settle + 20_000);
        let after = self.ends();
        if before != after {
            let why = format!("the system does not fall silent: {before:?} then {after:?}");
            self.net.borrow_mut().judge.fail(why);
        }
        let net = self.net.borrow();
        Outcome {
            trace: net.trace(),
            seen: net.seen.clone(),
            owed: net
                .judge
                .must
                .iter()
                .flat_map(|must| must.values())
                .map(Vec::len)
                .sum(),
            again: net.judge.again,
            fault: net.judge.fault.clone(),
        }
    }

    fn fault(&self) -> Option<String> {
        self.net.borrow().judge.fault.clone()
    }

    fn pass(&mut self, until: u64) {
        while self.net.borrow().now < until && self.fault().is_none() {
            let Some(ev) = self.net.borrow_mut().next() else {
                return;
            };
            self.happen(ev);
            self.look_at_assignments();
        }
    }

    fn calm(&mut self) {
        let mut net = self.net.borrow_mut();
        net.stormy = false;
        self.processes.iter_mut().for_each(|process| process.doom = None);
        net.missing.clear();
        net.poison.clear();
        drop(net);
        for process in 0..self.processes.len() {
            if self.processes[process].frozen {
                self.net.borrow_mut().after(1, Ev::Wake(process));
            } else if self.processes[process]
                .pumps
                .iter()
                .all(|pump| self.pumps[*pump].is_none())
            {
                self.net.borrow_mut().after(1, Ev::Start(process));
            }
        }
    }

    fn is_settled(&self) -> bool {
        let net = self.net.borrow();
        (0..net.flows.len()).all(|flow| net.judge.missing(flow).is_empty())
    }

    fn what_is_missing(&self) -> String {
        let net = self.net.borrow();
        let missing: Vec<_> = (0..net.flows.len()).map(|flow| net.judge.missing(flow)).collect();
        let lanes = |pump: &Pump| {
            let all = pump.flow.lanes();
            let stuck = all.filter(|(_, state)| state.phase != Phase::Running);
            let stuck: Vec<_> = stuck.map(|(lane, state)| (lane, state.phase.clone())).collect();
            let (membership, slots) = pump.flow.seat();
            let generation = membership.map(|m| m.generation);
            format!(
                "{} at {generation:?} with {} slots: {stuck:?}; {}",
                pump.name,
                slots.len(),
                pump.doing()
            )
        };
        let pumps: Vec<String> = self.pumps.iter().flatten().map(lanes).collect();
        format!("no_record_is_lost: at the end {missing:?} are missing; {pumps:#?}")
    }

    /// Entries of all data topics.
    fn ends(&self) -> Vec<i64> {
        let net = self.net.borrow();
        net.clusters
            .iter()
            .flat_map(|c| c.topics.values().flatten())
            .map(crate::log::Log::end)
            .collect()
    }

    fn happen(&mut self, ev: Ev) {
        let to = match &ev {
            Ev::Reply(caller, _) => Some((caller.pump, caller.life)),
            Ev::Step(pump, life) | Ev::Beat(pump, life) | Ev::Refresh(pump, life) => Some((*pump, *life)),
            Ev::Errand(pump, life, _) | Ev::News(pump, life, _) => Some((*pump, *life)),
            Ev::Again(caller, _) => Some((caller.pump, caller.life)),
            _ => None,
        };
        if let Some((pump, life)) = to {
            let process = &mut self.processes[self.of[pump]];
            if life != process.life {
                return;
            }
            if process.frozen {
                return process.kept.push(ev);
            }
            self.pump_happens(pump, ev);
            self.meet_doom(pump);
            return;
        }
        match ev {
            Ev::Arrive(from, req, lost) => self.net.borrow_mut().arrive(from, req, lost),
            Ev::Marker(cluster, txn, place) => self.net.borrow_mut().marker(cluster, txn, &place),
            Ev::Brokers => self.net.borrow_mut().brokers(),
            Ev::Application => self.net.borrow_mut().application(),
            Ev::EndApplication(cluster, client, commit) => {
                self.net.borrow_mut().end_application(cluster, client, commit);
            }
            Ev::Start(process) => self.start(process),
            Ev::Wake(process) => self.wake(process),
            Ev::Fault => self.mischief(),
            _ => {}
        }
    }

    fn pump_happens(&mut self, at: usize, ev: Ev) {
        let Some(pump) = self.pumps[at].as_mut() else {
            return;
        };
        let mut end = None;
        match ev {
            Ev::Step(..) => {
                end = pump.step();
                let pause = pump.pause();
                let next = Ev::Step(at, pump.life);
                self.net.borrow_mut().after(pause, next);
            }
            Ev::Reply(
                Caller {
                    part: Part::Engine,
                    token,
                    ..
                },
                rep,
            ) => end = pump.engine_hears(token, rep),
            Ev::Reply(
                Caller {
                    part: Part::Member,
                    token,
                    ..
                },
                rep,
            ) => pump.member_hears(token, rep),
            Ev::Reply(
                Caller {
                    part: Part::Clerk,
                    token,
                    ..
                },
                rep,
            ) => pump.clerk_hears(token, rep),
            Ev::News(_, _, news) => pump.news.push_back(news),
            Ev::Errand(_, _, errand) => pump.errand(errand),
            Ev::Beat(..) => pump.beat(),
            Ev::Refresh(..) => pump.refresh(),
            Ev::Again(caller, req) => self.net.borrow_mut().send(caller, req),
            _ => {}
        }
        match end {
            None => {}
            Some(End::Halted(why)) => {
                let why = format!("{} halted: {why}", pump.name);
                self.net.borrow_mut().judge.fail(why);
            }
            Some(End::Fenced) => {
                self.net.borrow_mut().saw("a process was fenced and ended");
                self.crash(self.of[at]);
            }
            Some(End::Drained) => {
                let process = self.of[at];
                if self.processes[process].retired {
                    pump.leave();
                }
                self.pumps[at] = None;
                let running = self.processes[process]
                    .pumps
                    .iter()
                    .any(|pump| self.pumps[*pump].is_some());
                if !running {
                    self.net.borrow_mut().saw("stopped drained");
                    self.crash(process);
                }
            }
        }
    }

    /// (d): no slot is given away that a member holds in the newest generation, as far as the leader was told. A static member that
    /// misses a rebalance stays in the group with what it said at the one before: what it was given since is given away under it, and what
    /// it sends then is of an old generation and refused.
    fn look_at_assignments(&mut self) {
        let assigned = std::mem::take(&mut self.net.borrow_mut().assigned);
        for (name, generation, assignment) in assigned {
            self.look_at(&name, generation, &assignment);
        }
    }

    fn look_at(&self, name: &Arc<str>, generation: i32, assignment: &Assignment) {
        let holders: Vec<&Pump> = self
            .pumps
            .iter()
            .flatten()
            .filter(|pump| pump.group == *name)
            .collect();
        let held = |pump: &Pump| {
            let member = pump.flow.seat().0?;
            let cluster = self.net.borrow().target(pump.at);
            let mut net = self.net.borrow_mut();
            let known = net.group(cluster, name).members.get(&member.member)?;
            (known.joined == generation).then_some(member.generation)
        };
        let newest = holders.iter().filter_map(|pump| held(pump)).max();
        for pump in holders {
            if held(pump).is_none() || held(pump) != newest {
                continue;
            }
            for slot in pump.flow.seat().1 {
                let share = &assignment.slots[usize::from(slot.0)];
                if share.owner.as_deref().is_some_and(|owner| owner != &*pump.name) {
                    let why = format!(
                        "(d) generation {generation} gives {slot:?} of {} away: {share:?}",
                        pump.name
                    );
                    return self.net.borrow_mut().judge.fail(why);
                }
            }
        }
    }
}
