//! MirrorMaker 2 in dedicated mode, in a container of the image that the brokers run in.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::docker::{remove_all_at_exit, session_label};

/// A running MirrorMaker 2. Removed when dropped, and in any case when this process ends.
#[derive(Debug)]
pub struct Mm2 {
    id: String,
    _dir: TempDir,
}

impl Mm2 {
    /// Settings for clusters of one broker each: its internal topics ask for three.
    pub const ONE_BROKER: &str = "replication.factor = 1\n\
        checkpoints.topic.replication.factor = 1\n\
        heartbeats.topic.replication.factor = 1\n\
        offset-syncs.topic.replication.factor = 1\n\
        offset.storage.replication.factor = 1\n\
        status.storage.replication.factor = 1\n\
        config.storage.replication.factor = 1\n";

    /// Starts it with an `mm2.properties`, and Java with these options for its heap.
    ///
    /// # Errors
    /// When the container does not start; with its log.
    pub fn start(properties: &str, heap: &str) -> Result<Self> {
        remove_all_at_exit()?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("mm2.properties");
        fs::write(&file, properties)?;
        let id = docker(&[
            "run",
            "--detach",
            "--network=host",
            "--label",
            &session_label(),
            "--volume",
            &format!("{}:/mm2.properties:ro", file.display()),
            "--env",
            &format!("KAFKA_HEAP_OPTS={heap}"),
            "--entrypoint",
            "/opt/kafka/bin/kafka-run-class.sh",
            "apache/kafka:4.3.1",
            "org.apache.kafka.connect.mirror.MirrorMaker",
            "/mm2.properties",
        ])?;
        Ok(Self {
            id: id.trim().to_owned(),
            _dir: dir,
        })
    }

    /// The process of Java, as this machine sees it.
    ///
    /// # Errors
    /// When it does not run; with the end of its log.
    pub fn pid(&self) -> Result<u32> {
        let pid: u32 = docker(&["inspect", "--format", "{{.State.Pid}}", &self.id])?
            .trim()
            .parse()?;
        ensure!(pid > 0, "MirrorMaker 2 did not start:\n{}", self.log_tail());
        Ok(pid)
    }

    /// SIGTERM, and waits for the end: it then notes how far it came.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn stop(&self) -> Result<()> {
        docker(&["stop", "--time=60", &self.id]).map(drop)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        docker(&["kill", &self.id]).map(drop)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        docker(&["logs", "--tail", "40", &self.id]).unwrap_or_else(|why| format!("{why:#}"))
    }
}

impl Drop for Mm2 {
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
