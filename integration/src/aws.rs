//! What gives AWS credentials on EKS: STS, for web identities (IRSA) and roles, and the agent of EKS Pod Identity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::spec::IAM_KEYS;

/// Of whom credentials are given, by this token. It has no character that forms encode.
const TOKEN: &str = "planted-identity";

/// A running server of credentials; it ends with this value.
pub struct Aws {
    url: String,
    state: Arc<Given>,
    task: AbortHandle,
}

struct Given {
    life: Duration,
    /// By key.
    count: [AtomicU64; IAM_KEYS.len()],
}

impl Aws {
    /// Gives credentials that are good for `life`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(life: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
        let state = Arc::new(Given {
            life,
            count: Default::default(),
        });
        let router = axum::Router::new()
            .route("/", post(sts))
            .route("/v1/credentials", get(agent))
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { url, state, task })
    }

    /// What a web identity, or a container, has to show.
    #[must_use]
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Where STS is.
    #[must_use]
    pub fn sts(&self) -> String {
        self.url.clone()
    }

    /// Where the agent gives the credentials of a container.
    #[must_use]
    pub fn agent(&self) -> String {
        format!("{}/v1/credentials", self.url)
    }

    /// How often credentials with this key of [`IAM_KEYS`] were given.
    #[must_use]
    pub fn given(&self, key: &str) -> u64 {
        let of = IAM_KEYS.iter().zip(&self.state.count);
        of.filter(|((id, _), _)| *id == key)
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// For a while.
struct Credentials {
    key: &'static str,
    secret: &'static str,
    /// The validator of the tests can read it.
    session: String,
    /// RFC 3339.
    expires: String,
}

impl Given {
    fn give(&self, kind: usize) -> Credentials {
        let ((key, secret), count) = (IAM_KEYS[kind], &self.count[kind]);
        count.fetch_add(1, Ordering::Relaxed);
        // Whole seconds, as AWS writes them.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = Duration::from_secs((now + self.life).as_secs());
        Credentials {
            key,
            secret,
            session: format!("until-{}", expires.as_millis()),
            expires: humantime::format_rfc3339_seconds(UNIX_EPOCH + expires).to_string(),
        }
    }
}

/// AssumeRole and AssumeRoleWithWebIdentity, in the query protocol.
async fn sts(State(given): State<Arc<Given>>, headers: HeaderMap, body: String) -> Response {
    let fields: BTreeMap<&str, &str> = body
        .split('&')
        .filter_map(|field| field.split_once('='))
        .collect();
    let field = |name| fields.get(name).copied().unwrap_or_default();
    let action = field("Action");
    // As somebody else, who has signed this.
    let signed = headers
        .get(header::AUTHORIZATION)
        .and_then(|signature| signature.to_str().ok())
        .is_some_and(|signature| signature.contains(&format!("Credential={}/", IAM_KEYS[0].0)));
    let kind = match action {
        "AssumeRoleWithWebIdentity" if field("WebIdentityToken") == TOKEN => 1,
        "AssumeRole" if signed => 3,
        _ => {
            let why = "<Code>AccessDenied</Code><Message>nobody known</Message>";
            let answer = format!("<ErrorResponse><Error><Type>Sender</Type>{why}</Error></ErrorResponse>");
            return (StatusCode::FORBIDDEN, answer).into_response();
        }
    };
    let Credentials {
        key,
        secret,
        session,
        expires,
    } = given.give(kind);
    let credentials = format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{session}</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    );
    let answer = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{credentials}\
         </{action}Result></{action}Response>"
    );
    ([(header::CONTENT_TYPE, "text/xml")], answer).into_response()
}

/// As EKS Pod Identity's agent answers containers.
async fn agent(State(given): State<Arc<Given>>, headers: HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    if shown.is_none_or(|shown| shown.as_bytes() != TOKEN.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, "nobody known").into_response();
    }
    let given = given.give(2);
    axum::Json(json!({
        "AccessKeyId": given.key, "SecretAccessKey": given.secret, "Token": given.session, "Expiration": given.expires,
    }))
    .into_response()
}
