//! Offsets of one cluster in terms of the other, against all records that are there.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_client::{Asked, Flow, Question, Topic, Translated, Translator};
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, pair};
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::Value;

use crate::application::{Birth, birth};
use crate::regions::{WAIT, both_ways, on_all, one_way, read, until_copied, until_status, until_there, wire};

const PARTITION: i32 = 0;

/// The committed records of the partition on `cluster`, each with its offset and its birth.
pub(crate) async fn births(cluster: &Cluster, topic: &str) -> Result<Vec<(i64, Birth)>> {
    let log = read(cluster, topic).await?;
    let there = log.iter().filter(|record| record.partition() == PARTITION);
    Ok(there
        .map(|record| (record.offset(), birth(cluster.alias(), record)))
        .collect())
}

/// The first offset in `to` of a record that a consumer at `offset` in `from` has not read; the end if there is none.
fn truth(from: &[(i64, Birth)], to: &[(i64, Birth)], end: i64, offset: i64) -> i64 {
    let read = from.iter().filter(|(at, _)| *at < offset).map(|(_, birth)| birth);
    let read: HashSet<&Birth> = read.collect();
    let first = to.iter().find(|(_, birth)| !read.contains(birth));
    first.map_or(end, |(at, _)| *at)
}

/// Translates `offsets`, and compares with all records of both logs. Gives how many are exact.
async fn check(
    (from, to): (&Cluster, &Cluster),
    topic: &Topic,
    offsets: &[i64],
) -> Result<(usize, Vec<Translated>)> {
    let (here, there) = (
        births(from, &topic.flow.topic).await?,
        births(to, &topic.name).await?,
    );
    let end = crate::regions::ends(to, &[&topic.name]).await?;
    let end = end.iter().find(|(partition, _)| partition.partition == PARTITION);
    let end = *end.context("no end")?.1;
    let translator = Translator::new(wire(from), wire(to));
    let question = Question {
        topic: topic.clone().into(),
        partition: PARTITION,
        offsets: offsets
            .iter()
            .map(|offset| Asked {
                offset: *offset,
                anchor: None,
                hint: None,
            })
            .collect(),
        count: true,
    };
    let mut answers = translator.translate(&[question]).await?;
    let translated = answers.pop().context("no answer")??;
    let mut exact = 0;
    for (offset, found) in offsets.iter().zip(&translated) {
        let truth = truth(&here, &there, end, *offset);
        let at = found.translation.offset;
        ensure!(at <= truth, "{offset}: {found:?} skips {truth}");
        ensure!(
            !found.translation.exact || at == truth,
            "{offset}: {found:?} is not {truth}"
        );
        let read: HashSet<_> = here
            .iter()
            .filter(|(at, _)| at < offset)
            .map(|(_, birth)| birth)
            .collect();
        let again = there
            .iter()
            .filter(|(other, birth)| *other >= at && read.contains(birth));
        let again = again.count() as u64;
        ensure!(
            found.translation.again == again,
            "{offset}: {found:?}, but {again} will be read again"
        );
        exact += usize::from(found.translation.exact);
    }
    Ok((exact, translated))
}

/// Offsets all over a log, its ends included.
pub(crate) fn spread(seed: u64, end: i64) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut offsets: Vec<_> = (0..38).map(|_| random.i64(0..end)).collect();
    offsets.extend([0, end]);
    offsets
}

/// Translates offsets all over a log; all must be exact. Gives the log's end.
async fn all_exact(ends: (&Cluster, &Cluster), topic: &Topic, seed: u64) -> Result<i64> {
    let log = births(ends.0, &topic.flow.topic).await?;
    let end = log.last().context("nothing")?.0 + 1;
    let offsets = spread(seed, end);
    let (exact, translated) = check(ends, topic, &offsets).await?;
    ensure!(
        exact == offsets.len(),
        "{exact} of {} are exact: {translated:?}",
        offsets.len()
    );
    Ok(end)
}

fn flow(name: &str, source: &str, topic: &str) -> Flow {
    Flow {
        name: name.into(),
        source: source.into(),
        topic: topic.into(),
    }
}

/// Transactions, of which every third is aborted: their records and markers are gaps in what is copied.
pub(crate) async fn transactions(cluster: &Cluster, topic: &str, count: u32) -> Result<()> {
    let mut config = cluster.client();
    config.set("transactional.id", format!("translation.{topic}"));
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(WAIT)?;
        for number in 0..count {
            producer.begin_transaction()?;
            for record in 0..10 {
                let value = format!("{number}.{record}");
                let record = BaseRecord::<str, str>::to(&topic)
                    .partition(PARTITION)
                    .payload(&value);
                producer.send(record).map_err(|(why, _)| why)?;
            }
            producer.flush(WAIT)?;
            if number % 3 == 0 {
                producer.abort_transaction(WAIT)?;
            } else {
                producer.commit_transaction(WAIT)?;
            }
        }
        Ok(())
    })
    .await?
}

/// An application writes records of the partition again as it finds them, headers and all.
pub(crate) async fn write_again(cluster: &Cluster, topic: &str, count: usize) -> Result<()> {
    let log = read(cluster, topic).await?;
    let config = cluster.client();
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        let there = log.iter().filter(|record| record.partition() == PARTITION);
        for record in there.skip(100).take(count) {
            let headers = record.headers().cloned().unwrap_or_else(OwnedHeaders::new);
            let mut again = BaseRecord::<[u8], [u8]>::to(&topic)
                .partition(PARTITION)
                .headers(headers);
            (again.key, again.payload) = (record.key(), record.payload());
            producer.send(again).map_err(|(why, _)| why)?;
        }
        Ok(producer.flush(WAIT)?)
    })
    .await?
}

pub(crate) async fn load(
    pair: &Pair,
    ledger: &Ledger,
    topic: &str,
    sides: &[&str],
    records: u64,
) -> Result<()> {
    let load = Load {
        records,
        partitions: 1,
        rate: None,
    };
    for cluster in [&pair.tw, &pair.jp] {
        if sides.contains(&cluster.alias()) {
            ledger.produce(cluster, topic, load).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_written_on_one_side_is_translated_exactly() -> Result<()> {
    let pair = pair().await?;
    let ledger = Ledger::new(50);
    let name = "translation.one";
    on_all(&[&pair.tw, &pair.jp], name, 1).await?;
    let mut process = Kuroshio::run(one_way(pair, "translation-one", &["translation[.]one"]))?;
    process.ready(WAIT).await?;
    load(pair, &ledger, name, &["tw"], 5_000).await?;
    transactions(&pair.tw, name, 30).await?;
    until_there(&pair.jp, name, 5_200).await?;
    write_again(&pair.jp, name, 1_000).await?;
    load(pair, &ledger, name, &["tw"], 5_000).await?;
    until_there(&pair.jp, name, 11_200).await?;
    process.kill()?;
    process.restart()?;
    process.ready(WAIT).await?;
    load(pair, &ledger, name, &["tw"], 2_000).await?;
    let there = until_there(&pair.jp, name, 13_200).await?;
    ensure!(there.len() == 13_200, "{} records", there.len());
    let topic = Topic {
        flow: flow("translation-one-tw-jp", "tw", name),
        name: name.into(),
        into_from: Vec::new(),
        into_to: Vec::new(),
    };
    let end = all_exact((&pair.tw, &pair.jp), &topic, 1).await?;
    // A group that is ahead: not there yet, and by how much.
    process.terminate()?;
    process.exited(WAIT).await?;
    load(pair, &ledger, name, &["tw"], 500).await?;
    let (_, translated) = check((&pair.tw, &pair.jp), &topic, &[end + 500]).await?;
    ensure!(translated[0].missing == 500, "{translated:?}");
    Ok(())
}

/// A log of which only a part may be read, and many groups: 200 MB that do not compress.
#[tokio::test]
async fn many_offsets_in_a_large_log_are_exact() -> Result<()> {
    let pair = pair().await?;
    let name = "translation.large";
    on_all(&[&pair.tw, &pair.jp], name, 1).await?;
    let mut process = Kuroshio::run(one_way(pair, "translation-large", &["translation[.]large"]))?;
    process.ready(WAIT).await?;
    let mut config = pair.tw.client();
    config.set("queue.buffering.max.kbytes", "65536");
    tokio::task::spawn_blocking(move || -> Result<()> {
        let producer: BaseProducer = config.create()?;
        let (mut random, mut value) = (fastrand::Rng::with_seed(60), vec![0; 2_000]);
        for number in 0..100_000_u32 {
            random.fill(&mut value);
            let key = number.to_be_bytes();
            while let Err((why, _)) = producer.send(
                BaseRecord::to(name)
                    .partition(PARTITION)
                    .key(&key)
                    .payload(&value),
            ) {
                ensure!(
                    why.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull),
                    "{why}"
                );
                producer.poll(Duration::from_millis(10));
            }
        }
        Ok(producer.flush(WAIT)?)
    })
    .await??;
    until_copied(&process, "translation-large-tw-jp", 100_000, WAIT).await?;
    until_there(&pair.jp, name, 100_000).await?;
    let topic = Topic {
        flow: flow("translation-large-tw-jp", "tw", name),
        name: name.into(),
        into_from: Vec::new(),
        into_to: Vec::new(),
    };
    all_exact((&pair.tw, &pair.jp), &topic, 3).await?;
    Ok(())
}

/// Waits until the flow reads partition 0 of the topic: from there on it copies in order.
async fn until_read(process: &mut Kuroshio, flow: &str, topic: &str) -> Result<()> {
    let reads = |flow: &Value| {
        let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
        lanes
            .iter()
            .any(|lane| lane["topic"] == topic && lane["state"] == "running")
    };
    until_status(process, flow, WAIT, reads).await?;
    Ok(())
}

#[tokio::test]
async fn a_topic_written_on_both_sides_is_translated_to_the_first_unread_record() -> Result<()> {
    let pair = pair().await?;
    let ledger = Ledger::new(51);
    let name = "translation.both";
    on_all(&[&pair.tw, &pair.jp], name, 1).await?;
    let mut process = Kuroshio::run(both_ways(pair, "translation-both", &["translation[.]both"]))?;
    process.ready(WAIT).await?;
    // What was there before cannot be told from what an earlier flow of this name copied: it is translated safely, not exactly.
    for flow in ["translation-both-tw-jp", "translation-both-jp-tw"] {
        until_read(&mut process, flow, name).await?;
    }
    for _ in 0..4 {
        tokio::try_join!(
            load(pair, &ledger, name, &["tw"], 1_000),
            load(pair, &ledger, name, &["jp"], 700)
        )?;
    }
    // In the end only one side writes.
    load(pair, &ledger, name, &["tw"], 3_000).await?;
    until_copied(&process, "translation-both-tw-jp", 7_000, WAIT).await?;
    until_copied(&process, "translation-both-jp-tw", 2_800, WAIT).await?;
    let there = until_there(&pair.tw, name, 9_800).await?;
    ensure!(there.len() == 9_800, "{} records", there.len());
    until_there(&pair.jp, name, 9_800).await?;
    let (tw_jp, jp_tw) = (
        flow("translation-both-tw-jp", "tw", name),
        flow("translation-both-jp-tw", "jp", name),
    );
    for (from, to, there, back) in [
        (&pair.tw, &pair.jp, &tw_jp, &jp_tw),
        (&pair.jp, &pair.tw, &jp_tw, &tw_jp),
    ] {
        let topic = Topic {
            flow: there.clone(),
            name: name.into(),
            into_from: vec![back.clone()],
            into_to: Vec::new(),
        };
        all_exact((from, to), &topic, 2).await?;
    }
    Ok(())
}
