//! Checkpoints: where groups go on in the target, whoever writes their offsets there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kuroshio_client::Anchor;
use kuroshio_core::groups::Mark;
use kuroshio_core::mm2::{Checkpoint, checkpoints_topic};
use kuroshio_core::types::{SourceOffset, TopicPartition};
use kuroshio_wire::{Cluster, GroupOffset, NewRecord};

use super::COMPACTED;
use crate::board::{FlowBoard, wall_ms};
use crate::config;
use crate::groups::{follows, owned, relevant};
use crate::own_topic::OwnTopic;
use crate::translation::{Between, Due};

/// Records in a batch: each has a note of up to 4 KiB, and a topic takes a megabyte.
const BATCH: usize = 100;

/// Writes the checkpoints of one flow, for the partitions that this process owns.
pub struct Checkpoints {
    /// The flow; records of a topic may come over several.
    pub flow: config::Current,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
}

/// What was written last of each group and partition of the source.
type Written = HashMap<(Arc<str>, TopicPartition), Anchor>;

impl Checkpoints {
    /// Writes for ever.
    pub async fn run(mut self) {
        let name = checkpoints_topic(&self.flow.source, &self.flow.mm2.separator);
        let topic = OwnTopic::new(&self.target, name.into(), self.flow.replication_factor, COMPACTED);
        let mut written = Written::new();
        loop {
            self.flow.sleep(self.flow.groups.interval).await;
            if let Err(why) = self.round(&topic, &mut written).await {
                self.board
                    .error(format!("checkpoints for MirrorMaker 2's classes: {why}"));
            }
        }
    }

    async fn round(&self, topic: &OwnTopic, written: &mut Written) -> Result<(), String> {
        let owned = owned(&self.flow, &self.board);
        written.retain(|(_, partition), _| owned.contains_key(partition));
        if owned.is_empty() {
            return Ok(());
        }
        let listed = self
            .source
            .list_groups()
            .await
            .map_err(|error| error.to_string())?;
        let names: Vec<Arc<str>> = listed
            .iter()
            .filter(|group| follows(&self.flow, group))
            .map(|group| Arc::clone(&group.group))
            .collect();
        let known: HashSet<&Arc<str>> = names.iter().collect();
        written.retain(|(group, _), _| known.contains(group));
        let (mut due, mut notes, mut failed) = (Vec::new(), BTreeMap::new(), None);
        for (group, stored) in self.source.fetch_offsets_of(&names).await {
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    failed = Some(format!("group {group}: {error}"));
                    continue;
                }
            };
            for (partition, offset) in relevant(stored, &owned) {
                let own = &owned[&partition];
                let wanted = offset.offset.min(own.position);
                let key = (Arc::clone(&group), partition.clone());
                let last = written.get(&key).copied();
                // What a flow wrote says nothing new.
                if Mark::parse(&offset.metadata).is_some() || last.is_some_and(|last| last.source == wanted) {
                    continue;
                }
                due.push(Due {
                    group: Arc::clone(&group),
                    source: partition,
                    target: own.pairing.target(),
                    wanted,
                    anchor: last.filter(|last| last.source <= wanted),
                    hint: own.hint(SourceOffset(wanted)),
                });
                notes.insert(key, offset);
            }
        }
        self.write(due, &notes, topic, written).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn write(
        &self,
        due: Vec<Due>,
        notes: &BTreeMap<(Arc<str>, TopicPartition), GroupOffset>,
        topic: &OwnTopic,
        written: &mut Written,
    ) -> Result<(), String> {
        let between = Between {
            flow: &self.flow,
            flows: self.flow.all(),
            source: &self.source,
            target: &self.target,
        };
        let translated = between.translate(due, false, |_| ()).await;
        let (mut ready, mut failed) = (Vec::new(), None);
        for (due, outcome) in translated.map_err(|error| error.to_string())? {
            match outcome {
                Ok(translated) => ready.push((due, translated.translation.offset)),
                Err(why) => failed = Some(why),
            }
        }
        for part in ready.chunks(BATCH) {
            let mut records = Vec::with_capacity(part.len());
            for (due, downstream) in part {
                let note = notes.get(&(Arc::clone(&due.group), due.source.clone()));
                let checkpoint = Checkpoint {
                    group: due.group.to_string(),
                    topic: due.target.topic.to_string(),
                    partition: due.target.partition,
                    upstream: due.wanted,
                    downstream: *downstream,
                    metadata: note.map_or(String::new(), |note| note.metadata.to_string()),
                };
                // Kafka's own limits on names and notes are below the format's.
                if let (Some(key), Some(value)) = (checkpoint.key(), checkpoint.value()) {
                    records.push(NewRecord { key, value });
                }
            }
            let appended = topic.append(&records, wall_ms()).await;
            appended.map_err(|error| error.to_string())?;
            written.extend(part.iter().map(|(due, downstream)| {
                let anchor = Anchor {
                    source: due.wanted,
                    target: *downstream,
                };
                ((Arc::clone(&due.group), due.source.clone()), anchor)
            }));
        }
        failed.map_or(Ok(()), Err)
    }
}
