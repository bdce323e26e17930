//! Configs of topics follow from the side that has the authority, and from nowhere else.

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Pair, Spec, command, pair, until};
use kuroshio_wire::{ConfigChange, ConfigSource};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::regions::{WAIT, both_ways, clusters, names, on_all, until_there, wire};

/// A config of a topic: its value, and whether it is the topic's own.
async fn config(kafka: &Cluster, topic: &str, key: &str) -> Result<(String, bool)> {
    let mut all = wire(kafka).topic_configs(&names(&[topic]), None).await?;
    let told = all.remove(topic).context("no answer")??;
    let entry = told.into_iter().find(|entry| &*entry.key == key);
    let entry = entry.with_context(|| format!("no {key}"))?;
    let value = entry.value.context("no value")?.to_string();
    Ok((value, entry.source == ConfigSource::Topic))
}

/// Waits until it is the topic's own with this value, or, for `None`, the broker's.
async fn until_config(kafka: &Cluster, topic: &str, key: &str, expected: Option<&str>) -> Result<()> {
    until(WAIT, &format!("{key} of {topic} to be {expected:?}"), || async {
        match config(kafka, topic, key).await {
            Ok((value, own)) if own.then_some(&*value) == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

fn set(key: &str, value: &str) -> ConfigChange {
    ConfigChange::Set(key.to_owned(), value.to_owned())
}

fn unset(key: &str) -> ConfigChange {
    ConfigChange::Unset(key.to_owned())
}

async fn alter(kafka: &Cluster, topic: &str, changes: Vec<ConfigChange>) -> Result<()> {
    let mut outcomes = wire(kafka)
        .alter_topic_configs(&[(topic.into(), changes)])
        .await?;
    Ok(outcomes.remove(topic).context("no answer")??)
}

/// Compared so often.
fn every(mut config: Value, interval: &str) -> Value {
    config["defaults"]["configs"] = json!({ "interval": interval });
    config
}

#[tokio::test]
async fn configs_follow_from_the_side_with_the_authority() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "configs.orders";
    let own = [("retention.ms", "11111111"), ("min.insync.replicas", "1")];
    tw.create_topic(topic, 2, &own).await?;
    let config_of_flows = every(both_ways(pair().await?, "configs", &["configs[.].*"]), "1s");
    let mut process = Kuroshio::run(config_of_flows)?;
    process.ready(WAIT).await?;
    let follow = async {
        until_config(jp, topic, "retention.ms", Some("11111111")).await?;
        // Each cluster has its own.
        until_config(jp, topic, "min.insync.replicas", None).await?;

        // Changed, added, and taken away again.
        alter(
            tw,
            topic,
            vec![set("retention.ms", "22222222"), set("flush.messages", "500")],
        )
        .await?;
        until_config(jp, topic, "flush.messages", Some("500")).await?;
        until_config(jp, topic, "retention.ms", Some("22222222")).await?;
        alter(tw, topic, vec![unset("flush.messages")]).await?;
        until_config(jp, topic, "flush.messages", None).await?;

        // What somebody changes on the other side goes back; what is that cluster's own does not.
        let drift = [
            set("retention.ms", "99999999"),
            set("segment.ms", "7777777"),
            set("min.insync.replicas", "1"),
            set("max.message.bytes", "5000000"),
        ];
        alter(jp, topic, drift.into()).await?;
        until_config(jp, topic, "retention.ms", Some("22222222")).await?;
        until_config(jp, topic, "segment.ms", None).await?;

        // A record that fits on one side must fit on the other with its tag; nothing is ever lowered.
        alter(tw, topic, vec![set("max.message.bytes", "6000000")]).await?;
        until_config(jp, topic, "max.message.bytes", Some("6001024")).await?;
        alter(
            tw,
            topic,
            vec![unset("max.message.bytes"), set("segment.ms", "8888888")],
        )
        .await?;
        until_config(jp, topic, "segment.ms", Some("8888888")).await
    };
    follow.await.with_context(|| process.log_tail())?;
    for (key, expected) in [
        ("max.message.bytes", ("6001024", true)),
        ("min.insync.replicas", ("1", true)),
    ] {
        let (value, own) = config(jp, topic, key).await?;
        ensure!((&*value, own) == expected, "{key} is {value} ({own})");
    }
    // The flow back has changed nothing.
    for (key, expected) in [
        ("retention.ms", ("22222222", true)),
        ("segment.ms", ("8888888", true)),
        ("max.message.bytes", ("1048588", false)),
    ] {
        let (value, own) = config(tw, topic, key).await?;
        ensure!(
            (&*value, own) == expected,
            "{key} is {value} ({own})\n{}",
            process.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_too_large_raises_the_limit_first() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "raised.orders";
    on_all(&[tw, jp], topic, 1).await?;
    let mut process = Kuroshio::run(every(
        both_ways(pair().await?, "raised", &["raised[.].*"]),
        "1day",
    ))?;
    process.ready(WAIT).await?;
    let first_sync = until_config(jp, topic, "max.message.bytes", Some("1049612"));
    first_sync.await.with_context(|| process.log_tail())?;
    // The next comparison is a day away.
    alter(jp, topic, vec![set("max.message.bytes", "100000")]).await?;
    let producer: BaseProducer = tw.client().create()?;
    // Random, so that it does not become small by compression.
    let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(500_000)
        .collect();
    let record = BaseRecord::<str, [u8]>::to(topic).key("k").payload(&value);
    producer.send(record).map_err(|(why, _)| why)?;
    tokio::task::spawn_blocking(move || producer.flush(WAIT)).await??;
    until_there(jp, topic, 1)
        .await
        .with_context(|| process.log_tail())?;
    let (limit, _) = config(jp, topic, "max.message.bytes").await?;
    ensure!(limit == "1049612", "{limit}");
    until(WAIT, "no partition in quarantine", || async {
        match process.status().await {
            Ok(status) if status["flows"][0]["quarantined"] == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// When an error that contains this was last met by a flow.
fn met(status: &Value, text: &str) -> Option<u64> {
    let errors = status["flows"][0]["errors"].as_array()?;
    let error = errors
        .iter()
        .find(|error| error["text"].as_str().is_some_and(|told| told.contains(text)))?;
    error["at_ms"].as_u64()
}

#[tokio::test]
async fn what_the_target_refuses_is_told_once_and_left_out() -> Result<()> {
    let old = Cluster::start(Spec::new("old").version("3.9.1")).await?;
    let jp = &pair().await?.jp;
    let topic = "refused.orders";
    // Kafka 4 takes no segments below 1 MiB (KIP-1030).
    let own = [
        ("segment.bytes", "200000"),
        ("cleanup.policy", "compact"),
        ("retention.ms", "33333333"),
    ];
    old.create_topic(topic, 1, &own).await?;
    let config_of_flow = json!({
        "clusters": clusters(&[&old, jp]),
        "flows": [{ "name": "refused", "source": "old", "target": "jp" }],
        "defaults": {
            "topics": { "include": ["refused[.].*"], "refresh": "200ms" },
            "configs": { "interval": "1s" },
            "heartbeats": { "enabled": false },
        },
        "instance": "refused",
        "log": { "format": "text" },
    });
    let mut process = Kuroshio::run(config_of_flow.clone())?;
    process.ready(WAIT).await?;
    until_config(jp, topic, "cleanup.policy", Some("compact"))
        .await
        .with_context(|| process.log_tail())?;
    until_config(jp, topic, "retention.ms", Some("33333333")).await?;
    until_config(jp, topic, "segment.bytes", None).await?;
    let told = until(WAIT, "the refused config to be told", || async {
        let status = process.status().await.map_err(|why| why.to_string())?;
        met(&status, "config segment.bytes of topic refused.orders").ok_or_else(|| status.to_string())
    })
    .await?;
    // Several comparisons later, which change other configs, nothing more was said.
    for flush in ["100", "200", "300"] {
        alter(&old, topic, vec![set("flush.messages", flush)]).await?;
        until_config(jp, topic, "flush.messages", Some(flush))
            .await
            .with_context(|| process.log_tail())?;
    }
    let again = met(
        &process.status().await?,
        "config segment.bytes of topic refused.orders",
    );
    ensure!(again == Some(told), "told at {told}, then at {again:?}");
    // A plan asks the target, and knows that there is nothing to do about it.
    let args = ["plan", "--config", "{config}", "--detailed-exitcode"];
    let ended = command(&args, Some(&config_of_flow), WAIT).await?;
    let kept = "  keep        refused.orders segment.bytes (now ";
    ensure!(ended.code == Some(0) && ended.stdout.contains(kept), "{ended:?}");
    Ok(())
}

/// Redpanda's migrator: that a second sync changes nothing.
#[tokio::test]
async fn what_is_as_it_should_be_is_not_changed_again() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (steady, ticking) = ("steady.orders", "steady.ticking");
    let own = [
        ("retention.ms", "44444444"),
        ("max.message.bytes", "3000000"),
        ("segment.ms", "5555555"),
    ];
    tw.create_topic(steady, 1, &own).await?;
    jp.create_topic(steady, 1, &[]).await?;
    tw.create_topic(ticking, 1, &[]).await?;
    let mut config_of_flows = every(both_ways(pair().await?, "steady", &["steady[.].*"]), "1s");
    // Nothing else is to be said meanwhile.
    config_of_flows["defaults"]["groups"] = json!({ "sync": false });
    let mut process = Kuroshio::run(config_of_flows)?;
    process.ready(WAIT).await?;
    for (key, value) in [
        ("retention.ms", "44444444"),
        ("max.message.bytes", "3001024"),
        ("segment.ms", "5555555"),
    ] {
        until_config(jp, steady, key, Some(value))
            .await
            .with_context(|| process.log_tail())?;
    }
    // Of several comparisons the later ones have only this to do.
    for flush in ["100", "200", "300"] {
        alter(tw, ticking, vec![set("flush.messages", flush)]).await?;
        until_config(jp, ticking, "flush.messages", Some(flush))
            .await
            .with_context(|| process.log_tail())?;
    }
    let log = process.log_tail();
    let changes = |topic: &str| {
        let of = format!("topic=\"{topic}\" config=");
        log.lines().filter(|line| line.contains(&of)).count()
    };
    ensure!(
        changes(steady) == 3 && changes(ticking) >= 3,
        "{} changes of {steady}, {} of {ticking}: {log}",
        changes(steady),
        changes(ticking)
    );
    Ok(())
}
