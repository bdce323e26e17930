//! `bytes_survive`: what a record is on the source it is on the target, but for the tag. Logs are read without librdkafka.

mod codecs;
mod compacted;
mod hostile;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::batch::{Batch, Record};
use kuroshio_core::origin;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Pair, RawRecord, append, pair, until};
use kuroshio_wire::{ConfigChange, Isolation, OffsetAt, Read};

use crate::regions::{WAIT, now, one_way, wire};

/// A batch as it lies in a log, with its length in bytes.
struct Stored {
    batch: Batch,
    length: usize,
}

/// Everything in partition 0 of a topic, up to its last stable offset.
async fn log(kafka: &Cluster, topic: &str) -> Result<Vec<Stored>> {
    let (cluster, partition) = (wire(kafka), TopicPartition::new(topic, 0));
    let end = cluster
        .list_offset(&partition, OffsetAt::Latest, Isolation::ReadCommitted)
        .await?
        .context("no end")?
        .offset;
    let (mut log, mut next) = (Vec::new(), 0);
    while next < end {
        let read = Read {
            offset: next,
            max_bytes: 32 << 20,
            isolation: Isolation::ReadCommitted,
            max_wait: Duration::ZERO,
        };
        let chunk = cluster.read(&partition, read).await?;
        let before = next;
        let mut at = 0;
        for batch in chunk.batches(64 << 20) {
            let batch = batch?;
            // Offset (8), length of what follows (4).
            let field = chunk.records.get(at + 8..at + 12).context("a cut batch")?;
            let length = 12 + usize::try_from(i32::from_be_bytes(field.try_into()?))?;
            at += length;
            next = batch.next_offset();
            log.push(Stored { batch, length });
        }
        ensure!(next > before, "{topic} cannot be read at {before}");
    }
    Ok(log)
}

fn records(log: &[Stored]) -> Result<Vec<Record>> {
    let all = log.iter().flat_map(|stored| stored.batch.records());
    Ok(all.collect::<Result<_, _>>()?)
}

/// Waits until the copy holds so many records.
async fn until_copied(kafka: &Cluster, topic: &str, count: usize) -> Result<Vec<Stored>> {
    let what = format!("{count} records in {topic} on {}", kafka.alias());
    until(WAIT, &what, || async {
        let log = log(kafka, topic).await.map_err(|why| format!("{why:#}"))?;
        match records(&log) {
            Ok(there) if there.len() >= count => Ok(log),
            Ok(there) => Err(format!("{} records", there.len())),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
}

/// A record without its offset.
fn raw(record: &Record) -> RawRecord {
    let some = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    RawRecord {
        key: some(&record.key),
        value: some(&record.value),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (key.to_vec(), some(value)))
            .collect(),
        timestamp: record.timestamp,
    }
}

/// A copy without the tag that it must have, as its last header.
fn untagged(copy: &Record) -> Result<RawRecord> {
    let mut record = raw(copy);
    let (key, _) = record.headers.pop().context("a copy without headers")?;
    ensure!(key == origin::HEADER.as_bytes(), "the last header is {key:?}");
    Ok(record)
}

/// The copies are these records, in this order, and nothing else.
fn same(topic: &str, copies: &[Record], expected: &[RawRecord]) -> Result<()> {
    ensure!(
        copies.len() == expected.len(),
        "{topic}: {} copies of {}",
        copies.len(),
        expected.len()
    );
    for (copy, expected) in copies.iter().zip(expected) {
        let seen = untagged(copy)?;
        ensure!(
            seen == *expected,
            "{topic}: at {} lies {seen:?} for {expected:?}",
            copy.offset
        );
    }
    Ok(())
}

/// Whatever a record may be.
fn odd_records() -> Result<Vec<RawRecord>> {
    let header = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    let base = RawRecord {
        timestamp: now()?,
        ..RawRecord::default()
    };
    let mut all = Vec::new();
    for key in [
        None,
        some(b""),
        some(b"k"),
        some(b"\0\xff\xfe"),
        some(&[7; 5_000]),
    ] {
        for value in [None, some(b""), some(b"v"), some(&(0..=255).collect::<Vec<u8>>())] {
            all.push(RawRecord {
                key: key.clone(),
                value,
                ..base.clone()
            });
        }
    }
    for headers in [
        vec![header(b"", None)],
        vec![header(b"", Some(b"")), header(b"", Some(b""))],
        vec![
            header(b"b", Some(b"1")),
            header(b"a", None),
            header(b"b", Some(b"")),
            header(b"a", None),
            header(b"b", Some(b"1")),
        ],
        vec![header(b"\xff\xfe\0 no text", Some(b"\0\x80\xff"))],
        vec![header("臺灣".as_bytes(), Some("日本".as_bytes()))],
        vec![header(&[b'n'; 300], Some(&[b'v'; 70_000]))],
        (0..=255).map(|byte| header(&[byte], Some(&[byte]))).collect(),
        vec![
            header(b"kuroshio", Some(b"not ours")),
            header(b"kuroshio-origin2", Some(b"x")),
        ],
    ] {
        all.push(RawRecord {
            value: some(b"headers"),
            headers,
            ..base.clone()
        });
    }
    // None; before 1970, which no client of Kafka's own could write; the first moments; year 9999.
    for timestamp in [-1, -2, -1_000_000_000_000, 1, 2, 1_000, 253_402_300_799_999] {
        all.push(RawRecord {
            key: some(b"timestamp"),
            timestamp,
            ..base.clone()
        });
    }
    Ok(all)
}

#[tokio::test]
async fn bytes_survive() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "fidelity.bytes";
    // Not ours to copy: each cluster has its own limit of what lies ahead, an hour unless told.
    let any = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("retention.ms", "-1"),
    ];
    tw.create_topic(topic, 1, &any).await?;
    jp.create_topic(topic, 1, &any).await?;
    let mut written = odd_records()?;
    append(tw, topic, 0, &written).await?;
    for record in written.clone() {
        append(tw, topic, 0, std::slice::from_ref(&record)).await?;
        written.push(record);
    }
    // librdkafka takes 0 for now, so the engine says 1 ms (docs).
    let zero = RawRecord {
        value: Some(b"1970".to_vec()),
        ..RawRecord::default()
    };
    append(tw, topic, 0, std::slice::from_ref(&zero)).await?;
    let lies: Vec<_> = records(&log(tw, topic).await?)?.iter().map(raw).collect();
    ensure!(lies[..written.len()] == written[..] && lies[written.len()..] == [zero.clone()]);
    written.push(RawRecord { timestamp: 1, ..zero });

    let mut process = Kuroshio::run(one_way(pair().await?, "fidelity-bytes", &["fidelity[.]bytes"]))?;
    process.ready(WAIT).await?;
    let copies = until_copied(jp, topic, written.len())
        .await
        .with_context(|| process.log_tail())?;
    same(topic, &records(&copies)?, &written)
}

#[tokio::test]
async fn each_side_stamps_as_its_topic_says() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (appended, stamped) = ("fidelity.appended", "fidelity.stamped");
    let by_append = [("message.timestamp.type", "LogAppendTime")];
    let began = now()?;
    tw.create_topic(appended, 1, &by_append).await?;
    tw.create_topic(stamped, 1, &[]).await?;
    jp.create_topic(stamped, 1, &by_append).await?;
    let old: Vec<_> = [-1, 1_000, 2_000, began]
        .map(|timestamp| RawRecord {
            key: Some(b"k".to_vec()),
            timestamp,
            ..RawRecord::default()
        })
        .into();
    for topic in [appended, stamped] {
        append(tw, topic, 0, &old).await?;
        append(tw, topic, 0, &old[1..2]).await?;
    }
    let mut process = Kuroshio::run(one_way(
        pair().await?,
        "fidelity-time",
        &["fidelity[.](appended|stamped)"],
    ))?;
    process.ready(WAIT).await?;
    // What the source's broker made of them is what is copied, also into a topic that takes what it is given.
    let copies = until_copied(jp, appended, 5)
        .await
        .with_context(|| process.log_tail())?;
    let lies: Vec<_> = records(&log(tw, appended).await?)?.iter().map(raw).collect();
    ensure!(lies.iter().all(|record| record.timestamp >= began), "{lies:?}");
    same(appended, &records(&copies)?, &lies)?;
    // And here the target's broker has the last word.
    let copies = records(&until_copied(jp, stamped, 5).await?)?;
    for (copy, written) in copies.iter().zip(old.iter().chain(&old[1..2])) {
        let seen = untagged(copy)?;
        ensure!(seen.timestamp >= began, "{seen:?}");
        let expected = RawRecord {
            timestamp: seen.timestamp,
            ..written.clone()
        };
        ensure!(seen == expected, "{seen:?}");
    }
    let status = process.status().await?;
    ensure!(status["flows"][0]["quarantined"] == 0, "{status}");
    Ok(())
}

/// Records of 10 MB come into a topic that could not hold them when it was made.
#[tokio::test]
async fn a_topic_that_learns_to_hold_large_records_goes_on() -> Result<()> {
    const LARGE: usize = 10 << 20;
    let Pair { tw, jp } = pair().await?;
    let topic = "fidelity.large";
    tw.create_topic(topic, 1, &[]).await?;
    let mut process = Kuroshio::run(one_way(pair().await?, "fidelity-large", &["fidelity[.]large"]))?;
    process.ready(WAIT).await?;
    let timestamp = now()?;
    let record = |value: Vec<u8>| RawRecord {
        value: Some(value),
        timestamp,
        ..RawRecord::default()
    };
    let mut written = vec![record(b"before".to_vec())];
    append(tw, topic, 0, &written).await?;
    until_copied(jp, topic, 1)
        .await
        .with_context(|| process.log_tail())?;
    let raise = ConfigChange::Set("max.message.bytes".to_owned(), "11534336".to_owned());
    let mut outcome = wire(tw)
        .alter_topic_configs(&[(topic.into(), vec![raise])])
        .await?;
    outcome.remove(topic).context("no answer")??;
    for number in 0..3 {
        let mut value = vec![0; LARGE];
        fastrand::Rng::with_seed(number).fill(&mut value);
        for value in [value, b"between".to_vec()] {
            let record = record(value);
            append(tw, topic, 0, std::slice::from_ref(&record)).await?;
            written.push(record);
        }
    }
    let there = until_copied(jp, topic, written.len())
        .await
        .with_context(|| process.log_tail())?;
    let copies = records(&there)?;
    ensure!(copies.len() == written.len(), "{} copies", copies.len());
    for (copy, written) in copies.iter().zip(&written) {
        ensure!(
            untagged(copy)? == *written,
            "the record at {} differs",
            copy.offset
        );
    }
    until(WAIT, "no partition in quarantine", || async {
        match process.status().await {
            Ok(status) if status["flows"][0]["quarantined"] == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
