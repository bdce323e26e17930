//! Questions that every broker must answer, each for its part.

use std::future::Future;

use kafka_protocol::error::ResponseError;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::metadata::Topics;
use crate::settings::BACKOFF;

impl Cluster {
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
                Err(error) => tracing::error!(%error, "a question to a broker ended without outcome"),
            }
        }
        Ok(answers)
    }
}
