//! Configurations of topics and brokers, with where each value comes from.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::error::{Error, On};

/// Kafka's numbers for what has a configuration (`ConfigResource.Type`).
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key.
    pub key: Arc<str>,
    /// Its value; `None` for secrets, and where there is none.
    pub value: Option<Arc<str>>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Cannot be changed while the broker runs.
    pub read_only: bool,
    /// A secret.
    pub sensitive: bool,
}

/// Where a value comes from (Kafka's `ConfigEntry.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic itself.
    Topic,
    /// Set at run time on this broker.
    Broker,
    /// Set at run time for all brokers.
    AllBrokers,
    /// Written in the broker's file.
    BrokerFile,
    /// Kafka's own default.
    Default,
    /// A kind that is newer than this client, by its number.
    Other(i8),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a value.
    Set(String, String),
    /// Back to the default.
    Unset(String),
    /// Adds an item to a list.
    Append(String, String),
    /// Takes an item from a list.
    Subtract(String, String),
}

impl Cluster {
    /// The configurations of topics; `keys` limits them.
    pub async fn topic_configs(
        &self,
        topics: &[Arc<str>],
        keys: Option<&[&str]>,
    ) -> Result<HashMap<Arc<str>, Result<Vec<ConfigEntry>, Error>>, Error> {
        let resources = topics.iter().map(|topic| resource(TOPIC, topic, keys)).collect();
        let mut outcomes = HashMap::new();
        for (topic, entries) in self.describe_configs(To::Any, resources).await? {
            outcomes.insert(topic, entries);
        }
        Ok(outcomes)
    }

    /// The configurations of a broker, as it holds them itself.
    pub async fn broker_configs(
        &self,
        broker: i32,
        keys: Option<&[&str]>,
    ) -> Result<Vec<ConfigEntry>, Error> {
        let resources = vec![resource(BROKER, &broker.to_string(), keys)];
        let outcome = self.describe_configs(To::Broker(broker), resources).await?.pop();
        outcome.map_or(Ok(Vec::new()), |(_, entries)| entries)
    }

    /// Changes configurations of topics, leaving other keys as they are; each topic has its own outcome.
    pub async fn alter_topic_configs(
        &self,
        changes: &[(Arc<str>, Vec<ConfigChange>)],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        self.alter_configs(changes, false).await
    }

    /// Whether configurations of topics could be changed so; they are not.
    pub async fn validate_topic_configs(
        &self,
        changes: &[(Arc<str>, Vec<ConfigChange>)],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        self.alter_configs(changes, true).await
    }

    async fn alter_configs(
        &self,
        changes: &[(Arc<str>, Vec<ConfigChange>)],
        validate_only: bool,
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        let build = |_| {
            let resources = changes.iter().map(|(topic, changes)| {
                AlterConfigsResource::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(name(topic))
                    .with_configs(changes.iter().map(alterable).collect())
            });
            IncrementalAlterConfigsRequest::default()
                .with_resources(resources.collect())
                .with_validate_only(validate_only)
        };
        let route = Route::new(To::Any, Purpose::Admin, On::Cluster);
        let (answer, at) = self.ask(route, build, |_| (0, None)).await?;
        let outcomes = answer.responses.into_iter().map(|resource| {
            let topic = text(&resource.resource_name);
            let message = resource.error_message.as_ref().map(text);
            let outcome = match resource.error_code {
                0 => Ok(()),
                code => Err(self.refused(at.clone(), On::Topic(Arc::clone(&topic)), code, message)),
            };
            (topic, outcome)
        });
        Ok(outcomes.collect())
    }

    async fn describe_configs(
        &self,
        to: To<'_>,
        resources: Vec<DescribeConfigsResource>,
    ) -> Result<Vec<(Arc<str>, Result<Vec<ConfigEntry>, Error>)>, Error> {
        let build = |_| DescribeConfigsRequest::default().with_resources(resources.clone());
        let route = Route::new(to, Purpose::Control, On::Cluster);
        let (answer, at) = self.ask(route, build, |_| (0, None)).await?;
        let outcomes = answer.results.into_iter().map(|result| {
            let described = text(&result.resource_name);
            let message = result.error_message.as_ref().map(text);
            let outcome = match result.error_code {
                0 => Ok(result.configs.iter().map(entry).collect()),
                code => Err(self.refused(at.clone(), on(&result), code, message)),
            };
            (described, outcome)
        });
        Ok(outcomes.collect())
    }
}

fn on(result: &DescribeConfigsResult) -> On {
    match result.resource_name.parse() {
        Ok(broker) if result.resource_type == BROKER => On::Broker(broker),
        _ => On::Topic(text(&result.resource_name)),
    }
}

fn resource(kind: i8, of: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(name(of))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| name(key)).collect()))
}

fn entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    let source = match config.config_source {
        1 => ConfigSource::Topic,
        2 => ConfigSource::Broker,
        3 => ConfigSource::AllBrokers,
        4 => ConfigSource::BrokerFile,
        5 => ConfigSource::Default,
        other => ConfigSource::Other(other),
    };
    ConfigEntry {
        key: text(&config.name),
        value: config.value.as_ref().map(text),
        source,
        read_only: config.read_only,
        sensitive: config.is_sensitive,
    }
}

fn alterable(change: &ConfigChange) -> AlterableConfig {
    let (operation, key, value) = match change {
        ConfigChange::Set(key, value) => (0, key, Some(value)),
        ConfigChange::Unset(key) => (1, key, None),
        ConfigChange::Append(key, value) => (2, key, Some(value)),
        ConfigChange::Subtract(key, value) => (3, key, Some(value)),
    };
    AlterableConfig::default()
        .with_name(name(key))
        .with_config_operation(operation)
        .with_value(value.map(|value| name(value)))
}
