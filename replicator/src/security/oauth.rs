//! Bearer tokens for client credentials (RFC 6749 §4.4), as Kafka's own clients ask for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use kuroshio_core::secret::{Secret, Token};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::Certificate;

use crate::asking;
use crate::board::wall_ms;
use crate::config::TokenServer;

/// The whole of an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// An answer is no larger.
const LARGEST: u64 = 1 << 20;
/// Of a token that does not say for how long it is good, in milliseconds.
const UNSAID: i64 = 300_000;

/// Asks a token server.
pub(super) struct Asker {
    server: TokenServer,
    ca_file: Option<PathBuf>,
}

impl Asker {
    /// The server's certificate is trusted by the system's roots and those of `ca_file`.
    pub(super) fn new(server: TokenServer, ca_file: Option<PathBuf>) -> Self {
        Self { server, ca_file }
    }

    /// Blocks its thread meanwhile; the runtime goes on with its others.
    pub(super) fn ask(&self) -> Result<Token, String> {
        let asked = tokio::task::block_in_place(|| ask(&self.server, self.ca_file.as_deref()));
        asked.map_err(|why| format!("token server {}: {why}", self.server.url))
    }
}

fn ask(server: &TokenServer, ca_file: Option<&Path>) -> Result<Token, String> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(asking::tls(roots(ca_file)?))
        .build()
        .into();
    let who = BASE64_STANDARD.encode(format!("{}:{}", server.client_id, server.client_secret.reveal()));
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(server.scope.as_deref().map(|scope| ("scope", scope)));
    let issued = wall_ms();
    let mut answer = agent
        .post(&server.url)
        .header("Authorization", format!("Basic {who}"))
        .header("Accept", "application/json")
        .send_form(form)
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(LARGEST).read_to_string();
    let body: Value = serde_json::from_str(&body.map_err(|error| error.to_string())?).unwrap_or_default();
    if !status.is_success() {
        // RFC 6749 §5.2. What else is in it may be anything.
        let why = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        return Err(format!("{status} {} {}", why("error"), why("error_description"))
            .trim_end()
            .to_owned());
    }
    token(&body, issued)
}

/// What was answered.
fn token(body: &Value, issued: i64) -> Result<Token, String> {
    let text = body.get("access_token").and_then(Value::as_str);
    let text = text.ok_or("its answer has no access_token")?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its access_token has characters that no token has".to_owned());
    }
    let said = body
        .get("expires_in")
        .and_then(seconds)
        .map(|life| issued + 1_000 * life);
    Ok(Token {
        value: Secret::from(text),
        issued,
        expires: said.or_else(|| expiry(text)).unwrap_or(issued + UNSAID),
    })
}

fn seconds(value: &Value) -> Option<i64> {
    let text = || value.as_str()?.parse().ok();
    // Some servers write it as a text; nobody means centuries.
    value
        .as_u64()
        .or_else(text)
        .and_then(|seconds: u64| i64::try_from(seconds.min(1 << 32)).ok())
}

/// `exp` of a JWT (RFC 7519), which others check.
fn expiry(token: &str) -> Option<i64> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(1_000 * seconds(claims.get("exp")?)?)
}

fn roots(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let mut roots = asking::system_roots();
    if let Some(file) = ca_file {
        roots.extend(asking::roots_of(file)?);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let issued = 1_000_000_000;
        let jwt = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1000600}"#));
        for (body, expected) in [
            (json!({ "access_token": "t", "expires_in": 60 }), Ok(60)),
            (json!({ "access_token": "t", "expires_in": "60" }), Ok(60)),
            (json!({ "access_token": jwt }), Ok(600)),
            (json!({ "access_token": jwt, "expires_in": 60 }), Ok(60)),
            (json!({ "access_token": "t" }), Ok(300)),
            (
                json!({ "access_token": "t", "expires_in": u64::MAX }),
                Ok(1 << 32),
            ),
            (json!({}), Err("its answer has no access_token")),
            (
                json!({ "access_token": 5 }),
                Err("its answer has no access_token"),
            ),
            (
                json!({ "access_token": "a\nb" }),
                Err("its access_token has characters that no token has"),
            ),
        ] {
            let life = token(&body, issued).map(|token| (token.expires - issued) / 1_000);
            assert_eq!(
                life.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| *text),
                "{body}"
            );
        }
    }
}
