//! What this client may do, as the brokers tell it (KIP-430), and where they do not tell, as they answer to requests that change nothing.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, ProducerId,
};
use kuroshio_core::acls::Operation;

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::error::{Error, On};
use crate::metadata::{Topics, request as metadata_request};
use crate::transactions::to_transaction;

/// First version of Metadata that tells operations; Kafka 2.3.
const TELLS: i16 = 8;
/// Topics in one request.
const TOPICS: usize = 500;
/// A producer id that no broker gives: they count from 0.
const NOBODY: i64 = i64::MAX;

/// The operations that this client is allowed on one thing. Without authorizer these are all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations(i32);

impl Operations {
    /// Whether this one is among them.
    #[must_use]
    pub const fn allow(self, operation: Operation) -> bool {
        // Kafka's "not asked" is the sign bit, which is no operation.
        operation.0 >= 0 && operation.0 < 31 && self.0 & (1 << operation.0) != 0
    }
}

impl Cluster {
    /// What we may do with topics, whether they exist or not; TOPIC_AUTHORIZATION_FAILED: not even know whether they do.
    pub async fn topic_operations(
        &self,
        topics: &[Arc<str>],
    ) -> Result<HashMap<Arc<str>, Result<Operations, Error>>, Error> {
        let mut told = HashMap::new();
        for part in topics.chunks(TOPICS) {
            let build = |version| -> MetadataRequest {
                metadata_request(Topics::Named(part), version).with_include_topic_authorized_operations(true)
            };
            let code = |answer: &MetadataResponse| (answer.error_code, None);
            let route = Route::new(To::Any, Purpose::Control, On::Cluster).at_least(TELLS);
            let (answer, at) = self.ask(route, build, code).await?;
            for topic in answer.topics {
                let Some(topic_name) = topic.name.as_ref().map(|name| text(&name.0)) else {
                    continue;
                };
                let outcome = match ResponseError::try_from_code(topic.error_code) {
                    Some(ResponseError::TopicAuthorizationFailed) => {
                        let on = On::Topic(Arc::clone(&topic_name));
                        Err(self.refused(at.clone(), on, topic.error_code, None))
                    }
                    _ => Ok(Operations(topic.topic_authorized_operations)),
                };
                told.insert(topic_name, outcome);
            }
        }
        Ok(told)
    }

    /// What we may do with the cluster as a whole; nothing is told to those who may not describe it.
    pub async fn cluster_operations(&self) -> Result<Operations, Error> {
        let build = |_| DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let code =
            |answer: &DescribeClusterResponse| (answer.error_code, answer.error_message.as_ref().map(text));
        let route = Route::new(To::Any, Purpose::Control, On::Cluster);
        let (answer, _) = self.ask(route, build, code).await?;
        Ok(Operations(answer.cluster_authorized_operations))
    }

    /// What we may do with groups, whether they exist or not; GROUP_AUTHORIZATION_FAILED: not even describe them.
    pub async fn group_operations(
        &self,
        groups: &[Arc<str>],
    ) -> HashMap<Arc<str>, Result<Operations, Error>> {
        self.for_each_group(groups, |cluster, group| async move {
            cluster.operations_on_group(&group).await
        })
        .await
    }

    async fn operations_on_group(&self, group: &Arc<str>) -> Result<Operations, Error> {
        let build = |_| {
            DescribeGroupsRequest::default()
                .with_groups(vec![name(group).into()])
                .with_include_authorized_operations(true)
        };
        let code = |answer: &DescribeGroupsResponse| {
            let described = answer.groups.first();
            (described.map_or(0, |described| described.error_code), None)
        };
        let route = self.to_group(group, Purpose::Control);
        let (answer, at) = self.ask(route, build, code).await?;
        let described = answer.groups.first();
        let operations = described.map(|described| Operations(described.authorized_operations));
        operations.ok_or_else(|| Error::Garbled {
            at,
            why: format!("it does not speak of group {group}").into(),
        })
    }

    /// Whether we may describe a transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED if not.
    pub async fn may_describe_transactions(&self, id: &str) -> Result<(), Error> {
        self.coordinator_of_transactions(id).await.map(|_| ())
    }

    /// Whether we may write transactions of an id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED if not. Asks to end a transaction of a producer
    /// that does not exist, which changes nothing, whoever has the id.
    pub async fn may_write_transactions(&self, id: &str) -> Result<(), Error> {
        let build = |_| {
            EndTxnRequest::default()
                .with_transactional_id(name(id).into())
                .with_producer_id(ProducerId(NOBODY))
                .with_committed(false)
        };
        let nobody = [
            ResponseError::InvalidProducerIdMapping,
            ResponseError::InvalidProducerEpoch,
            ResponseError::ProducerFenced,
            ResponseError::InvalidTxnState,
        ];
        let code = |answer: &EndTxnResponse| match ResponseError::try_from_code(answer.error_code) {
            Some(code) if nobody.contains(&code) => (0, None),
            _ => (answer.error_code, None),
        };
        self.ask(to_transaction(id), build, code).await.map(|_| ())
    }

    /// Whether we may write with a producer that is idempotent but has no transactions: CLUSTER_AUTHORIZATION_FAILED if not. Takes a
    /// producer id, of which there are plenty.
    pub async fn may_write_idempotently(&self) -> Result<(), Error> {
        let build = |_| InitProducerIdRequest::default().with_transactional_id(None);
        let code = |answer: &InitProducerIdResponse| (answer.error_code, None);
        let route = Route::new(To::Any, Purpose::Control, On::Cluster);
        self.ask(route, build, code).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_bits_by_their_numbers() {
        let told = Operations(1 << 3 | 1 << 8);
        assert!(told.allow(Operation::READ) && told.allow(Operation::DESCRIBE));
        assert!(!told.allow(Operation::WRITE));
        for none in [Operations(0), Operations(i32::MIN)] {
            for number in -128..=127 {
                assert!(!none.allow(Operation(number)), "{number}");
            }
        }
    }
}
