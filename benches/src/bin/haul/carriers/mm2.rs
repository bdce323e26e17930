//! The settings of MirrorMaker 2 in dedicated mode.

use std::fmt::Write;

use anyhow::Result;
use kuroshio_integration::Mm2;

use super::{Job, Running, fresh};

/// Which settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Settings {
    Defaults,
    Tuned,
}

/// What people set who read the tuning guides: compression, large batches, polls and fetches, both cores, and
/// nothing running beside the records.
const TUNED: &[&str] = &[
    "tasks.max = 2",
    "{source}.consumer.max.poll.records = 5000",
    "{source}.consumer.fetch.min.bytes = 1",
    "{source}.consumer.fetch.max.bytes = 52428800",
    "{source}.consumer.max.partition.fetch.bytes = 4194304",
    "{source}.consumer.receive.buffer.bytes = 1048576",
    "{target}.producer.compression.type = lz4",
    "{target}.producer.batch.size = 262144",
    "{target}.producer.linger.ms = 5",
    "{target}.producer.buffer.memory = 67108864",
    "{target}.producer.max.request.size = 4194304",
    "emit.heartbeats.enabled = false",
    "emit.checkpoints.enabled = false",
    "sync.topic.acls.enabled = false",
    "sync.topic.configs.enabled = false",
];

pub(super) fn start(job: &Job<'_>, settings: Settings) -> Result<Running> {
    // What connect-mirror-maker.sh sets.
    let mm2 = Mm2::start(&properties(job, settings, fresh())?, "-Xms256M -Xmx2G")?;
    let pid = mm2.pid()?;
    Ok(Running::Mm2(mm2, pid))
}

/// The aliases are new each time, and so are the offsets and internal topics.
fn properties(job: &Job<'_>, settings: Settings, run: u32) -> Result<String> {
    let (source, target) = (format!("tw{run}"), format!("jp{run}"));
    let mut text = format!(
        "clusters = {source}, {target}\n\
         {source}.bootstrap.servers = {}\n\
         {target}.bootstrap.servers = {}\n\
         {source}->{target}.enabled = true\n\
         {source}->{target}.topics = {}\n\
         {target}->{source}.enabled = false\n\
         replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy\n",
        job.source, job.target, job.topics
    );
    text.push_str(Mm2::ONE_BROKER);
    if settings == Settings::Tuned {
        for line in TUNED {
            writeln!(
                text,
                "{}",
                line.replace("{source}", &source).replace("{target}", &target)
            )?;
        }
    }
    Ok(text)
}
