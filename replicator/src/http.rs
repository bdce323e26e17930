//! The HTTP server: the page, metrics, probes, status, and, where `http.admin` allows them, commands.

mod commands;
mod connections;
mod documents;
mod tls;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kuroshio_core::control::Command;
use kuroshio_core::secret::Secret;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::HttpTls;
use crate::control::Asked;
use crate::metrics::Metrics;
use crate::status::{ClusterStatus, Health, Status};
use crate::{page, reload};
use connections::TIMES;

/// Draws up a part of `/status`.
pub type Draw<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What the server shows.
#[derive(Clone)]
pub struct Shown {
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/livez` and `/readyz`.
    pub health: Arc<Health>,
    /// `/status`: with ten thousand partitions it takes milliseconds, so it is drawn up when somebody asks.
    pub status: Draw<Status>,
    /// Its clusters alone.
    pub clusters: Draw<Vec<ClusterStatus>>,
    /// Where commands go, by flow; `None`: they are not taken (`http.admin`).
    pub commands: Option<Arc<BTreeMap<Arc<str>, mpsc::Sender<Asked>>>>,
    /// Where it is asked for a look at the configuration file; `None`: that is not asked for (`http.admin`).
    pub reload: Option<mpsc::Sender<reload::Asked>>,
    /// What callers must show (`http.token`), as it is now, but for probes and health checks, which cannot.
    pub token: watch::Receiver<Option<Secret>>,
}

/// Where callers come in.
pub struct Door {
    listener: TcpListener,
    identity: Option<tls::Identity>,
}

impl Door {
    /// The address, with the port that was given where none was asked for.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Takes the address, and reads who answers there.
///
/// # Errors
/// It is in use or not ours, or the files cannot be used; the text names it.
pub async fn bind(address: SocketAddr, tls: Option<HttpTls>) -> io::Result<Door> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("http.listen: cannot listen on {address}: {error}"),
        )
    };
    Ok(Door {
        identity: tls.map(tls::Identity::new).transpose()?,
        listener: TcpListener::bind(address).await.map_err(explain)?,
    })
}

/// Serves until `stop`, then answers the requests that have begun.
pub async fn serve(door: Door, shown: Shown, stop: CancellationToken) {
    connections::serve(door.listener, door.identity, router(shown), TIMES, stop).await;
}

fn router(shown: Shown) -> Router {
    let documents = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/", get(show))
        .route_layer(from_fn_with_state(documents::room(), documents::hold));
    let closed = documents
        .route("/reload", post(commands::reload))
        .route("/flows/{flow}/pause", commands::tells(Command::Pause))
        .route("/flows/{flow}/resume", commands::tells(Command::Resume))
        .route("/page.css", get(async || asset("text/css", page::STYLE)))
        .route("/page.js", get(async || asset("text/javascript", page::SCRIPT)))
        .route_layer(from_fn_with_state(shown.clone(), token::ask));
    // The kubelet and Route 53 have no token to show.
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health/region/{alias}", get(region))
        .merge(closed)
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.text() {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn livez(State(shown): State<Shown>) -> (StatusCode, String) {
    let stuck = shown.health.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = stuck
        .iter()
        .map(|(pump, since)| format!("pump {pump} has been stuck for {} s\n", since.as_secs()));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, String) {
    let awaited = shown.health.awaited();
    if awaited.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = awaited.iter().map(|what| format!("waiting for {what}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

/// How much of the status is wanted.
#[derive(Debug, Deserialize)]
struct Wanted {
    /// So many lanes and groups of each flow, those worst off; absent: all.
    top: Option<usize>,
}

async fn status(State(shown): State<Shown>, Query(wanted): Query<Wanted>) -> Json<Status> {
    let mut status = (shown.status)();
    if let Some(top) = wanted.top {
        status.flows.iter_mut().for_each(|flow| flow.shorten(top));
    }
    Json(status)
}

/// 200 while the region is healthy, 503 if not or not known yet, 404 for an alias of no cluster here. Why it is not names brokers, which is
/// for those who may see them.
async fn region(
    State(shown): State<Shown>,
    Path(alias): Path<String>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let clusters = (shown.clusters)();
    let Some(cluster) = clusters.iter().find(|cluster| cluster.alias == alias) else {
        return (
            StatusCode::NOT_FOUND,
            format!("no flow here has a cluster {alias}\n"),
        );
    };
    match cluster.healthy {
        Some(true) => (StatusCode::OK, "healthy\n".to_owned()),
        Some(false) if !shown.is_open_to(&headers) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not healthy\n".to_owned())
        }
        Some(false) => {
            let why = cluster
                .error
                .as_deref()
                .unwrap_or("it answers again, not for long enough");
            (StatusCode::SERVICE_UNAVAILABLE, format!("not healthy: {why}\n"))
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "not checked yet\n".to_owned()),
    }
}

/// Which part of the page is wanted.
#[derive(Debug, Deserialize)]
struct Part {
    /// `main`: what changes; absent: all of it.
    part: Option<String>,
}

async fn show(State(shown): State<Shown>, Query(part): Query<Part>) -> Response {
    let status = (shown.status)();
    let html = match part.part.as_deref() {
        Some("main") => page::middle(&status).into_string(),
        _ => page::page(&status),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Nothing else is loaded and no other script runs, whatever a name or an error may contain.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, html).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests;
