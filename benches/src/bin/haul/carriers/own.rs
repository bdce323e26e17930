//! haul's own loops: this binary again, as a child whose cost can be told from ours.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tempfile::TempDir;

use super::{Job, copy, raw};

/// Which loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    Copy,
    RawVerbatim,
    RawTagged,
}

/// The child's arguments.
#[derive(Debug, Args)]
pub(crate) struct Carry {
    #[arg(long)]
    pub(super) kind: Kind,
    #[arg(long)]
    pub(super) source: String,
    #[arg(long)]
    pub(super) target: String,
    #[arg(long)]
    pub(super) topic: String,
    #[arg(long)]
    pub(super) codec: String,
}

/// A running child. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    child: std::process::Child,
    dir: TempDir,
}

pub(super) fn start(job: &Job<'_>, kind: Kind) -> Result<Child> {
    let dir = tempfile::tempdir()?;
    let name = kind.to_possible_value().context("a kind without a name")?;
    let child = Command::new(std::env::current_exe()?)
        .args(["carry", "--kind", name.get_name(), "--codec", job.codec])
        .args([
            "--source", job.source, "--target", job.target, "--topic", job.topics,
        ])
        .stdin(Stdio::piped()) // closes when we end, in whatever way
        .stdout(Stdio::null())
        .stderr(File::create(dir.path().join("stderr"))?)
        .spawn()
        .context("starting this program again")?;
    Ok(Child { child, dir })
}

impl Child {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log_tail(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_else(|why| why.to_string())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that it had ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The child: carries until its standard input closes or it is killed.
pub(crate) fn carry(carry: &Carry) -> Result<()> {
    // As Kuroshio does; see ARCHITECTURE.md, "Non-obvious". Without it the loop is only slower.
    nix::sys::prctl::set_thp_disable(true).ok();
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL)
    });
    match carry.kind {
        Kind::Copy => copy::run(carry),
        Kind::RawVerbatim => raw::run(carry, raw::Mode::Verbatim),
        Kind::RawTagged => raw::run(carry, raw::Mode::Tagged),
    }
}
