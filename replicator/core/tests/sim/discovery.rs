//! What a pump is told of topics, and what people are told of it.

use std::sync::Arc;

use kuroshio_core::engine::{BatchForm, Codec};
use kuroshio_core::flow::Pairing;
use kuroshio_core::types::TopicPartition;

use crate::net::Ev;
use crate::pump::{Busy, Pump};

impl Pump {
    /// For people who look at a failed run.
    pub fn doing(&self) -> String {
        let busy = self.busy.as_ref().map(|busy| match busy {
            Busy::Committing(..) => "committing",
            Busy::Aborting => "aborting",
        });
        let seat: String = format!("{:?}", self.flow).chars().collect();
        let seat = seat
            .split(" seat: ")
            .nth(1)
            .and_then(|rest| rest.split("lanes:").next())
            .unwrap_or_default();
        format!(
            "{busy:?} {:?} {seat}",
            self.seat.synced.as_ref().map(|seat| seat.generation)
        )
    }

    /// What discovery finds: creates what the target lacks, and tells the flow what there is to copy.
    pub fn refresh(&mut self) {
        let pairings = {
            let mut net = self.net.borrow_mut();
            let flow = net.flows[net.pumps[self.at]].clone();
            let shape: Vec<(Arc<str>, usize)> = net.clusters[flow.source]
                .topics
                .iter()
                .map(|(name, logs)| (name.clone(), logs.len()))
                .collect();
            let mut pairings = Vec::new();
            for (topic, partitions) in shape {
                if !net.missing.contains(&(flow.target, topic.clone())) {
                    let logs = net.clusters[flow.target].topics.entry(topic.clone()).or_default();
                    logs.resize_with(partitions.max(logs.len()), Default::default);
                }
                let stormy = net.stormy;
                pairings.extend((0..partitions as i32).map(|partition| Pairing {
                    source: TopicPartition::new(topic.clone(), partition),
                    topic_id: [7; 16],
                    target_topic: topic.clone(),
                    target_id: Some([8; 16]),
                    form: BatchForm::of(Codec::None),
                    // Somebody pauses it until the next look.
                    paused: stormy && net.rng.u8(0..12) == 0,
                }));
            }
            pairings
        };
        let now = self.now();
        self.flow.catalog(now, pairings);
        self.after(2_000, Ev::Refresh(self.at, self.life));
    }
}
