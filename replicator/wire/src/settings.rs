//! Where a cluster is and how long we wait for it.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::secret::{Secret, Token};

/// Longest time to resolve a name, open a connection and agree on versions.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests written and not yet answered on one connection.
pub(crate) const IN_FLIGHT: usize = 32;
/// Largest answer accepted: one batch may exceed the size asked for (KIP-74), up to the broker's
/// `message.max.bytes`, and metadata of many thousand partitions take some MiB.
pub(crate) const MAX_FRAME: usize = 128 << 20;
/// A connection without traffic is dropped after this; brokers drop theirs after 10 minutes
/// (`connections.max.idle.ms`), and the first to go should be us.
pub(crate) const IDLE: Duration = Duration::from_secs(240);
/// TCP keepalive, so that a silent death of the peer (NAT, power) is noticed on quiet connections.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);
/// First and longest pause between attempts.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What a [`crate::Cluster`] needs to know.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The alias of the cluster, named in every error.
    pub alias: String,
    /// `host:port` of brokers to begin with; tried again whenever no known broker answers.
    pub bootstrap_servers: Vec<String>,
    /// Name under which brokers log and meter us.
    pub client_id: String,
    /// How streams are encrypted and authenticated.
    pub security: Security,
    /// Longest wait for one answer; joins and long reads add their own time. Default 10 s.
    pub request_timeout: Duration,
    /// Longest time of one call with all its retries; see [`crate::Cluster::within`]. Default 30 s.
    pub call_timeout: Duration,
    /// A broker that does not let us in ends a call at once, for those who only want to know; others try on, for certificates and passwords are
    /// exchanged while we run.
    pub inquiring: bool,
    /// The embedded broker of `demo`: OffsetFetch without `require_stable` (below v7) is accepted.
    /// Never for a real cluster: a position could then be read while a transaction is about to move it.
    pub embedded: bool,
}

impl ClusterSettings {
    /// Plaintext settings with the default times.
    pub fn new(alias: impl Into<String>, bootstrap_servers: Vec<String>) -> Self {
        Self {
            alias: alias.into(),
            bootstrap_servers,
            client_id: "kuroshio".to_owned(),
            security: Security::default(),
            request_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            inquiring: false,
            embedded: false,
        }
    }
}

/// How streams are encrypted and authenticated.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS; `None`: plaintext.
    pub tls: Option<Tls>,
    /// Who we are; `None`: nobody in particular.
    pub sasl: Option<Sasl>,
}

impl Security {
    /// Whether connections can be made with it, as far as that is known without a broker: its files are there, are what they should be, and go
    /// together.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn check(&self) -> Result<(), String> {
        self.tls
            .as_ref()
            .map_or(Ok(()), |tls| crate::tls::config(tls).map(drop))
    }
}

/// How we say who we are. What it holds is used for the next connection, and to say it again on one whose time is over (KIP-368).
#[derive(Clone, Debug)]
pub enum Sasl {
    /// PLAIN: never without TLS on a network that others share.
    Plain(Credentials),
    /// SCRAM-SHA-256.
    ScramSha256(Credentials),
    /// SCRAM-SHA-512.
    ScramSha512(Credentials),
    /// OAUTHBEARER.
    OauthBearer(Tokens),
}

/// A user and its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// What is still to come of a token, or why there is none.
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<Token, String>> + Send>>;

/// Where tokens come from. Whoever gives them keeps them, and renews them in time.
#[derive(Clone)]
pub struct Tokens(Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl Tokens {
    /// From this source, which answers an error in words that hold no secret.
    pub fn new(source: impl Fn() -> TokenFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// One that is good for a while.
    ///
    /// # Errors
    /// When there is none, in words.
    pub async fn get(&self) -> Result<Token, String> {
        (self.0)().await
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// TLS towards brokers, whose names are always verified. The files are PEM, and read anew for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Roots to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate (and what it needs to lead to a root), and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}
