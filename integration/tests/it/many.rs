//! Two thousand partitions in one process: how soon all are copied, and what they cost, idle and under a thin load.
//!
//! Times and CPU are printed, for they are the machine's too; memory is bounded. For the figures of a release build:
//! `KUROSHIO_BIN=$PWD/target/release/kuroshio cargo test -p kuroshio-integration --test it many:: -- --nocapture`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Link, Process, Spec, until};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::memory::{Backlog, MIB};
use crate::regions::clusters;

const TOPICS: usize = 100;
const PARTITIONS: i32 = 20;
/// What one process may have for all of them.
const MEMORY: u64 = 400 * MIB;
/// Until all is copied; a minute is the goal on a machine that has nothing else to do.
const COPIED: Duration = Duration::from_secs(300);
/// One measurement, long enough for several rounds of everything that goes round.
const MEASURED: Duration = Duration::from_secs(10);
/// Records per second over all partitions.
const RATE: u64 = 1_000;

/// CPU time and bytes over a link, so far.
struct Spent {
    at: Instant,
    cpu: Duration,
    carried: (u64, u64),
}

impl Spent {
    fn now(process: Process, link: &Link) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: process.cpu()?,
            carried: link.carried(),
        })
    }

    /// What was spent since `before`, for people.
    fn since(&self, before: &Self) -> String {
        let seconds = (self.at - before.at).as_secs_f64();
        let cpu = (self.cpu.saturating_sub(before.cpu)).as_secs_f64();
        let kib = |now: u64, before: u64| (now - before) as f64 / 1024.0 / seconds;
        format!(
            "{:.1}% of a core, {:.0} KiB/s of requests to the source and {:.0} KiB/s of answers",
            100.0 * cpu / seconds,
            kib(self.carried.0, before.carried.0),
            kib(self.carried.1, before.carried.1)
        )
    }
}

/// Writes records one by one, at their pace, each into the next partition.
async fn write_thinly(kafka: &Cluster, topics: Vec<String>, records: u64) -> Result<()> {
    let config = kafka.client();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        let began = Instant::now();
        for number in 0..records {
            let due = Duration::from_nanos(number * 1_000_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(began.elapsed())); // the pace itself
            let place = usize::try_from(number)? % (TOPICS * usize::try_from(PARTITIONS)?);
            let value = format!("{number:0350}");
            let record = BaseRecord::<(), str>::to(&topics[place % TOPICS])
                .partition(i32::try_from(place / TOPICS)?)
                .payload(&value);
            producer.send(record).map_err(|(why, _)| why)?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(COPIED).context("producing")
    })
    .await?
}

/// On clusters of its own: so many partitions would slow down whatever shares the brokers.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_partitions_in_one_process() -> Result<()> {
    let roomy = |alias| Spec::new(alias).heap_mib(768);
    let (source, target) =
        tokio::try_join!(Cluster::start(roomy("tw").linked()), Cluster::start(roomy("jp")))?;
    let link = source.link()?;
    let backlog = Backlog {
        topics: (0..TOPICS).map(|number| format!("many.{number}")).collect(),
        partitions: PARTITIONS,
        records: 20_000,
        row: 10,
        codec: "lz4",
        value: |number| format!("{number:0350}").into_bytes(),
    };
    backlog.fill(&source).await?;
    let mut config = json!({
        "clusters": clusters(&[&source, &target]),
        "flows": [{ "name": "many", "source": "tw", "target": "jp" }],
        "defaults": { "topics": { "include": ["many[.].*"] } },
        "log": { "format": "text" },
    });
    config["clusters"]["tw"]["bootstrap_servers"] = json!(link.bootstrap());
    let started = Instant::now();
    let mut kuroshio = Kuroshio::run(config)?;
    kuroshio.ready(COPIED).await?;
    let process = Process { pid: kuroshio.pid() };
    let copied = async |records: u64| {
        until(COPIED, &format!("{records} records"), || async {
            let labels = [("flow", "many")];
            match kuroshio.metric("kuroshio_records_total", &labels).await {
                Ok(Some(count)) if count == records as f64 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .with_context(|| kuroshio.log_tail())
    };
    copied(backlog.records).await?;
    println!(
        "{} partitions copied {:.1} s after the start",
        TOPICS * usize::try_from(PARTITIONS)?,
        started.elapsed().as_secs_f64()
    );

    let before = Spent::now(process, link)?;
    tokio::time::sleep(MEASURED).await; // what is measured
    println!("idle: {}", Spent::now(process, link)?.since(&before));

    let before = Spent::now(process, link)?;
    let records = RATE * MEASURED.as_secs();
    write_thinly(&source, backlog.topics.clone(), records).await?;
    copied(backlog.records + records).await?;
    println!("{RATE} records/s: {}", Spent::now(process, link)?.since(&before));

    let peak = process.peak_rss()?;
    println!("peak {} MiB, bound {} MiB", peak / MIB, MEMORY / MIB);
    ensure!(peak <= MEMORY, "{} MiB", peak / MIB);
    let status = kuroshio.status().await?;
    ensure!(status["flows"][0]["quarantined"] == 0, "{status}");
    Ok(())
}
