//! From what is due to what is written on the target.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use kuroshio_core::groups::Mark;
use kuroshio_wire::{ByPartition, Class, Cluster, Committer, Error, GroupOffset};

use super::GroupSync;
use crate::translation::{Between, Due};

/// Groups written at the same time.
const AT_ONCE: usize = 16;

impl GroupSync {
    /// Translates partition by partition; what fails is told and left for the next time.
    pub(super) async fn translate(
        &mut self,
        due: Vec<Due>,
    ) -> Result<BTreeMap<Arc<str>, Vec<(Due, GroupOffset)>>, kuroshio_client::Error> {
        let between = Between {
            flow: &self.flow,
            flows: self.flow.all(),
            source: &self.source,
            target: &self.target,
        };
        let translated = between.translate(due, false, |_| ()).await?;
        let mut by_group: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (one, answer) in translated {
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    self.fail(why);
                    continue;
                }
            };
            let mark = Mark {
                flow: &self.flow.name,
                source: one.wanted,
            };
            let offset = GroupOffset {
                offset: answer.translation.offset,
                leader_epoch: None,
                metadata: mark.to_string().into(),
            };
            let group = Arc::clone(&one.group);
            by_group.entry(group).or_default().push((one, offset));
        }
        Ok(by_group)
    }

    pub(super) async fn write(&mut self, translated: BTreeMap<Arc<str>, Vec<(Due, GroupOffset)>>) {
        let target = &self.target;
        let writes = stream::iter(translated).map(|(group, offsets)| commit(target.clone(), group, offsets));
        let written: Vec<_> = writes.buffer_unordered(AT_ONCE).collect().await;
        for (group, offsets, written) in written {
            self.written(&group, offsets, written);
        }
    }

    fn written(
        &mut self,
        group: &Arc<str>,
        offsets: Vec<(Due, GroupOffset)>,
        written: Result<ByPartition<()>, Error>,
    ) {
        let mut written = match written {
            Ok(written) => written,
            // A member joined after we looked: the group lives there now.
            Err(error) if matches!(error.class(), Class::Rejoin | Class::Fenced) => return,
            Err(error) => return self.fail(error.to_string()),
        };
        let Some(known) = self.known.get_mut(group) else {
            return;
        };
        let (mut all, mut failed) = (true, Vec::new());
        for (due, _) in offsets {
            match written.remove(&due.target) {
                Some(Ok(())) => {
                    known.synced.insert(due.source, due.wanted);
                }
                Some(Err(error)) => {
                    all = false;
                    failed.push(error);
                }
                None => all = false,
            }
        }
        if all && known.left.is_none() {
            known.right = Instant::now();
        }
        failed.into_iter().for_each(|error| self.fail(error.to_string()));
    }
}

async fn commit(
    target: Cluster,
    group: Arc<str>,
    offsets: Vec<(Due, GroupOffset)>,
) -> (Arc<str>, Vec<(Due, GroupOffset)>, Result<ByPartition<()>, Error>) {
    let named = offsets
        .iter()
        .map(|(due, offset)| (due.target.clone(), offset.clone()));
    let named: Vec<_> = named.collect();
    let written = target.commit_offsets(&group, Committer::Observer, &named).await;
    (group, offsets, written)
}
