//! What the flow asks for, and what it is told besides the engine's facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::BatchForm;
use crate::slots::{Claims, Slot};
use crate::types::{Lane, Membership, Position, SourceOffset, TargetOffset, TopicPartition};

/// What fixes a flow's behaviour for its life.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// How records and positions are made durable.
    pub delivery: Delivery,
    /// Longest time between a record being forwarded and the attempt to commit it.
    pub commit_interval: Duration,
    /// Bytes forwarded in one transaction after which it is committed at once.
    pub commit_bytes: u64,
    /// How long a transaction may wait for an assignment before it is aborted; below the transaction
    /// timeout.
    pub hold_limit: Duration,
}

/// Delivery guarantee of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Records and positions in one transaction.
    ExactlyOnce,
    /// Positions after the records; a crash copies some records again.
    AtLeastOnce,
}

/// A source partition that the routes select, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Source partition.
    pub source: TopicPartition,
    /// Id of the source topic (KIP-516); another id is another topic.
    pub topic_id: [u8; 16],
    /// Target topic; the partition number is the source's.
    pub target_topic: Arc<str>,
    /// Id of the target topic; 16 zeros where it is not known. `None`: it was there and is gone, and nobody makes it again unasked.
    pub target_id: Option<[u8; 16]>,
    /// How its batches are written on the target.
    pub form: BatchForm,
    /// Somebody wants it not to be copied for now: its position is known, and nothing of it is read.
    pub paused: bool,
}

impl Pairing {
    /// Whether another one means the same partitions on both sides, however batches are written.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        let of = |pairing: &Self| {
            (
                pairing.source.clone(),
                pairing.topic_id,
                Arc::clone(&pairing.target_topic),
                pairing.target_id,
            )
        };
        of(self) == of(other)
    }

    /// The partition on the target, under whose name the position is committed.
    #[must_use]
    pub fn target(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.target_topic), self.source.partition)
    }
}

/// An assignment as it came from SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Who we are in it.
    pub membership: Membership,
    /// Into how many slots it divides the partitions.
    pub slot_count: u16,
    /// Our slots.
    pub slots: BTreeSet<Slot>,
    /// Slots that are taken from us and nobody's yet: see [`Assignment::given_up_by`](crate::slots::Assignment::given_up_by).
    pub given_up: BTreeSet<Slot>,
    /// Others wait for slots that we, or the process before us, are to give up: see
    /// [`Assignment::awaits`](crate::slots::Assignment::awaits).
    pub awaited: bool,
}

/// Something to do. Orders are carried out in the order given; those marked *later* answer with a fact at
/// some later time, the others before the next order is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// *Later*: join the group with these claims; answers `assigned` (after `joined`) or `join_failed`, and
    /// exactly one of them.
    Join {
        /// What we hold; `None` for a member that holds nothing or lost its membership.
        claims: Option<Claims>,
    },
    /// *Later*: read the committed position of each lane with require_stable, or decide its start and commit
    /// that; answers `opened`, `open_failed` or `open_stale` for each lane.
    Open {
        /// The lanes.
        lanes: Vec<(Lane, Pairing)>,
        /// Of these, the lanes that somebody wants to go on after they were quarantined, whatever was lost.
        resumed: BTreeSet<Lane>,
        /// Of these, the lanes whose target log was cut, and where.
        cuts: BTreeMap<Lane, TargetOffset>,
        /// Fences the commit of the start.
        membership: Membership,
    },
    /// *Later*: see whether the target takes a lane's records up to and with this one now, without leaving anything there; answers
    /// `tried`, and is not given again before that.
    Try {
        /// The lane; it goes on under another number.
        lane: Lane,
        /// What it binds.
        pairing: Pairing,
        /// Where it would go on.
        start: Position,
        /// The record that was refused.
        refused: SourceOffset,
    },
    /// Begin to read lanes.
    Attach(Vec<(Lane, Pairing, Position)>),
    /// Stop reading lanes.
    Detach(Vec<Lane>),
    /// Begin a transaction.
    Begin,
    /// Commit the open transaction with these positions; answers `ended`.
    Commit {
        /// Fences the commit.
        membership: Membership,
        /// Next source offset of every lane that moved.
        positions: Vec<(Lane, Position)>,
    },
    /// Abort the open transaction; answers `ended`.
    Abort,
    /// *Later* (at_least_once): commit positions outside a transaction; answers `stored`.
    Store {
        /// Fences the commit.
        membership: Membership,
        /// Floors of the lanes whose floor moved.
        positions: Vec<(Lane, Position)>,
    },
    /// End this process's part in the flow: something that cannot be true was said, or we are fenced.
    Halt(String),
}

impl Order {
    /// Whether an engine carries it out.
    #[must_use]
    pub fn is_for_engine(&self) -> bool {
        match self {
            Self::Attach(_) | Self::Detach(_) | Self::Begin | Self::Commit { .. } | Self::Abort => true,
            Self::Join { .. } | Self::Open { .. } | Self::Try { .. } | Self::Store { .. } | Self::Halt(_) => {
                false
            }
        }
    }
}

/// Why a lane is out of the flow until it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Metric label.
    pub reason: &'static str,
    /// Kafka's error in words.
    pub text: String,
}
