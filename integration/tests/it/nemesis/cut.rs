//! Unclean leader election: a broker that lacks what was acknowledged leads, and the log is shorter than it was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use kuroshio_integration::{Cluster, Led, until};
use kuroshio_wire::Stored;

use super::stage::{Deployment, Scene, Side};
use super::strike::{Window, held};
use crate::loss::{until_copied_to_source, until_led, value, write_all};
use crate::regions::{WAIT, position, until_there};

/// What is written before the cut, by the leader alone, behind the cut, and when all brokers are back.
const WORDS: [(&str, usize); 4] = [("both", 5), ("alone", 4), ("anew", 12), ("after", 3)];
/// Records that only the leader had.
pub(super) const CUT: usize = WORDS[1].1;

/// Topics of a deployment whose logs are cut.
pub(super) const TOPICS: usize = 2;

/// A topic whose log is cut on one side.
struct Cut<'s> {
    deployment: &'s Deployment,
    topic: String,
    /// Where applications write it.
    from: Side,
    source: &'s Cluster,
    target: &'s Cluster,
}

/// One topic that is read and one that is written on the side whose logs are cut.
fn cuts<'s>(scene: &'s Scene<'_>, number: usize) -> [Cut<'s>; TOPICS] {
    let deployment = &scene.deployments[number];
    Side::BOTH.map(|from| Cut {
        deployment,
        topic: deployment.cut(from),
        from,
        source: scene.stage.kafka(from),
        target: scene.stage.kafka(from.other()),
    })
}

impl Cut<'_> {
    fn group(&self) -> String {
        format!("kuroshio.{}", self.deployment.flow_to(self.from.other()))
    }

    async fn write(&self, part: usize) -> Result<()> {
        let (word, count) = WORDS[part];
        write_all(self.source, &self.topic, word, count).await.map(drop)
    }

    /// All that was written is copied, and the position says so on both sides.
    async fn copied(&self) -> Result<()> {
        let end = i64::try_from(WORDS[0].1 + WORDS[1].1)?;
        until(WAIT, &format!("position {end} of {}", self.topic), || async {
            match position(self.target, &self.group(), &self.topic, 0).await {
                Ok(Stored::Offset(stored)) if stored.offset == end => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let flow = self.deployment.flow_to(self.from.other());
        until_copied_to_source(self.source, &flow, &self.topic, end).await
    }

    /// Everything was copied before the cut or behind it, in order; once, where that is promised. How many were copied again.
    async fn judge(&self) -> Result<usize> {
        let words = WORDS
            .iter()
            .flat_map(|(word, count)| (0..*count).map(move |number| format!("{word}-{number}")));
        let expected: Vec<String> = words.collect();
        let there = until_there(self.target, &self.topic, expected.len()).await?;
        let mut there: Vec<String> = there.iter().map(value).collect();
        let all = there.len();
        if !self.deployment.is_exact() {
            let mut seen = BTreeSet::new();
            there.retain(|value| seen.insert(value.clone()));
        }
        ensure!(
            there == expected,
            "{} on {}: {there:?}",
            self.topic,
            self.target.alias()
        );
        Ok(all - there.len())
    }
}

/// Judges the topics of a deployment that were cut. Records and doubles.
pub(super) async fn judge(scene: &Scene<'_>, number: usize) -> Result<(u64, u64)> {
    let mut doubled = 0;
    let cuts = cuts(scene, number);
    for cut in &cuts {
        doubled += cut.judge().await?;
    }
    let records = cuts.len() * WORDS.iter().map(|(_, count)| count).sum::<usize>();
    Ok((u64::try_from(records)?, u64::try_from(doubled)?))
}

/// Both kinds of topics are cut at once: they lie on the same two brokers.
pub(super) async fn cut(scene: &Scene<'_>, side: Side, hold: Duration) -> Result<Window> {
    const LEADER: i32 = 1;
    const FOLLOWER: i32 = 2;
    let (leader, follower) = (usize::try_from(LEADER)?, usize::try_from(FOLLOWER)?);
    let region = scene.stage.region(side);
    let kafka = &region.kafka;
    let _held = region.brokers.lock().await;
    let cuts: Vec<Cut<'_>> = (0..scene.deployments.len())
        .flat_map(|number| cuts(scene, number))
        .collect();
    for cut in &cuts {
        kafka.create_unclean(&cut.topic, &[LEADER, FOLLOWER]).await?;
        scene
            .stage
            .kafka(side.other())
            .create_topic(&cut.topic, 1, &[])
            .await?;
    }
    let write = async |part| try_join_all(cuts.iter().map(|cut| cut.write(part))).await;
    write(0).await?;
    // It stands still and is not ended: a broker that starts needs a majority of controllers, which is not there for a moment.
    kafka.pause(follower).await?;
    // The answer to what it asked last may lie in its connection, and must have nothing of what comes now.
    let alone = |led: &Led| led.in_sync == [LEADER] || !cuts.iter().any(|cut| cut.topic == led.topic);
    until(WAIT, "the leader to be alone", || async {
        let all = kafka.led().await.map_err(|why| format!("{why:#}"))?;
        match all.iter().find(|led| !alone(led)) {
            None => Ok(()),
            Some(other) => Err(format!("{other:?}")),
        }
    })
    .await?;
    write(1).await?;
    try_join_all(cuts.iter().map(Cut::copied)).await?;
    let from = Instant::now();
    kafka.kill(leader).await?;
    kafka.unpause(follower).await?;
    for cut in &cuts {
        until_led(kafka, &cut.topic, follower).await?;
    }
    write(2).await?;
    let (_, to) = held(hold).await;
    kafka.restart(leader).await?;
    region.whole().await?;
    write(3).await?;
    Ok((from, to))
}
