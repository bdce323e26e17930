//! Questions that every broker must answer, each for its part.

use std::future::Future;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::MetadataRequest;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::connection::Purpose;
use crate::error::{Error, On};
use crate::metadata::{Metadata, Topics, request as metadata_request};
use crate::settings::BACKOFF;

/// A cluster that answered [`Cluster::check`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// What one of its brokers said.
    pub metadata: Metadata,
    /// Addresses that were asked.
    pub addresses: usize,
    /// Of these, those that answered in time.
    pub answered: usize,
}

impl Cluster {
    /// Whether the cluster is there: all known brokers and the bootstrap servers are asked at once, each on a connection of
    /// its own behind nothing that waits. One answer is enough, so that a broker that hangs does not hide the others. Nothing is
    /// tried twice.
    ///
    /// # Errors
    /// What the last of them met, when none answered.
    pub async fn check(&self) -> Result<Checked, Error> {
        let deadline = self.deadline(Duration::ZERO);
        let mut asked = JoinSet::new();
        for address in self.addresses() {
            let cluster = self.clone();
            asked.spawn(async move { cluster.check_at(&address, deadline).await });
        }
        let (addresses, mut answered, mut metadata) = (asked.len(), 0, None);
        let mut last = self.not_known::<MetadataRequest>(On::Cluster, ResponseError::BrokerNotAvailable);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(answer)) => {
                    answered += 1;
                    metadata = Some(answer);
                }
                Ok(Err(error)) => last = error,
                // A question neither panics nor is aborted.
                Err(error) => {
                    tracing::error!(cluster = %self.alias(), %error, "a question to a broker ended without outcome");
                }
            }
        }
        let metadata = metadata.ok_or(last)?;
        Ok(Checked {
            metadata,
            addresses,
            answered,
        })
    }

    async fn check_at(&self, address: &Arc<str>, deadline: Instant) -> Result<Metadata, Error> {
        let connection = self.connection(address, &Purpose::Check, deadline).await?;
        let build = |version| metadata_request(Topics::None, version);
        let answer = connection
            .call(&build, 0, self.settings().request_timeout, deadline)
            .await?;
        Ok(self.learn(&answer, &connection.at::<MetadataRequest>(), false))
    }

    /// Asks all brokers at once. Fails as a whole, for a part of the answer would look like the whole; when a
    /// broker dies on the way, what it had is with others that were perhaps asked before: all are asked again.
    pub(crate) async fn ask_every_broker<T, F>(&self, ask: impl Fn(Self, i32) -> F) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let started = Instant::now();
        let deadline = self.deadline(Duration::ZERO);
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let rest = self.within(deadline.saturating_duration_since(Instant::now()));
            let error = match rest.ask_every_broker_once(&ask).await {
                Err(error) if error.code() == Some(ResponseError::BrokerNotAvailable) => error,
                outcome => return outcome,
            };
            self.pause(&mut backoff, started, deadline, error).await?;
        }
    }

    async fn ask_every_broker_once<T, F>(&self, ask: &impl Fn(Self, i32) -> F) -> Result<Vec<T>, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let brokers = self.metadata(Topics::None).await?.brokers;
        let mut asked = JoinSet::new();
        for broker in brokers {
            asked.spawn(ask(self.clone(), broker.id));
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(answer) => answers.push(answer?),
                // A question neither panics nor is aborted.
                Err(error) => {
                    tracing::error!(cluster = %self.alias(), %error, "a question to a broker ended without outcome");
                }
            }
        }
        Ok(answers)
    }
}
