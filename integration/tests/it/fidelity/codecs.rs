//! `compression: source`: batches keep their codec, and topics their size.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kuroshio_core::engine::Codec;
use kuroshio_integration::{Cluster, Kuroshio, Pair, pair};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Stored, log, raw, records, same, until_copied};
use crate::regions::{WAIT, one_way};

/// The source's topics of a codec, and how it is asked for: by the producer, or by the topic's config.
const CODECS: [(&str, Codec); 5] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];
const COMPRESSED: usize = 500;

/// 2 KiB that become some 60 bytes, each by itself: how records are put into batches makes little difference.
fn compressible(number: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(number as u64);
    format!("{:032x}", rng.u128(..)).repeat(64)
}

async fn compress(kafka: &Cluster, topic: &str, codec: &str) -> Result<()> {
    let producer: BaseProducer = kafka
        .client()
        .set("compression.codec", codec)
        .set("linger.ms", "50")
        .create()?;
    for number in 0..COMPRESSED {
        let (key, value) = (number.to_string(), compressible(number));
        let record = BaseRecord::to(topic).partition(0).key(&key).payload(&value);
        producer.send(record).map_err(|(why, _)| why)?;
    }
    tokio::task::spawn_blocking(move || producer.flush(WAIT)).await??;
    Ok(())
}

#[tokio::test]
async fn every_codec_is_kept_and_copies_are_no_larger_than_tags_make_them() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let mut topics = Vec::new();
    for (name, codec) in CODECS {
        let (by_producer, by_topic) = (format!("codec.{name}"), format!("codec.{name}.set"));
        tw.create_topic(&by_producer, 1, &[]).await?;
        compress(tw, &by_producer, name).await?;
        let kafkas = if name == "none" { "uncompressed" } else { name };
        tw.create_topic(&by_topic, 1, &[("compression.type", kafkas)])
            .await?;
        compress(tw, &by_topic, if name == "lz4" { "zstd" } else { "lz4" }).await?;
        topics.extend([(by_producer, codec), (by_topic, codec)]);
    }
    let mut process = Kuroshio::run(one_way(pair().await?, "codec", &["codec[.].*"]))?;
    process.ready(WAIT).await?;
    for (topic, codec) in &topics {
        let source = log(tw, topic).await?;
        let copies = until_copied(jp, topic, COMPRESSED)
            .await
            .with_context(|| process.log_tail())?;
        let codecs = |log: &[Stored]| -> BTreeSet<String> {
            let data = log.iter().filter(|stored| stored.batch.marker.is_none());
            data.map(|stored| format!("{:?}", stored.batch.codec)).collect()
        };
        let expected = BTreeSet::from([format!("{codec:?}")]);
        ensure!(
            codecs(&source) == expected && codecs(&copies) == expected,
            "{topic}: {:?} on the source, {:?} on the target",
            codecs(&source),
            codecs(&copies)
        );
        let lies: Vec<_> = records(&source)?.iter().map(raw).collect();
        same(topic, &records(&copies)?, &lies)?;
        let bytes = |log: &[Stored]| log.iter().map(|stored| stored.length).sum::<usize>();
        let (before, after) = (bytes(&source), bytes(&copies));
        // A tag as if nothing were compressed, headers of batches and markers, and a tenth for batches that end elsewhere. Without
        // compression it would be thirty times as much.
        let bound = before * 11 / 10 + COMPRESSED * 64 + copies.len() * 200;
        println!(
            "{topic}: {before} bytes became {after}, bound {bound}, in {} batches and markers",
            copies.len()
        );
        ensure!(after <= bound, "{topic}: {before} bytes became {after}");
    }
    Ok(())
}
