//! The process under test.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docker::free_port;
use crate::http::get;
use crate::samples::samples;
use crate::wait::until;

/// How much of a log is shown when something goes wrong.
const TAIL: usize = 40;

/// The binary: `KUROSHIO_BIN`, or the one that cargo built in the same profile: beside this program, or above
/// `deps` if this is a test.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUROSHIO_BIN") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    let mut folders = this.ancestors().skip(1).take(2);
    folders
        .find_map(|folder| Some(folder.join("kuroshio")).filter(|built| built.is_file()))
        .with_context(|| {
            format!(
                "no kuroshio near {}: `cargo build -p kuroshio`, or set KUROSHIO_BIN",
                this.display()
            )
        })
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `kuroshio` with `args` to its end; a `{config}` among them stands for a file with `config` in it.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub async fn command(args: &[&str], config: Option<&Value>, within: Duration) -> Result<Ended> {
    command_in(&[], args, config, within).await
}

/// [`command`], with these variables in its environment.
///
/// # Errors
/// As [`command`].
pub async fn command_in(
    environment: &[(&str, String)],
    args: &[&str],
    config: Option<&Value>,
    within: Duration,
) -> Result<Ended> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("kuroshio.yaml");
    if let Some(config) = config {
        fs::write(&file, config.to_string())?; // JSON is YAML
    }
    let path = file.display().to_string();
    let args: Vec<_> = args.iter().map(|arg| arg.replace("{config}", &path)).collect();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut process = Kuroshio::spawn(dir, environment, args, nowhere)?;
    let status = process.exited(within).await?;
    let read = |name: &str| -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(process.dir.path().join(name))?).into_owned())
    };
    Ok(Ended {
        code: status.code(),
        stdout: read("stdout")?,
        stderr: read("stderr")?,
    })
}

/// A running `kuroshio run`. Killed when dropped.
#[derive(Debug)]
pub struct Kuroshio {
    child: Child,
    dir: TempDir,
    environment: Vec<(String, String)>,
    args: Vec<String>,
    http: SocketAddr,
}

impl Kuroshio {
    /// Starts `kuroshio run` with `config`, to which a free address for HTTP is added, and `instance` if it has none. Without a
    /// word about heartbeats there are none: the flows of many tests between the same two clusters would all write into one topic.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(config: Value) -> Result<Self> {
        Self::run_in(&[], config)
    }

    /// [`Kuroshio::run`], with these variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_in(environment: &[(&str, String)], mut config: Value) -> Result<Self> {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let dir = tempfile::tempdir()?;
        let keys = config
            .as_object_mut()
            .context("the configuration must be a map")?;
        keys.entry("http").or_insert_with(|| json!({}))["listen"] = json!(http.to_string());
        keys.entry("instance")
            .or_insert_with(|| json!(format!("it-{}", http.port())));
        let defaults = keys.entry("defaults").or_insert_with(|| json!({}));
        if defaults.get("heartbeats").is_none() {
            defaults["heartbeats"] = json!({ "enabled": false });
        }
        let file = dir.path().join("kuroshio.yaml");
        fs::write(&file, serde_json::to_string_pretty(&config)?)?; // JSON is YAML
        let args = vec![
            "run".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ];
        Self::spawn(dir, environment, args, http)
    }

    /// Starts `kuroshio run` with a configuration as it was printed, to which a free address for HTTP and `instance` are added.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_printed(config: &str) -> Result<Self> {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("kuroshio.yaml");
        let own = format!(
            "\nhttp: {{ listen: \"{http}\" }}\ninstance: it-{}\nlog: {{ format: text }}\n",
            http.port()
        );
        fs::write(&file, config.to_owned() + &own)?;
        let args = ["run", "--config", &file.display().to_string()].map(str::to_owned);
        Self::spawn(dir, &[], args.into(), http)
    }

    fn spawn(
        dir: TempDir,
        environment: &[(&str, String)],
        args: Vec<String>,
        http: SocketAddr,
    ) -> Result<Self> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<Vec<_>>();
        let child = Self::start(&dir, &environment, &args)?;
        Ok(Self {
            child,
            dir,
            environment,
            args,
            http,
        })
    }

    fn start(dir: &TempDir, environment: &[(String, String)], args: &[String]) -> Result<Child> {
        let log = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(dir.path().join(name))
        };
        let binary = binary()?;
        Command::new(&binary)
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))
    }

    /// Starts the process again after it ended: same configuration, instance, address and log files.
    ///
    /// # Errors
    /// When it still runs, or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "the process still runs");
        self.child = Self::start(&self.dir, &self.environment, &self.args)?;
        Ok(())
    }

    /// Changes the configuration file; the process is not told.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite_config(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let file = self.dir.path().join("kuroshio.yaml");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        change(&mut config);
        Ok(fs::write(&file, serde_json::to_string_pretty(&config)?)?)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `host:port` of its HTTP server.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// SIGTERM: an orderly stop; wait with [`Kuroshio::exited`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGINT: a stop for good, which leaves the group; wait with [`Kuroshio::exited`].
    ///
    /// # Errors
    /// When the process is gone.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// SIGHUP: the configuration file is read.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the process had ended by itself before.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the process had ended before it was killed, with {status}\n{}",
                self.log_tail()
            );
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGSTOP: the process stands still and its connections stay open.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to kuroshio\n{}", self.log_tail()))
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it still runs after `within`; with the end of its log.
    pub async fn exited(&mut self, within: Duration) -> Result<ExitStatus> {
        let child = std::cell::RefCell::new(&mut self.child);
        let ended = until(within, "kuroshio to end", || async {
            match child.borrow_mut().try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err("it runs".to_owned()),
                Err(why) => Err(why.to_string()),
            }
        })
        .await;
        ended.with_context(|| self.log_tail())
    }

    /// GET `path`: status code and body.
    ///
    /// # Errors
    /// When nothing answers within 5 s.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.http, path).await
    }

    /// Waits until GET `path` gives status 200 and a body for which `holds` gives true.
    ///
    /// # Errors
    /// When that does not happen `within`, or the process ends; with the end of its log.
    pub async fn until_http(
        &mut self,
        path: &str,
        within: Duration,
        holds: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let child = std::cell::RefCell::new(&mut self.child);
        let http = self.http;
        let answer = until(within, &format!("GET {path}"), || async {
            if let Ok(Some(status)) = child.borrow_mut().try_wait() {
                return Ok(Err(anyhow!(
                    "kuroshio ended with {status} before GET {path} was answered as expected"
                )));
            }
            match get(http, path).await {
                Ok((200, body)) if holds(&body) => Ok(Ok(body)),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(why) => Err(format!("{why:#}")),
            }
        })
        .await;
        answer
            .and_then(|answered| answered)
            .with_context(|| self.log_tail())
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Errors
    /// As [`Kuroshio::until_http`].
    pub async fn ready(&mut self, within: Duration) -> Result<()> {
        self.until_http("/readyz", within, |_| true).await.map(drop)
    }

    /// `/status` as JSON.
    ///
    /// # Errors
    /// When it does not answer, or not with JSON.
    pub async fn status(&self) -> Result<Value> {
        let (code, body) = self.get("/status").await?;
        ensure!(code == 200, "GET /status: {code} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// The sum of the samples of metric `name` that have all of `labels`; none if there is no such sample.
    ///
    /// # Errors
    /// When `/metrics` does not answer.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        let (code, body) = self.get("/metrics").await?;
        ensure!(code == 200, "GET /metrics: {code} {body}");
        let found: Vec<f64> = samples(&body)
            .filter(|sample| sample.name == name && sample.has(labels))
            .map(|sample| sample.value)
            .collect();
        Ok((!found.is_empty()).then(|| found.iter().sum()))
    }

    /// How many lines of its log contain `text`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn logged(&self, text: &str) -> Result<usize> {
        Ok(self.log()?.lines().filter(|line| line.contains(text)).count())
    }

    /// Its whole log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.path().join("stderr"))?).into_owned())
    }

    /// The end of what the process wrote, for people.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read(self.dir.path().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<_> = text.lines().collect();
            format!(
                "{name} of kuroshio:\n{}\n",
                lines[lines.len().saturating_sub(TAIL)..].join("\n")
            )
        };
        tail("stdout") + &tail("stderr")
    }
}

impl Drop for Kuroshio {
    fn drop(&mut self) {
        // SIGKILL ends stopped processes too; an error means that it had ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
