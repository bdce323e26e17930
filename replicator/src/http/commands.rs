//! Commands over HTTP: to whom they are told, and from whom they are taken.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{MethodRouter, post};
use kuroshio_core::control::{Command, Scope};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::Shown;
use crate::control::{Asked, Taken};

/// How long a command may take to be noted.
const COMMAND: Duration = Duration::from_secs(8);

/// The partitions that a command is about.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    topic: Option<String>,
    partition: Option<i32>,
}

impl About {
    fn scope(self) -> Result<Scope, Refused> {
        let bad = |why| refused(StatusCode::BAD_REQUEST, why);
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match (&self.topic, self.partition) {
            (Some(topic), _) if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) => {
                bad("topic: this is not the name of a topic")
            }
            (None, Some(_)) => bad("partition: name the topic too"),
            (_, Some(partition)) if partition < 0 => bad("partition: is not negative"),
            _ => Ok(Scope {
                topic: self.topic.map(Into::into),
                partition: self.partition,
            }),
        }
    }
}

/// Why a command was not taken.
pub(super) type Refused = (StatusCode, String);

fn refused<T>(status: StatusCode, why: &str) -> Result<T, Refused> {
    Err((status, format!("{why}\n")))
}

/// What takes commands, where they are taken.
fn open<T>(line: Option<&T>) -> Result<&T, Refused> {
    let why = "commands over HTTP are off; set http.admin: true in the configuration";
    line.map_or_else(|| refused(StatusCode::FORBIDDEN, why), Ok)
}

/// Browsers say where a request comes from; whoever is to use this is none.
fn from_no_page(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(header::ORIGIN) {
        let why = "commands are not taken from web pages";
        return refused(StatusCode::FORBIDDEN, why);
    }
    Ok(())
}

/// Has the configuration file read now.
pub(super) async fn reload(State(shown): State<Shown>, headers: HeaderMap) -> Result<String, Refused> {
    from_no_page(&headers)?;
    let line = open(shown.reload.as_ref())?;
    let (answer, answered) = oneshot::channel();
    if line.try_send(answer).is_err() {
        let why = "the file is being read already; try again";
        return refused(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    match tokio::time::timeout(COMMAND, answered).await {
        Ok(Ok(Ok(done))) => Ok(format!("{done}\n")),
        Ok(Ok(Err(why))) => refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
        _ => refused(StatusCode::GATEWAY_TIMEOUT, "no answer"),
    }
}

/// Has partitions of a flow stand still, or what stands still go on and what is quarantined tried at once.
pub(super) fn tells(command: Command) -> MethodRouter<Shown> {
    post(move |shown, flow, about, headers| told(command, shown, flow, about, headers))
}

async fn told(
    command: Command,
    State(shown): State<Shown>,
    Path(flow): Path<String>,
    Query(about): Query<About>,
    headers: HeaderMap,
) -> Result<String, Refused> {
    from_no_page(&headers)?;
    let commands = open(shown.commands.as_ref())?;
    let Some(line) = commands.get(&*flow) else {
        return refused(StatusCode::NOT_FOUND, &format!("no flow {flow} runs here"));
    };
    let scope = about.scope()?;
    let (answer, answered) = oneshot::channel();
    let asked = Asked {
        command,
        scope,
        answer,
    };
    if line.try_send(asked).is_err() {
        let why = format!("flow {flow} takes no command now; try again");
        return refused(StatusCode::SERVICE_UNAVAILABLE, &why);
    }
    match tokio::time::timeout(COMMAND, answered).await {
        Ok(Ok(Ok(Taken { here, noted }))) => {
            let others = if noted {
                "all pods are told"
            } else {
                "no other pod is told, because no topic of the flow is left on its target to note it with"
            };
            Ok(match command {
                Command::Pause => {
                    format!("flow {flow}: {here} partitions of this pod are paused; {others}\n")
                }
                Command::Resume => format!(
                    "flow {flow}: {here} paused or quarantined partitions of this pod go on or are tried at once; {others}\n"
                ),
            })
        }
        Ok(Ok(Err(why))) => refused(StatusCode::SERVICE_UNAVAILABLE, &why),
        Ok(Err(_)) => refused(StatusCode::SERVICE_UNAVAILABLE, &format!("flow {flow} has ended")),
        Err(_) => refused(
            StatusCode::GATEWAY_TIMEOUT,
            &format!("flow {flow} has not answered"),
        ),
    }
}
