//! The lag exporter, on both sides.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, Process, Spec, pair, until};
use kuroshio_wire::{Committer, GroupOffset};
use serde_json::json;

use crate::observed::metric;
use crate::regions::{WAIT, on_all, one_way, wire};

/// The offset of a group in a partition of a topic.
pub(crate) fn at(topic: &str, partition: i32, offset: i64) -> (TopicPartition, GroupOffset) {
    let offset = GroupOffset {
        offset,
        leader_epoch: None,
        metadata: "".into(),
    };
    (TopicPartition::new(topic, partition), offset)
}

#[tokio::test]
async fn groups_are_exported_on_both_sides() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic) = (Ledger::new(601), "exported.orders");
    on_all(&[&pair.tw], topic, 2).await?;
    let load = Load {
        records: 1_000,
        partitions: 2,
        rate: None,
    };
    ledger.produce(&pair.tw, topic, load).await?;
    let ends = crate::regions::ends(&pair.tw, &[topic]).await?;
    let end = |partition| ends[&TopicPartition::new(topic, partition)];
    let tw = wire(&pair.tw);
    let idle = [at(topic, 0, 100), at(topic, 1, end(1))];
    tw.commit_offsets("exported-idle", Committer::Observer, &idle)
        .await?;
    let living: rdkafka::consumer::BaseConsumer = pair
        .tw
        .client()
        .set("group.id", "exported-living")
        .set("enable.auto.commit", "false")
        .create()?;
    rdkafka::consumer::Consumer::subscribe(&living, &[topic])?;
    until(WAIT, "a member", || async {
        // Polling is what joins.
        drop(living.poll(Duration::from_millis(100)));
        match tw.describe_group(&"exported-living".into()).await {
            Ok(described) if &*described.state == "Stable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;

    let mut config = one_way(pair, "exported", &["exported[.].*"]);
    config["defaults"]["groups"] = json!({ "include": ["exported-.*"], "interval": "1s" });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let series = |name: &str, labels: &str| format!("kuroshio_group_{name}{{{labels}}}");
    for expected in [
        format!(
            r#"{} {}"#,
            series(
                "lag_records",
                r#"cluster="tw",group="exported-idle",partition="0",topic="exported.orders""#
            ),
            end(0) - 100
        ),
        format!(
            "{} 0",
            series(
                "lag_records",
                r#"cluster="tw",group="exported-idle",partition="1",topic="exported.orders""#
            )
        ),
        format!(
            "{} 0",
            series(
                "lag_seconds",
                r#"cluster="tw",group="exported-idle",partition="1",topic="exported.orders""#
            )
        ),
        format!("{} 0", series("members", r#"cluster="tw",group="exported-idle""#)),
        format!(
            "{} 1",
            series("state", r#"cluster="tw",group="exported-idle",state="Empty""#)
        ),
        format!(
            "{} 1",
            series("members", r#"cluster="tw",group="exported-living""#)
        ),
        format!(
            "{} 1",
            series("state", r#"cluster="tw",group="exported-living",state="Stable""#)
        ),
        // What sync made on the target: it is as far behind there.
        format!(
            "{} {}",
            series(
                "lag_records",
                r#"cluster="jp",group="exported-idle",partition="1",topic="exported.orders""#
            ),
            0
        ),
        format!(
            "{} 1",
            series(
                "follows",
                r#"cluster="jp",flow="exported-tw-jp",group="exported-idle""#
            )
        ),
    ] {
        process
            .until_http("/metrics", WAIT, |text| text.lines().any(|line| line == expected))
            .await
            .with_context(|| format!("waiting for {expected}"))?;
    }
    let of_idle = [("cluster", "tw"), ("group", "exported-idle"), ("partition", "0")];
    let first = metric(&process, "kuroshio_group_lag_seconds", &of_idle).await?;
    ensure!(first > 0.0, "{first}");
    until(WAIT, "the lag to rise", || async {
        match metric(&process, "kuroshio_group_lag_seconds", &of_idle).await {
            Ok(later) if later > first => Ok(()),
            other => Err(format!("{other:?} after {first}")),
        }
    })
    .await?;
    let follows = process
        .metric("kuroshio_group_follows", &[("cluster", "tw")])
        .await?;
    ensure!(follows.is_none(), "nobody wrote for groups on tw");
    for outcome in tw.delete_groups(&["exported-idle".into()]).await.into_values() {
        outcome?;
    }
    process
        .until_http("/metrics", WAIT, |text| {
            !text.contains(r#"cluster="tw",group="exported-idle""#)
        })
        .await
        .map(drop)
}

/// How many groups, each with offsets of so many partitions.
const MANY: (usize, i32) = (1_000, 20);

#[tokio::test]
async fn a_thousand_groups_are_exported() -> Result<()> {
    // Every process on the clusters that tests share would export them too.
    let (tw, jp) = tokio::try_join!(Cluster::start(Spec::new("tw")), Cluster::start(Spec::new("jp")))?;
    let pair = &Pair { tw, jp };
    let topic = "throng.orders";
    on_all(&[&pair.tw], topic, MANY.1).await?;
    let load = Load {
        records: 2_000,
        partitions: MANY.1,
        rate: None,
    };
    Ledger::new(602).produce(&pair.tw, topic, load).await?;
    let tw = wire(&pair.tw);
    let offsets: Vec<_> = (0..MANY.1).map(|partition| at(topic, partition, 1)).collect();
    for number in 0..MANY.0 {
        tw.commit_offsets(&format!("throng-{number}"), Committer::Observer, &offsets)
            .await?;
    }
    let mut cost = Vec::new();
    for include in ["none-of-them", "throng-.*"] {
        let mut config = one_way(pair, "throng", &["throng[.].*"]);
        // What sync costs is another question.
        config["defaults"]["groups"] = json!({ "include": [include], "sync": false });
        let mut process = Kuroshio::run(config)?;
        process.ready(WAIT).await?;
        if include == "throng-.*" {
            let all = MANY.0 * usize::try_from(MANY.1)?;
            let counted =
                |text: &str| text.matches(r#"kuroshio_group_lag_seconds{cluster="tw""#).count() == all;
            process.until_http("/metrics", WAIT, counted).await?;
        } else {
            process
                .until_http("/metrics", WAIT, |text| text.contains("kuroshio_lag_seconds{"))
                .await?;
        }
        // Two looks of the exporter, without anything else to do.
        let (before, began) = (Process { pid: process.pid() }.cpu()?, Instant::now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let spent = Process { pid: process.pid() }.cpu()? - before;
        cost.push(spent.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
    }
    println!(
        "{} groups of {} partitions every 10 s: {:.2}% of a core, {:.2}% without them",
        MANY.0, MANY.1, cost[1], cost[0]
    );
    Ok(())
}
