//! Hot partitions do not share a pump while another has less to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kuroshio_core::slots::{Claims, Member, Round, SLOT_COUNT, Slot, Subscription, assign, slot_of};
use kuroshio_integration::{Kuroshio, Ledger, Load, pair, until};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::regions::{WAIT, assert_exact, on_all, one_way, until_status};

const HOT: (&str, i32) = ("placed.orders", 2);
const COLD: (&str, i32) = ("placed.quiet", 6);

/// The partitions of the hot topic that the process copies.
fn hot(flow: &Value) -> Vec<i64> {
    let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let copied = lanes
        .iter()
        .filter(|lane| lane["topic"] == HOT.0 && lane["state"] == "running");
    copied.filter_map(|lane| lane["partition"].as_i64()).collect()
}

/// Whom the slots of the hot topic would go to if nothing but their number counted, with one member that has all and one that comes.
fn unmeasured() -> Result<BTreeSet<Option<String>>> {
    let member = |name: &str, claims| Member {
        id: name.to_owned(),
        subscription: Subscription {
            transactional_id: name.to_owned(),
            claims,
            fingerprint: 0,
            incarnation: 0,
        },
    };
    let all = Claims {
        generation: 1,
        slot_count: SLOT_COUNT,
        slots: (0..SLOT_COUNT).map(Slot).collect(),
    };
    let members = [member("a", Some(all)), member("b", None)];
    let mut weights = vec![0; usize::from(SLOT_COUNT)];
    let slots = |(topic, count)| (0..count).map(move |partition| slot_of(topic, partition, SLOT_COUNT));
    for slot in slots(HOT).chain(slots(COLD)) {
        weights[usize::from(slot.0)] += 1;
    }
    let round = Round {
        members: &members,
        leader: "a",
        weights: &weights,
        previous: None,
        fresh: false,
    };
    let shares = assign(&round).slots;
    let share = |slot: Slot| shares.get(usize::from(slot.0)).context("no such slot");
    let whom = |slot| {
        let share = share(slot)?;
        Ok(share.owner.clone().or_else(|| share.promised.clone()))
    };
    slots(HOT).map(whom).collect()
}

#[tokio::test]
async fn hot_partitions_part_when_a_process_comes() -> Result<()> {
    ensure!(
        unmeasured()?.len() == 1,
        "this shows nothing: the numbers alone part them"
    );
    let pair = pair().await?;
    for (topic, partitions) in [HOT, COLD] {
        on_all(&[&pair.tw, &pair.jp], topic, partitions).await?;
    }
    let (flow, ledger) = ("placed-tw-jp", Ledger::new(91));
    let mut config = one_way(pair, "placed", &["placed[.].*"]);
    config["instance"] = json!("placed-a");
    let mut first = Kuroshio::run_in(
        &[("RUST_LOG", "info,kuroshio::loads=debug".into())],
        config.clone(),
    )?;
    first.ready(WAIT).await?;

    let over = Arc::new(Notify::new());
    let load = async {
        let chunk = Load {
            records: 2_000,
            partitions: HOT.1,
            rate: Some(1_000),
        };
        loop {
            ledger.produce(&pair.tw, HOT.0, chunk).await?;
            if tokio::time::timeout(std::time::Duration::ZERO, over.notified())
                .await
                .is_ok()
            {
                return anyhow::Ok(());
            }
        }
    };
    let arrival = async {
        until(WAIT, "measured loads", || async {
            let looks = first.logged("loads measured").map_err(|why| format!("{why:#}"))?;
            let idle = first
                .logged("the busiest slot has 10 records")
                .map_err(|why| format!("{why:#}"))?;
            // The first may have seen one of the two.
            if looks - idle >= 2 {
                Ok(())
            } else {
                Err(format!("{looks} looks, {idle} saw nothing"))
            }
        })
        .await?;
        config["instance"] = json!("placed-b");
        let mut second = Kuroshio::run(config)?;
        until_status(&mut second, flow, WAIT, |flow| !hot(flow).is_empty())
            .await
            .with_context(|| first.log_tail())?;
        let shared = until_status(&mut first, flow, WAIT, |flow| hot(flow).len() == 1).await;
        over.notify_one();
        shared.map(|_| second)
    };
    let (loaded, second) = tokio::join!(load, arrival);
    loaded?;
    let second = second?;
    assert_exact(pair, &ledger, HOT.0, WAIT)
        .await
        .with_context(|| format!("{}\n{}", first.log_tail(), second.log_tail()))
}
