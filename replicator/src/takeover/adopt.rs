//! Groups whose offsets MirrorMaker 2 kept on the target: they are marked as ours, so that they go on following.

use std::sync::Arc;

use kuroshio_core::groups::Mark;
use kuroshio_wire::{Committer, GroupOffset, Stored};

use super::{Takeover, TakeoverError, noted};

impl Takeover<'_> {
    /// Marks the offsets that MirrorMaker 2 wrote and nobody moved since. Without checkpoints it wrote none.
    pub(super) async fn groups(
        &self,
        checkpoints_topic: &str,
        said: &mut Vec<String>,
    ) -> Result<(), TakeoverError> {
        if !self.flow.groups.sync {
            return Ok(());
        }
        let mut checkpoints = noted::checkpoints(&self.target, checkpoints_topic).await?;
        checkpoints.retain(|group, _| self.flow.groups.selects(group));
        let names: Vec<Arc<str>> = checkpoints.keys().cloned().collect();
        let described = self.target.describe_groups(&names).await;
        let mut adopted = 0;
        for (group, stored) in self.target.fetch_offsets_of(&names).await {
            if matches!(described.get(&group), Some(Ok(described)) if !described.members.is_empty()) {
                said.push(format!(
                    "group {group} has members on {}: its offsets are its own",
                    self.target.alias()
                ));
                continue;
            }
            let mut marked = Vec::new();
            for (partition, stored) in stored? {
                let Ok(Stored::Offset(held)) = stored else {
                    continue;
                };
                let written = checkpoints.get(&group).and_then(|of| of.get(&partition));
                let source = written.and_then(|written| written.get(&held.offset));
                let copied = self.seats.iter().any(|seat| seat.target == partition);
                // Kafka's own consumers write no note unless they are told to; nor does MirrorMaker 2.
                let (Some(source), true, true) = (source, held.metadata.is_empty(), copied) else {
                    continue;
                };
                let mark = Mark {
                    flow: &self.flow.name,
                    source: *source,
                };
                marked.push((
                    partition,
                    GroupOffset {
                        metadata: mark.to_string().into(),
                        ..held
                    },
                ));
            }
            if marked.is_empty() {
                continue;
            }
            let written = self
                .target
                .commit_offsets(&group, Committer::Observer, &marked)
                .await?;
            written.into_values().collect::<Result<Vec<()>, _>>()?;
            adopted += 1;
        }
        if adopted > 0 {
            said.push(format!(
                "{adopted} groups whose offsets MirrorMaker 2 kept on {} are kept on",
                self.target.alias()
            ));
        }
        Ok(())
    }
}
