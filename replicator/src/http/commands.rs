//! Commands over HTTP: to whom they are told, and from whom they are taken.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use kuroshio_core::control::Scope;
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
        let bad = |why: &str| Err((StatusCode::BAD_REQUEST, format!("{why}\n")));
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

/// Has what is quarantined of a flow tried at once.
pub(super) async fn resume(
    State(shown): State<Shown>,
    Path(flow): Path<String>,
    Query(about): Query<About>,
    headers: HeaderMap,
) -> Result<String, Refused> {
    let told = |status, why: String| Err((status, format!("{why}\n")));
    // Browsers say where a request comes from; whoever is to use this is none.
    if headers.contains_key(header::ORIGIN) {
        return told(
            StatusCode::FORBIDDEN,
            "commands are not taken from web pages".to_owned(),
        );
    }
    let Some(commands) = &shown.commands else {
        let why = "commands over HTTP are off; set http.admin: true in the configuration";
        return told(StatusCode::FORBIDDEN, why.to_owned());
    };
    let Some(line) = commands.get(&*flow) else {
        return told(StatusCode::NOT_FOUND, format!("no flow {flow} runs here"));
    };
    let scope = about.scope()?;
    let (answer, answered) = oneshot::channel();
    if line.try_send(Asked { scope, answer }).is_err() {
        let why = format!("flow {flow} takes no command now; try again");
        return told(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    match tokio::time::timeout(COMMAND, answered).await {
        Ok(Ok(Ok(Taken { here, noted }))) => {
            let others = if noted {
                "all pods are told"
            } else {
                "no other pod is told, because no topic of the flow is left on its target to note it with"
            };
            Ok(format!(
                "flow {flow}: {here} quarantined partitions of this pod are tried at once; {others}\n"
            ))
        }
        Ok(Ok(Err(why))) => told(StatusCode::SERVICE_UNAVAILABLE, why),
        Ok(Err(_)) => told(StatusCode::SERVICE_UNAVAILABLE, format!("flow {flow} has ended")),
        Err(_) => told(
            StatusCode::GATEWAY_TIMEOUT,
            format!("flow {flow} has not answered"),
        ),
    }
}
