//! `kuroshio status`: what a running instance says about itself, as tables; once, or anew every second.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use console::Term;
use kuroshio_core::secret::Secret;
use ureq::http::StatusCode;
use ureq::tls::Certificate;
use ureq::{Body, RequestBuilder};

use crate::asking;
use crate::cli::Output;
use crate::figures::{grouped, moment, seconds};
use kuroshio_core::control::Command;

use crate::status::{FlowStatus, Status};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(1);
/// Partitions, groups and errors shown of each flow: those worst off, the newest.
const ROWS: usize = 10;
/// Longest reason taken, in bytes.
const SAID: u64 = 4 << 10;
/// Longest document taken: ten thousand partitions are two MiB.
const LONGEST: u64 = 64 << 20;

type Answer = http::Response<Body>;

/// Why an instance could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// No answer.
    #[error("{url}: {why}; is an instance of Kuroshio running there (http.listen)?")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        why: Box<ureq::Error>,
    },
    /// The instance does not take the command.
    #[error("{url}: {why}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Its words.
        why: String,
    },
    /// Whom to trust is not known.
    #[error("{0}")]
    Roots(String),
    /// Another program's answer.
    #[error("{url}: this is not the status of Kuroshio: {why}")]
    NotOurs {
        /// What was asked for.
        url: String,
        /// Why.
        why: String,
    },
}

/// A running instance.
#[derive(Debug)]
pub struct Instance {
    agent: ureq::Agent,
    url: String,
    token: Option<Secret>,
}

impl Instance {
    /// The instance that serves HTTP at `url`. For https the roots of `ca_file` are trusted, or the system's.
    ///
    /// # Errors
    /// [`ShowError::Roots`].
    pub fn new(url: &str, token: Option<Secret>, ca_file: Option<&Path>) -> Result<Self, ShowError> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            // A token goes to whom it is for.
            .max_redirects(0);
        if url.starts_with("https:") {
            config = config.tls_config(asking::tls(roots(ca_file)?));
        }
        Ok(Self {
            agent: config.build().into(),
            url: url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Its whole status.
    ///
    /// # Errors
    /// [`ShowError`].
    pub fn status(&self) -> Result<Status, ShowError> {
        self.get(format!("{}/status", self.url))
    }

    /// Has partitions of a flow stand still or go on; what the instance says to it.
    ///
    /// # Errors
    /// [`ShowError`].
    pub fn tell(
        &self,
        command: Command,
        flow: &str,
        topic: Option<&str>,
        partition: Option<i32>,
    ) -> Result<String, ShowError> {
        let url = format!("{}/flows/{flow}/{}", self.url, command.as_str());
        let partition = partition.map(|partition| partition.to_string());
        let about = [("topic", topic), ("partition", partition.as_deref())];
        let about = about.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let call = self.shown(self.agent.post(&url).query_pairs(about));
        let unreachable = |why| unreachable(&url, why);
        let mut answer = accepted(&url, call.send_empty().map_err(unreachable)?)?;
        answer.body_mut().read_to_string().map_err(unreachable)
    }

    fn get(&self, url: String) -> Result<Status, ShowError> {
        let call = self.shown(self.agent.get(&url));
        let answer = accepted(&url, call.call().map_err(|why| unreachable(&url, why))?)?;
        let mut text = String::new();
        let read = answer
            .into_body()
            .into_reader()
            .take(LONGEST)
            .read_to_string(&mut text);
        let status = read
            .map_err(|error| error.to_string())
            .and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string()));
        status.map_err(|why| ShowError::NotOurs { url, why })
    }

    /// The request with the token, if there is one.
    fn shown<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.reveal())),
            None => request,
        }
    }

    /// Shows it anew every second until the process is interrupted; an instance that is away may come back.
    ///
    /// # Errors
    /// What `say` says.
    pub fn watch(&self, output: Output, say: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let terminal = Term::stdout();
        loop {
            let status = self.get(format!("{}/status?top={ROWS}", self.url));
            let shown = match (status, output) {
                (Ok(status), Output::Json) => format!("{}\n", serde_json::to_string(&status)?),
                (Ok(status), Output::Text) => text(&status),
                (Err(error), Output::Json) => {
                    format!("{}\n", serde_json::json!({ "error": error.to_string() }))
                }
                (Err(error), Output::Text) => format!("{error}\n"),
            };
            if output == Output::Text && terminal.is_term() {
                terminal.clear_screen()?;
                let room = usize::from(terminal.size().0).saturating_sub(1);
                let lines: Vec<&str> = shown.lines().take(room).collect();
                say(&format!("{}\n", lines.join("\n")))?;
            } else {
                say(&shown)?;
            }
            std::thread::sleep(EVERY);
        }
    }
}

fn unreachable(url: &str, why: ureq::Error) -> ShowError {
    ShowError::Unreachable {
        url: url.to_owned(),
        why: Box::new(why),
    }
}

/// The answer, if it is one to what was asked.
fn accepted(url: &str, mut answer: Answer) -> Result<Answer, ShowError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let mut why = status.to_string();
    // What cannot be read adds nothing to the code.
    if let Ok(said) = answer.body_mut().with_config().limit(SAID).read_to_string()
        && !said.is_empty()
    {
        why += &format!(": {}", said.trim_end());
    }
    if status == StatusCode::UNAUTHORIZED {
        why += " (give it with the environment variable KUROSHIO_TOKEN, or --token)";
    }
    Err(ShowError::Refused {
        url: url.to_owned(),
        why,
    })
}

fn roots(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, ShowError> {
    let Some(file) = ca_file else {
        let found = asking::system_roots();
        if found.is_empty() {
            let why = "the system has no roots to trust; install its ca-certificates, or give --ca-file";
            return Err(ShowError::Roots(why.to_owned()));
        }
        return Ok(found);
    };
    asking::roots_of(file).map_err(|why| ShowError::Roots(format!("--ca-file {why}")))
}

/// The status as tables.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut text = format!("{}, Kuroshio {}\n\n", status.instance, status.version);
    text += &clusters(status);
    text += "\n";
    text += &flows(status);
    for flow in &status.flows {
        text += &worst(flow);
    }
    text
}

fn clusters(status: &Status) -> String {
    let mut table = table(
        ["cluster", "health", "brokers answering", "failed checks", ""],
        &[3],
    );
    for cluster in &status.clusters {
        let health = match cluster.healthy {
            Some(true) => "healthy",
            Some(false) => "NOT HEALTHY",
            None => "not checked yet",
        };
        table.add_row([
            cluster.alias.clone(),
            health.to_owned(),
            format!("{} of {}", cluster.answered, cluster.addresses),
            cluster.failed_checks.to_string(),
            cluster.error.clone().unwrap_or_default(),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn flows(status: &Status) -> String {
    let header = [
        "flow",
        "from → to",
        "state",
        "RPO",
        "lag",
        "records behind",
        "records/s",
        "MB/s",
        "partitions",
        "paused",
        "quarantined",
    ];
    let mut table = table(header, &[3, 4, 5, 6, 7, 8, 9, 10]);
    for flow in &status.flows {
        table.add_row([
            flow.name.clone(),
            format!("{} → {}", flow.source, flow.target),
            flow.state.clone(),
            flow.rpo_seconds.map_or_else(|| "–".to_owned(), seconds),
            seconds(flow.lag_seconds),
            grouped(flow.lag_records as f64),
            grouped(flow.records_per_second),
            format!("{:.2}", flow.bytes_per_second / 1e6),
            flow.partitions.to_string(),
            flow.paused.to_string(),
            flow.quarantined.to_string(),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// What of a flow needs somebody's eye.
fn worst(flow: &FlowStatus) -> String {
    let mut text = String::new();
    let lanes = flow.worst_lanes(ROWS);
    if !lanes.is_empty() {
        let mut table = table(["partition", "state", "records behind", "lag", ""], &[2, 3]);
        for lane in lanes {
            table.add_row([
                format!("{}-{}", lane.topic, lane.partition),
                lane.state.clone(),
                grouped(lane.lag_records.unwrap_or(0) as f64),
                seconds(lane.lag_seconds.unwrap_or(0.0)),
                lane.quarantined.clone().unwrap_or_default(),
            ]);
        }
        text += &format!(
            "\n{}: partitions furthest behind\n{}\n",
            flow.name,
            table.trim_fmt()
        );
    }
    let errors = flow.errors.iter().rev().take(ROWS);
    if errors.len() > 0 {
        text += &format!("\n{}: last errors\n", flow.name);
        for error in errors {
            text += &format!("{}  {}\n", moment(error.at_ms), error.text);
        }
    }
    text
}

pub(crate) fn table<const N: usize>(header: [&str; N], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ClusterStatus, ErrorStatus, LaneStatus};

    #[test]
    fn tables_say_what_is_wrong() {
        let lane = |partition, why: Option<&str>| LaneStatus {
            topic: "orders".into(),
            partition,
            state: why.map_or("running", |_| "quarantined").into(),
            lag_records: Some(1_500),
            lag_seconds: Some(7.0),
            quarantined: why.map(str::to_owned),
            ..LaneStatus::default()
        };
        let status = Status {
            version: "1.2.3".into(),
            instance: "pod-0".into(),
            clusters: vec![ClusterStatus {
                alias: "jp".into(),
                healthy: Some(false),
                failed_checks: 4,
                addresses: 3,
                error: Some("refused".into()),
                ..ClusterStatus::default()
            }],
            flows: vec![FlowStatus {
                name: "tw-jp".into(),
                source: "tw".into(),
                target: "jp".into(),
                state: "running".into(),
                lag_seconds: 7.0,
                rpo_seconds: Some(90.0),
                lanes: vec![lane(0, None), lane(1, Some("too_large"))],
                errors: vec![ErrorStatus {
                    at_ms: 0,
                    text: "it broke".into(),
                }],
                ..FlowStatus::default()
            }],
        };
        let text = text(&status);
        let expected = "\
pod-0, Kuroshio 1.2.3

 cluster  health       brokers answering  failed checks
 jp       NOT HEALTHY  0 of 3                         4  refused

 flow   from → to  state     RPO     lag  records behind  records/s  MB/s  partitions  paused  quarantined
 tw-jp  tw → jp    running  90 s  7.00 s               0          0  0.00           0       0            0

tw-jp: partitions furthest behind
 partition  state        records behind     lag
 orders-1   quarantined           1,500  7.00 s  too_large
 orders-0   running               1,500  7.00 s

tw-jp: last errors
1970-01-01 00:00:00 UTC  it broke
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = Instance::new("http://127.0.0.1:1/", None, None)
            .unwrap()
            .status()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("http://127.0.0.1:1/status: ") && error.contains("running there"),
            "{error}"
        );
    }
}
