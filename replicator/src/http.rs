//! The HTTP server: the page, metrics, probes, status, and, where `http.admin` allows them, commands.

mod commands;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use crate::control::Asked;
use crate::metrics::Metrics;
use crate::page;
use crate::status::{ClusterStatus, Health, Status};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection that waits for a request this long after it was accepted is closed: slow or silent callers
/// cannot hold places for ever, and callers that keep connections open begin a new one.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

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
}

/// Takes the address.
///
/// # Errors
/// It is in use or not ours; the text names it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("http.listen: cannot listen on {address}: {error}"),
        )
    };
    TcpListener::bind(address).await.map_err(explain)
}

/// Serves until `stop`, then answers the requests that have begun.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) -> io::Result<()> {
    let listener = Limited {
        listener,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    axum::serve(listener, router(shown))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/health/region/{alias}", get(region))
        .route("/flows/{flow}/resume", post(commands::resume))
        .route("/", get(show))
        .route("/page.css", get(async || asset("text/css", page::STYLE)))
        .route("/page.js", get(async || asset("text/javascript", page::SCRIPT)))
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

/// 200 while the region is healthy, 503 if not or not known yet, 404 for an alias of no cluster here.
async fn region(State(shown): State<Shown>, Path(alias): Path<String>) -> (StatusCode, String) {
    let clusters = (shown.clusters)();
    let Some(cluster) = clusters.iter().find(|cluster| cluster.alias == alias) else {
        return (
            StatusCode::NOT_FOUND,
            format!("no flow here has a cluster {alias}\n"),
        );
    };
    match cluster.healthy {
        Some(true) => (StatusCode::OK, "healthy\n".to_owned()),
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

/// Accepts a limited number of connections of limited life; axum's own listener limits neither.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; were it, connections would go unlimited rather than unanswered.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (
            Connection {
                stream,
                end: Box::pin(sleep(CONNECTION_LIFE)),
                _place: place,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it waits for bytes after its time.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        self.end
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            return Poll::Ready(written);
        }
        self.end
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
