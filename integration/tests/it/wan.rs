//! Two regions with an ocean between them: one cluster is reached over a link.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Kuroshio, Ledger, Load, Wan, pair};
use serde_json::json;

use crate::regions::{WAIT, assert_exact, both_ways, ends, on_all, stay_silent};

/// Taiwan to Japan and back.
const ROUND_TRIP: Duration = Duration::from_millis(35);
/// Longer than any pause of a healthy line, shorter than the sessions of groups.
const STALL: Duration = Duration::from_secs(5);

/// A process beside jp pulls from tw and pushes to tw, so both directions of the link carry records, fetches,
/// positions and transactions.
#[tokio::test]
async fn everything_crosses_a_link_once_and_goes_on_after_a_stall() -> Result<()> {
    let pair = pair().await?;
    let link = pair.tw.link()?;
    link.set(Wan::delay(ROUND_TRIP));
    let ledger = Ledger::new(13);
    let load = Load {
        records: 5_000,
        partitions: 3,
        rate: None,
    };
    let topics = ["wan.there", "wan.back"];
    for topic in topics {
        on_all(&[&pair.tw, &pair.jp], topic, load.partitions).await?;
    }
    let produce = async || {
        tokio::try_join!(
            ledger.produce(&pair.tw, topics[0], load),
            ledger.produce(&pair.jp, topics[1], load)
        )
    };
    produce().await?;
    let mut config = both_ways(pair, "wan", &["wan[.].*"]);
    config["clusters"]["tw"]["bootstrap_servers"] = json!(link.bootstrap());
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    produce().await?;
    let all_exact = async |process: &Kuroshio| {
        for topic in topics {
            let same = assert_exact(pair, &ledger, topic, WAIT).await;
            same.with_context(|| process.log_tail())?;
        }
        anyhow::Ok(())
    };
    all_exact(&process).await?;

    // What is born from here on has to wait, on either side.
    link.stall();
    let copies = async || {
        anyhow::Ok((
            ends(&pair.jp, &topics[..1]).await?,
            ends(&pair.tw, &topics[1..]).await?,
        ))
    };
    let before = copies().await?;
    let carried = link.carried();
    produce().await?;
    tokio::time::sleep(STALL).await; // the fault itself; nothing waits for it
    ensure!(copies().await? == before, "records crossed a stalled link");
    link.resume();
    all_exact(&process).await?;
    let (there, back) = link.carried();
    ensure!(
        there > carried.0 && back > carried.1,
        "the records came another way"
    );

    stay_silent(&[&pair.tw, &pair.jp], &topics, Duration::from_secs(2)).await?;
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    Ok(())
}
