//! What whoever may write to a topic can do: keep their own record back, or stop their own partition; nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin::{self, Tag};
use kuroshio_integration::{Kuroshio, Pair, Process, RawRecord, append, pair};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use super::{raw, records, same, until_copied};
use crate::memory::{MIB, bound};
use crate::regions::{WAIT, both_ways, now, one_way, stay_silent, until_status, until_there};

const KEY: &[u8] = b"k";
const VALUE: &[u8] = b"hostile";

/// The value of a tag with the check of the records here.
fn checked(hops: &str) -> Vec<u8> {
    let check = origin::check(Some(KEY), Some(VALUE));
    [hops.as_bytes(), b"#", &check.text()].concat()
}

/// Values of tags that explain nothing, so that their records are born here.
fn malformed() -> Vec<Option<Vec<u8>>> {
    let whole = checked("jp/hostile.tags/0/1");
    let nine = ["jp/hostile.tags/0/1"; 9].join(">");
    let mut all = vec![
        None,
        Some(Vec::new()),
        // Of other content, another partition, another topic.
        Some(b"jp/hostile.tags/0/1#AAAAAA".to_vec()),
        Some(checked("jp/hostile.tags/1/1")),
        Some(checked("jp/other/0/1")),
        // A later format, more hops than there may be, numbers out of range.
        Some([b"2:", &*whole].concat()),
        Some(checked(&nine)),
        Some(checked("jp/hostile.tags/0/9223372036854775808")),
        Some(checked("jp/hostile.tags/4294967296/1")),
        Some((0..=255).collect()),
        Some(vec![b'>'; 64 << 10]),
        Some(checked(&"j".repeat(64 << 10))),
    ];
    all.extend((0..whole.len()).map(|cut| Some(whole[..cut].to_vec())));
    all
}

/// Each malformed tag alone, then all in one record, beside ten thousand others and ten thousand headers that are none.
fn hostile(timestamp: i64) -> Vec<RawRecord> {
    let tag = |value: &Option<Vec<u8>>| (origin::HEADER.as_bytes().to_vec(), value.clone());
    let with = |headers| RawRecord {
        key: Some(KEY.to_vec()),
        value: Some(VALUE.to_vec()),
        headers,
        timestamp,
    };
    let own = |number: usize| (format!("h{number}").into_bytes(), Some(vec![0xff]));
    let tags = malformed();
    let mut all: Vec<_> = tags
        .iter()
        .map(|value| with(vec![own(0), tag(value), own(1)]))
        .collect();
    all.push(with(tags.iter().map(tag).collect()));
    all.push(with((0..10_000).map(|number| tag(&tags[number % 10])).collect()));
    for _ in 0..20 {
        all.push(with((0..10_000).map(own).collect()));
    }
    all
}

/// What its copy must be, but for the tag that is put behind.
fn without_tags(mut record: RawRecord) -> RawRecord {
    record.headers.retain(|(key, _)| key != origin::HEADER.as_bytes());
    record
}

#[tokio::test]
async fn malformed_tags_and_ten_thousand_headers_harm_nobody() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "hostile.tags";
    for kafka in [tw, jp] {
        kafka.create_topic(topic, 1, &[]).await?;
    }
    let timestamp = now()?;
    let good = |number: usize| RawRecord {
        key: Some(number.to_string().into_bytes()),
        value: Some(b"good".to_vec()),
        timestamp,
        ..RawRecord::default()
    };
    let mut written = Vec::new();
    for (number, record) in hostile(timestamp).into_iter().enumerate() {
        written.extend([good(number), record]);
    }
    let (first, second) = written.split_at(written.len() / 2);
    append(tw, topic, 0, first).await?;
    // One batch in which somebody pretends to have copied his record: it stays, and he harms nobody else.
    let forged = RawRecord {
        key: Some(KEY.to_vec()),
        value: Some(VALUE.to_vec()),
        headers: vec![(
            origin::HEADER.as_bytes().to_vec(),
            Some(checked("jp/hostile.tags/0/7")),
        )],
        timestamp,
    };
    append(tw, topic, 0, &[good(0), forged, good(1)]).await?;

    let mut process = Kuroshio::run(both_ways(pair().await?, "hostile", &["hostile[.]tags"]))?;
    process.ready(WAIT).await?;
    for record in second {
        append(tw, topic, 0, std::slice::from_ref(record)).await?;
    }
    let mut expected: Vec<_> = first.to_vec();
    expected.extend([good(0), good(1)]);
    expected.extend_from_slice(second);
    let expected: Vec<_> = expected.into_iter().map(without_tags).collect();
    let log = until_copied(jp, topic, expected.len())
        .await
        .with_context(|| process.log_tail())?;
    let copies = records(&log)?;
    same(topic, &copies, &expected)?;
    // Each copy has one tag, which explains it.
    for copy in &copies {
        let tags: Vec<_> = raw(copy)
            .headers
            .into_iter()
            .filter(|(key, _)| key == origin::HEADER.as_bytes())
            .collect();
        let [(_, Some(tag))] = &tags[..] else {
            anyhow::bail!("{} tags at {}", tags.len(), copy.offset);
        };
        let check = origin::check(copy.key.as_deref(), copy.value.as_deref());
        let explained = Tag::parse(tag).is_some_and(|tag| tag.explains(topic, 0, check));
        ensure!(explained, "{tag:?} at {}", copy.offset);
    }
    stay_silent(&[tw, jp], &[topic], Duration::from_secs(2)).await?;
    let skipped = [("flow", "hostile-tw-jp"), ("reason", "replicated")];
    let skipped = process.metric("kuroshio_skipped_records_total", &skipped).await?;
    ensure!(skipped == Some(1.0), "{skipped:?} were skipped");
    within(&process, bound(2, MIB))
}

/// Memory stays below `bound`.
fn within(process: &Kuroshio, bound: u64) -> Result<()> {
    let peak = Process { pid: process.pid() }.peak_rss()?;
    println!("hostile: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
    ensure!(peak <= bound, "{} MiB, more than {}", peak / MIB, bound / MIB);
    Ok(())
}

/// The largest that a batch may become.
const UNPACKED: u64 = 101 * MIB;

/// What zeros become in a batch that the source's broker takes.
const ZEROS: usize = 400 << 20;

/// Half a gigabyte of zeros, sent as a batch of a few hundred kilobytes.
async fn bomb(kafka: &kuroshio_integration::Cluster, topic: &str, codec: &str) -> Result<()> {
    let mut config = kafka.client();
    config
        .set("compression.codec", codec)
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.kbytes", "2000000")
        .set("request.timeout.ms", "120000");
    let producer: BaseProducer = config.create()?;
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let zeros = vec![0; ZEROS];
        let record = BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(&zeros);
        producer.send(record).map_err(|(why, _)| why)?;
        producer.flush(WAIT * 2).context("producing")
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_becomes_a_hundred_times_as_large_stops_its_partition_alone() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let limit = [("max.message.bytes", "4000000")];
    let codecs = ["gzip", "lz4", "zstd"];
    for codec in codecs {
        let topic = format!("bomb.{codec}");
        tw.create_topic(&topic, 2, &limit).await?;
        bomb(tw, &topic, codec).await.with_context(|| topic.clone())?;
        let good = RawRecord {
            value: Some(b"good".to_vec()),
            timestamp: now()?,
            ..RawRecord::default()
        };
        append(tw, &topic, 1, &[good]).await?;
    }
    let mut process = Kuroshio::run(one_way(pair().await?, "bomb", &["bomb[.].*"]))?;
    process.ready(WAIT).await?;
    for codec in codecs {
        until_there(jp, &format!("bomb.{codec}"), 1)
            .await
            .with_context(|| process.log_tail())?;
    }
    let stopped = |flow: &Value| {
        let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let stopped = lanes.iter().filter(|lane| lane["state"] == "quarantined");
        stopped.filter(|lane| lane["partition"] == 0).count() == codecs.len()
    };
    until_status(&mut process, "bomb-tw-jp", WAIT, stopped)
        .await
        .with_context(|| process.log_tail())?;
    // The others go on.
    for codec in codecs {
        let topic = format!("bomb.{codec}");
        let later = RawRecord {
            value: Some(b"later".to_vec()),
            timestamp: now()?,
            ..RawRecord::default()
        };
        append(tw, &topic, 1, &[later]).await?;
        until_there(jp, &topic, 2)
            .await
            .with_context(|| process.log_tail())?;
    }
    // What is given up was unpacked up to the limit, and in lz4 moved while it grew.
    within(&process, bound(6, 0) + 2 * UNPACKED)
}
