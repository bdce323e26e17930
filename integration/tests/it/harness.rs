//! The test of the test: clusters start, events survive, and planted faults are found.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Ledger, Load, Report, Spec, command, pair};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn what_was_produced_is_found_again() -> Result<()> {
    let started = Instant::now();
    let clusters = pair().await?;
    println!("two clusters after {:?}", started.elapsed());
    let ledger = Ledger::new(1);
    let topic = "harness.clean";
    let load = Load {
        records: 20_000,
        partitions: 3,
        rate: None,
    };
    for cluster in [&clusters.tw, &clusters.jp] {
        cluster.create_topic(topic, 3, &[]).await?;
        let started = Instant::now();
        ledger.produce(cluster, topic, load).await?;
        println!("{} records produced in {:?}", load.records, started.elapsed());
        let started = Instant::now();
        let report = ledger
            .compare(cluster, topic, &[(cluster.alias(), topic)], WAIT)
            .await?;
        println!("compared in {:?}: {report}", started.elapsed());
        report.assert_exact();
        ensure!(report.expected == load.records && ledger.count(cluster.alias(), topic) == load.records);
    }
    ensure!(clusters.tw.id() != clusters.jp.id());
    Ok(())
}

type Log = Vec<OwnedMessage>;

/// A fault planted into a copy, and whether the report names it and nothing else.
struct Fault {
    name: &'static str,
    plant: fn(&mut Log),
    found: fn(&Report) -> bool,
}

/// (lost, duplicated, reordered, altered, foreign)
fn counts(report: &Report) -> [u64; 5] {
    [
        report.lost,
        report.duplicated,
        report.reordered,
        report.altered,
        report.foreign,
    ]
}

const FAULTS: [Fault; 9] = [
    Fault {
        name: "none",
        plant: |_| (),
        found: Report::is_exact,
    },
    Fault {
        name: "tagged",
        plant: |log| {
            for record in log {
                add_header(record, "kuroshio-origin", b"tw/t/0/0#AAAAAA");
            }
        },
        found: |report| report.is_exact() && report.tagged == report.expected,
    },
    Fault {
        name: "lost",
        plant: |log| drop(log.remove(7)),
        found: |r| counts(r) == [1, 0, 0, 0, 0],
    },
    Fault {
        name: "duplicated",
        plant: |log| log.push(log[7].clone()),
        found: |r| counts(r) == [0, 1, 0, 0, 0],
    },
    Fault {
        name: "reordered",
        plant: swap_two_of_one_stream,
        found: |r| counts(r) == [0, 0, 1, 0, 0],
    },
    Fault {
        name: "timestamp",
        plant: |log| log[7].set_timestamp_in_place(1),
        found: |r| counts(r) == [0, 0, 0, 1, 0],
    },
    Fault {
        name: "header",
        plant: |log| add_header(&mut log[7], "extra", b""),
        found: |r| counts(r) == [0, 0, 0, 1, 0],
    },
    Fault {
        name: "key",
        plant: |log| log[7].set_key_in_place(b"other"),
        found: |r| counts(r) == [0, 0, 0, 1, 0],
    },
    Fault {
        name: "tombstone",
        plant: |log| {
            // An empty value becomes null: the event is still named by its header.
            let empty = log.iter().position(|record| record.payload() == Some(b""));
            if let Some(empty) = empty {
                log[empty] = log[empty].clone().set_payload(None);
            }
        },
        found: |r| counts(r) == [0, 0, 0, 1, 0],
    },
];

/// The setters of `OwnedMessage` take it by value.
trait InPlace {
    fn set_timestamp_in_place(&mut self, by: i64);
    fn set_key_in_place(&mut self, key: &[u8]);
}

impl InPlace for OwnedMessage {
    fn set_timestamp_in_place(&mut self, by: i64) {
        let millis = self.timestamp().to_millis().unwrap_or_default() + by;
        *self = self.clone().set_timestamp(Timestamp::CreateTime(millis));
    }

    fn set_key_in_place(&mut self, key: &[u8]) {
        *self = self.clone().set_key(Some(key.to_vec()));
    }
}

fn add_header(record: &mut OwnedMessage, key: &str, value: &[u8]) {
    let headers = record.headers().cloned().unwrap_or_default();
    *record = record.clone().replace_headers(Some(headers.insert(Header {
        key,
        value: Some(value),
    })));
}

/// Two events of one producer in one partition change places: the first two whose names differ only in the
/// sequence, 0 and 1.
fn swap_two_of_one_stream(log: &mut Log) {
    let position = |suffix: &[u8]| {
        log.iter().position(|record| {
            let value = record.payload().unwrap_or_default();
            let name = value.strip_prefix(b"{\"event\":\"").unwrap_or_default();
            name.split(|&byte| byte == b'"')
                .next()
                .unwrap_or_default()
                .ends_with(suffix)
        })
    };
    if let (Some(first), Some(second)) = (position(b"/0/0/20"), position(b"/0/0/21")) {
        log.swap(first, second);
    }
}

#[tokio::test]
async fn planted_faults_are_found() -> Result<()> {
    let clusters = pair().await?;
    let ledger = Ledger::new(2);
    let topic = "harness.planted";
    clusters.tw.create_topic(topic, 2, &[]).await?;
    ledger
        .produce(
            &clusters.tw,
            topic,
            Load {
                records: 2_000,
                partitions: 2,
                rate: None,
            },
        )
        .await?;
    let log = read(&clusters.tw, topic, 2, 2_000)?;
    for fault in &FAULTS {
        let copy = format!("{topic}.{}", fault.name);
        clusters.jp.create_topic(&copy, 2, &[]).await?;
        let mut records = log.clone();
        (fault.plant)(&mut records);
        write(&clusters.jp, &copy, &records)?;
        // A lost record is waited for until the time is up.
        let within = if fault.name == "lost" {
            Duration::from_secs(10)
        } else {
            WAIT
        };
        let report = ledger
            .compare(&clusters.jp, &copy, &[("tw", topic)], within)
            .await?;
        ensure!((fault.found)(&report), "{}: {report}", fault.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_copy_whose_topic_is_made_later_is_waited_for() -> Result<()> {
    let clusters = pair().await?;
    let (ledger, topic) = (Ledger::new(5), "harness.later");
    clusters.tw.create_topic(topic, 2, &[]).await?;
    let load = Load {
        records: 500,
        partitions: 2,
        rate: None,
    };
    ledger.produce(&clusters.tw, topic, load).await?;
    let log = read(&clusters.tw, topic, 2, 500)?;
    let copying = async {
        // The moment is the input: the comparison has begun.
        tokio::time::sleep(Duration::from_secs(1)).await;
        clusters.jp.create_topic(topic, 2, &[]).await?;
        write(&clusters.jp, topic, &log)
    };
    let births = [("tw", topic)];
    let (report, copied) = tokio::join!(ledger.compare(&clusters.jp, topic, &births, WAIT), copying);
    copied?;
    report?.assert_exact();
    Ok(())
}

#[tokio::test]
async fn events_survive_the_kill_of_one_of_three_brokers() -> Result<()> {
    let cluster = Cluster::start(Spec::new("three").nodes(3)).await?;
    let ledger = Ledger::new(3);
    let topic = "harness.kill";
    cluster
        .create_topic(topic, 3, &[("min.insync.replicas", "2")])
        .await?;
    let load = Load {
        records: 6_000,
        partitions: 3,
        rate: Some(2_000),
    };
    let (produced, killed) = tokio::join!(ledger.produce(&cluster, topic, load), async {
        cluster.kill(2).await?;
        cluster.restart(2).await?;
        cluster.ready().await
    });
    produced?;
    killed?;
    ledger
        .compare(&cluster, topic, &[("three", topic)], WAIT)
        .await?
        .assert_exact();
    Ok(())
}

#[tokio::test]
async fn an_acl_refuses_and_a_frozen_broker_does_not_answer() -> Result<()> {
    let cluster = Cluster::start(Spec::new("guarded").with_acls()).await?;
    let ledger = Ledger::new(4);
    let load = Load {
        records: 100,
        partitions: 1,
        rate: None,
    };
    for topic in ["harness.open", "harness.locked"] {
        cluster.create_topic(topic, 1, &[]).await?;
    }
    let rule = [
        "--deny-principal",
        "User:*",
        "--operation",
        "Write",
        "--topic",
        "harness.locked",
    ];
    cluster.acl(&rule).await?;
    ledger.produce(&cluster, "harness.open", load).await?;
    let refused = ledger.produce(&cluster, "harness.locked", load).await;
    let refused = format!("{:#}", refused.err().context("the write was allowed")?);
    ensure!(refused.contains("authorization failed"), "{refused}");

    cluster.pause(1).await?;
    let mut config = cluster.client();
    let config = config.set("socket.timeout.ms", "1000").clone();
    let answer = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        consumer.fetch_metadata(None, Duration::from_secs(1)).map(|_| ())
    })
    .await?;
    ensure!(answer.is_err(), "a frozen broker answered");
    cluster.unpause(1).await?;
    cluster.ready().await
}

/// The first `count` records of all partitions, each partition in order.
fn read(cluster: &Cluster, topic: &str, partitions: i32, count: usize) -> Result<Log> {
    let consumer: BaseConsumer = cluster.client().set("group.id", "harness").create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut log = Log::new();
    let deadline = Instant::now() + WAIT;
    while log.len() < count {
        ensure!(Instant::now() < deadline, "read {} of {count} records", log.len());
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            log.push(record?.detach());
        }
    }
    Ok(log)
}

/// Writes records as they are, each into the partition it came from.
fn write(cluster: &Cluster, topic: &str, records: &[OwnedMessage]) -> Result<()> {
    let producer: BaseProducer = cluster.client().set("enable.idempotence", "true").create()?;
    for record in records {
        let mut copy: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(record.partition());
        copy.key = record.key();
        copy.payload = record.payload();
        copy.timestamp = record.timestamp().to_millis();
        if let Some(headers) = record.headers() {
            let mut owned = OwnedHeaders::new();
            for header in headers.iter() {
                owned = owned.insert(header);
            }
            copy = copy.headers(owned);
        }
        producer.send(copy).map_err(|(why, _): (KafkaError, _)| why)?;
    }
    producer.flush(WAIT)?;
    Ok(())
}

#[tokio::test]
async fn a_command_is_run_to_its_end() -> Result<()> {
    let help = command(&["--help"], None, WAIT).await?;
    ensure!(help.code == Some(0) && help.stdout.contains("demo"), "{help:?}");
    let config = json!({ "clusters": {}, "flows": [], "no-such-key": 1 });
    let refused = command(
        &["check", "--offline", "--config", "{config}"],
        Some(&config),
        WAIT,
    )
    .await?;
    ensure!(
        refused.code == Some(64) && refused.stderr.contains("no-such-key"),
        "{refused:?}"
    );
    Ok(())
}
