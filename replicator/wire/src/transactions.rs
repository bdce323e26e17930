//! Transactions of others: releasing those whose owner died, and looking at them (KIP-664).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListTransactionsRequest, ListTransactionsResponse,
};
use kuroshio_core::types::TopicPartition;

use crate::cluster::{Cluster, Route, To, millis, name, on_coordinator, text};
use crate::connection::Purpose;
use crate::directory::Role;
use crate::error::{Error, On};

/// What a transactional id was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch; earlier ones are fenced.
    pub epoch: i16,
}

/// A transactional id in the list of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// The id.
    pub transactional_id: Arc<str>,
    /// Its producer.
    pub producer_id: i64,
    /// `Empty`, `Ongoing`, `CompleteCommit`…
    pub state: Arc<str>,
}

/// A transactional id in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Its producer.
    pub producer: ProducerIdentity,
    /// `Empty`, `Ongoing`, `CompleteCommit`…
    pub state: Arc<str>,
    /// The producer's transaction timeout.
    pub timeout: Duration,
    /// When the open transaction began, in milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// Partitions in the open transaction.
    pub partitions: Vec<TopicPartition>,
}

impl Cluster {
    /// Takes a transactional id over: its open transaction, if any, is aborted and its owner fenced. Returns
    /// when the abort is complete (until then the coordinator says CONCURRENT_TRANSACTIONS). For orphans: the
    /// owner must be known dead, or be meant to die. `timeout` is that of later transactions of the id, at
    /// most the broker's `transaction.max.timeout.ms`.
    pub async fn release_transactional_id(
        &self,
        id: &str,
        timeout: Duration,
    ) -> Result<ProducerIdentity, Error> {
        let build = |_| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(name(id).into()))
                .with_transaction_timeout_ms(millis(timeout))
        };
        let code = |answer: &InitProducerIdResponse| (answer.error_code, None);
        let (answer, _) = self.ask(to_transaction(id), build, code).await?;
        Ok(ProducerIdentity {
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        })
    }

    /// All transactional ids that brokers remember. Kafka 3.0 and later.
    pub async fn list_transactions(&self) -> Result<Vec<TransactionListing>, Error> {
        let ask = |cluster: Self, broker| async move { cluster.list_transactions_of(broker).await };
        let listed = self.ask_every_broker(ask).await?.into_iter().flatten();
        // An id that moves between two answers is listed twice.
        let ids: HashMap<_, _> = listed.map(|id| (Arc::clone(&id.transactional_id), id)).collect();
        Ok(ids.into_values().collect())
    }

    async fn list_transactions_of(&self, broker: i32) -> Result<Vec<TransactionListing>, Error> {
        let code = |answer: &ListTransactionsResponse| (answer.error_code, None);
        let route = Route::new(To::Broker(broker), Purpose::Control, On::Broker(broker));
        let (answer, _) = self
            .ask(route, |_| ListTransactionsRequest::default(), code)
            .await?;
        let listing = |listed: TransactionState| TransactionListing {
            transactional_id: text(&listed.transactional_id.0),
            producer_id: listed.producer_id.0,
            state: text(&listed.transaction_state),
        };
        Ok(answer.transaction_states.into_iter().map(listing).collect())
    }

    /// The state of a transactional id; `TRANSACTIONAL_ID_NOT_FOUND` if it was never used. Kafka 3.0 and later.
    pub async fn describe_transaction(&self, id: &str) -> Result<TransactionDescription, Error> {
        let build = |_| DescribeTransactionsRequest::default().with_transactional_ids(vec![name(id).into()]);
        let code = |answer: &DescribeTransactionsResponse| {
            (
                answer
                    .transaction_states
                    .first()
                    .map_or(0, |state| state.error_code),
                None,
            )
        };
        let (answer, at) = self.ask(to_transaction(id), build, code).await?;
        let Some(state) = answer.transaction_states.into_iter().next() else {
            return Err(Error::Garbled {
                at,
                why: format!("it does not speak of {id}").into(),
            });
        };
        let mut partitions = Vec::new();
        for topic in &state.topics {
            let topic_name = text(&topic.topic.0);
            partitions.extend(
                topic
                    .partitions
                    .iter()
                    .map(|index| TopicPartition::new(topic_name.clone(), *index)),
            );
        }
        Ok(TransactionDescription {
            producer: ProducerIdentity {
                producer_id: state.producer_id.0,
                epoch: state.producer_epoch,
            },
            state: text(&state.transaction_state),
            timeout: Duration::from_millis(u64::try_from(state.transaction_timeout_ms).unwrap_or(0)),
            started_ms: (state.transaction_start_time_ms >= 0).then_some(state.transaction_start_time_ms),
            partitions,
        })
    }
}

pub(crate) fn to_transaction(id: &str) -> Route<'_> {
    Route::new(
        To::Coordinator(Role::Transaction, id),
        Purpose::Control,
        on_coordinator(Role::Transaction, id),
    )
}
