//! Where a lane starts to read (DESIGN D2 "Positions"), and the metadata that binds a committed position to
//! the source log that it is a position of, and says where its copies lie.
//!
//! The rule is asked again and again: it answers with a start, or with what it needs to know next, which the
//! caller looks up and adds to the [`Facts`].

mod metadata;

pub use metadata::{LogId, Metadata, NO_TOPIC_ID};

use crate::types::{Copies, Position, SourceOffset, TargetOffset};

/// A position as it was found in the flow's group on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// The position.
    pub position: Position,
    /// Its metadata, as stored.
    pub metadata: &'a str,
    /// Where the source log ends for records of the position's leader epoch (OffsetForLeaderEpoch, KIP-320),
    /// if that speaks against the position: it shows a truncation even after the log has grown again. Only where committed
    /// records lie between it and the position: after a change of leader markers and aborted records lie beyond the end of the
    /// last record's epoch, and that is no truncation.
    pub epoch_end: Option<SourceOffset>,
}

/// The newest tag of this flow in the committed tail of the target partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Not looked for yet.
    Unread,
    /// There is none, or not within the bytes that may be read for it.
    NoTag,
    /// It names this source offset.
    Tag(SourceOffset, Record),
}

/// The source record at the offset that the tag names, compared with the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Not read yet.
    Unread,
    /// Key, value and the other headers are equal: the tag speaks of this very log.
    Equal,
    /// They differ, or the source has no record there (any more).
    Differs,
}

/// Where a partition starts that the flow's first start found (INTERFACE `start`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// At the first record.
    Earliest,
    /// At the end, as it was when the flow first looked; `None`: as it is.
    Latest(Option<SourceOffset>),
    /// At the first record from a time on, which the caller has looked up; `None`: there is no such record.
    Timestamp(Option<SourceOffset>),
}

/// What to do when records cannot be copied any more (INTERFACE `on_data_loss`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Count them and go on.
    Continue,
    /// Stop the partition.
    Halt,
}

/// All that the start of a lane depends on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The committed position; `None`: there is none.
    pub committed: Option<Committed<'a>>,
    /// What the copy of the flow's positions on the source says of it (offset and metadata), where there is no committed one. Nothing
    /// is resumed from it: it only tells that there was a position.
    pub copy: Option<(SourceOffset, &'a str)>,
    /// The source log as it is now.
    pub source: &'a LogId,
    /// Kafka's id of the target topic as it is now; [`NO_TOPIC_ID`] where it is not known.
    pub target: &'a str,
    /// The offset after the last one of the target log: its high watermark.
    pub target_end: TargetOffset,
    /// Records were placed here, or the target log ended here, although copies lay behind it: what lay from here on is gone.
    pub cut: Option<TargetOffset>,
    /// First offset of the source log.
    pub log_start: SourceOffset,
    /// The offset after the last one of the source log: its high watermark.
    pub log_end: SourceOffset,
    /// This process was there when the flow first started, and found the partition then.
    pub first: bool,
    /// Start of partitions that the flow's first start finds.
    pub configured: Configured,
    /// What the target's tail says; looked at only where the position is lost or missing, or copies are.
    pub tail: Tail,
    /// What to do about loss.
    pub on_data_loss: OnDataLoss,
}

/// What was lost; the names are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The source deleted records before they were copied.
    Retention,
    /// The source log was cut: an unclean leader election, or records deleted behind our back.
    Truncation,
    /// The source topic was deleted and created anew.
    Recreated,
    /// The target topic was deleted and created anew, so that the copies are gone. What the source still has is copied again.
    TargetRecreated,
    /// The target log was cut (an unclean leader election), so that copies are gone. What the source still has of them is copied again.
    TargetTruncation,
    /// The position is gone or not ours, and no tag could be verified to heal it.
    Position,
}

impl LossReason {
    /// The value of the metric label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Truncation => "truncation",
            Self::Recreated => "recreated",
            Self::TargetRecreated => "target_recreated",
            Self::TargetTruncation => "target_truncation",
            Self::Position => "position",
        }
    }
}

/// The source offsets `from..to` cannot be copied, or cannot be known to have been copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// First offset lost.
    pub from: SourceOffset,
    /// The offset after the last one lost; equal to `from` where nobody knows how many.
    pub to: SourceOffset,
    /// Where the lane goes on (after `Halt`: where it would).
    pub then: SourceOffset,
}

impl Loss {
    /// Records to count as lost: at least 1, so that a loss of unknown extent is not silent; 0 where all copies that are gone will
    /// be there again, because the source still has them.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self.reason {
            LossReason::TargetRecreated if self.then == SourceOffset(0) => return 0,
            LossReason::TargetTruncation if self.from == self.to => return 0,
            _ => {}
        }
        u64::try_from(self.to.0.saturating_sub(self.from.0))
            .unwrap_or(0)
            .max(1)
    }
}

/// Where a lane starts, or what is needed to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Here; without a committed position it is written at once, before the first record.
    At(Position),
    /// Look for the newest tag of this flow in the target's committed tail.
    AskTail {
        /// Only before this offset, if there is one.
        before: Option<TargetOffset>,
    },
    /// Read the source record at this offset and compare it with the target's record that names it.
    AskRecord(SourceOffset),
    /// Records are lost: count them, and start at `then`.
    Lost(Loss),
    /// Records are lost, and the partition stops for that.
    Halt(Loss),
    /// The alias names another cluster than before: the flow stops.
    WrongCluster {
        /// The cluster id in the position.
        known: String,
        /// The cluster id now.
        now: String,
    },
}

/// Decides where a lane starts.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Start {
    let Some(committed) = &facts.committed else {
        let copy = facts
            .copy
            .and_then(|(offset, text)| Some((offset, Metadata::parse(text)?)));
        return match copy {
            // The coordinator drops the positions of a topic that is deleted.
            Some((offset, was)) if was.log == *facts.source && was_other(was.target.as_deref(), facts) => {
                target_recreated(facts, offset)
            }
            _ => without_position(facts, None),
        };
    };
    let Some(Metadata { log, target, copies }) = Metadata::parse(committed.metadata) else {
        return without_position(facts, Some(committed.position.offset));
    };
    if log.cluster != facts.source.cluster {
        return Start::WrongCluster {
            known: log.cluster,
            now: facts.source.cluster.clone(),
        };
    }
    let position = committed.position.offset;
    if !log.may_be_topic(facts.source) {
        // What the old topic still had is gone, and how much nobody knows. All of the new one is to be copied.
        return lost(
            facts,
            LossReason::Recreated,
            (position, position),
            facts.log_start,
        );
    }
    if was_other(target.as_deref(), facts) {
        return target_recreated(facts, position);
    }
    if let Some(cut) = cut(facts, copies.end) {
        return target_cut(facts, &committed.position, cut);
    }
    if position < facts.log_start {
        return lost(
            facts,
            LossReason::Retention,
            (position, facts.log_start),
            facts.log_start,
        );
    }
    let end = committed
        .epoch_end
        .map_or(facts.log_end, |end| end.min(facts.log_end));
    if position > end {
        return lost(
            facts,
            LossReason::Truncation,
            (end, position),
            end.max(facts.log_start),
        );
    }
    Start::At(committed.position.clone())
}

/// Whether the copies were put into another topic than is the target now.
fn was_other(target: Option<&str>, facts: &Facts<'_>) -> bool {
    target.is_some_and(|target| target != facts.target) && facts.target != NO_TOPIC_ID
}

/// The copies of the records before `position` are gone. A tag that lies in the new topic says nothing of them: what was in flight
/// when the old one was deleted may have come into the new one.
fn target_recreated(facts: &Facts<'_>, position: SourceOffset) -> Start {
    let start = facts.log_start;
    if position == start && start == SourceOffset(0) {
        return at(start);
    }
    // What was copied before the source's log start is gone for good, and how much of it the target still had nobody knows.
    lost(
        facts,
        LossReason::TargetRecreated,
        (position.min(start), start),
        start,
    )
}

/// Where the target log was cut, if it was. `end`: where copies ended when the position was committed, if that is known; its copy
/// on the source may know, too.
fn cut(facts: &Facts<'_>, end: Option<TargetOffset>) -> Option<TargetOffset> {
    let copied = facts.copy.and_then(|(_, text)| Metadata::parse(text));
    let same = copied.filter(|was| was.log == *facts.source && !was_other(was.target.as_deref(), facts));
    let known = end.max(same.and_then(|was| was.copies.end));
    let short = known
        .filter(|end| *end > facts.target_end)
        .map(|_| facts.target_end);
    facts.cut.into_iter().chain(short).min()
}

/// The target lost what lay from `cut` on. What it has before says which record of the source is the first one that is missing.
fn target_cut(facts: &Facts<'_>, position: &Position, cut: TargetOffset) -> Start {
    let start = facts.log_start;
    let gone = |from: SourceOffset| {
        let then = from.max(start);
        lost(facts, LossReason::TargetTruncation, (from, then), then)
    };
    match facts.tail {
        Tail::Unread => Start::AskTail { before: Some(cut) },
        Tail::Tag(newest, Record::Unread) if newest >= start && newest < facts.log_end => {
            Start::AskRecord(newest)
        }
        // Nothing of ours lay there.
        Tail::Tag(newest, Record::Equal) if newest.plus(1) >= position.offset => {
            let copies = Copies {
                end: None,
                ..position.copies
            };
            Start::At(Position {
                copies,
                ..position.clone()
            })
        }
        Tail::Tag(newest, Record::Equal) => gone(newest.plus(1)),
        // No tag, or one of another log: all that the source has. Of what it has no more at least one record was there.
        Tail::NoTag | Tail::Tag(..) => gone(SourceOffset(start.0.saturating_sub(1).max(0))),
    }
}

/// Without a position that can be trusted (`untrusted`: the one that cannot), the target is asked: even on a
/// first start, because a flow whose group was deleted looks like one.
fn without_position(facts: &Facts<'_>, untrusted: Option<SourceOffset>) -> Start {
    let Facts {
        log_start, log_end, ..
    } = *facts;
    match facts.tail {
        Tail::Unread => Start::AskTail { before: None },
        Tail::NoTag => match untrusted {
            Some(position) => lost(facts, LossReason::Position, (position, position), log_start),
            None => first_start(facts),
        },
        Tail::Tag(newest, _) if newest.plus(1) < log_start => lost(
            facts,
            LossReason::Retention,
            (newest.plus(1), log_start),
            log_start,
        ),
        // It is the last record before the log: read or not, the start is the same.
        Tail::Tag(newest, _) if newest < log_start => at(log_start),
        Tail::Tag(newest, Record::Unread) if newest < log_end => Start::AskRecord(newest),
        Tail::Tag(newest, Record::Equal) if newest < log_end => at(newest.plus(1)),
        // Another log than the tag speaks of. From its first record on nothing is missed; what was copied
        // before comes twice.
        Tail::Tag(newest, _) => lost(
            facts,
            LossReason::Position,
            (newest.plus(1), newest.plus(1)),
            log_start,
        ),
    }
}

fn first_start(facts: &Facts<'_>) -> Start {
    // A partition that appears later begins with its first record, whatever the first start was.
    let configured = if facts.first {
        facts.configured
    } else {
        Configured::Earliest
    };
    at(match configured {
        Configured::Earliest => facts.log_start,
        Configured::Latest(None) | Configured::Timestamp(None) => facts.log_end,
        Configured::Latest(Some(offset)) | Configured::Timestamp(Some(offset)) => {
            offset.max(facts.log_start).min(facts.log_end)
        }
    })
}

fn at(offset: SourceOffset) -> Start {
    Start::At(Position {
        offset,
        leader_epoch: None,
        copies: Copies::default(),
    })
}

fn lost(
    facts: &Facts<'_>,
    reason: LossReason,
    (from, to): (SourceOffset, SourceOffset),
    then: SourceOffset,
) -> Start {
    let loss = Loss {
        reason,
        from,
        to,
        then,
    };
    match facts.on_data_loss {
        OnDataLoss::Continue => Start::Lost(loss),
        OnDataLoss::Halt => Start::Halt(loss),
    }
}

#[cfg(test)]
mod tests;
