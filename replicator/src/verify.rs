//! `kuroshio verify`: reads both sides of flows and says what is lost, doubled, out of order or altered. Changes nothing.

mod partition;
mod report;
mod sampled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use indicatif::ProgressBar;
use kuroshio_core::routes::is_reserved;
use kuroshio_core::start::Metadata;
use kuroshio_core::types::{Position, SourceOffset, TopicPartition, group_of};
use kuroshio_core::verify::Sample;
use kuroshio_wire::{ByPartition, Cluster, ConfigEntry, Error, GroupOffset, Stored};

use crate::app;
use crate::board::wall_ms;
use crate::config::{Config, Delivery, Flow, Mistakes};
use crate::failover::progress;
use crate::survey::{Lane, Survey};
use partition::{Task, Topic};
pub use report::{FlowReport, PartitionReport, Report, Totals};

/// Partitions that are read at the same time.
const PARTITIONS: usize = 8;
/// Topics whose configuration is asked for at a time.
const TOPICS: usize = 1_000;
/// How long positions and logs may be held up by open transactions: longer than the flow's own last.
const UNSTABLE: Duration = Duration::from_secs(30);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(200);

/// What is verified.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// As for `run`.
    pub region: Option<String>,
    /// Only these flows.
    pub flows: Vec<String>,
    /// Only this topic of the source.
    pub topic: Option<String>,
    /// Only records whose timestamps are no older.
    pub since: Option<Duration>,
    /// Only a part, drawn by chance.
    pub sample: Option<Sample>,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The flows asked for are not there.
    #[error(transparent)]
    Asked(#[from] Mistakes),
    /// No flow copies the topic.
    #[error("--topic {0}: no flow that was asked for copies a topic of this name; `kuroshio plan` says why")]
    Topic(String),
    /// A cluster did not answer, or refused.
    #[error("flow {flow}: {why}")]
    Cluster {
        /// The flow.
        flow: Arc<str>,
        /// What it said.
        why: Error,
    },
}

/// Verifies flows, one after the other, each up to its positions of the moment.
///
/// # Errors
/// [`VerifyError`]; what is wrong with a partition is in the report.
pub async fn run(config: &Config, request: &Request) -> Result<Report, VerifyError> {
    let mut flows = Vec::new();
    for flow in config.selected_flows(request.region.as_deref(), &request.flows)? {
        let Some((source, target)) = app::ends(config, flow) else {
            continue;
        };
        let ends = Ends {
            flow,
            flows: &config.flows,
            source,
            target,
        };
        let verified = ends.verify(request).await.map_err(|why| VerifyError::Cluster {
            flow: Arc::clone(&flow.name),
            why,
        });
        flows.push(verified?);
    }
    match &request.topic {
        Some(topic) if flows.iter().all(|flow| flow.partitions.is_empty()) => {
            Err(VerifyError::Topic(topic.clone()))
        }
        _ => Ok(Report::of(flows, request.sample)),
    }
}

/// A flow and its clusters.
struct Ends<'a> {
    flow: &'a Flow,
    flows: &'a [Flow],
    source: Cluster,
    target: Cluster,
}

impl Ends<'_> {
    async fn verify(&self, request: &Request) -> Result<FlowReport, Error> {
        let survey = Survey::of(self.flow, self.flows, &self.source, &self.target).await?;
        let source_id = survey.source_id.clone().unwrap_or_default();
        let mut lanes = survey.lanes(self.flow, &source_id);
        // What flows write for themselves is of no interest, unless it is asked for.
        lanes.retain(|lane| match &request.topic {
            Some(topic) => *lane.source.topic == **topic,
            None => !is_reserved(&lane.source.topic),
        });
        let topics = self.topics(&lanes).await?;
        let positions = self.positions(&lanes).await?;
        let since = request
            .since
            .map(|age| wall_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let mut tasks = Vec::new();
        let mut report = FlowReport::new(self.flow);
        for lane in lanes {
            let there = survey.there.contains_key(&lane.target.topic);
            match position(&lane, &positions, there) {
                Ok(position) => tasks.push(Task {
                    flow: self.flow,
                    source: &self.source,
                    target: &self.target,
                    topic: topics.get(&lane.source.topic).copied().unwrap_or_default(),
                    since,
                    sample: request.sample,
                    position,
                    lane,
                }),
                Err(why) => report.partitions.push(PartitionReport::not_compared(&lane, why)),
            }
        }
        let all = tasks.iter().map(Task::offsets).sum();
        let bar = progress("reading both sides", all);
        let verified = stream::iter(tasks).map(|task| verify_one(task, bar.clone()));
        report
            .partitions
            .extend(verified.buffer_unordered(PARTITIONS).collect::<Vec<_>>().await);
        bar.finish_and_clear();
        report.close(self.flow.delivery == Delivery::ExactlyOnce);
        Ok(report)
    }

    /// What configurations say of the topics, by their names on the source.
    async fn topics(&self, lanes: &[Lane]) -> Result<BTreeMap<Arc<str>, Topic>, Error> {
        let pairs: BTreeSet<(Arc<str>, Arc<str>)> = lanes
            .iter()
            .map(|lane| (Arc::clone(&lane.source.topic), Arc::clone(&lane.target.topic)))
            .collect();
        let pairs: Vec<_> = pairs.into_iter().collect();
        let mut topics = BTreeMap::new();
        for part in pairs.chunks(TOPICS) {
            let (sources, targets): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            let keys = ["cleanup.policy", "message.timestamp.type"];
            let (on_source, on_target) = tokio::try_join!(
                self.source.topic_configs(&sources, Some(&keys)),
                self.target.topic_configs(&targets, Some(&keys)),
            )?;
            for (source, target) in part {
                let (on_source, on_target) = (on_source.get(source), on_target.get(target));
                let topic = Topic {
                    compacted: says(on_source, keys[0], "compact") || says(on_target, keys[0], "compact"),
                    stamped: says(on_target, keys[1], "LogAppendTime"),
                };
                topics.insert(Arc::clone(source), topic);
            }
        }
        Ok(topics)
    }

    /// The flow's positions, once no transaction is about to change them.
    async fn positions(&self, lanes: &[Lane]) -> Result<ByPartition<Stored>, Error> {
        let targets: Vec<TopicPartition> = lanes.iter().map(|lane| lane.target.clone()).collect();
        let group = group_of(&self.flow.name);
        let began = tokio::time::Instant::now();
        loop {
            let positions = self.target.fetch_offsets(&group, Some(&targets)).await?;
            let unstable = positions
                .values()
                .any(|stored| matches!(stored, Ok(Stored::Unstable)));
            if !unstable || began.elapsed() > UNSTABLE {
                return Ok(positions);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a configuration has this in its value. A topic that is not there, or may not be looked at, is as Kafka makes topics.
fn says(entries: Option<&Result<Vec<ConfigEntry>, Error>>, key: &str, value: &str) -> bool {
    let entries = entries.and_then(|entries| entries.as_ref().ok());
    let mut entries = entries.into_iter().flatten();
    let entry = entries.find(|entry| *entry.key == *key);
    entry.is_some_and(|entry| entry.value.as_ref().is_some_and(|said| said.contains(value)))
}

async fn verify_one(task: Task<'_>, bar: ProgressBar) -> PartitionReport {
    let all = task.offsets();
    let read = AtomicU64::new(0);
    let verified = task.verify(|more| {
        read.fetch_add(more, Ordering::Relaxed);
        bar.inc(more);
    });
    let verified = verified.await;
    // What need not be read counts as read.
    bar.inc(all.saturating_sub(read.into_inner()));
    verified.unwrap_or_else(|why| PartitionReport::not_compared(&task.lane, why.to_string()))
}

/// Up to where a partition can be compared, or why it cannot be.
fn position(lane: &Lane, positions: &ByPartition<Stored>, there: bool) -> Result<Position, String> {
    let stored: &GroupOffset = match positions.get(&lane.target) {
        Some(Ok(Stored::Offset(stored))) => stored,
        Some(Ok(Stored::Nothing)) | None => {
            return Err("the flow has no position for it: nothing was copied yet".to_owned());
        }
        Some(Ok(Stored::Unstable)) => {
            return Err("a transaction is about to change its position".to_owned());
        }
        Some(Err(error)) => return Err(error.to_string()),
    };
    if !there {
        return Err(format!("the target topic {} is not there", lane.target.topic));
    }
    let Some(kept) = Metadata::parse(&stored.metadata) else {
        return Err("its position was not written by this flow".to_owned());
    };
    if kept.log != lane.log {
        return Err("its position is of another cluster, or of a topic that was deleted since".to_owned());
    }
    if let (Some(was), Some(is)) = (&kept.target, &lane.target_id)
        && was != is
    {
        return Err("its position is of copies in a target topic that was deleted since".to_owned());
    }
    Ok(Position {
        offset: SourceOffset(stored.offset),
        leader_epoch: stored.leader_epoch,
        copies: kept.copies,
    })
}
