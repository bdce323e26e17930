//! The tasks that a flow has beside its pumps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kuroshio_core::control::Notes;
use kuroshio_core::flow::Pairing;
use kuroshio_core::types::{Time, group_of};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::{FlowRun, Shared, named};
use crate::acls::AclSync;
use crate::compat;
use crate::configs::ConfigSync;
use crate::forms::Forms;
use crate::groups::GroupSync;
use crate::heartbeats::{self, Heartbeats};
use crate::lanes::FlowEnds;
use crate::loads;
use crate::sampler::Sampler;
use crate::storer;
use crate::topics::{Departures, Discovery, Remake, Targets};

impl FlowRun {
    fn ends(&self, source_id: Arc<str>) -> FlowEnds {
        FlowEnds {
            flow: Arc::clone(&self.flow.name),
            source: Arc::clone(&self.flow.source),
            target: Arc::clone(&self.flow.target),
            source_id,
            forward: self.flow.forward.into(),
        }
    }

    pub(super) fn start_tasks(
        &self,
        tasks: &mut JoinSet<&'static str>,
        source_id: Arc<str>,
        remakes: mpsc::Receiver<Remake>,
        notes: watch::Receiver<Option<Arc<Notes>>>,
    ) -> Shared {
        let ends = self.ends(source_id);
        let group: Arc<str> = group_of(&self.flow.name).into();
        let (catalog_tell, catalog) = watch::channel(Vec::new().into());
        let (first_tell, first_look) = watch::channel(None);
        let (weights_tell, weights) = watch::channel(Vec::new().into());
        let look = Arc::new(Notify::new());
        let started = Instant::now();
        let discovery = Discovery {
            flow: self.flow.clone(),
            ends: ends.clone(),
            group: Arc::clone(&group),
            source: self.source.clone(),
            target: self.target.clone(),
            forms: Forms::new(self.flow.compression, self.embedded),
            board: Arc::clone(&self.board),
            catalog: catalog_tell,
            first_look: first_tell,
            weights: weights_tell,
            look: Arc::clone(&look),
            remakes,
            targets: Targets::default(),
            departures: Departures::default(),
            started,
            kept: self.metrics.kept_topics(),
        };
        tasks.spawn(named("discovery", discovery.run()));
        let loads = self.start_loads(tasks, started, &group, catalog.clone());
        let heartbeats = self.start_heartbeats(tasks, started);
        let sampler = Sampler {
            source: self.source.clone(),
            board: Arc::clone(&self.board),
            metrics: self.metrics.clone(),
            heartbeats,
            started,
            tracks: std::collections::HashMap::new(),
            shown: crate::sampler::Shown::default(),
        };
        tasks.spawn(named("sampler", sampler.run()));
        self.start_configs(tasks, catalog.clone());
        self.start_acls(tasks, catalog.clone());
        self.start_groups(tasks);
        self.start_compat(tasks);
        if self.flow.positions_on_source {
            let copy = storer::copy_to_source(
                ends.clone(),
                self.source.clone(),
                Arc::clone(&group),
                Arc::clone(&self.board),
            );
            tasks.spawn(named("copy of positions", copy));
        }
        Shared {
            ends,
            group,
            incarnation: fastrand::u64(..),
            started,
            catalog,
            notes,
            first_look,
            first: Arc::default(),
            weights,
            loads,
            look,
        }
    }

    fn start_loads(
        &self,
        tasks: &mut JoinSet<&'static str>,
        started: Instant,
        group: &Arc<str>,
        catalog: watch::Receiver<Arc<[Pairing]>>,
    ) -> watch::Receiver<Arc<[u32]>> {
        let (tell, loads) = watch::channel(Vec::new().into());
        let measure = loads::measure(self.target.clone(), Arc::clone(group), started, catalog, tell);
        tasks.spawn(named("loads", measure));
        loads
    }

    fn start_heartbeats(
        &self,
        tasks: &mut JoinSet<&'static str>,
        started: Instant,
    ) -> Option<heartbeats::Shared> {
        let known = heartbeats::Shared::new(Time::at(started.elapsed()));
        let heartbeats = Heartbeats {
            source: self.source.clone(),
            target: self.target.clone(),
            board: Arc::clone(&self.board),
            interval: self.flow.heartbeats?,
            started,
            known: known.clone(),
        };
        tasks.spawn(named("heartbeats", heartbeats.run()));
        Some(known)
    }

    fn start_configs(&self, tasks: &mut JoinSet<&'static str>, catalog: watch::Receiver<Arc<[Pairing]>>) {
        // The embedded brokers of `demo` have no configs.
        if !self.embedded {
            let sync = ConfigSync {
                flow: self.flow.clone(),
                source: self.source.clone(),
                target: self.target.clone(),
                board: Arc::clone(&self.board),
                catalog,
                refused: BTreeMap::new(),
            };
            tasks.spawn(named("sync of configs", sync.run()));
        }
    }

    fn start_acls(&self, tasks: &mut JoinSet<&'static str>, catalog: watch::Receiver<Arc<[Pairing]>>) {
        // Nor do they have ACLs.
        if !self.embedded {
            let sync = AclSync {
                flow: self.flow.clone(),
                source: self.source.clone(),
                target: self.target.clone(),
                board: Arc::clone(&self.board),
                catalog,
                renewed: None,
            };
            tasks.spawn(named("sync of ACLs", sync.run()));
        }
    }

    fn start_groups(&self, tasks: &mut JoinSet<&'static str>) {
        // The embedded brokers of `demo` have no list of groups.
        if !self.embedded {
            let sync = GroupSync {
                flow: self.flow.clone(),
                source: self.source.clone(),
                target: self.target.clone(),
                board: Arc::clone(&self.board),
                metrics: self.metrics.clone(),
                known: BTreeMap::new(),
                failed: None,
            };
            tasks.spawn(named("sync of groups", sync.run()));
        }
    }

    /// What MirrorMaker 2's classes read.
    fn start_compat(&self, tasks: &mut JoinSet<&'static str>) {
        if self.flow.mm2.heartbeats {
            let beats = compat::heartbeats(
                self.flow.clone(),
                self.source.clone(),
                self.target.clone(),
                Arc::clone(&self.board),
            );
            tasks.spawn(named("heartbeats for MirrorMaker 2's classes", beats));
        }
        if self.flow.mm2.checkpoints && !self.embedded {
            let checkpoints = compat::Checkpoints {
                flow: self.flow.clone(),
                source: self.source.clone(),
                target: self.target.clone(),
                board: Arc::clone(&self.board),
            };
            tasks.spawn(named(
                "checkpoints for MirrorMaker 2's classes",
                checkpoints.run(),
            ));
        }
    }
}
