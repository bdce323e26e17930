//! A real Prometheus that scrapes processes under test and evaluates our alert rules.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docker::free_port;
use crate::http::agent;
use crate::wait::until;

/// A start takes a second.
const START: Duration = Duration::from_secs(60);

/// A running Prometheus. Killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    _dir: TempDir,
    url: String,
}

impl Prometheus {
    /// Scrapes `targets` once a second and evaluates `rules` as they say.
    ///
    /// # Errors
    /// When it cannot be started, with its log.
    pub async fn start(targets: &[SocketAddr], rules: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules.canonicalize()?],
            "scrape_configs": [{ "job_name": "kuroshio", "static_configs": [{ "targets": targets }] }],
        });
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config.to_string())?; // JSON is YAML
        let log = dir.path().join("log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .context("starting prometheus (`make test` installs it)")?;
        let this = Self {
            child,
            _dir: dir,
            url: format!("http://{address}"),
        };
        until(START, "prometheus to scrape", || async {
            match this.query("min(up)").await {
                Ok(up) if up.first().is_some_and(|(_, value)| *value >= 1.0) => Ok(()),
                Ok(up) => Err(format!("up: {up:?}")),
                Err(why) => Err(format!("{why:#}")),
            }
        })
        .await
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(this)
    }

    /// The labels and values of an instant query.
    ///
    /// # Errors
    /// When Prometheus refuses the expression or does not answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let answer = self.get("query", &[("query", expression)]).await?;
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let sample = |sample: Value| {
            let value = sample["value"][1].as_str()?.parse().ok()?;
            Some((sample["metric"].clone(), value))
        };
        Ok(result.into_iter().filter_map(sample).collect())
    }

    /// Names and labels of the alerts that fire.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn firing(&self) -> Result<Vec<Value>> {
        let answer = self.get("alerts", &[]).await?;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.into_iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| alert["labels"].clone()).collect())
    }

    async fn get(&self, what: &str, query: &[(&'static str, &str)]) -> Result<Value> {
        let url = format!("{}/api/v1/{what}", self.url);
        let query: Vec<_> = query
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        tokio::task::spawn_blocking(move || {
            let mut request = agent(Duration::from_secs(10)).get(&url);
            for (key, value) in &query {
                request = request.query(*key, value);
            }
            let answer: Value = serde_json::from_str(&request.call()?.body_mut().read_to_string()?)?;
            ensure!(answer["status"] == "success", "{url} {query:?}: {answer}");
            Ok(answer)
        })
        .await?
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error means that it had ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
