//! The binary: arguments, logs, configuration, run, exit code.

use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use kuroshio::app::{self, Job, Stop};
use kuroshio::cli::{
    Acls, Between, Check, Cli, Command, ConfigCommand, Demo, Exit, IamPolicy, InstanceAt, Output, Plan,
    Privileged, Run, StatusOf, Tell, Verify,
};
use kuroshio::config::{self, Config, Environment, Log, LogFormat, LogLevel, Mistakes};
use kuroshio::failover::{self, FailoverError, Moving, Request};
use kuroshio::plan::{self, PlanError};
use kuroshio::reload::{self, Followed};
use kuroshio::traces::{Traces, TracesError};
use kuroshio::verify::{self, VerifyError};
use kuroshio::{check, demo, import, logs, privilege, show, takeover};
use kuroshio_core::control;
use kuroshio_core::verify::Sample;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// For Rust and, by the feature `override`, for librdkafka's malloc too (DESIGN D5).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOSTNAME: &str = "HOSTNAME";

fn main() -> ExitCode {
    small_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = Exit::of_usage(&error);
            // Nobody is left to tell that the terminal is gone.
            return if error.print().is_ok() {
                exit.into()
            } else {
                Exit::Fault.into()
            };
        }
    };
    let environment = environment();
    let done = match cli.command {
        Command::Run(command) => run(&command, &environment),
        Command::Demo(command) => demo(&command, &environment),
        Command::Check(command) => checked(&command, &environment),
        Command::Plan(command) => planned(&command, &environment),
        Command::Verify(command) => verified(command, &environment),
        Command::IamPolicy(command) => iam_policy(command, &environment),
        Command::Acls(command) => acls(command, &environment),
        Command::Status(command) => status(&command),
        Command::Pause(command) => told(control::Command::Pause, &command),
        Command::Resume(command) => told(control::Command::Resume, &command),
        Command::Translate(command) => {
            let request = request(&command.ends, command.groups, command.topic, None);
            moved(&command.ends, &request, &environment)
        }
        Command::Failover(command) => {
            let moving = Moving {
                dry_run: command.dry_run,
                force: command.force,
            };
            let request = request(&command.ends, command.groups, None, Some(moving));
            moved(&command.ends, &request, &environment)
        }
        Command::Import {
            file,
            resume,
            offsets_topic,
        } => imported(&file, resume, offsets_topic.as_deref(), &environment),
        Command::Config(ConfigCommand::Schema) => serde_json::to_string_pretty(config::schema())
            .map_err(anyhow::Error::from)
            .and_then(|schema| say(&format!("{schema}\n")))
            .map(|()| Exit::Done),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kuroshio", &mut script);
            stdout()
                .write_all(&script)
                .map(|()| Exit::Done)
                .map_err(Into::into)
        }
    };
    done.unwrap_or_else(|error| failed(&error)).into()
}

/// Records are allocated and freed without pause; with transparent huge pages the kernel clears 2 MiB where a
/// few KiB are used: 28% of all samples, 0.8 µs per record. Only speed is lost where it is refused.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "transparent huge pages stay on");
    }
}

/// Tokens are asked for on one of its threads while the others go on: of one thread that could not be.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Variables whose name or value is not UTF-8 are none of ours. `HOSTNAME`, after which an instance is called that says no name, is
/// there in containers; shells keep it to themselves, and then it is what the kernel says.
fn environment() -> Environment {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let mut environment: Environment = std::env::vars_os().filter_map(utf8).collect();
    let host = || nix::unistd::gethostname().ok()?.into_string().ok();
    if !environment.contains_key(HOSTNAME)
        && let Some(host) = host()
    {
        environment.insert(HOSTNAME.to_owned(), host);
    }
    environment
}

fn run(command: &Run, environment: &Environment) -> anyhow::Result<Exit> {
    let config = config::load(&command.selected.config, environment)?;
    let flows = config
        .selected_flows(command.selected.region.as_deref(), &command.selected.flows)?
        .into_iter()
        .cloned()
        .collect();
    let stop = Stop::default();
    let runtime = runtime()?;
    let traces = {
        let _within = runtime.enter();
        Traces::start(&config)?
    };
    let level = logs::init(config.log, rust_log(environment), traces.as_ref())?;
    let file = config::File::new(command.selected.config.clone(), environment.clone());
    let followed = Followed::new(file, level);
    let done = runtime.block_on(async {
        let signals = signals(stop.clone(), followed.ask.clone())?;
        let run = app::run(
            Job {
                config,
                flows,
                embedded: false,
                file: Some(followed),
            },
            stop.clone(),
        );
        tokio::select! {
            done = run => done.map_err(anyhow::Error::from),
            never = signals => never,
        }
    });
    if let Some(traces) = traces {
        traces.end();
    }
    // Threads that could not be drained end with the process.
    runtime.shutdown_background();
    done.map(|()| Exit::Done)
}

/// Stops on the first SIGTERM (a restart: keeps the place in the group) or SIGINT (for good: leaves it); reads the configuration file on
/// SIGHUP. Never ends by itself.
fn signals(
    stop: Stop,
    reload: mpsc::Sender<reload::Asked>,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => stop.stop(false),
                _ = interrupt.recv() => stop.stop(true),
                _ = hang_up.recv() => {
                    // What comes of it is logged. Where the line is full, it is being read anyway.
                    drop(reload.try_send(oneshot::channel().0));
                }
            }
        }
    })
}

fn demo(command: &Demo, environment: &Environment) -> anyhow::Result<Exit> {
    let log = Log {
        format: LogFormat::Text,
        level: LogLevel::Warn,
    };
    logs::init(log, rust_log(environment), None)?;
    let runtime = runtime()?;
    let options = demo::Options {
        seconds: command.seconds,
        rate: command.rate,
        http: command.http,
    };
    let verdict = runtime.block_on(demo::run(&options, say))?;
    runtime.shutdown_background();
    Ok(if verdict.holds() { Exit::Done } else { Exit::Failed })
}

fn checked(command: &Check, environment: &Environment) -> anyhow::Result<Exit> {
    let loaded = config::load(&command.selected.config, environment);
    let selected = loaded.as_ref().map_err(Clone::clone);
    let selected = selected.and_then(|config| {
        let flows = config.selected_flows(command.selected.region.as_deref(), &command.selected.flows)?;
        Ok((config, flows))
    });
    let (config, flows) = match (selected, command.output) {
        (Ok(selected), _) => selected,
        (Err(mistakes), Output::Text) => return Err(mistakes.into()),
        (Err(mistakes), Output::Json) => {
            say(&json(
                &serde_json::json!({ "ok": false, "mistakes": mistakes.0 }),
            )?)?;
            return Ok(Exit::Usage);
        }
    };
    start_logs(config, environment)?;
    let runtime = runtime()?;
    let report = runtime.block_on(check::check(config, &flows, command.offline));
    say(&if command.output == Output::Json {
        json(&report)?
    } else {
        report.text()
    })?;
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}

fn planned(command: &Plan, environment: &Environment) -> anyhow::Result<Exit> {
    let config = config::load(&command.selected.config, environment)?;
    start_logs(&config, environment)?;
    let runtime = runtime()?;
    let planning = plan::plan(
        &config,
        command.selected.region.as_deref(),
        &command.selected.flows,
    );
    let report = match runtime.block_on(planning) {
        Ok(report) => report,
        Err(PlanError::Asked(mistakes)) => return Err(mistakes.into()),
        Err(error) => return Err(error.into()),
    };
    say(&match command.output {
        Output::Json => json(&report)?,
        Output::Text => report.text()?,
    })?;
    let idle = report.changes == 0 && report.problems == 0;
    Ok(if command.detailed_exitcode && !idle {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn verified(command: Verify, environment: &Environment) -> anyhow::Result<Exit> {
    let config = config::load(&command.selected.config, environment)?;
    start_logs(&config, environment)?;
    let request = verify::Request {
        region: command.selected.region,
        flows: command.selected.flows,
        topic: command.topic,
        since: command.since,
        sample: command.sample.map(|percent| Sample {
            percent,
            seed: command.seed.unwrap_or_else(|| fastrand::u64(..)),
        }),
    };
    let report = match runtime()?.block_on(verify::run(&config, &request)) {
        Ok(report) => report,
        Err(VerifyError::Asked(mistakes)) => return Err(mistakes.into()),
        Err(error) => return Err(error.into()),
    };
    say(&match command.output {
        Output::Json => json(&report)?,
        Output::Text => report.text()?,
    })?;
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}

fn iam_policy(command: IamPolicy, environment: &Environment) -> anyhow::Result<Exit> {
    let (config, privileges) = privileges(&command.of, environment)?;
    let arns = command.arns.into_iter().collect();
    let policies = privilege::policies(&config, &privileges, &arns)?;
    remark(&privilege::remarks(&config, &policies, &arns)?, &privileges)?;
    // One that was asked for is what AWS takes.
    let only = command.of.cluster.as_ref().and_then(|alias| policies.get(alias));
    say(&only.map_or_else(|| json(&policies), json)?)?;
    Ok(Exit::Done)
}

fn acls(command: Acls, environment: &Environment) -> anyhow::Result<Exit> {
    let (config, privileges) = privileges(&command.of, environment)?;
    remark(&[], &privileges)?;
    let granting = privilege::Granting {
        principal: command.principal,
        command_config: command.command_config,
    };
    say(&match command.of.output {
        Output::Json => json(&privilege::acls(&config, &privileges, &granting))?,
        Output::Text => privilege::commands(&config, &privileges, &granting),
    })?;
    Ok(Exit::Done)
}

fn privileges(
    asked: &Privileged,
    environment: &Environment,
) -> Result<(Config, privilege::Privileges), Mistakes> {
    let config = config::load(&asked.selected.config, environment)?;
    let flows = config.selected_flows(asked.selected.region.as_deref(), &asked.selected.flows)?;
    let privileges = privilege::on(privilege::privileges(&config, &flows), asked.cluster.as_deref())?;
    Ok((config, privileges))
}

/// What somebody should know, beside what may be piped to elsewhere.
fn remark(remarks: &[String], privileges: &privilege::Privileges) -> std::io::Result<()> {
    let wide = privilege::wide(privileges);
    let mut remarks = remarks.iter().chain(&wide);
    remarks.try_for_each(|remark| writeln!(stderr(), "# {remark}"))
}

fn instance(at: &InstanceAt) -> Result<show::Instance, show::ShowError> {
    show::Instance::new(&at.url, at.token.clone(), at.ca_file.as_deref())
}

fn status(command: &StatusOf) -> anyhow::Result<Exit> {
    let instance = instance(&command.instance)?;
    if command.watch {
        return instance.watch(command.output, say).map(|()| Exit::Done);
    }
    let status = instance.status()?;
    say(&match command.output {
        Output::Json => json(&status)?,
        Output::Text => show::text(&status),
    })?;
    Ok(Exit::Done)
}

fn told(what: control::Command, command: &Tell) -> anyhow::Result<Exit> {
    let instance = instance(&command.instance)?;
    say(&instance.tell(what, &command.flow, command.topic.as_deref(), command.partition)?)?;
    Ok(Exit::Done)
}

fn request(ends: &Between, groups: Vec<String>, topic: Option<String>, moving: Option<Moving>) -> Request {
    Request {
        from: ends.from.clone(),
        to: ends.to.clone(),
        groups,
        topic,
        count: ends.count,
        moving,
    }
}

fn moved(ends: &Between, request: &Request, environment: &Environment) -> anyhow::Result<Exit> {
    let config = config::load(&ends.config, environment)?;
    start_logs(&config, environment)?;
    let runtime = runtime()?;
    let report = match runtime.block_on(failover::run(&config, request)) {
        Ok(report) => report,
        Err(FailoverError::Asked(mistakes)) => return Err(mistakes.into()),
        Err(error) => return Err(error.into()),
    };
    say(&if ends.output == Output::Json {
        json(&report)?
    } else {
        report.text()
    })?;
    let looked = request.moving.is_none_or(|moving| moving.dry_run);
    Ok(match (looked, report.refused) {
        (true, true) => Exit::Failed,
        (true, false) if report.is_complete() => Exit::Done,
        (true, false) => Exit::Failed,
        (false, true) => Exit::Fault,
        (false, false) => Exit::Done,
    })
}

fn imported(
    file: &Path,
    resume: bool,
    offsets_topic: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<Exit> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"));
    let imported =
        text.and_then(|text| import::import(&text, offsets_topic).map_err(|error| error.to_string()));
    let imported = match imported {
        Ok(imported) => imported,
        Err(why) => {
            writeln!(stderr(), "kuroshio: {}: {why}", file.display())?;
            return Ok(Exit::Usage);
        }
    };
    let mut out = imported.config;
    if resume {
        let config = config::parse(&out, environment)?;
        start_logs(&config, environment)?;
        let runtime = runtime()?;
        out.push_str("\n# Taken over:\n");
        for line in runtime.block_on(takeover::run(&config, &imported.flows))? {
            out.push_str(&format!("# - {line}\n"));
        }
    }
    say(&out).map(|()| Exit::Done)
}

fn start_logs(config: &Config, environment: &Environment) -> Result<(), logs::LogError> {
    logs::init(config.log, rust_log(environment), None).map(|_| ())
}

fn rust_log(environment: &Environment) -> Option<&str> {
    environment.get("RUST_LOG").map(String::as_str)
}

fn json(document: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(document)?))
}

fn say(text: &str) -> anyhow::Result<()> {
    stdout().write_all(text.as_bytes()).map_err(Into::into)
}

/// Says why on stderr; mistakes in arguments and configuration are bad usage, all else is a fault.
fn failed(error: &anyhow::Error) -> Exit {
    let usage = error.is::<Mistakes>() || error.is::<logs::LogError>() || error.is::<TracesError>();
    let exit = if usage { Exit::Usage } else { Exit::Fault };
    match writeln!(stderr(), "kuroshio: {error:#}") {
        Ok(()) => exit,
        Err(_) => Exit::Fault,
    }
}
