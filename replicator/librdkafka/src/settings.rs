//! What an engine is made with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::secret::{Secret, Token};

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the flow; the source's client uses the group id `kuroshio.<flow>`, as which it never joins.
    pub flow: Arc<str>,
    /// The cluster that records are read from.
    pub source: ClientSettings,
    /// The cluster that records are written to.
    pub target: ClientSettings,
    /// Delivery guarantee.
    pub delivery: Delivery,
    /// Bytes for records in this engine, from fetched to delivered; at least [`MEMORY_MIN`].
    pub memory_bytes: u64,
    /// `client.rack` of the source's client: reads from a replica in the same rack (KIP-392).
    pub rack: Option<String>,
    /// Whether these settings still hold.
    pub outdated: Outdated,
}

/// Tells whether credentials have been exchanged since: brokers may not let an engine in any more that was made with others. Never, unless told.
#[derive(Clone)]
pub struct Outdated(Arc<dyn Fn() -> bool + Send + Sync>);

impl Outdated {
    /// As this says, which returns at once.
    pub fn new(is: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is))
    }

    pub(crate) fn is(&self) -> bool {
        (self.0)()
    }
}

impl Default for Outdated {
    fn default() -> Self {
        Self::new(|| false)
    }
}

impl fmt::Debug for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outdated({})", self.is())
    }
}

/// The least memory of an engine, in bytes: below it a single large record would stop it.
pub const MEMORY_MIN: u64 = 16 << 20;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Its alias, for errors and logs.
    pub alias: Arc<str>,
    /// librdkafka properties: `bootstrap.servers`, and what users add; none of
    /// [`owned_properties`](crate::owned_properties).
    pub properties: BTreeMap<String, String>,
    /// How it encrypts and says who we are.
    pub security: Security,
}

/// How a client encrypts and says who we are.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Properties; some are secrets.
    pub properties: Vec<(&'static str, Secret)>,
    /// Where its bearer tokens come from.
    pub tokens: Option<Tokens>,
}

/// Where bearer tokens come from: called on a thread of librdkafka when it has none, and ahead of the time at which the last one is over. It
/// may take some seconds.
#[derive(Clone)]
pub struct Tokens(Arc<dyn Fn() -> Result<Token, String> + Send + Sync>);

impl Tokens {
    /// From this source, which answers an error in words that hold no secret.
    pub fn new(source: impl Fn() -> Result<Token, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    pub(crate) fn get(&self) -> Result<Token, String> {
        (self.0)()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// Delivery guarantee of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Records and positions in one transaction.
    ExactlyOnce {
        /// `transactional.id`: `kuroshio.<flow>.<instance>.<pump>`.
        transactional_id: Arc<str>,
        /// `transaction.timeout.ms`: after this time the coordinator aborts a transaction of a dead process.
        transaction_timeout: Duration,
    },
    /// Idempotent, without transactions.
    AtLeastOnce,
}
