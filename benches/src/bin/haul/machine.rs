//! Where and with what was measured.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The hardware and the kernel.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpus.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim())
        };
        let model = field("model name").unwrap_or("unknown CPU");
        let cpu = match (field("cpu family"), field("model\t")) {
            (Some(family), Some(number)) => format!("{model} (family {family}, model {number})"),
            _ => model.to_owned(),
        };
        let memory = fs::read_to_string("/proc/meminfo")?;
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: u64 = total
            .and_then(|total| total.split_whitespace().next())
            .context("no MemTotal in /proc/meminfo")?
            .parse()?;
        Ok(Self {
            cpu,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {} GiB, Linux {}",
            self.cpu, self.cores, self.memory_gib, self.kernel
        )
    }
}

/// The software.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Versions {
    /// Version and commit.
    pub(crate) kuroshio: String,
    pub(crate) kafka: String,
    pub(crate) librdkafka: String,
    pub(crate) java: String,
}

impl Versions {
    pub(crate) fn these() -> Result<Self> {
        let manifest = env!("CARGO_MANIFEST_DIR");
        let commit = output("git", &["-C", manifest, "describe", "--always", "--dirty"])
            .map_or_else(|_| "unknown commit".to_owned(), |commit| commit.trim().to_owned());
        let java = output(
            "docker",
            &[
                "run",
                "--rm",
                "--entrypoint",
                "java",
                "apache/kafka:4.3.1",
                "-version",
            ],
        )?;
        Ok(Self {
            kuroshio: format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
            kafka: "4.3.1".to_owned(),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
            java: java.lines().next().unwrap_or("unknown").to_owned(),
        })
    }
}

/// What a command writes, on both of its outputs.
fn output(program: &str, args: &[&str]) -> Result<String> {
    let ended = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {program}"))?;
    anyhow::ensure!(
        ended.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok([
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    ]
    .concat())
}
