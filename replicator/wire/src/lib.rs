//! The control-plane Kafka client of Kuroshio. It asks and reports; it decides nothing.
//!
//! In reading order: [`ClusterSettings`] say where a cluster is, [`Cluster`] is the handle that every call
//! hangs on, [`Error`] says what went wrong and, through [`Error::class`], what it means for the caller.
//! Below them a connection per broker and purpose carries one request after the other, because a
//! Kafka broker serves one request at a time per connection.
//!
//! Brokers from Kafka 2.8 on. Calls that need a newer one say so.

mod access;
mod acls;
mod admin;
mod api;
mod backoff;
mod brokers;
mod class;
mod cluster;
mod configs;
mod connection;
mod counts;
mod directory;
mod error;
mod frame;
mod groups;
mod leaders;
mod membership;
mod metadata;
mod offsets;
mod pool;
mod positions;
mod probe;
mod produce;
mod sasl;
mod settings;
mod tls;
mod transactions;

pub use access::Operations;
pub use admin::{CreatedTopic, NewTopic};
pub use api::read_answer;
pub use backoff::Backoff;
pub use brokers::Checked;
pub use class::Class;
pub use cluster::Cluster;
pub use configs::{ConfigChange, ConfigEntry, ConfigSource};
pub use error::{Error, On, Place, Unreachable};
pub use groups::{GroupDescription, GroupListing, GroupMember};
/// Kafka's error codes.
pub use kafka_protocol::error::ResponseError as KafkaCode;
pub use leaders::ByPartition;
pub use membership::{Join, Joined, JoinedMember};
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicId, TopicMetadata, Topics};
pub use offsets::{EpochEnd, Isolation, ListedOffset, OffsetAt};
pub use positions::{ByGroup, Committer, GroupOffset, Stored};
pub use probe::{Chunk, Committed, Read};
pub use produce::NewRecord;
pub use settings::{ClusterSettings, Credentials, Sasl, Security, Tls, TokenFuture, Tokens};
pub use transactions::{ProducerIdentity, TransactionDescription, TransactionListing};
