//! Topics appear, grow, are compacted and written by transactions; positions are kept, copied, lost and healed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, pair, until};
use kuroshio_wire::{Committer, ConfigSource, GroupOffset, Stored};
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::growth::{grow, until_wide};
use crate::regions::{
    WAIT, assert_exact, both_ways, names, on_all, one_way, position, settled, stay_silent, under_load,
    until_copied, until_status, until_stored, until_there, wire, write,
};

const FEW: Load = Load {
    records: 600,
    partitions: 3,
    rate: None,
};

/// Waits until the flow's topic is complete on jp.
pub(crate) async fn arrived(pair: &Pair, ledger: &Ledger, topic: &str, process: &Kuroshio) -> Result<()> {
    let report = ledger.compare(&pair.jp, topic, &[("tw", topic)], WAIT).await?;
    ensure!(report.is_exact(), "{report}\n{}", process.log_tail());
    Ok(())
}

/// The topic itself is configured so; what it has from its broker does not count.
async fn has_configs(kafka: &Cluster, topic: &str, expected: &[(&str, &str)]) -> Result<()> {
    let mut all = wire(kafka).topic_configs(&names(&[topic]), None).await?;
    let told = all.remove(topic).context("no answer")??;
    for (key, value) in expected {
        let entry = told.iter().find(|entry| &*entry.key == *key);
        ensure!(
            entry.is_some_and(|entry| {
                entry.value.as_deref() == Some(*value) && entry.source == ConfigSource::Topic
            }),
            "{topic} on {}: {key} is not {value}: {entry:?}",
            kafka.alias()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_that_appears_is_made_and_grows() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic) = (Ledger::new(50), "appears.orders");
    let mut process = Kuroshio::run(one_way(pair, "appears", &["appears[.].*"]))?;
    process.ready(WAIT).await?;
    let configs = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "123456789"),
        ("max.message.bytes", "2000000"),
        ("min.insync.replicas", "1"),
    ];
    pair.tw.create_topic(topic, 3, &configs).await?;
    ledger.produce(&pair.tw, topic, FEW).await?;
    until_there(&pair.jp, topic, 1)
        .await
        .with_context(|| process.log_tail())?;
    let given = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "123456789"),
        ("max.message.bytes", "2001024"),
    ];
    has_configs(&pair.jp, topic, &given)
        .await
        .with_context(|| process.log_tail())?;

    // Set on the source and on no broker: each value is the topic's own, and came with its creation.
    let compacted = "appears.compacted";
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "zstd"),
        ("max.message.bytes", "3000000"),
        ("retention.ms", "98765432"),
        ("retention.bytes", "87654321"),
        ("delete.retention.ms", "76543210"),
        ("min.compaction.lag.ms", "6543"),
    ];
    pair.tw.create_topic(compacted, 2, &configs).await?;
    until_wide(&pair.jp, compacted, 2)
        .await
        .with_context(|| process.log_tail())?;
    // A record grows by its tag.
    let given = configs.map(|(key, value)| match key {
        "max.message.bytes" => (key, "3001024"),
        _ => (key, value),
    });
    has_configs(&pair.jp, compacted, &given)
        .await
        .with_context(|| process.log_tail())?;

    // Two partitions more: what lies in them before they are seen is copied too.
    grow(&pair.tw, topic, 5).await?;
    ledger
        .produce(&pair.tw, topic, Load { partitions: 5, ..FEW })
        .await?;
    until_wide(&pair.jp, topic, 5)
        .await
        .with_context(|| process.log_tail())?;
    arrived(pair, &ledger, topic, &process).await
}

#[tokio::test]
async fn latest_skips_what_was_there_at_the_first_start_only() -> Result<()> {
    let pair = pair().await?;
    let (before, after) = (Ledger::new(51), Ledger::new(52));
    let topic = "latest.orders";
    pair.tw.create_topic(topic, 3, &[]).await?;
    before.produce(&pair.tw, topic, FEW).await?;
    let mut config = one_way(pair, "latest", &["latest[.].*"]);
    config["defaults"]["start"] = json!("latest");
    let mut process = Kuroshio::run(config)?;
    let group = "kuroshio.latest-tw-jp";
    process.ready(WAIT).await?;
    // Its start is decided and written before the first record.
    for partition in 0..3 {
        until_stored(&pair.jp, group, topic, partition)
            .await
            .with_context(|| process.log_tail())?;
    }
    after.produce(&pair.tw, topic, FEW).await?;
    arrived(pair, &after, topic, &process).await?;
    // Stopped while records come: it goes on where it was, not at the end of then.
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    after.produce(&pair.tw, topic, FEW).await?;
    // A topic that appears later begins with its first record.
    pair.tw.create_topic("latest.new", 3, &[]).await?;
    after.produce(&pair.tw, "latest.new", FEW).await?;
    process.restart()?;
    arrived(pair, &after, topic, &process).await?;
    until_there(&pair.jp, "latest.new", 600)
        .await
        .with_context(|| process.log_tail())?;
    arrived(pair, &after, "latest.new", &process).await
}

#[tokio::test]
async fn tombstones_of_compacted_topics_and_aborted_transactions() -> Result<()> {
    let pair = pair().await?;
    let (topic, flow) = ("transactional.orders", "transactional-tw-jp");
    pair.tw
        .create_topic(topic, 1, &[("cleanup.policy", "compact")])
        .await?;
    let config = pair
        .tw
        .client()
        .set("transactional.id", "transactional-app")
        .clone();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(WAIT)?;
        for round in 0..10 {
            producer.begin_transaction()?;
            for key in ["a", "b"] {
                let value = format!("{round}");
                let mut record = BaseRecord::<str, str>::to(topic).partition(0).key(key);
                // The last word on `b` is that it is gone.
                record.payload = (key == "a" || round < 9).then_some(&value);
                producer.send(record).map_err(|(why, _)| why)?;
            }
            if round % 3 == 1 {
                producer.flush(WAIT)?; // in the log, and never to be seen
                producer.abort_transaction(WAIT)?;
            } else {
                producer.commit_transaction(WAIT)?;
            }
        }
        anyhow::Ok(())
    })
    .await??;
    let mut process = Kuroshio::run(one_way(pair, "transactional", &["transactional[.].*"]))?;
    process.ready(WAIT).await?;
    let copies = until_there(&pair.jp, topic, 14)
        .await
        .with_context(|| process.log_tail())?;
    let rounds: Vec<_> = copies
        .iter()
        .map(|copy| copy.payload().map(|value| value[0] - b'0'))
        .collect();
    let expected: Vec<_> = [0, 2, 3, 5, 6, 8]
        .iter()
        .flat_map(|round| [Some(*round); 2])
        .chain([Some(9), None])
        .collect();
    ensure!(rounds == expected, "{rounds:?}");
    // The position passes markers and aborted records, so the lag reaches 0, in the log's own count.
    let end = *crate::regions::ends(&pair.tw, &[topic])
        .await?
        .values()
        .next()
        .context("no end")?;
    until(WAIT, "a lag of 0", || async {
        let lag = process
            .metric("kuroshio_lag_records", &[("flow", flow)])
            .await
            .map_err(|why| why.to_string())?;
        if lag == Some(0.0) {
            Ok(())
        } else {
            Err(format!("{lag:?}"))
        }
    })
    .await?;
    until(WAIT, "the position behind the last marker", || async {
        match position(&pair.jp, "kuroshio.transactional-tw-jp", topic, 0).await {
            Ok(Stored::Offset(offset)) if offset.offset == end => Ok(()),
            other => Err(format!("{other:?}, the log ends at {end}")),
        }
    })
    .await
    .with_context(|| process.log_tail())
}

/// The session timeout of a pump's membership.
const SESSION: Duration = Duration::from_secs(10);

/// The generations in which a process sits in its flows.
async fn seats(process: &mut Kuroshio) -> Result<Vec<serde_json::Value>> {
    let mut seats = Vec::new();
    for flow in ["restarts-tw-jp", "restarts-jp-tw"] {
        // The document is renewed twice a second: it may be older than readiness.
        let seated = |flow: &serde_json::Value| flow["generation"].is_i64();
        seats.push(until_status(process, flow, WAIT, seated).await?["generation"].clone());
    }
    Ok(seats)
}

#[tokio::test]
async fn a_stop_drains_and_a_restart_goes_on_at_once() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic) = (Ledger::new(53), "restarts.orders");
    on_all(&[&pair.tw, &pair.jp], topic, 3).await?;
    let mut process = Kuroshio::run(both_ways(pair, "restarts", &["restarts[.].*"]))?;
    process.ready(WAIT).await?;
    let restarts = async {
        for _ in 0..3 {
            until_copied(&process, "restarts-tw-jp", 100, WAIT).await?;
            let before = seats(&mut process).await?;
            let started = std::time::Instant::now();
            process.terminate()?;
            ensure!(
                process.exited(Duration::from_secs(30)).await?.code() == Some(0),
                "{}",
                process.log_tail()
            );
            process.restart()?;
            process.ready(WAIT).await?;
            let after = seats(&mut process).await?;
            let away = started.elapsed();
            println!("stopped and back in its seats after {away:?}");
            // Its own place, not one that a rebalance gave: nobody waited for the session of its forerunner. Where this
            // machine stood still for half a session, the session may have ended.
            ensure!(
                after == before || away > SESSION / 2,
                "{before:?} became {after:?} in {away:?}\n{}",
                process.log_tail()
            );
        }
        Ok(())
    };
    under_load(pair, &ledger, (topic, 3), restarts).await?;
    assert_exact(pair, &ledger, topic, WAIT)
        .await
        .with_context(|| process.log_tail())
}

#[tokio::test]
async fn positions_are_named_copied_and_healed() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic, group) = (Ledger::new(54), "healed.orders", "kuroshio.healed-tw-jp");
    pair.tw.create_topic(topic, 3, &[]).await?;
    ledger.produce(&pair.tw, topic, FEW).await?;
    let mut config = one_way(pair, "healed", &["healed[.].*"]);
    config["instance"] = json!("healed");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    arrived(pair, &ledger, topic, &process).await?;
    let log = wire(&pair.tw);
    let metadata = log
        .metadata(kuroshio_wire::Topics::Named(&names(&[topic])))
        .await?;
    let id = metadata.topics[0].id.context("no topic id")?;
    for partition in 0..3 {
        let stored = until_stored(&pair.jp, group, topic, partition).await?;
        ensure!(
            stored.metadata.starts_with(&format!("1 {} {id} ", pair.tw.id())),
            "{stored:?}"
        );
        // The copy for lag tools, renewed every few seconds.
        until(WAIT, "the copy on the source", || async {
            match position(&pair.tw, group, topic, partition).await {
                Ok(Stored::Offset(copy)) if copy.offset == stored.offset => Ok(()),
                other => Err(format!("{other:?}, on the target {stored:?}")),
            }
        })
        .await
        .with_context(|| process.log_tail())?;
    }
    // Leaves the group, so that its positions can be deleted.
    process.interrupt()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    for partition in 0..3 {
        // What a transaction still held would come back after it was deleted.
        settled(&pair.jp, group, topic, partition).await?;
    }
    ledger.produce(&pair.tw, topic, FEW).await?;
    for round in ["one topic's positions", "the group"] {
        if round == "the group" {
            let mut gone = wire(&pair.jp).delete_groups(&[group.into()]).await;
            gone.remove(group).context("no outcome")??;
        } else {
            let args = ["--delete-offsets", "--group", group, "--topic", topic];
            pair.jp
                .tool(
                    "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
                    &args,
                )
                .await?;
        }
        ensure!(
            position(&pair.jp, group, topic, 0).await? == Stored::Nothing,
            "{round}"
        );
        process.restart()?;
        arrived(pair, &ledger, topic, &process).await.context(round)?;
        stay_silent(&[&pair.jp], &[topic], Duration::from_secs(2))
            .await
            .context(round)?;
        process.interrupt()?;
        ensure!(
            process.exited(WAIT).await?.code() == Some(0),
            "{}",
            process.log_tail()
        );
        ledger.produce(&pair.tw, topic, FEW).await?;
    }
    process.restart()?;
    arrived(pair, &ledger, topic, &process).await
}

#[tokio::test]
async fn another_cluster_under_a_known_alias_stops_the_flow_and_no_other() -> Result<()> {
    let pair = pair().await?;
    let (topic, group) = ("alias.orders", "kuroshio.alias-tw-jp");
    on_all(&[&pair.tw, &pair.jp], topic, 1).await?;
    write(&pair.tw, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    // As a flow left them that knew another cluster as tw.
    let position = GroupOffset {
        offset: 0,
        leader_epoch: None,
        metadata: "1 another-cluster AAAAAAAAAAAAAAAAAAAAAA".into(),
    };
    let offsets = [(kuroshio_core::types::TopicPartition::new(topic, 0), position)];
    wire(&pair.jp)
        .commit_offsets(group, Committer::Observer, &offsets)
        .await?;
    let mut process = Kuroshio::run(both_ways(pair, "alias", &["alias[.].*"]))?;
    let (flow, back) = (("flow", "alias-tw-jp"), ("flow", "alias-jp-tw"));
    until(WAIT, "the flow to have ended and begun again", || async {
        match process.metric("kuroshio_flow_restarts_total", &[flow]).await {
            Ok(Some(restarts)) if restarts >= 2.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let failed = until_status(&mut process, flow.1, WAIT, |flow| flow["state"] == "failed").await?;
    let errors = failed["errors"].to_string();
    ensure!(
        errors.contains("another-cluster") && errors.contains(pair.tw.id()),
        "{errors}"
    );
    ensure!(
        process.get("/readyz").await?.0 == 503,
        "ready with a flow that is not"
    );
    // The other one is not touched.
    write(&pair.jp, (topic, 0), (b"k", Some(b"back")), OwnedHeaders::new()).await?;
    until_there(&pair.tw, topic, 2)
        .await
        .with_context(|| process.log_tail())?;
    ensure!(process.metric("kuroshio_flow_restarts_total", &[back]).await? == Some(0.0));
    ensure!(
        crate::regions::read(&pair.jp, topic).await?.len() == 1,
        "copied nevertheless"
    );
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    Ok(())
}
