//! A wall clock of one process, which tests set: `clock/clock.c`, preloaded.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The wall clock of the processes that are started with [`Clock::environment`].
#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
    file: File,
}

impl Clock {
    /// A clock that goes right.
    ///
    /// # Errors
    /// When `cc` is missing, which the product needs too, or does not compile it; with what it says.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clock/clock.c");
        let ended = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .args([dir.path().join("clock.so").as_os_str(), source.as_ref()])
            .output()
            .context("running cc")?;
        ensure!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        let file = dir.path().join("ahead");
        fs::write(&file, 0_i64.to_ne_bytes())?;
        let file = File::options().write(true).open(file)?;
        Ok(Self { dir, file })
    }

    /// What a process needs in its environment to have this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        [
            ("LD_PRELOAD", path("clock.so")),
            ("KUROSHIO_CLOCK", path("ahead")),
        ]
    }

    /// Sets it to so many milliseconds ahead of the true time, or behind it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, ahead_ms: i64) -> Result<()> {
        Ok(self.file.write_all_at(&ahead_ms.to_ne_bytes(), 0)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_process_sees_the_clock_that_it_is_given() {
        let clock = Clock::new().unwrap();
        for ahead in [0_i64, 86_400_000, -86_400_000] {
            clock.set(ahead).unwrap();
            let ended = Command::new("date")
                .arg("+%s")
                .envs(clock.environment())
                .output()
                .unwrap();
            let said: i64 = String::from_utf8_lossy(&ended.stdout).trim().parse().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let off = said - i64::try_from(now).unwrap() - ahead / 1000;
            assert!((-600..=600).contains(&off), "{said} is off by {off} s at {ahead}");
        }
    }
}
