//! SASL in Kafka's requests: SaslHandshake names the mechanism, SaslAuthenticate carries its messages (KIP-43, KIP-152, KIP-368).

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rsasl::prelude::{MessageSent, SASLClient, Session, SessionError, State};
use rsasl::property::{AuthId, Password};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::{Error, Unreachable, kafka_name};
use crate::settings::{Credentials, Sasl};

/// Says who we are, and hears for how long that holds; `None`: until the connection ends.
pub(crate) async fn authenticate(
    connection: &Connection,
    sasl: &Sasl,
) -> Result<Option<Duration>, Unreachable> {
    let mechanism = mechanism(sasl);
    let refused = |why: String| Unreachable::Sasl(format!("{}: {why}", whom(sasl)).into());
    let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    let offered = connection
        .ask_alone(&handshake)
        .await
        .map_err(|error| not_asked(&error))?;
    if let Some(code) = ResponseError::try_from_code(offered.error_code) {
        let mechanisms: Vec<&str> = offered.mechanisms.iter().map(|name| &**name).collect();
        let why = format!(
            "{}; the listener offers {}",
            kafka_name(code),
            mechanisms.join(", ")
        );
        return Err(refused(why));
    }
    let mut dialogue = Dialogue::begin(sasl).await.map_err(refused)?;
    let mut message = dialogue.next(&[]).map_err(refused)?;
    loop {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.unwrap_or_default().into());
        let answer = connection
            .ask_alone(&request)
            .await
            .map_err(|error| not_asked(&error))?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let words = answer.error_message.as_deref().unwrap_or_default();
            return Err(refused(format!("{}: {words}", kafka_name(code))));
        }
        message = dialogue.next(&answer.auth_bytes).map_err(refused)?;
        if message.is_none() {
            let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
            return Ok((lifetime > 0).then(|| Duration::from_millis(lifetime)));
        }
    }
}

/// When to say it again: after 80 to 90 percent of the time that it holds, so that not all connections do so at once.
pub(crate) fn again_at(lifetime: Duration) -> Instant {
    Instant::now() + lifetime.mul_f64(0.8 + 0.1 * fastrand::f64())
}

fn mechanism(sasl: &Sasl) -> &'static str {
    match sasl {
        Sasl::Plain(_) => "PLAIN",
        Sasl::ScramSha256(_) => "SCRAM-SHA-256",
        Sasl::ScramSha512(_) => "SCRAM-SHA-512",
        Sasl::OauthBearer(_) => "OAUTHBEARER",
    }
}

/// How we tried, for people.
fn whom(sasl: &Sasl) -> String {
    let mechanism = mechanism(sasl);
    match sasl {
        Sasl::Plain(user) | Sasl::ScramSha256(user) | Sasl::ScramSha512(user) => {
            format!("as {} by {mechanism}", user.username)
        }
        Sasl::OauthBearer(_) => format!("by {mechanism}"),
    }
}

fn not_asked(error: &Error) -> Unreachable {
    match error {
        Error::Disconnected { why, .. } => Unreachable::Sasl(
            format!(
                "(the broker closed the connection: {why}; a listener that wants another mechanism, or none?)"
            )
            .into(),
        ),
        other => Unreachable::Sasl(format!("({other})").into()),
    }
}

/// What is left to be said.
enum Dialogue {
    /// One message, and what the broker has to say against it.
    Once(Option<Vec<u8>>),
    Scram(Box<Session>),
}

impl Dialogue {
    async fn begin(sasl: &Sasl) -> Result<Self, String> {
        Ok(match sasl {
            Sasl::Plain(user) => {
                let message = ["", &user.username, user.password.reveal()].join("\0");
                Self::Once(Some(message.into_bytes()))
            }
            Sasl::OauthBearer(tokens) => {
                let token = tokens.get().await?;
                // RFC 7628 §3.1; Kafka's `OAuthBearerClientInitialResponse`.
                let message = format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.value.reveal());
                Self::Once(Some(message.into_bytes()))
            }
            Sasl::ScramSha256(user) | Sasl::ScramSha512(user) => {
                Self::Scram(Box::new(scram(mechanism(sasl), user)?))
            }
        })
    }

    /// What to send after this answer; `None`: all is said. A broker that does not know the password itself is found out.
    fn next(&mut self, answer: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Once(message) => match message.take() {
                Some(message) => Ok(Some(message)),
                // RFC 7628 §3.2.3: why the token was not taken, before the broker ends it.
                None if answer.is_empty() => Ok(None),
                None => Err(String::from_utf8_lossy(answer).into_owned()),
            },
            Self::Scram(session) => {
                let mut message = Vec::new();
                let input = (!answer.is_empty()).then_some(answer);
                let state = session
                    .step(input, &mut message)
                    .map_err(|error| error.to_string())?;
                Ok(match state {
                    State::Running | State::Finished(MessageSent::Yes) => Some(message),
                    State::Finished(MessageSent::No) => None,
                })
            }
        }
    }
}

fn scram(mechanism: &'static str, user: &Credentials) -> Result<Session, String> {
    let config = SASLConfig::builder()
        .with_default_mechanisms()
        .with_callback(Asked(user.clone()))
        .map_err(|error| error.to_string())?;
    let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| error.to_string())?;
    SASLClient::new(config)
        .start_suggested(&[name])
        .map_err(|error| error.to_string())
}

/// What the mechanism asks for.
struct Asked(Credentials);

impl SessionCallback for Asked {
    fn callback(
        &self,
        _: &SessionData,
        _: &Context<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        request
            .satisfy::<AuthId>(&self.0.username)?
            .satisfy::<Password>(self.0.password.reveal().as_bytes())?;
        Ok(())
    }
}
