//! MirrorMaker 2 in dedicated mode, in a container of the image that the brokers run in.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::session_label;
use tempfile::TempDir;

use super::{Job, fresh};

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

/// A running container. Removed when dropped, and in any case when this process ends.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    /// Of Java, as this machine sees it.
    pub(super) pid: u32,
    _dir: TempDir,
}

pub(super) fn start(job: &Job<'_>, settings: Settings) -> Result<Container> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mm2.properties");
    fs::write(&file, properties(job, settings, fresh())?)?;
    let id = docker(&[
        "run",
        "--detach",
        "--network=host",
        "--label",
        &session_label(),
        "--volume",
        &format!("{}:/haul/mm2.properties:ro", file.display()),
        // What connect-mirror-maker.sh sets.
        "--env",
        "KAFKA_HEAP_OPTS=-Xms256M -Xmx2G",
        "--entrypoint",
        "/opt/kafka/bin/kafka-run-class.sh",
        "apache/kafka:4.3.1",
        "org.apache.kafka.connect.mirror.MirrorMaker",
        "/haul/mm2.properties",
    ])?;
    let mut container = Container {
        id: id.trim().to_owned(),
        pid: 0,
        _dir: dir,
    };
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &container.id])?;
    container.pid = pid.trim().parse()?;
    ensure!(
        container.pid > 0,
        "MirrorMaker 2 did not start:\n{}",
        container.log_tail()
    );
    Ok(container)
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
    // There is one broker.
    for topics in [
        "",
        "checkpoints.topic.",
        "heartbeats.topic.",
        "offset-syncs.topic.",
    ] {
        writeln!(text, "{topics}replication.factor = 1")?;
    }
    for storage in ["offset", "status", "config"] {
        writeln!(text, "{storage}.storage.replication.factor = 1")?;
    }
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

impl Container {
    pub(super) fn log_tail(&self) -> String {
        docker(&["logs", "--tail", "40", &self.id]).unwrap_or_else(|why| format!("{why:#}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What fails here is removed when the process ends.
        docker(&["rm", "--force", "--volumes", &self.id]).ok();
    }
}

fn docker(args: &[&str]) -> Result<String> {
    let ended = Command::new("docker")
        .args(args)
        .output()
        .context("running docker")?;
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    let err = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "docker {}: {out}{err}", args.join(" "));
    // The log of a container comes on both.
    Ok(if args.first() == Some(&"logs") {
        out + &err
    } else {
        out
    })
}
