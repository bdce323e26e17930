//! A token server: gives unsigned JSON Web Tokens for client credentials, over TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::serve::Listener;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::Identity;

/// A running token server; it ends with this value.
pub struct TokenServer {
    url: String,
    state: Arc<Clients>,
    task: AbortHandle,
}

/// Who is given tokens.
struct Clients {
    id: String,
    secret: String,
    life: Duration,
    given: AtomicU64,
    refused: AtomicU64,
}

impl TokenServer {
    /// Shows this certificate, for `localhost`, and gives the client tokens that are good for `life`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(identity: &Identity, (id, secret): (&str, &str), life: Duration) -> Result<Self> {
        let chain =
            CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}/token", listener.local_addr()?.port());
        let state = Arc::new(Clients {
            id: id.to_owned(),
            secret: secret.to_owned(),
            life,
            given: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let listener = Secure {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        };
        let router = axum::Router::new()
            .route("/token", post(token))
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { url, state, task })
    }

    /// Where tokens are asked for.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many tokens were given, and how many refused.
    #[must_use]
    pub fn given(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.state.given), count(&self.state.refused))
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn token(
    State(clients): State<Arc<Clients>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let who = BASE64_STANDARD.encode(format!("{}:{}", clients.id, clients.secret));
    let known = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|said| said.as_bytes() == format!("Basic {who}").as_bytes());
    if !known || body != "grant_type=client_credentials&scope=kafka" {
        clients.refused.fetch_add(1, Ordering::Relaxed);
        let why = json!({ "error": "invalid_client", "error_description": "nobody known" });
        return (StatusCode::UNAUTHORIZED, Json(why));
    }
    clients.given.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({ "sub": clients.id, "iat": now.as_secs(), "exp": (now + clients.life).as_secs() });
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.", part(json!({ "alg": "none" })), part(claims));
    let answer =
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": clients.life.as_secs() });
    (StatusCode::OK, Json(answer))
}

/// Connections with TLS; those that fail at it are dropped.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
