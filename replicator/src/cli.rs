//! The command line: what can be asked, and the exit codes that answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kuroshio_core::secret::Secret;

use crate::privilege::Arn;

/// Copies Kafka topics between clusters, in both directions at once, exactly once, without loops.
#[derive(Debug, Parser)]
#[command(name = "kuroshio", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replicate until SIGTERM or SIGINT, then drain within `shutdown_grace`.
    Run(Run),
    /// Show replication both ways between two clusters embedded in this process; needs nothing else.
    Demo(Demo),
    /// Check the configuration, reach every cluster and try every permission; exit code 2 if something does not hold.
    Check(Check),
    /// Show what a start would do, and change nothing.
    Plan(Plan),
    /// Read both sides and say what is lost, doubled, out of order or altered; exit code 2 if anything is.
    Verify(Verify),
    /// Print the least that the configuration must be allowed as IAM policies of MSK, a JSON document for each cluster.
    IamPolicy(IamPolicy),
    /// Print the least that the configuration must be allowed as `kafka-acls` commands, for each cluster.
    Acls(Acls),
    /// Show the flows of a running instance: lag, rates, quarantined partitions, health.
    Status(StatusOf),
    /// Have partitions stand still until they are resumed, also those of processes that start later.
    Pause(Tell),
    /// Have what is paused go on, and quarantined partitions tried at once: target topics that were deleted are made again, lost records are
    /// counted and left.
    Resume(Tell),
    /// Print where groups go on in another cluster; changes nothing.
    Translate(Translate),
    /// Move groups to another cluster, and back with the ends swapped.
    Failover(Failover),
    /// Print the configuration that does what a MirrorMaker 2 did, with what has no equivalent as comments.
    Import {
        /// `mm2.properties`, connectors of Kafka Connect in JSON, or a KafkaMirrorMaker2 of Strimzi in JSON.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Go on where that MirrorMaker 2, which must be stopped, left off: writes the flows' positions on the clusters.
        #[arg(long)]
        resume: bool,
        /// Kafka Connect's topic of offsets, where connectors ran in a Connect cluster and the file does not name it.
        #[arg(long, value_name = "TOPIC", requires = "resume")]
        offsets_topic: Option<String>,
    },
    /// About the configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Flows of a configuration.
#[derive(Debug, Args)]
pub struct Selected {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only the flows whose target is this cluster; wins over `region` in the file.
    #[arg(long, value_name = "ALIAS")]
    pub region: Option<String>,
    /// Only this flow; may be repeated.
    #[arg(long = "flow", value_name = "FLOW")]
    pub flows: Vec<String>,
}

/// `kuroshio run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Of which flows.
    #[command(flatten)]
    pub selected: Selected,
}

/// `kuroshio demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How long records are produced.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Records per second and cluster.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Serve metrics, probes and status here meanwhile.
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
}

/// `kuroshio check`. All clusters are reached; which flows are selected says whose permissions are tried.
#[derive(Debug, Args)]
pub struct Check {
    /// Of which flows.
    #[command(flatten)]
    pub selected: Selected,
    /// Look at the file only, connect to nothing.
    #[arg(long)]
    pub offline: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// `kuroshio plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Of which flows.
    #[command(flatten)]
    pub selected: Selected,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
    /// Exit with 2 if there is something to change or a problem, with 0 if there is neither.
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `kuroshio verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Of which flows.
    #[command(flatten)]
    pub selected: Selected,
    /// Only this topic of the source.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only records whose timestamps are no older than this, such as 2h.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Only about so many percent of the records, in stretches drawn by chance: for large topics.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub sample: Option<f64>,
    /// Draw the stretches that a run with this seed drew.
    #[arg(long, value_name = "N", requires = "sample")]
    pub seed: Option<u64>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    let wanted = number.ok().filter(|number| *number > 0.0 && *number <= 100.0);
    wanted.ok_or_else(|| "write more than 0 and up to 100, such as 1 or 0.5%".to_owned())
}

/// What the commands that print privileges have in common. They connect to nothing.
#[derive(Debug, Args)]
pub struct Privileged {
    /// Of which flows.
    #[command(flatten)]
    pub selected: Selected,
    /// Only on this cluster.
    #[arg(long, value_name = "ALIAS")]
    pub cluster: Option<String>,
    /// How to print it; policies are JSON in any case.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// `kuroshio iam-policy`.
#[derive(Debug, Args)]
pub struct IamPolicy {
    /// For what.
    #[command(flatten)]
    pub of: Privileged,
    /// The ARN of a cluster, such as `jp=arn:aws:kafka:ap-northeast-1:123456789012:cluster/orders/0a1b-2`; may be repeated.
    #[arg(long = "cluster-arn", value_name = "ALIAS=ARN", value_parser = cluster_arn)]
    pub arns: Vec<(String, Arn)>,
}

fn cluster_arn(text: &str) -> Result<(String, Arn), String> {
    let (alias, arn) = text.split_once('=').ok_or("write ALIAS=ARN")?;
    Ok((alias.to_owned(), arn.parse()?))
}

/// `kuroshio acls`.
#[derive(Debug, Args)]
pub struct Acls {
    /// For what.
    #[command(flatten)]
    pub of: Privileged,
    /// To whom it is granted; absent: to the user of each cluster's `sasl`, where that has a username, else to `User:kuroshio`.
    #[arg(long, value_name = "PRINCIPAL")]
    pub principal: Option<String>,
    /// The tool's own client configuration, which is passed on to it.
    #[arg(long, value_name = "FILE")]
    pub command_config: Option<String>,
}

/// `kuroshio status`.
#[derive(Debug, Args)]
pub struct StatusOf {
    /// Which instance.
    #[command(flatten)]
    pub instance: InstanceAt,
    /// Show it anew every second until interrupted.
    #[arg(long)]
    pub watch: bool,
    /// How to report; with `--watch` one JSON document per line.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// `kuroshio pause` and `resume`.
#[derive(Debug, Args)]
pub struct Tell {
    /// The flow.
    #[arg(value_name = "FLOW")]
    pub flow: String,
    /// Only this topic of the source.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Only this partition of it.
    #[arg(long, value_name = "P", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// An instance that runs the flow; its configuration must have `http.admin: true`.
    #[command(flatten)]
    pub instance: InstanceAt,
}

/// A running instance.
#[derive(Debug, Args)]
pub struct InstanceAt {
    /// Where the instance serves HTTP.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Its `http.token`. Arguments can be seen by others on the machine: better in the environment.
    #[arg(long, value_name = "TOKEN", env = "KUROSHIO_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// PEM file with the roots to trust for https, instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// `kuroshio translate`.
#[derive(Debug, Args)]
pub struct Translate {
    /// Between which clusters.
    #[command(flatten)]
    pub ends: Between,
    /// A group; may be repeated.
    #[arg(long = "group", value_name = "GROUP", required = true, num_args = 1..)]
    pub groups: Vec<String>,
    /// Only this topic of the source.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

/// `kuroshio failover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// Between which clusters.
    #[command(flatten)]
    pub ends: Between,
    /// A group; may be repeated.
    #[arg(long = "group", value_name = "GROUP", required = true, num_args = 1..)]
    pub groups: Vec<String>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Accept lag, an unreachable source, offsets that go back, and such as cannot be translated; never living members.
    #[arg(long)]
    pub force: bool,
}

/// What translating and moving groups have in common.
#[derive(Debug, Args)]
pub struct Between {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The cluster that the groups come from.
    #[arg(long, value_name = "ALIAS")]
    pub from: String,
    /// The cluster that they go to.
    #[arg(long, value_name = "ALIAS")]
    pub to: String,
    /// Count the records that will be read again, instead of giving a bound: reads them.
    #[arg(long)]
    pub count: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// `kuroshio config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of the file.
    Schema,
}

/// How a command reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on stdout.
    Json,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped as asked.
    Done = 0,
    /// Something broke.
    Fault = 1,
    /// What was asked for does not hold.
    Failed = 2,
    /// Bad usage or configuration (`EX_USAGE`).
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// Of what clap found in the arguments: help and version were asked for, everything else is bad usage.
    #[must_use]
    pub fn of_usage(error: &clap::Error) -> Self {
        if error.use_stderr() {
            Self::Usage
        } else {
            Self::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_exit_with_64() {
        for (arguments, exit) in [
            (vec!["kuroshio", "--help"], Exit::Done),
            (vec!["kuroshio", "--version"], Exit::Done),
            (vec!["kuroshio", "run", "--help"], Exit::Done),
            (vec!["kuroshio"], Exit::Usage),
            (vec!["kuroshio", "run"], Exit::Usage),
            (vec!["kuroshio", "translate"], Exit::Usage),
            (vec!["kuroshio", "resume"], Exit::Usage),
            (
                vec!["kuroshio", "resume", "tw-jp", "--partition", "1"],
                Exit::Usage,
            ),
            (vec!["kuroshio", "demo", "--seconds", "0"], Exit::Usage),
            (vec!["kuroshio", "completions", "cobol"], Exit::Usage),
        ] {
            let error = Cli::try_parse_from(&arguments).unwrap_err();
            assert_eq!(Exit::of_usage(&error), exit, "{arguments:?}");
        }
    }

    #[test]
    fn groups_may_be_listed_and_repeated() {
        let ends = [
            "kuroshio", "failover", "--config", "f", "--from", "a", "--to", "b",
        ];
        for groups in [vec!["--group", "g", "h"], vec!["--group", "g", "--group", "h"]] {
            let cli = Cli::try_parse_from(ends.iter().chain(&groups)).unwrap();
            assert!(matches!(cli.command, Command::Failover(failover) if failover.groups == ["g", "h"]));
        }
        assert!(Cli::try_parse_from(ends).is_err());
    }

    #[test]
    fn flows_may_be_repeated() {
        let cli =
            Cli::try_parse_from(["kuroshio", "run", "--config", "f", "--flow", "a", "--flow", "b"]).unwrap();
        assert!(matches!(cli.command, Command::Run(run) if run.selected.flows == ["a", "b"]));
    }
}
