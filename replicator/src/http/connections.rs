//! Connections to the server: so many, for so long, of so many bytes. Whoever is slow or silent holds a place and nothing else, and gives it
//! up to who asks.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::Accept;
use tokio_util::sync::CancellationToken;

use super::tls::Identity;

/// Connections at a time. Of one more the one that has been silent longest gives its place up.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How long callers are waited for.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// A handshake, and the head of a request, also until its first byte.
    pub(super) head: Duration,
    /// A connection takes no more requests this long after it was accepted; callers that keep connections open begin a new one.
    pub(super) life: Duration,
}

pub(super) const TIMES: Times = Times {
    head: Duration::from_secs(10),
    life: Duration::from_secs(60),
};

/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// Bytes that are held of a connection in either direction. What is more of an answer waits where it is.
const BUFFER: usize = 64 << 10;

/// A connection, as far as others must know.
#[derive(Default)]
struct Caller {
    /// A request is being answered.
    busy: AtomicBool,
    /// Its place is wanted.
    away: CancellationToken,
}

impl Caller {
    fn is_silent(&self) -> bool {
        !self.busy.load(Ordering::Relaxed) && !self.away.is_cancelled()
    }
}

/// Takes connections until `stop`, and answers what has been asked by then. All of it is one task, which takes its turns with the others.
pub(super) async fn serve(
    mut listener: TcpListener,
    mut identity: Option<Identity>,
    router: Router,
    times: Times,
    stop: CancellationToken,
) {
    // The oldest first.
    let mut callers: BTreeMap<u64, Arc<Caller>> = BTreeMap::new();
    let mut connections = FuturesUnordered::new();
    let mut number = 0;
    loop {
        let full = callers.len() >= CONNECTIONS_MAX;
        let silent = callers
            .values()
            .find(|caller| full && caller.is_silent())
            .cloned();
        let place = callers.len() < CONNECTIONS_MAX || callers.len() == CONNECTIONS_MAX && silent.is_some();
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(gone) = connections.next() => {
                callers.remove(&gone);
                continue;
            }
            // Logs and waits where there are no more files to be had.
            (stream, _) = Listener::accept(&mut listener), if place => stream,
        };
        if let Some(silent) = silent {
            silent.away.cancel();
        }
        number += 1;
        let caller = Arc::new(Caller::default());
        callers.insert(number, Arc::clone(&caller));
        let handshake = match &mut identity {
            Some(identity) => Err(identity.accept(stream)),
            None => Ok(stream),
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.push(async move {
            tokio::select! {
                () = caller.away.cancelled() => {}
                () = connection(handshake, router, times, &caller, &stop) => {}
            }
            number
        });
    }
    while connections.next().await.is_some() {}
}

/// A connection, or one that is to be encrypted first.
async fn connection(
    stream: Result<TcpStream, Accept<TcpStream>>,
    router: Router,
    times: Times,
    caller: &Arc<Caller>,
    stop: &CancellationToken,
) {
    match stream {
        Ok(stream) => talk(stream, router, times, caller, stop).await,
        Err(handshake) => match timeout(times.head, handshake).await {
            Ok(Ok(stream)) => talk(stream, router, times, caller, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "a caller of the HTTP server made no TLS of it"),
            Err(_) => tracing::debug!("a caller of the HTTP server did not end its handshake"),
        },
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    times: Times,
    caller: &Arc<Caller>,
    stop: &CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let answer = service_fn(|request| {
        let (caller, answer) = (Arc::clone(caller), service.call(request));
        caller.busy.store(true, Ordering::Relaxed);
        async move {
            let answer = answer.await;
            caller.busy.store(false, Ordering::Relaxed);
            answer
        }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = stop.cancelled() => Err(()),
        () = sleep(times.life) => Err(()),
    };
    let ended = match ended {
        Ok(ended) => Ok(ended),
        Err(()) => {
            connection.as_mut().graceful_shutdown();
            timeout(times.head, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a caller of the HTTP server was cut off"),
        Err(_) => tracing::debug!("a caller of the HTTP server was too slow"),
    }
}
