//! The HTTP server: the page, metrics, probes, status. It reads and never changes anything.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn shown(health: Arc<Health>, status: Status) -> Shown {
        let clusters = status.clusters.clone();
        Shown {
            metrics: Arc::new(Metrics::new().unwrap()),
            health,
            status: Arc::new(move || status.clone()),
            clusters: Arc::new(move || clusters.clone()),
        }
    }

    async fn answer(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_server_shows_what_it_is_given_and_stops() {
        let health = Arc::new(Health::default());
        let latch = health.latch("flow tw-jp");
        let status = Status {
            instance: "pod-0".into(),
            ..Status::default()
        };
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, shown(health, status), stop.clone()));

        assert!(answer(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let unready = answer(address, "/readyz").await;
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.ends_with("waiting for flow tw-jp\n"),
            "{unready}"
        );
        drop(latch);
        assert!(answer(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let exposition = answer(address, "/metrics").await;
        assert!(
            exposition.contains("\r\ncontent-type: text/plain; version=0.0.4"),
            "{exposition}"
        );
        assert!(
            exposition.contains("kuroshio_build_info{version="),
            "{exposition}"
        );
        assert!(answer(address, "/status").await.contains(r#""instance":"pod-0""#));
        assert!(
            answer(address, "/")
                .await
                .contains("<title>Kuroshio pod-0</title>")
        );
        assert!(!answer(address, "/?part=main").await.contains("<title>"));
        assert!(answer(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn status_and_health_are_told_as_they_are() {
        let cluster = |alias: &str, healthy| ClusterStatus {
            alias: alias.into(),
            healthy,
            error: Some("no answer".into()),
            ..Default::default()
        };
        let lane = |partition, lag| crate::status::LaneStatus {
            topic: format!("t{partition}"),
            lag_seconds: Some(lag),
            ..Default::default()
        };
        let flow = crate::status::FlowStatus {
            partitions: 3,
            lanes: vec![lane(0, 1.0), lane(1, 3.0), lane(2, 2.0)],
            ..Default::default()
        };
        let status = Status {
            clusters: vec![
                cluster("tw", Some(true)),
                cluster("jp", Some(false)),
                cluster("sg", None),
            ],
            flows: vec![flow],
            ..Status::default()
        };
        let shown = shown(Arc::new(Health::default()), status);
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, shown, stop.clone()));
        for (alias, code, words) in [
            ("tw", 200, "healthy"),
            ("jp", 503, "no answer"),
            ("sg", 503, "not checked"),
            ("us", 404, "us"),
        ] {
            let answer = answer(address, &format!("/health/region/{alias}")).await;
            let start = format!("HTTP/1.1 {code} ");
            assert!(answer.starts_with(&start) && answer.contains(words), "{answer}");
        }
        let all = answer(address, "/status").await;
        assert!(all.contains("t0") && all.contains("t1") && all.contains("t2"));
        let top = answer(address, "/status?top=1").await;
        assert!(
            top.contains("t1") && !top.contains("t0") && !top.contains("t2"),
            "{top}"
        );
        assert!(top.contains(r#""partitions":3"#), "{top}");
        assert!(answer(address, "/status?top=x").await.starts_with("HTTP/1.1 400"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("http.listen: cannot listen on {address}:")),
            "{error}"
        );
    }
}
