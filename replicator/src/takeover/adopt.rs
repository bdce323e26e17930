//! Groups whose offsets MirrorMaker 2 kept on the target: they are marked as ours, so that they go on following.

use std::collections::HashSet;
use std::sync::Arc;

use kuroshio_core::groups::Mark;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{ByPartition, Committer, GroupOffset, Stored};

use super::{Takeover, TakeoverError, noted};

impl Takeover<'_> {
    /// Marks the offsets that MirrorMaker 2 wrote and nobody moved since. Without checkpoints it wrote none. A group that cannot be
    /// marked is told and left alone.
    pub(super) async fn groups(
        &self,
        checkpoints_topic: &str,
        said: &mut Vec<String>,
    ) -> Result<(), TakeoverError> {
        if !self.flow.groups.sync {
            return Ok(());
        }
        let wanted = |group: &str| self.flow.groups.selects(group);
        let checkpoints = noted::checkpoints(&self.target, checkpoints_topic, wanted).await?;
        let names: Vec<Arc<str>> = checkpoints.keys().cloned().collect();
        let described = self.target.describe_groups(&names).await;
        let copied: HashSet<&TopicPartition> = self.partitions.iter().map(|one| &one.target).collect();
        let mut adopted = 0;
        for (group, stored) in self.target.fetch_offsets_of(&names).await {
            let living =
                matches!(described.get(&group), Some(Ok(described)) if !described.members.is_empty());
            let done = match stored {
                _ if living => Err("it has members there".to_owned()),
                Ok(stored) => self.adopt(&group, stored, &checkpoints, &copied).await,
                Err(error) => Err(error.to_string()),
            };
            match done {
                Ok(marked) => adopted += usize::from(marked),
                Err(why) => said.push(format!(
                    "group {group} on {} is left as it is: {why}",
                    self.target.alias()
                )),
            }
        }
        if adopted > 0 {
            said.push(format!(
                "{adopted} groups whose offsets MirrorMaker 2 kept on {} are kept on",
                self.target.alias()
            ));
        }
        Ok(())
    }

    /// Marks what MirrorMaker 2 wrote of a group; whether there was anything.
    async fn adopt(
        &self,
        group: &Arc<str>,
        stored: ByPartition<Stored>,
        checkpoints: &noted::Checkpoints,
        copied: &HashSet<&TopicPartition>,
    ) -> Result<bool, String> {
        let mut marked: Vec<(TopicPartition, GroupOffset)> = Vec::new();
        for (partition, stored) in stored {
            let Ok(Stored::Offset(held)) = stored else {
                continue;
            };
            let written = checkpoints.get(group).and_then(|of| of.get(&partition));
            let written = written.and_then(|written| written.get(&held.offset));
            let copied = copied.contains(&partition);
            // It writes the note of the source's offset with it.
            let Some((source, _)) = written.filter(|(_, note)| copied && **note == *held.metadata) else {
                continue;
            };
            let mark = Mark {
                flow: &self.flow.name,
                source: *source,
            };
            let metadata = mark.to_string().into();
            marked.push((partition, GroupOffset { metadata, ..held }));
        }
        if marked.is_empty() {
            return Ok(false);
        }
        let written = self
            .target
            .commit_offsets(group, Committer::Observer, &marked)
            .await;
        let written = written.map_err(|error| error.to_string())?;
        written
            .into_values()
            .collect::<Result<Vec<()>, _>>()
            .map_err(|error| error.to_string())?;
        Ok(true)
    }
}
