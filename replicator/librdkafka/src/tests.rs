//! The engine on librdkafka's mock clusters. What the mock cannot do (fencing, hiding aborted records,
//! transaction markers) is tested on real clusters in `integration/`.

mod bytes;
mod delivery;
mod reading;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::engine::{BatchForm, Codec, Engine, Fact, LaneSpec};
use kuroshio_core::origin::{Forward, Guard};
use kuroshio_core::types::{Copies, Lane, Position, SourceOffset, TopicPartition};
use rdkafka::ClientConfig;

use crate::embedded::EmbeddedCluster;
use crate::native::raw::{Raw, list, produce_copy};
use crate::native::{self, Code, Consumed, Queue};
use crate::{ClientSettings, Delivery, Librdkafka, Outdated, Security, Settings};

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two clusters, and what makes engines from the first to the second.
struct Pair {
    source: EmbeddedCluster,
    target: EmbeddedCluster,
    memory: u64,
}

impl Pair {
    fn new(topics: &[(&str, i32)]) -> Self {
        let (source, target) = (
            EmbeddedCluster::start(1).unwrap(),
            EmbeddedCluster::start(1).unwrap(),
        );
        for (topic, partitions) in topics {
            source.create_topic(topic, *partitions).unwrap();
            target.create_topic(topic, *partitions).unwrap();
        }
        Self {
            source,
            target,
            memory: 64 << 20,
        }
    }

    fn settings(&self, delivery: Delivery) -> Settings {
        let cluster = |alias: &str, cluster: &EmbeddedCluster| ClientSettings {
            alias: alias.into(),
            properties: BTreeMap::from([("bootstrap.servers".to_owned(), cluster.bootstrap())]),
            security: Security::default(),
        };
        Settings {
            flow: "tw-jp".into(),
            source: cluster("tw", &self.source),
            target: cluster("jp", &self.target),
            delivery,
            memory_bytes: self.memory,
            rack: None,
            outdated: Outdated::default(),
        }
    }

    fn at_least_once(&self) -> Librdkafka {
        opened(self.settings(Delivery::AtLeastOnce))
    }

    fn exactly_once(&self) -> Librdkafka {
        opened(self.settings(within(Duration::from_secs(5))))
    }
}

/// Transactions that take no longer.
fn within(transaction_timeout: Duration) -> Delivery {
    Delivery::ExactlyOnce {
        transactional_id: "kuroshio.tw-jp.a.0".into(),
        transaction_timeout,
    }
}

fn opened(settings: Settings) -> Librdkafka {
    let mut engine = Librdkafka::new(settings).unwrap();
    let end = Instant::now() + PATIENCE;
    while !engine.open(Duration::from_millis(100), &mut Vec::new()).unwrap() {
        assert!(Instant::now() < end, "the engine does not open");
    }
    engine
}

fn context() -> native::Context {
    native::Context {
        name: "test".to_owned(),
        tokens: None,
    }
}

fn spec(lane: u32, topic: &str, partition: i32, start: i64) -> LaneSpec {
    let guard = Guard::new("tw", topic, partition, "jp", topic, Forward::Local).unwrap();
    LaneSpec {
        lane: Lane(lane),
        source: TopicPartition::new(topic, partition),
        target_topic: topic.into(),
        start: at(start),
        guard: Arc::new(guard),
        form: BatchForm::of(Codec::Lz4),
    }
}

fn at(offset: i64) -> Position {
    Position {
        offset: SourceOffset(offset),
        leader_epoch: None,
        copies: Copies::default(),
    }
}

/// What follows an abort: the lane leaves, and its partition comes back as another one.
fn again(engine: &mut Librdkafka, old: u32, new: LaneSpec) {
    engine.detach(&[Lane(old)]).unwrap();
    engine.attach(vec![new]).unwrap();
}

impl Raw {
    fn value(value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: None,
            value: Some(value.into()),
            timestamp: 1_700_000_000_000,
            headers: Vec::new(),
        }
    }
}

/// Writes records to a partition and waits until they are there.
fn write(cluster: &EmbeddedCluster, topic: &str, partition: i32, records: &[Raw]) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap())
        .set("queue.buffering.max.messages", "0")
        .set("linger.ms", "2");
    let producer = native::client(&config, false, context()).unwrap();
    let handle = native::Topic::new(&producer, topic).unwrap();
    for record in records {
        produce_copy(&producer, &handle, partition, record);
    }
    let reports = Queue::main(&producer).unwrap();
    let (mut left, end) = (records.len(), Instant::now() + PATIENCE);
    while left > 0 {
        assert!(Instant::now() < end, "{left} records were not written");
        if let Some(native::Event::Deliveries(deliveries)) =
            native::next_event(&reports, Duration::from_millis(100))
        {
            for delivery in deliveries {
                assert_eq!(delivery.code, Code::NONE);
                left -= 1;
            }
        }
    }
}

/// Reads `count` records of a partition from its beginning.
fn read(cluster: &EmbeddedCluster, topic: &str, partition: i32, count: usize) -> Vec<Raw> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap())
        .set("group.id", "test")
        .set("enable.auto.commit", "false");
    let consumer = native::client(&config, true, context()).unwrap();
    let mut list = native::PartitionList::with_capacity(1);
    list.add_start(&TopicPartition::new(topic, partition), 0);
    native::assign(&consumer, &list).unwrap();
    let queue = Queue::records(&consumer).unwrap();
    let (mut records, mut batch, end) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
    while records.len() < count {
        assert!(
            Instant::now() < end,
            "{} of {count} records were read",
            records.len()
        );
        native::consume(&queue, Duration::from_millis(100), 1000, &mut batch);
        for message in batch.drain(..).filter(|message| message.code() == Code::NONE) {
            assert_eq!(message.offset(), records.len() as i64);
            records.push(raw(message));
        }
    }
    records
}

fn raw(mut message: Consumed) -> Raw {
    let headers = native::Headers::take(&mut message)
        .unwrap()
        .map(|headers| list(&headers))
        .unwrap_or_default();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    Raw {
        key: own(message.key()),
        value: own(message.value()),
        timestamp: message.timestamp(),
        headers,
    }
}

/// Hauls until `done` says so of all facts so far.
fn haul_until(engine: &mut Librdkafka, facts: &mut Vec<Fact>, done: impl Fn(&[Fact]) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done(facts) {
        assert!(Instant::now() < end, "in vain: {facts:?}");
        engine.haul(Duration::from_millis(100), facts).unwrap();
    }
}

/// Whether a lane was read up to the offset before `end`, or had to stop: a refusal may come before all has been read.
fn read_to(end: usize) -> impl Fn(&[Fact]) -> bool {
    move |facts| {
        facts.iter().any(|fact| match fact {
            Fact::Read(run) => run.next.0 == end as i64,
            Fact::Refused { .. } => true,
            _ => false,
        })
    }
}

/// Records placed of a lane, checking that runs follow each other on both sides.
fn placed(facts: &[Fact], lane: u32) -> u64 {
    facts
        .iter()
        .map(|fact| {
            if let Fact::Placed(run) = fact
                && run.lane.0 == lane
            {
                run.count
            } else {
                0
            }
        })
        .sum()
}

fn numbered(from: usize, count: usize) -> Vec<Raw> {
    (from..from + count)
        .map(|n| Raw::value(format!("{n:06} {}", "x".repeat(100))))
        .collect()
}

/// The place in the source that a copy's tag names.
fn born(copy: &Raw) -> i64 {
    let (key, tag) = copy.headers.last().unwrap();
    assert_eq!(key, b"kuroshio-origin");
    let tag = kuroshio_core::origin::Tag::parse(tag.as_ref().unwrap()).unwrap();
    tag.birth().offset.0
}
