//! Where a lane starts: what the rule asks for is looked up, until it has an answer.

use std::collections::BTreeMap;

use kuroshio_core::flow::{Pairing, Quarantine};
use kuroshio_core::start::{self, Committed, Configured, Facts, LossReason, Metadata, Start, Tail};
use kuroshio_core::types::{Copies, Lane, Position, SourceOffset, TargetOffset, TopicPartition};
use kuroshio_wire::{Error, GroupOffset, Isolation, ListedOffset, OffsetAt};

use super::answers::loss_text;
use super::identity::{Epochs, judge_epochs};
use super::{Bounds, Clerk, FirstStart, Outcome, Was};
use crate::cuts::of_their_leaders;
use crate::first_look::Seen;
use crate::member::Seating;
use crate::storer;
use crate::tail::{self, Depth, Newest};

impl Clerk {
    /// Where a lane starts.
    pub(super) async fn decide(&self, pairing: &Pairing, was: Was, bounds: Bounds) -> Outcome {
        let decided = self.ask_the_rule(pairing, was, bounds).await;
        decided.unwrap_or_else(|error| self.failed(&error))
    }

    /// Asks the rule until it has an answer.
    async fn ask_the_rule(&self, pairing: &Pairing, was: Was, bounds: Bounds) -> Result<Outcome, Error> {
        let Was {
            stored,
            copy,
            cut,
            on_data_loss,
        } = was;
        let source = self.ends.log(pairing);
        let target = self.ends.target_topic(pairing);
        let seen = self
            .first_look
            .borrow()
            .as_ref()
            .and_then(|first| first.find(pairing));
        let seating = |of: fn(&Seating) -> bool| self.seating.borrow().as_ref().is_some_and(of);
        // A partition whose target was not there yet is decided later, maybe in another generation.
        let first = seating(|seating| seating.first) && seen.is_some();
        let fresh = seating(|seating| seating.fresh) && seen.is_some();
        let (mut tail, mut newest) = (Tail::Unread, None);
        let configured = self
            .configured(pairing, seen.filter(|_| first && stored.is_none()))
            .await?;
        let kept = stored
            .as_ref()
            .and_then(|offset| Metadata::parse(&offset.metadata));
        let position = stored.as_ref().map_or(0, |offset| offset.offset);
        let (epoch, log_end) = (bounds.epoch, bounds.log_end);
        let target_end = TargetOffset(bounds.target_end.offset);
        let judged = judge_epochs(&self.source, &pairing.source, epoch, position, log_end).await?;
        let epoch_end = match judged {
            Epochs::Fine => None,
            Epochs::EndAt(end) => Some(end),
            Epochs::Unstable => return Ok(Outcome::Again),
        };
        loop {
            let committed = stored.as_ref().map(|offset| Committed {
                position: Position {
                    offset: SourceOffset(offset.offset),
                    leader_epoch: offset.leader_epoch,
                    copies: kept.as_ref().map_or(Copies::default(), |kept| kept.copies),
                },
                metadata: &offset.metadata,
                epoch_end,
            });
            let facts = Facts {
                committed,
                copy: copy.as_ref().map(|(offset, metadata)| (*offset, &**metadata)),
                source: &source,
                target: target.as_deref().unwrap_or(start::NO_TOPIC_ID),
                target_end,
                cut,
                log_start: bounds.log_start,
                log_end: bounds.log_end,
                first,
                configured,
                tail,
                on_data_loss,
            };
            tail = match start::decide(&facts) {
                Start::AskTail { before } => {
                    if !self.may_look(pairing, before, &bounds.target_end, cut).await? {
                        return Ok(Outcome::Again);
                    }
                    self.look_for_tag(pairing, fresh, before, &mut newest).await?
                }
                Start::AskRecord(offset) => self.look_at_record(pairing, offset, newest.as_ref()).await?,
                decided => return Ok(self.conclude(pairing, stored.as_ref(), decided, target_end)),
            };
        }
    }

    /// What the copies of the positions on the source say.
    pub(super) async fn copies_of_positions(
        &self,
        stable: &[(Lane, Pairing, Option<GroupOffset>)],
    ) -> Result<BTreeMap<TopicPartition, GroupOffset>, Error> {
        if !self.positions_on_source {
            return Ok(BTreeMap::new());
        }
        let sources: Vec<_> = stable
            .iter()
            .map(|(_, pairing, _)| pairing.source.clone())
            .collect();
        storer::copies(&self.source, &self.group, Some(&sources)).await
    }

    async fn look_for_tag(
        &self,
        pairing: &Pairing,
        fresh: bool,
        before: Option<TargetOffset>,
        newest: &mut Option<Newest>,
    ) -> Result<Tail, Error> {
        let depth = if fresh && !self.was_here().await? {
            Depth::Glance
        } else {
            Depth::Search
        };
        *newest = tail::newest_tag(&self.target, &self.ends.source, pairing, depth, before).await?;
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

    /// Whether what is asked for can be looked for: not while it is doubtful who leads a log that seems to be cut. `seen`: by the pump, which
    /// was told by whom it wrote to.
    async fn may_look(
        &self,
        pairing: &Pairing,
        before: Option<TargetOffset>,
        end: &ListedOffset,
        seen: Option<TargetOffset>,
    ) -> Result<bool, Error> {
        let Some(cut) = before else {
            return Ok(true);
        };
        let target = pairing.target();
        if seen.is_none() && of_their_leaders(&self.target, &[(&target, *end)]).await? != [true] {
            return Ok(false);
        }
        self.board.error(format!(
            "cluster {}: the log of {target} was cut at offset {cut}, records that it had acknowledged are gone (an unclean leader \
             election?); looking for what is missing",
            self.ends.target
        ));
        Ok(true)
    }

    /// What the rule's answer means for the lane.
    fn conclude(
        &self,
        pairing: &Pairing,
        stored: Option<&GroupOffset>,
        decided: Start,
        target_end: TargetOffset,
    ) -> Outcome {
        match decided {
            Start::At(mut position) => {
                let source = self.ends.log(pairing);
                let target = self.ends.target_topic(pairing);
                let unchanged = stored.is_some_and(|offset| {
                    let kept = Metadata::parse(&offset.metadata);
                    offset.offset == position.offset.0
                        && kept.is_some_and(|kept| {
                            kept.log == source && kept.target == target && kept.copies == position.copies
                        })
                });
                position.copies = self.copies(position.copies, target_end);
                let store = (!unchanged).then(|| self.ends.stored(pairing, &position));
                Outcome::Starts {
                    position,
                    store,
                    loss: None,
                }
            }
            Start::Lost(loss) => {
                let kept = stored.and_then(|offset| Metadata::parse(&offset.metadata));
                // Of this log still: what another replicator copied of it lies where it lay.
                let same = matches!(
                    loss.reason,
                    LossReason::Retention | LossReason::Truncation | LossReason::TargetTruncation
                );
                let known = Copies {
                    tagged_from: kept.filter(|_| same).and_then(|kept| kept.copies.tagged_from),
                    ..Copies::default()
                };
                let position = Position {
                    offset: loss.then,
                    leader_epoch: None,
                    copies: self.copies(known, target_end),
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
            Start::AskTail { .. } | Start::AskRecord(_) => Outcome::Again,
        }
    }

    /// Where the copies of a lane lie that starts now: what is `known` counts only of a position that is gone on with. Of all
    /// others may lie anywhere before the target's end.
    fn copies(&self, known: Copies, target_end: TargetOffset) -> Copies {
        // Without transactions a crash, or a process that was thought dead, copies records again.
        let in_order = self.transaction_timeout.is_some();
        Copies {
            in_order: in_order.then(|| known.in_order.unwrap_or(target_end)),
            end: Some(known.end.unwrap_or(target_end)),
            tagged_from: known.tagged_from,
        }
    }

    /// `seen`: what was found first, if it counts.
    async fn configured(&self, pairing: &Pairing, seen: Option<Seen>) -> Result<Configured, Error> {
        Ok(match self.first_start {
            FirstStart::Latest => Configured::Latest(seen.and_then(|seen| seen.end)),
            FirstStart::Timestamp(ms) if seen.is_some() => {
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
