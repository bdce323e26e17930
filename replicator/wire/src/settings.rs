//! Where a cluster is and how long we wait for it.

use std::time::Duration;

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
            security: Security::Plaintext,
            request_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            embedded: false,
        }
    }
}

/// How streams are encrypted and authenticated. TLS and SASL come with their own issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Neither.
    Plaintext,
}
