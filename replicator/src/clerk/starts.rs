//! Where a lane starts: what the rule asks for is looked up, until it has an answer.

use kuroshio_core::flow::{Pairing, Quarantine};
use kuroshio_core::start::{self, Committed, Configured, Facts, LogId, Start, Tail};
use kuroshio_core::types::{Position, SourceOffset};
use kuroshio_wire::{Error, GroupOffset, Isolation, OffsetAt};

use super::{Clerk, FirstStart, Outcome, loss_text};
use crate::tail::{self, Depth, Newest};

impl Clerk {
    /// Asks the rule until it has an answer.
    pub(super) async fn decide(
        &self,
        pairing: &Pairing,
        stored: Option<GroupOffset>,
        log: (SourceOffset, SourceOffset),
    ) -> Outcome {
        let source = self.ends.log(pairing);
        let first = self.first_catalog.borrow().clone();
        let fresh = self
            .seating
            .borrow()
            .as_ref()
            .is_some_and(|seating| seating.fresh)
            && first.is_some_and(|first| first.contains(&pairing.source));
        let (mut tail, mut newest) = (Tail::Unread, None);
        let configured = match self.configured(pairing, fresh && stored.is_none()).await {
            Ok(configured) => configured,
            Err(error) => return self.failed(&error),
        };
        loop {
            let committed = stored.as_ref().map(|offset| Committed {
                position: Position {
                    offset: SourceOffset(offset.offset),
                    leader_epoch: offset.leader_epoch,
                },
                metadata: &offset.metadata,
                epoch_end: None,
            });
            let facts = Facts {
                committed,
                source: &source,
                log_start: log.0,
                log_end: log.1,
                fresh,
                configured,
                tail,
                on_data_loss: self.on_data_loss,
            };
            let looked = match start::decide(&facts) {
                Start::AskTail => self.look_for_tag(pairing, fresh, &mut newest).await,
                Start::AskRecord(offset) => self.look_at_record(pairing, offset, newest.as_ref()).await,
                decided => return self.conclude(pairing, stored.as_ref(), decided),
            };
            match looked {
                Ok(found) => tail = found,
                Err(error) => return self.failed(&error),
            }
        }
    }

    async fn look_for_tag(
        &self,
        pairing: &Pairing,
        fresh: bool,
        newest: &mut Option<Newest>,
    ) -> Result<Tail, Error> {
        let depth = if fresh && !self.was_here().await? {
            Depth::Glance
        } else {
            Depth::Search
        };
        *newest = tail::newest_tag(&self.target, &self.ends.source, pairing, depth).await?;
        Ok(newest.as_ref().map_or(Tail::NoTag, |found| {
            Tail::Tag(found.offset, start::Record::Unread)
        }))
    }

    /// Whether the source holds copies of this flow's positions: then it is not its first start, whatever the target
    /// says.
    async fn was_here(&self) -> Result<bool, Error> {
        let look = async || Ok(!self.source.fetch_offsets(&self.group, None).await?.is_empty());
        self.was_here.get_or_try_init(look).await.copied()
    }

    async fn look_at_record(
        &self,
        pairing: &Pairing,
        offset: SourceOffset,
        newest: Option<&Newest>,
    ) -> Result<Tail, Error> {
        let equal = match newest {
            Some(newest) => tail::is_copy(&self.source, pairing, newest).await?,
            None => false,
        };
        Ok(Tail::Tag(
            offset,
            if equal {
                start::Record::Equal
            } else {
                start::Record::Differs
            },
        ))
    }

    /// What the rule's answer means for the lane.
    fn conclude(&self, pairing: &Pairing, stored: Option<&GroupOffset>, decided: Start) -> Outcome {
        match decided {
            Start::At(position) => {
                let source = self.ends.log(pairing);
                let unchanged = stored.is_some_and(|offset| {
                    offset.offset == position.offset.0
                        && LogId::parse(&offset.metadata).as_ref() == Some(&source)
                });
                let store = (!unchanged).then(|| self.ends.stored(pairing, &position));
                Outcome::Starts {
                    position,
                    store,
                    loss: None,
                }
            }
            Start::Lost(loss) => {
                let position = Position {
                    offset: loss.then,
                    leader_epoch: None,
                };
                let store = Some(self.ends.stored(pairing, &position));
                Outcome::Starts {
                    position,
                    store,
                    loss: Some(loss),
                }
            }
            // Nothing is given up yet, so nothing is counted.
            Start::Halt(loss) => {
                let text = format!("{}; stopped by on_data_loss: halt", loss_text(pairing, &loss));
                self.board.error(text.clone());
                Outcome::Failed(Quarantine {
                    reason: "data_loss",
                    text,
                })
            }
            Start::WrongCluster { known, now } => {
                let alias = &self.ends.source;
                let text = format!(
                    "cluster alias {alias} names the cluster {now}, but the flow's positions are of the cluster {known}: \
                     give the new cluster a new alias"
                );
                Outcome::Halted(text)
            }
            Start::AskTail | Start::AskRecord(_) => Outcome::Again,
        }
    }

    async fn configured(&self, pairing: &Pairing, counts: bool) -> Result<Configured, Error> {
        Ok(match self.first_start {
            FirstStart::Latest => Configured::Latest,
            FirstStart::Timestamp(ms) if counts => {
                let at = OffsetAt::Timestamp(ms);
                let listed = self
                    .source
                    .list_offset(&pairing.source, at, Isolation::ReadUncommitted)
                    .await?;
                Configured::Timestamp(listed.map(|listed| SourceOffset(listed.offset)))
            }
            FirstStart::Earliest | FirstStart::Timestamp(_) => Configured::Earliest,
        })
    }
}
