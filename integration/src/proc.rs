//! What the kernel knows of a process: CPU time, memory, threads, descriptors, start.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Ticks of `/proc` per second: USER_HZ, which Linux fixes at 100 for user space on all that Kafka runs on.
const TICKS: f64 = 100.0;

/// A running process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
}

impl Process {
    /// User and system time of all its threads, also of those that ended; 10 ms exact.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(self) -> Result<Duration> {
        let fields = self.stat()?;
        let ticks = number(&fields, 11)? + number(&fields, 12)?;
        Ok(Duration::from_secs_f64(ticks / TICKS))
    }

    /// Time since it was started; 10 ms exact.
    ///
    /// # Errors
    /// When it has ended.
    pub fn age(self) -> Result<Duration> {
        let started = number(&self.stat()?, 19)? / TICKS;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let now: f64 = uptime.split(' ').next().context("empty /proc/uptime")?.parse()?;
        Ok(Duration::from_secs_f64((now - started).max(0.0)))
    }

    /// The most memory it ever had resident, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_rss(self) -> Result<u64> {
        Ok(self.status("VmHWM:")? * 1024)
    }

    /// The memory it has resident, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss(self) -> Result<u64> {
        Ok(self.status("VmRSS:")? * 1024)
    }

    /// How many threads it has.
    ///
    /// # Errors
    /// When it has ended.
    pub fn threads(self) -> Result<u64> {
        self.status("Threads:")
    }

    /// How many files and sockets it has open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn descriptors(self) -> Result<u64> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid));
        Ok(open
            .with_context(|| format!("process {} has ended", self.pid))?
            .count() as u64)
    }

    /// A number in `/proc/PID/status`.
    fn status(self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        let number = number.with_context(|| format!("process {} has no {key}", self.pid))?;
        Ok(number.parse()?)
    }

    /// The fields of `/proc/PID/stat` after the name, which may hold anything.
    fn stat(self) -> Result<Vec<String>> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("process {} has ended", self.pid))?;
        let (_, fields) = text.rsplit_once(')').with_context(|| format!("{path}: {text}"))?;
        let fields: Vec<String> = fields.split_whitespace().map(str::to_owned).collect();
        if fields.first().is_some_and(|state| state == "Z" || state == "X") {
            bail!("process {} has ended", self.pid);
        }
        Ok(fields)
    }
}

fn number(fields: &[String], at: usize) -> Result<f64> {
    Ok(fields.get(at).context("a short line in /proc")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let this = Process {
            pid: std::process::id(),
        };
        assert!(this.peak_rss().unwrap() > 100_000);
        assert!((100_000..=this.peak_rss().unwrap()).contains(&this.rss().unwrap()));
        assert!(this.threads().unwrap() >= 1);
        // Other tests of this process open and close some, too.
        let before = this.descriptors().unwrap();
        let open: Vec<_> = (0..200)
            .map(|_| fs::File::open("/proc/self/status").unwrap())
            .collect();
        assert!(this.descriptors().unwrap() > before + 100);
        drop(open);
        assert!(this.age().unwrap() < Duration::from_secs(3600 * 24));
        this.cpu().unwrap();
    }

    #[test]
    fn an_ended_process_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process { pid: child.id() };
        child.wait().unwrap();
        assert!(process.cpu().unwrap_err().to_string().contains("has ended"));
    }
}
