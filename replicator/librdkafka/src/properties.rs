//! librdkafka properties: which are ours, and what they are.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use kuroshio_core::engine::{BatchForm, Codec, EngineError};
use kuroshio_core::types::group_of;

use crate::settings::{ClientSettings, Delivery, MEMORY_MIN, Settings};

/// Bytes that a record needs beside its own until it is placed: a consumer's operation, a producer's message, its
/// headers and our ticket.
pub(crate) const OVERHEAD: u64 = 900;

/// Of these, the consumer's operation.
pub(crate) const QUEUED_OVERHEAD: u64 = 450;

const MEMORY: &str = "it follows from `memory`";
const ORDER: &str = "records would be lost or change their order";
const SECURITY: &str = "set `tls` and `sasl` of the cluster";

/// Properties that users may not set, with the reason.
static OWNED: &[(&str, &str)] = &[
    ("acks", ORDER),
    (
        "allow.auto.create.topics",
        "topics are created by the flow, with the settings of their source",
    ),
    ("auto.commit.enable", "positions are committed on the target"),
    (
        "auto.offset.reset",
        "where to read from is decided by the flow; a reset would skip records",
    ),
    ("bootstrap.servers", "set `bootstrap_servers` of the cluster"),
    ("check.crcs", "a corrupt batch must not be copied"),
    ("client.rack", "set `rack` of the cluster"),
    ("compression.codec", "set `compression` of the flow"),
    (
        "compression.level",
        "codecs follow the source, and each has the level that was measured",
    ),
    ("compression.type", "set `compression` of the flow"),
    (
        "delivery.report.only.error",
        "a record counts as placed only by its report",
    ),
    ("delivery.timeout.ms", ORDER),
    ("enable.auto.commit", "positions are committed on the target"),
    (
        "enable.auto.offset.store",
        "positions are committed on the target",
    ),
    ("enable.gapless.guarantee", ORDER),
    ("enable.idempotence", ORDER),
    (
        "enable.partition.eof",
        "the ends of partitions carry positions past transaction markers",
    ),
    ("enable.ssl.certificate.verification", SECURITY),
    ("enabled_events", "the engine reads its own events"),
    ("fetch.max.bytes", MEMORY),
    ("fetch.message.max.bytes", MEMORY),
    ("group.id", "the flow's own group"),
    ("group.instance.id", "the flow is a member of its group by itself"),
    ("group.protocol", "the flow is a member of its group by itself"),
    (
        "isolation.level",
        "records of aborted transactions must not be copied",
    ),
    ("log.queue", "log lines go to the log of this process"),
    ("max.in.flight", ORDER),
    ("max.in.flight.requests.per.connection", ORDER),
    ("max.partition.fetch.bytes", MEMORY),
    ("message.send.max.retries", ORDER),
    ("message.timeout.ms", ORDER),
    ("metadata.broker.list", "set `bootstrap_servers` of the cluster"),
    (
        "partition.assignment.strategy",
        "the flow is a member of its group by itself",
    ),
    ("plugin.library.paths", "interceptors could change records"),
    ("queue.buffering.max.kbytes", MEMORY),
    ("queue.buffering.max.messages", MEMORY),
    ("queued.max.messages.kbytes", MEMORY),
    ("queued.min.messages", MEMORY),
    ("receive.message.max.bytes", MEMORY),
    ("request.required.acks", ORDER),
    ("retries", ORDER),
    ("sasl.mechanism", SECURITY),
    ("sasl.mechanisms", SECURITY),
    ("sasl.oauthbearer.client.id", SECURITY),
    ("sasl.oauthbearer.client.secret", SECURITY),
    ("sasl.oauthbearer.config", SECURITY),
    ("sasl.oauthbearer.method", SECURITY),
    ("sasl.password", SECURITY),
    ("sasl.username", SECURITY),
    ("security.protocol", SECURITY),
    (
        "session.timeout.ms",
        "the flow is a member of its group by itself",
    ),
    ("ssl.ca.certificate.stores", SECURITY),
    ("ssl.ca.location", SECURITY),
    ("ssl.ca.pem", SECURITY),
    ("ssl.certificate.location", SECURITY),
    ("ssl.certificate.pem", SECURITY),
    ("ssl.endpoint.identification.algorithm", SECURITY),
    ("ssl.key.location", SECURITY),
    ("ssl.key.password", SECURITY),
    ("ssl.key.pem", SECURITY),
    ("ssl.keystore.location", SECURITY),
    ("ssl.keystore.password", SECURITY),
    ("test.mock.num.brokers", "use `kuroshio demo`"),
    ("transaction.timeout.ms", "it is bound to the commit protocol"),
    ("transactional.id", "it is the identity of a pump"),
];

/// Properties that users may not override, each with the reason, in alphabetical order.
#[must_use]
pub fn owned_properties() -> &'static [(&'static str, &'static str)] {
    OWNED
}

/// Shares of an engine's memory, in bytes and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Fetched and not yet taken.
    pub(crate) queued: u64,
    /// `queued.min.messages`: fetched and not yet taken, by count, for small records cost mostly overhead.
    pub(crate) queued_count: u64,
    /// The most of a fetch response, which one busy partition may fill.
    pub(crate) fetch: u64,
    /// What the responses of all brokers may become when they are unpacked, with overhead.
    pub(crate) unpacked: u64,
    /// Handed to the producer and not yet settled, with overhead.
    pub(crate) in_flight: u64,
}

impl Memory {
    /// Three eighths wait in the queue, as much is on its way (responses and what they become, see
    /// [`FetchSize`](crate::fetch_size::FetchSize)), a quarter is with the producer.
    ///
    /// librdkafka has one fetch under way per broker, so over a WAN the source gives at most the sum of one response per
    /// broker in a round trip and what it takes to carry and unpack them: 6.5 MiB in about 110 ms are 61 MB/s on the
    /// wire, which is what JSON in lz4 needs to come at 165 MB/s. The next fetch is sent when the queue is below its count:
    /// were that less than what comes in a response, the round trip would begin late. The producer needs less: what is
    /// placed within some ten milliseconds.
    pub(crate) fn of(total: u64) -> Self {
        let total = total.max(MEMORY_MIN);
        let waits = total / 8 * 3;
        let fetch = (total / 16).clamp(1 << 20, 50 << 20);
        Self {
            queued: waits.min(2_000_000_000),
            queued_count: (waits / (QUEUED_OVERHEAD + 350)).clamp(1_000, 100_000),
            fetch,
            unpacked: waits - fetch,
            in_flight: total / 4,
        }
    }
}

/// Configuration of the consumer.
pub(crate) fn consumer(settings: &Settings) -> Result<ClientConfig, EngineError> {
    let memory = Memory::of(settings.memory_bytes);
    let mut config = shared(&settings.source, &settings.flow)?;
    let group = group_of(&settings.flow);
    let ours: [(&str, &str); 9] = [
        ("group.id", &group),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("check.crcs", "true"),
        // A full queue is looked at again soon, not after the default second.
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.error.backoff.ms", "50"),
    ];
    set(&mut config, &settings.source, ours);
    let sizes: [(&str, u64); 5] = [
        ("queued.max.messages.kbytes", memory.queued / 1024),
        ("queued.min.messages", memory.queued_count),
        ("fetch.max.bytes", memory.fetch),
        ("fetch.message.max.bytes", memory.fetch),
        // A broker sends at least one batch whatever its size (KIP-74).
        (
            "receive.message.max.bytes",
            memory.fetch.max(100 << 20) + (1 << 20),
        ),
    ];
    for (name, value) in sizes {
        config.set(name, value.to_string());
    }
    if let Some(rack) = &settings.rack {
        config.set("client.rack", rack);
    }
    Ok(config)
}

/// Configuration of the producer.
pub(crate) fn producer(settings: &Settings) -> Result<ClientConfig, EngineError> {
    let memory = Memory::of(settings.memory_bytes);
    let mut config = shared(&settings.target, &settings.flow)?;
    let ours: [(&str, &str); 9] = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // The engine counts by itself, with overhead.
        ("queue.buffering.max.messages", "0"),
        // Batches grow while requests are under way, and waiting longer gains nothing: at 1,000 records/s p50 is 2.2 ms, with
        // 0.3 here 3.2; CPU at 2,000 and 20,000 records/s is the same.
        ("linger.ms", "0"),
        ("batch.num.messages", "100000"),
        ("batch.size", BATCH_SIZE),
        // The broker's limit holds, not ours: a record that the source took is offered to the target.
        ("message.max.bytes", "1000000000"),
        // A transaction that follows another meets CONCURRENT_TRANSACTIONS until the markers of the first are written,
        // some milliseconds. At 1,000 records/s over 24 partitions each took 18.5 with librdkafka's own 20 (see build.rs), 11.6
        // with 5 here, 9.0 with 2, 8.5 with 1. Pauses grow up to a second.
        ("retry.backoff.ms", "2"),
        // Reported within this time when a topic or partition is missing.
        ("topic.metadata.propagation.max.ms", "10000"),
    ];
    set(&mut config, &settings.target, ours);
    // In use only should the engine's own count fail; the largest record must fit all the same.
    config.set(
        "queue.buffering.max.kbytes",
        (memory.in_flight / 1024 * 2)
            .clamp(1 << 20, 2_000_000_000)
            .to_string(),
    );
    match &settings.delivery {
        Delivery::ExactlyOnce {
            transactional_id,
            transaction_timeout,
        } => {
            let timeout = transaction_timeout.as_millis().to_string();
            config.set("transactional.id", &**transactional_id);
            config.set("transaction.timeout.ms", &timeout);
            config.set("message.timeout.ms", &timeout);
        }
        Delivery::AtLeastOnce => {
            // Records wait for an outage to end, however long.
            config.set("message.timeout.ms", "0");
            config.set("enable.gapless.guarantee", "true");
        }
    }
    Ok(config)
}

const BATCH_SIZE: &str = "1000000";

const _: () = assert!(BatchForm::LARGEST == 1_000_000);

/// Codec (Kafka's number) and level of batches that are compressed so.
///
/// Levels are the codecs' own, but for zstd. There 1 gives batches that are 2 to 10% smaller than 3 does, librdkafka's
/// and Kafka's own, at 1.2 to 2 times its speed (tagged records of 350 and 100 B in batches of 64 to 900 KB).
pub(crate) const fn compression(codec: Codec) -> (i32, i32) {
    match codec {
        Codec::None => (0, -1),
        Codec::Gzip => (1, -1),
        Codec::Snappy => (2, -1),
        Codec::Lz4 => (3, 0),
        Codec::Zstd => (4, 1),
    }
}

/// What both clients have: the cluster's properties behind defaults that users may change.
fn shared(cluster: &ClientSettings, flow: &str) -> Result<ClientConfig, EngineError> {
    let mut config = ClientConfig::new();
    // With `debug` it is asked for the lines that are below.
    let level = if cluster.properties.contains_key("debug") {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    };
    config.set_log_level(level);
    config.set("client.id", format!("kuroshio.{flow}"));
    for (name, value) in [
        ("allow.auto.create.topics", "false"),
        ("socket.keepalive.enable", "true"),
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "5000"),
        ("statistics.interval.ms", "0"),
        // A closed idle connection is no fault.
        ("log.connection.close", "false"),
    ] {
        config.set(name, value);
    }
    for (name, value) in &cluster.properties {
        let owned = OWNED.iter().find(|(owned, _)| owned == name);
        if let Some((_, reason)) = owned.filter(|(name, _)| *name != "bootstrap.servers") {
            let alias = &cluster.alias;
            return Err(EngineError::Fatal(format!(
                "clusters.{alias}.librdkafka.{name} is set by Kuroshio ({reason}): remove it"
            )));
        }
        config.set(name, value);
    }
    for (name, value) in &cluster.security.properties {
        config.set(*name, value.reveal());
    }
    Ok(config)
}

/// Ours are set last; those that users may change are left as they wrote them.
fn set<const N: usize>(config: &mut ClientConfig, cluster: &ClientSettings, ours: [(&str, &str); N]) {
    for (name, value) in ours {
        if !cluster.properties.contains_key(name) {
            config.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::Security;

    fn unnamed() -> crate::native::Context {
        crate::native::Context {
            name: String::new(),
            tokens: None,
        }
    }

    fn settings(properties: &[(&str, &str)]) -> Settings {
        let cluster = |alias: &str| ClientSettings {
            alias: alias.into(),
            properties: properties
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            security: Security::default(),
        };
        Settings {
            flow: "tw-jp".into(),
            source: cluster("tw"),
            target: cluster("jp"),
            delivery: Delivery::AtLeastOnce,
            memory_bytes: 128 << 20,
            rack: Some("a".to_owned()),
            outdated: crate::Outdated::default(),
        }
    }

    #[test]
    fn owned_properties_are_sorted_and_have_reasons() {
        assert!(owned_properties().windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(owned_properties().iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn a_property_of_ours_is_refused_with_alias_and_reason() {
        let refused = consumer(&settings(&[("acks", "1")])).err();
        let Some(EngineError::Fatal(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains("clusters.tw.librdkafka.acks") && why.contains("order"),
            "{why}"
        );
    }

    #[test]
    fn other_properties_are_merged() {
        let settings = settings(&[
            ("bootstrap.servers", "a:1"),
            ("linger.ms", "20"),
            ("socket.timeout.ms", "30000"),
        ]);
        let (consumer, producer) = (consumer(&settings).unwrap(), producer(&settings).unwrap());
        assert_eq!(producer.get("linger.ms"), Some("20"));
        assert_eq!(consumer.get("socket.timeout.ms"), Some("30000"));
        assert_eq!(consumer.get("client.rack"), Some("a"));
    }

    #[test]
    fn every_property_of_ours_is_accepted_by_librdkafka() {
        let mut settings = settings(&[("bootstrap.servers", "localhost:1")]);
        for memory in [0, 16 << 20, 128 << 20, 64 << 30] {
            settings.memory_bytes = memory;
            let exactly_once = Delivery::ExactlyOnce {
                transactional_id: "t".into(),
                transaction_timeout: Duration::from_secs(10),
            };
            for delivery in [Delivery::AtLeastOnce, exactly_once] {
                settings.delivery = delivery;
                crate::native::client(&consumer(&settings).unwrap(), true, unnamed()).unwrap();
                crate::native::client(&producer(&settings).unwrap(), false, unnamed()).unwrap();
            }
        }
    }

    #[test]
    fn every_compression_is_accepted_by_librdkafka() {
        for (number, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
            let settings = settings(&[("bootstrap.servers", "localhost:1")]);
            let mut config = producer(&settings).unwrap();
            config.set("compression.codec", *codec);
            crate::native::client(&config, false, unnamed()).unwrap();
            let ours = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][number];
            assert_eq!(compression(ours).0, i32::try_from(number).unwrap());
        }
    }

    #[test]
    fn memory_is_shared_out_within_its_bound() {
        for total in [0, MEMORY_MIN, 64 << 20, 128 << 20, 1 << 30, 64 << 30] {
            let memory = Memory::of(total);
            let held = memory.queued + memory.fetch + memory.unpacked + memory.in_flight;
            assert!(held <= total.max(MEMORY_MIN), "{total}: {memory:?}");
            assert!(memory.fetch >= 1 << 20, "{memory:?}");
        }
    }
}
