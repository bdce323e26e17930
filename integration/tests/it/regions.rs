//! What the suites share: configurations of flows between clusters, and looks at logs and positions from outside.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, until};
use kuroshio_wire::{ClusterSettings, GroupOffset, Isolation, Join, OffsetAt, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

/// Longest wait for anything that takes a second on a quiet machine; only what fails waits for it.
pub(crate) const WAIT: Duration = Duration::from_secs(180);

/// The `clusters` of a configuration.
pub(crate) fn clusters(all: &[&Cluster]) -> Value {
    let entry = |cluster: &&Cluster| {
        let settings = json!({ "bootstrap_servers": cluster.bootstrap() });
        (cluster.alias().to_owned(), settings)
    };
    Value::Object(all.iter().map(entry).collect())
}

/// Creates a topic on each of these clusters.
pub(crate) async fn on_all(all: &[&Cluster], topic: &str, partitions: i32) -> Result<()> {
    for cluster in all {
        cluster.create_topic(topic, partitions, &[]).await?;
    }
    Ok(())
}

/// Both flows of the pair, called `<name>-tw-jp` and `<name>-jp-tw` so that no two tests share a group, for the
/// topics that match one of `include`. Topics are looked for five times a second.
pub(crate) fn both_ways(pair: &Pair, name: &str, include: &[&str]) -> Value {
    both_ways_between(&clusters(&[&pair.tw, &pair.jp]), name, include)
}

/// [`both_ways`] between these clusters, which are called tw and jp.
pub(crate) fn both_ways_between(clusters: &Value, name: &str, include: &[&str]) -> Value {
    json!({
        "clusters": clusters,
        "flows": [
            { "name": format!("{name}-tw-jp"), "source": "tw", "target": "jp" },
            { "name": format!("{name}-jp-tw"), "source": "jp", "target": "tw" },
        ],
        "defaults": { "topics": { "include": include, "refresh": "200ms" } },
        "log": { "format": "text" },
    })
}

/// [`both_ways`] with the flow tw → jp alone.
pub(crate) fn one_way(pair: &Pair, name: &str, include: &[&str]) -> Value {
    let mut config = both_ways(pair, name, include);
    config["flows"].as_array_mut().expect("a list").truncate(1);
    config
}

/// The control-plane client of the product, as a client of the tests.
pub(crate) fn wire(kafka: &Cluster) -> kuroshio_wire::Cluster {
    let servers = kafka.bootstrap().split(',').map(str::to_owned).collect();
    kuroshio_wire::Cluster::new(ClusterSettings::new(kafka.alias(), servers))
}

/// High watermarks of all partitions of topics that exist.
pub(crate) async fn ends(kafka: &Cluster, topics: &[&str]) -> Result<BTreeMap<TopicPartition, i64>> {
    let all = kafka.topics().await?;
    let wanted = topics.iter().flat_map(|topic| {
        let count = i32::try_from(all.get(*topic).copied().unwrap_or(0)).unwrap_or(0);
        (0..count).map(move |partition| (TopicPartition::new(*topic, partition), OffsetAt::Latest))
    });
    let listed = wire(kafka)
        .list_offsets(wanted.collect::<Vec<_>>(), Isolation::ReadUncommitted)
        .await;
    let end = |(partition, outcome): (TopicPartition, Result<_, _>)| {
        let listed: Option<kuroshio_wire::ListedOffset> = outcome?;
        Ok((partition, listed.context("no end")?.offset))
    };
    listed.into_iter().map(end).collect()
}

/// Observes for `period` that nothing is written into `topics` of any of the clusters: what is there is all there
/// will be, so the first change is the failure.
pub(crate) async fn stay_silent(all: &[&Cluster], topics: &[&str], period: Duration) -> Result<()> {
    let look = async || -> Result<Vec<_>> {
        let mut seen = Vec::new();
        for cluster in all {
            seen.push(ends(cluster, topics).await?);
        }
        Ok(seen)
    };
    let before = look().await?;
    ensure!(
        before.iter().any(|ends| ends.values().any(|end| *end > 0)),
        "no data in {topics:?}"
    );
    let end = Instant::now() + period;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(250)).await; // between two looks of one observation
        let now = look().await?;
        ensure!(
            now == before,
            "written after all had arrived: {before:?} became {now:?}"
        );
    }
    Ok(())
}

/// Compares `topic` on both clusters with what was born on both.
pub(crate) async fn assert_exact(pair: &Pair, ledger: &Ledger, topic: &str, within: Duration) -> Result<()> {
    assert_exact_on([&pair.tw, &pair.jp], ledger, topic, within).await
}

/// [`assert_exact`] on these clusters, which are called tw and jp.
pub(crate) async fn assert_exact_on(
    all: [&Cluster; 2],
    ledger: &Ledger,
    topic: &str,
    within: Duration,
) -> Result<()> {
    for cluster in all {
        let births = [("tw", topic), ("jp", topic)];
        let report = ledger.compare(cluster, topic, &births, within).await?;
        ensure!(report.is_exact(), "{topic} on {}: {report}", cluster.alias());
    }
    Ok(())
}

/// For people who look at a failed test: what holds readers of `topic` back, and what the processes know.
pub(crate) async fn diagnosis(clusters: &[&Cluster], topic: &str, processes: &[&Kuroshio]) -> String {
    let mut all = String::new();
    for kafka in clusters {
        let cluster = wire(kafka);
        let count = kafka
            .topics()
            .await
            .ok()
            .and_then(|topics| topics.get(topic).copied());
        let count = i32::try_from(count.unwrap_or(0)).unwrap_or(0);
        for partition in (0..count).map(|partition| TopicPartition::new(topic, partition)) {
            let mut ends = Vec::new();
            for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
                ends.push(cluster.list_offset(&partition, OffsetAt::Latest, isolation).await);
            }
            all += &format!("{} {partition}: stable and last offset {ends:?}\n", kafka.alias());
        }
        for listed in cluster.list_transactions().await.unwrap_or_default() {
            if !["Empty", "CompleteCommit", "CompleteAbort"].contains(&&*listed.state) {
                let described = cluster.describe_transaction(&listed.transactional_id).await;
                all += &format!("{} {}: {described:?}\n", kafka.alias(), listed.transactional_id);
            }
        }
    }
    for process in processes {
        all += &format!("{:?}\n{}\n", process.status().await, process.log_tail());
    }
    all
}

/// Waits until the process says that it has copied `records` of `flow` to the target.
pub(crate) async fn until_copied(
    process: &Kuroshio,
    flow: &str,
    records: u64,
    within: Duration,
) -> Result<()> {
    until(within, &format!("{records} records of {flow}"), || async {
        let seen = process.metric("kuroshio_records_total", &[("flow", flow)]).await;
        match seen {
            Ok(Some(count)) if count >= records as f64 => Ok(()),
            Ok(count) => Err(format!("{count:?} copied")),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
    .with_context(|| process.log_tail())
}

/// A pump's request to join, as the product sends it; its name is its metadata too.
pub(crate) fn join(group: &str, instance: &str, member: Option<&Arc<str>>) -> Join {
    Join {
        group: group.into(),
        instance: instance.into(),
        member: member.cloned(),
        protocol_type: "kuroshio",
        protocol: "slots-1",
        metadata: Bytes::copy_from_slice(instance.as_bytes()),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
    }
}

/// What `group` has stored for a partition, read stable.
pub(crate) async fn stored(
    cluster: &kuroshio_wire::Cluster,
    group: &str,
    partition: &TopicPartition,
) -> Result<Stored> {
    let mut all = cluster
        .fetch_offsets(group, Some(std::slice::from_ref(partition)))
        .await?;
    Ok(all
        .remove(partition)
        .context("the partition is not in the answer")??)
}

/// What `group` has stored for a partition, read stable.
pub(crate) async fn position(kafka: &Cluster, group: &str, topic: &str, partition: i32) -> Result<Stored> {
    stored(&wire(kafka), group, &TopicPartition::new(topic, partition)).await
}

/// What `group` has stored for a partition once no transaction holds another position.
///
/// An ended transaction is no settled one: `EndTxn` is answered before the marker lies in `__consumer_offsets`, and
/// until then a stable fetch says `UNSTABLE_OFFSET_COMMIT`.
pub(crate) async fn settled(kafka: &Cluster, group: &str, topic: &str, partition: i32) -> Result<Stored> {
    until_position(kafka, group, (topic, partition), |stored| match stored {
        Stored::Unstable => Err(stored),
        stored => Ok(stored),
    })
    .await
}

/// Waits until `group` has a settled position for a partition, and gives it.
pub(crate) async fn until_stored(
    kafka: &Cluster,
    group: &str,
    topic: &str,
    partition: i32,
) -> Result<GroupOffset> {
    until_position(kafka, group, (topic, partition), |stored| match stored {
        Stored::Offset(offset) => Ok(offset),
        other => Err(other),
    })
    .await
}

async fn until_position<T>(
    kafka: &Cluster,
    group: &str,
    (topic, partition): (&str, i32),
    wanted: impl Fn(Stored) -> Result<T, Stored>,
) -> Result<T> {
    let what = format!(
        "a settled position of {topic}-{partition} in {group} on {}",
        kafka.alias()
    );
    until(WAIT, &what, || async {
        let stored = position(kafka, group, topic, partition).await;
        let stored = stored.map_err(|why| format!("{why:#}"))?;
        wanted(stored).map_err(|other| format!("{other:?}"))
    })
    .await
}

/// All committed records of a topic, each partition in order, up to its end.
pub(crate) async fn read(kafka: &Cluster, topic: &str) -> Result<Vec<OwnedMessage>> {
    let partitions = i32::try_from(*kafka.topics().await?.get(topic).context("no such topic")?)?;
    let config = kafka
        .client()
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .clone();
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let (mut log, mut at_end) = (Vec::new(), 0);
        let deadline = Instant::now() + WAIT;
        while at_end < partitions {
            ensure!(
                Instant::now() < deadline,
                "{topic} was not read to its end: {} records",
                log.len()
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => log.push(record.detach()),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => at_end += 1,
                Some(Err(why)) => return Err(why.into()),
                None => {}
            }
        }
        Ok(log)
    })
    .await?
}

/// Waits until a topic holds `count` committed records, and gives them.
pub(crate) async fn until_there(kafka: &Cluster, topic: &str, count: usize) -> Result<Vec<OwnedMessage>> {
    until(WAIT, &format!("{count} records in {topic}"), || async {
        match read(kafka, topic).await {
            Ok(log) if log.len() >= count => Ok(log),
            Ok(log) => Err(format!("{} records", log.len())),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
}

/// The values of all headers of that key, in order.
pub(crate) fn headers<'m>(record: &'m OwnedMessage, key: &str) -> Vec<&'m [u8]> {
    let all = record.headers().into_iter().flat_map(Headers::iter);
    all.filter(|header| header.key == key)
        .filter_map(|header| header.value)
        .collect()
}

/// Writes one record and waits for it.
pub(crate) async fn write(
    kafka: &Cluster,
    (topic, partition): (&str, i32),
    (key, value): (&[u8], Option<&[u8]>),
    headers: OwnedHeaders,
) -> Result<()> {
    let producer: BaseProducer = kafka.client().set("enable.idempotence", "true").create()?;
    let mut record = BaseRecord::to(topic)
        .partition(partition)
        .key(key)
        .headers(headers);
    record.payload = value;
    producer.send(record).map_err(|(why, _)| why)?;
    let flushed =
        tokio::task::spawn_blocking(move || producer.flush(WAIT).map(|()| producer.in_flight_count()));
    ensure!(flushed.await?? == 0, "not acknowledged");
    Ok(())
}

/// How many slots every flow has.
pub(crate) const ALL_SLOTS: usize = kuroshio_core::slots::SLOT_COUNT as usize;

/// How many slots a process owns in a flow of its `/status`.
pub(crate) fn slots(flow: &Value) -> usize {
    flow["slots"].as_array().map_or(0, Vec::len)
}

/// Slots that a process owns in a flow, and the generation in which it got them.
pub(crate) async fn seat(process: &Kuroshio, flow: &str) -> Result<(usize, Option<i64>)> {
    let status = process.status().await?;
    let flows = status["flows"].as_array().context("no flows")?;
    let flow = flows
        .iter()
        .find(|other| other["name"] == flow)
        .context("no such flow")?;
    Ok((slots(flow), flow["generation"].as_i64()))
}

/// Waits until `holds` says so of a flow in `/status`.
pub(crate) async fn until_status(
    process: &mut Kuroshio,
    flow: &str,
    within: Duration,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let of = |body: &str| -> Option<Value> {
        let status: Value = serde_json::from_str(body).ok()?;
        status["flows"]
            .as_array()?
            .iter()
            .find(|other| other["name"] == flow)
            .cloned()
    };
    let body = process
        .until_http("/status", within, |body| {
            of(body).is_some_and(|flow| holds(&flow))
        })
        .await?;
    of(&body).context("no such flow")
}

/// Names in a form that the wire client takes.
pub(crate) fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Records born on both sides at a steady rate for as long as `faults` go on, so that none of them meets an idle flow.
pub(crate) async fn under_load(
    pair: &Pair,
    ledger: &Ledger,
    (topic, partitions): (&str, i32),
    faults: impl Future<Output = Result<()>>,
) -> Result<()> {
    const RATE: u64 = 1_000;
    const CHUNK_SECONDS: u64 = 2;
    let over = Cell::new(false);
    let load = async {
        while !over.get() {
            let load = Load {
                records: RATE * CHUNK_SECONDS,
                partitions,
                rate: Some(RATE),
            };
            tokio::try_join!(
                ledger.produce(&pair.tw, topic, load),
                ledger.produce(&pair.jp, topic, load)
            )?;
        }
        Ok(())
    };
    let faults = async {
        faults.await?;
        over.set(true);
        Ok(())
    };
    tokio::try_join!(load, faults).map(drop)
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn now() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}
