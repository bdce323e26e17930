//! Who leads partitions, and that others do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiKey, BrokerId, ElectLeadersRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;

use crate::cluster::{Cluster, REQUEST, options};
use crate::wait::until;

/// Between two looks at a broker that comes back.
const PAUSE: Duration = Duration::from_millis(500);

/// A partition and its brokers, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The leader; -1: none.
    pub leader: i32,
    /// All replicas; the first one is to lead.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub in_sync: Vec<i32>,
}

impl Cluster {
    /// Creates a topic of one partition on these brokers, of which the first one leads; later any may, whatever it has (an unclean election).
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn create_unclean(&self, name: &str, brokers: &[i32]) -> Result<()> {
        let partitions = [brokers];
        let topic = NewTopic::new(name, 1, TopicReplication::Variable(&partitions))
            .set("unclean.leader.election.enable", "true")
            .set("min.insync.replicas", "1");
        for outcome in self.admin()?.create_topics(&[topic], &options()).await? {
            outcome.map_err(|(topic, code)| anyhow!("creating {topic} on {}: {code}", self.alias()))?;
        }
        Ok(())
    }

    /// Who leads the partitions of all topics, Kafka's own too.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn led(&self) -> Result<Vec<Led>> {
        let metadata = self
            .with_consumer(|consumer| Ok(consumer.fetch_metadata(None, Duration::from_secs(5))?))
            .await?;
        let mut all = Vec::new();
        for topic in metadata.topics() {
            all.extend(topic.partitions().iter().map(|partition| Led {
                topic: topic.name().to_owned(),
                partition: partition.id(),
                leader: partition.leader(),
                replicas: partition.replicas().to_vec(),
                in_sync: partition.isr().to_vec(),
            }));
        }
        Ok(all)
    }

    /// Waits until every replica of every partition is in sync.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn in_sync(&self, within: Duration) -> Result<()> {
        until(
            within,
            &format!("all replicas of {} in sync", self.alias()),
            || async {
                let all = self.led().await.map_err(|why| format!("{why:#}"))?;
                let behind = all
                    .iter()
                    .find(|led| led.leader < 0 || led.in_sync.len() < led.replicas.len());
                let Some(behind) = behind else {
                    return Ok(());
                };
                // A look makes a client, and a broker that starts has enough to do.
                tokio::time::sleep(PAUSE).await;
                Err(format!("{behind:?}"))
            },
        )
        .await
    }

    /// Has every partition led by the next one of its replicas. Where that one is not in sync the leader stays.
    ///
    /// # Errors
    /// When no broker takes the request.
    pub async fn move_leaders(&self) -> Result<()> {
        // By topic: of an election that names one twice Kafka takes the last.
        let mut moved = BTreeMap::<String, Vec<(i32, Vec<BrokerId>)>>::new();
        for mut led in self.led().await? {
            let at = led.replicas.iter().position(|node| *node == led.leader);
            let replicas = led.replicas.len().max(1);
            led.replicas.rotate_left((at.unwrap_or(0) + 1) % replicas);
            let order = led.replicas.into_iter().map(BrokerId).collect();
            moved.entry(led.topic).or_default().push((led.partition, order));
        }
        let topics = moved.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(|(partition, order)| {
                ReassignablePartition::default()
                    .with_partition_index(*partition)
                    .with_replicas(Some(order.clone()))
            });
            ReassignableTopic::default()
                .with_name(name(topic))
                .with_partitions(partitions.collect())
        });
        let reassign = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(topics.collect());
        self.send(ApiKey::AlterPartitionReassignments, 0, &reassign)
            .await?;
        let topics = moved.iter().map(|(topic, partitions)| {
            TopicPartitions::default()
                .with_topic(name(topic))
                .with_partitions(partitions.iter().map(|(partition, _)| *partition).collect())
        });
        let elect = ElectLeadersRequest::default()
            .with_election_type(0)
            .with_timeout_ms(10_000)
            .with_topic_partitions(Some(topics.collect()));
        self.send(ApiKey::ElectLeaders, 2, &elect).await
    }

    /// Sends a request to the first broker that answers it; the outcome is seen in the metadata.
    async fn send(&self, key: ApiKey, version: i16, body: &impl Encodable) -> Result<()> {
        let mut frame = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(1)
            .encode(&mut frame, 2)?;
        body.encode(&mut frame, version)?;
        let frame = frame.freeze();
        let brokers: Vec<String> = self.bootstrap().split(',').map(str::to_owned).collect();
        let sent = tokio::task::spawn_blocking(move || {
            let outcomes = brokers.iter().map(|broker| ask(broker, &frame));
            let mut failed = None;
            for outcome in outcomes {
                match outcome {
                    Ok(()) => return Ok(()),
                    Err(why) => failed = Some(why),
                }
            }
            Err(failed.context("no brokers")?)
        });
        sent.await?
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn ask(broker: &str, frame: &Bytes) -> Result<()> {
    let address = broker.parse().with_context(|| broker.to_owned())?;
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    connection.set_read_timeout(Some(REQUEST))?;
    let mut request = BytesMut::new();
    request.put_u32(u32::try_from(frame.len())?);
    request.extend_from_slice(frame);
    connection.write_all(&request)?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    connection.read_exact(&mut answer)?;
    // Correlation id, no tags, throttle time, error code of the whole (ElectLeaders and reassignments alike).
    let code = answer.get(9..11).context("the answer is cut")?;
    ensure!(code == [0, 0], "{broker}: Kafka error {code:?}");
    Ok(())
}
