//! The seam between the pump and the engine that moves its records (DESIGN D5).
//!
//! Its unit is the *run*: consecutive records of one partition, read at source offsets, placed at target
//! offsets. Above it nothing knows which engine runs; below it nothing decides: what becomes of a record
//! is said by the lane's [`Guard`].

use std::sync::Arc;
use std::time::Duration;

use crate::origin::{Guard, SkipReason};
use crate::types::{Lane, Membership, Position, SourceOffset, TargetOffset, TopicPartition};

/// What an engine needs to know of a lane.
#[derive(Clone, Debug)]
pub struct LaneSpec {
    /// Its number.
    pub lane: Lane,
    /// Where records are read.
    pub source: TopicPartition,
    /// Where records go; the partition number is that of the source.
    pub target_topic: Arc<str>,
    /// First offset to read.
    pub start: Position,
    /// Judges every record and writes its tag.
    pub guard: Arc<Guard>,
    /// How batches for this topic are written on the target. Lanes of a topic that say otherwise follow the last one attached.
    pub form: BatchForm,
}

/// How an engine writes the batches of a target topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchForm {
    /// Compression.
    pub codec: Codec,
    /// Most bytes of a batch before it is compressed, at most [`BatchForm::LARGEST`]; a larger record goes by itself.
    pub limit: u32,
}

impl BatchForm {
    /// Batches grow no larger than this (Kafka's own `max.message.bytes` is a little more).
    pub const LARGEST: u32 = 1_000_000;

    /// Batches with this compression, as large as they may be.
    #[must_use]
    pub const fn of(codec: Codec) -> Self {
        Self {
            codec,
            limit: Self::LARGEST,
        }
    }
}

/// Compression of the batches that an engine writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Uncompressed.
    None,
    /// gzip.
    Gzip,
    /// snappy, in xerial framing.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// zstd.
    Zstd,
}

/// What an engine tells of the records it moves. Per lane, runs come in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Records were read, judged, and those to forward handed to the producer.
    Read(ReadRun),
    /// Forwarded records are in the target log (in `exactly_once`: inside the open transaction).
    Placed(PlacedRun),
    /// The target will not take the record; nothing of this lane after it may count as placed.
    Refused {
        /// The lane.
        lane: Lane,
        /// Source offset of the refused record.
        at: SourceOffset,
        /// Why, in words with Kafka's error name.
        why: Refusal,
    },
    /// The lane's position does not exist in the source log (retention, truncation, another topic).
    OutOfRange {
        /// The lane.
        lane: Lane,
        /// The offset that was asked for.
        at: SourceOffset,
    },
    /// The source no longer knows the lane's topic or partition, or refuses to let us read it.
    Unreadable {
        /// The lane.
        lane: Lane,
        /// Kafka's error name and text.
        why: String,
    },
    /// A connection or broker failed; the engine goes on trying by itself.
    Trouble {
        /// `true`: on the source's side; `false`: on the target's.
        source: bool,
        /// librdkafka's text.
        why: String,
    },
}

/// Consecutive offsets of one lane that were read: `first..next`, of which some had no record (gaps,
/// transaction markers), some were skipped and the others forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRun {
    /// The lane.
    pub lane: Lane,
    /// First offset covered.
    pub first: SourceOffset,
    /// The offset after the last one covered.
    pub next: SourceOffset,
    /// Offsets forwarded, as half-open ranges in order; consecutive ones are joined.
    pub forwarded: Vec<(SourceOffset, SourceOffset)>,
    /// Records skipped, by reason.
    pub skipped: Vec<(SkipReason, u64)>,
    /// Bytes of key, value and headers forwarded.
    pub bytes: u64,
    /// Leader epoch of the newest record, where known.
    pub leader_epoch: Option<i32>,
}

/// Records `first..first+count` of one lane that lie at `base..base+count` on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRun {
    /// The lane.
    pub lane: Lane,
    /// Source offset of the first record.
    pub first: SourceOffset,
    /// Target offset of the first record; -1 (with a count of 1) where the broker took the record as a duplicate
    /// and did not say where it lies.
    pub base: TargetOffset,
    /// Number of records, at least 1; both sides are consecutive.
    pub count: u64,
    /// Bytes of key, value and headers as written.
    pub bytes: u64,
    /// Timestamp of the oldest record in milliseconds, where it has one.
    pub oldest_timestamp: Option<i64>,
}

/// Why the target refused a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Reason for metrics and status.
    pub kind: RefusalKind,
    /// Kafka's error name and text.
    pub text: String,
}

/// Kinds of refusals; the names are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// `MESSAGE_TOO_LARGE`, `RECORD_LIST_TOO_LARGE`.
    TooLarge,
    /// `INVALID_TIMESTAMP`.
    Timestamp,
    /// `TOPIC_AUTHORIZATION_FAILED`.
    NotAuthorized,
    /// `INVALID_RECORD` and policy violations.
    Invalid,
    /// The target topic or partition is gone.
    TargetMissing,
    /// Anything else that a retry does not heal.
    Other,
}

/// What is committed: positions, fenced by a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Who commits.
    pub membership: Membership,
    /// Positions under the *target's* topic-partition names, with the metadata to store.
    pub positions: Vec<(TopicPartition, Position, Arc<str>)>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Records and positions are committed.
    Committed,
    /// Nothing of it counts; positions must be read again before its lanes are attached anew.
    Aborted {
        /// The cause, in words.
        why: String,
        /// The group coordinator refused our generation or member id: join again before the next commit.
        rejoin: bool,
    },
    /// It was asked to commit and no answer came: it may have been committed or not. The engine has ended
    /// its producer; positions must be read again (with require_stable) before its lanes are attached anew.
    Unknown {
        /// The cause, in words.
        why: String,
    },
}

/// What came of a haul.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hauled {
    /// Records were looked for; the facts tell which came, if any.
    Looked,
    /// Memory for records in flight is used up: none were looked for, there may be many.
    Full,
}

/// A fault after which the engine cannot go on as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Our transactional id was taken over, or our transaction ended by the coordinator because it took too long. Whose
    /// the work is says the group.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The clients must be built anew and every lane attached at its committed position.
    #[error("{0}")]
    Rebuild(String),
    /// Configuration or authorisation: trying again as it is will not help.
    #[error("{0}")]
    Fatal(String),
}

/// Moves the records of one pump. Called by one thread.
///
/// In `exactly_once` a transaction is begun by the pump before [`Engine::haul`] may forward; without one
/// (`at_least_once`) the transaction calls are not used.
pub trait Engine {
    /// Gets ready, waiting up to `wait`; `false`: not yet, ask again. In `exactly_once` this takes the transactional
    /// id over, which ends what a process of before left open. Before it is open no other call is made.
    fn open(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<bool, EngineError>;

    /// Ends it without waiting for what it still waits for itself; another one may be made at once.
    fn retire(self)
    where
        Self: Sized,
    {
    }

    /// Whether brokers may not let it in any more, as others are let in now: another one is to be made. Its calls do not wait any longer then.
    fn is_outdated(&self) -> bool {
        false
    }

    /// Starts to read and forward lanes. A lane's first fact follows a later `haul`.
    fn attach(&mut self, lanes: Vec<LaneSpec>) -> Result<(), EngineError>;

    /// Stops lanes. `Placed` and `Refused` facts about records of theirs that are still in flight follow; what is
    /// read again gets another lane number. Lanes that the engine does not have are passed over.
    fn detach(&mut self, lanes: &[Lane]) -> Result<(), EngineError>;

    /// Waits up to `wait` for records, forwards what came, and adds facts of all that happened. Returns
    /// early when the waker is used. When memory for records in flight is used up, deliveries are waited for instead.
    fn haul(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<Hauled, EngineError>;

    /// As `haul`, but reads nothing: only deliveries are waited for.
    fn settle(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<(), EngineError>;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), EngineError>;

    /// Ends the open transaction with positions: waits until all its records are placed (adding the facts),
    /// sends the offsets, commits. Anything refused on the way aborts it.
    fn commit(&mut self, commit: &Commit, facts: &mut Vec<Fact>) -> Result<Ended, EngineError>;

    /// Aborts the open transaction and drops everything in flight: nothing of it is told as placed. Lanes that forwarded
    /// anything in it are silent from then on: they are detached, and attached under other numbers.
    fn abort(&mut self) -> Result<(), EngineError>;

    /// Bytes of records handed to the producer and not yet settled.
    fn in_flight_bytes(&self) -> u64;
}
