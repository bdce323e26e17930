//! Heartbeats: records on a flow's source whose copies on its target show what a disaster now would lose.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kuroshio_core::heartbeats;
use kuroshio_core::routes::HEARTBEATS;
use kuroshio_core::slots::{SLOT_COUNT, Slot, slot_of};
use kuroshio_core::types::{SourceOffset, Time, TopicPartition};
use kuroshio_wire::{Cluster, Error, Isolation, KafkaCode, NewRecord, OffsetAt};
use tokio::time::MissedTickBehavior;

use crate::board::{FlowBoard, wall_ms};
use crate::own_topic::OwnTopic;

/// How long one may take to be written. A later one says more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts while none can be written, and the attempt that is told of: a topic just made is not known to all
/// brokers at once.
const RETRY: (Duration, u32) = (Duration::from_secs(1), 3);
/// They are of no use after a minute; an hour of them is for people who look back.
const CONFIGS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("retention.ms", "3600000"),
    ("segment.ms", "600000"),
];
/// Offsets at the end of the target's topic in which the newest one of a process before us is looked for.
const TAIL: i64 = 1_000;
/// Bytes of that tail read at most.
const TAIL_BYTES: i32 = 1 << 20;

/// What is known of a flow's heartbeats, for its writer and its sampler.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<heartbeats::Heartbeats>>);

impl Shared {
    /// Nothing is known yet, and that from `start` on.
    #[must_use]
    pub fn new(start: Time) -> Self {
        Self(Arc::new(Mutex::new(heartbeats::Heartbeats::new(start))))
    }

    /// For a short look or change.
    pub fn lock(&self) -> MutexGuard<'_, heartbeats::Heartbeats> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source partition of heartbeats.
#[must_use]
pub fn partition() -> TopicPartition {
    TopicPartition::new(HEARTBEATS, 0)
}

/// The slot whose owner writes them.
#[must_use]
pub fn slot() -> Slot {
    slot_of(HEARTBEATS, 0, SLOT_COUNT)
}

/// Writes the heartbeats of one flow.
pub struct Heartbeats {
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// Between two of them.
    pub interval: Duration,
    /// The start of time.
    pub started: Instant,
    /// Where they are noted.
    pub known: Shared,
}

impl Heartbeats {
    /// Writes for ever, while no other process has the slot.
    pub async fn run(self) {
        let mut known = false;
        let source = self.source.within(PATIENCE);
        let topic = OwnTopic::new(&source, HEARTBEATS.into(), -1, CONFIGS);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = 0;
        loop {
            ticks.tick().await;
            if self.board.owns(slot()) == Some(false) {
                // What is older counts for whoever owns it.
                *self.known.lock() = heartbeats::Heartbeats::new(Time::at(self.started.elapsed()));
                known = false;
                continue;
            }
            if !std::mem::replace(&mut known, true) {
                self.look_back().await;
            }
            let (at, wall) = (Time::at(self.started.elapsed()), wall_ms());
            let record = NewRecord {
                key: self.source.alias().as_bytes().to_vec(),
                value: wall.to_string().into_bytes(),
            };
            match topic.append(&[record], wall).await {
                Ok(offset) => {
                    self.known.lock().written(SourceOffset(offset), at);
                    if std::mem::take(&mut failed) >= RETRY.1 {
                        tracing::info!(flow = self.board.name(), "heartbeats are written again");
                    }
                }
                Err(error) => {
                    failed = (failed + 1).min(RETRY.1 + 1);
                    // Said once: they come four times a second.
                    if failed == RETRY.1 {
                        self.board
                            .error(format!("no heartbeats, so the RPO grows: {error}"));
                    }
                    tokio::time::sleep(RETRY.0).await;
                }
            }
        }
    }

    /// Finds out how old the newest one on the target is.
    async fn look_back(&self) {
        match self.newest().await {
            Ok(Some(written_ms)) => {
                // Another machine's clock may run ahead of ours.
                let age = u64::try_from(wall_ms().saturating_sub(written_ms)).unwrap_or(0);
                let now = Time::at(self.started.elapsed());
                self.known.lock().found(Duration::from_millis(age), now);
            }
            Ok(None) => {}
            Err(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => {}
            Err(error) => {
                tracing::warn!(flow = self.board.name(), %error, "earlier heartbeats are not known: their age counts from now");
            }
        }
    }

    /// When the newest heartbeat of the source that lies on the target was written, in milliseconds since 1970.
    async fn newest(&self) -> Result<Option<i64>, Error> {
        let (target, partition) = (self.target.within(PATIENCE), partition());
        let list = |at| target.list_offset(&partition, at, Isolation::ReadCommitted);
        let start = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
        let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
        let (mut at, mut read, mut newest) = ((end - TAIL).max(start), 0, None);
        while at < end && read < TAIL_BYTES as usize {
            let committed = target.read_committed(&partition, at, TAIL_BYTES).await?;
            read += committed.bytes;
            for (_, record) in committed.records {
                if record.key.as_deref() == Some(self.source.alias().as_bytes()) {
                    let value = record.value.as_deref().unwrap_or_default();
                    let ms = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    newest = ms.or(newest);
                }
            }
            if committed.next <= at {
                break;
            }
            at = committed.next;
        }
        Ok(newest)
    }
}
