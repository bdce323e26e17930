//! Numbers and names that cannot be mixed.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An offset in a partition of the source. As a position it is the *next* offset to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceOffset(pub i64);

/// An offset in a partition of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetOffset(pub i64);

impl SourceOffset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl TargetOffset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for SourceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TargetOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Most positions that are committed with one request. The broker writes what one request commits as one batch, which
/// must fit the `max.message.bytes` of `__consumer_offsets` (1 MiB; a position takes 100 to 400 bytes); otherwise it
/// refuses all of it with UNKNOWN_SERVER_ERROR.
pub const POSITIONS_PER_REQUEST: usize = 1_000;

/// A moment: time since an arbitrary start, handed to the core by its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The moment `since_start` after the start of counting.
    #[must_use]
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The moment `ms` milliseconds after the start of counting.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// A lane: one source partition bound to its target partition while a pump owns its slot. The number is
/// the pump's own and is never used again for another binding in the life of the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u32);

/// A partition of a topic on a cluster that the context names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Who commits: what fences a pump's commits on the target's group coordinator (KIP-447, KIP-345).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// `kuroshio.<flow>`.
    pub group: Arc<str>,
    /// `group.instance.id`, equal to the pump's transactional id.
    pub instance: Arc<str>,
    /// Given by the coordinator; never empty.
    pub member: Arc<str>,
    /// Of the newest *applied* assignment; never negative.
    pub generation: i32,
}

/// A position as it is written on the target: the next source offset, bound to where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Next source offset to read.
    pub offset: SourceOffset,
    /// Leader epoch of the last record before it, where known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Where the copies of the records before it lie.
    pub copies: Copies,
}

/// What is known of where a lane's copies lie on the target; [`search`](crate::search) goes by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Copies {
    /// From this offset on they lie in the order of the source.
    pub in_order: Option<TargetOffset>,
    /// At and behind this offset there is no copy of a record before the position.
    pub end: Option<TargetOffset>,
    /// Records of the source before this offset were copied by another replicator, which wrote no tags. `None`: all copies are
    /// the flow's.
    pub tagged_from: Option<SourceOffset>,
}

/// The group that holds a flow's positions and whose members its pumps are (INTERFACE "Names on the clusters").
#[must_use]
pub fn group_of(flow: &str) -> String {
    format!("kuroshio.{flow}")
}
