//! How long a record takes: from the moment at which it was due to be produced on the source, to the moment at
//! which a read_committed consumer of the target hands it out. One clock, this process's monotonic one. A
//! producer that comes late counts against the carrier, for waiting is what its users would see.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kuroshio_integration::Process;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::carriers::{Carrier, Job};
use crate::clusters::{Clusters, PARTITIONS, clean, create};
use crate::count;
use crate::progress::Progress;
use crate::report::Spread;
use crate::results::Latency;

/// The topic, on both clusters.
const TOPIC: &str = "latency";
/// Bytes of a value.
const SIZE: usize = 350;
/// The fastest comes first, so that a JVM is warm for the others.
const RATES: [u32; 3] = [20_000, 1_000, 50];
/// Rate until the first record is there.
const PRELUDE: u32 = 50;
const FIRST: Duration = Duration::from_secs(120);
/// The brokers' JVMs compile what is asked of them at this rate: transactions come at another pace at each.
const WARM_UP: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(10);
/// Measured one after the other at each rate.
const RUNS: usize = 3;
/// Records go to one partition for so long, then to the next, as Kafka's own producer does: in requests of one
/// record 20,000 of them a second are more than a broker on a shared core can take.
const STICKY_NANOS: u64 = 2_000_000;
/// Until the last of a rate is there.
const DRAIN: Duration = Duration::from_secs(20);

/// Measures one carrier at all rates, or the source itself.
pub(crate) async fn measure(
    clusters: &Clusters,
    carrier: Option<Carrier>,
    quick: bool,
    progress: &Progress,
) -> Result<Vec<Latency>> {
    let (source, target) = (clusters.source.bootstrap(), clusters.target.bootstrap());
    for cluster in [&clusters.source, &clusters.target] {
        clean(cluster, true).await?;
        create(cluster, TOPIC).await?;
    }
    let job = Job {
        source,
        target,
        topics: TOPIC,
        codec: "none",
    };
    let running = carrier.map(|carrier| carrier.start(&job)).transpose()?;
    let read_from = if carrier.is_some() { target } else { source };
    let mut load = Load::new(
        source,
        read_from,
        running.as_ref().map(|running| running.process()),
    )?;
    let progress = progress.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let done = load.all(if quick { &RATES[1..2] } else { &RATES }, &progress);
        load.end();
        done
    })
    .await?;
    let tail = || {
        running
            .as_ref()
            .map(|running| running.last_words())
            .unwrap_or_default()
    };
    let mut measured = measured.with_context(tail)?;
    for latency in &mut measured {
        latency.carrier = carrier;
    }
    Ok(measured)
}

/// What has come.
#[derive(Debug, Default)]
struct Arrived {
    records: u64,
    /// Of measured records, in microseconds.
    latencies: Vec<u32>,
    /// Why nothing comes any more.
    failed: Option<String>,
}

struct Load {
    clock: Instant,
    producer: ThreadedProducer<DefaultProducerContext>,
    process: Option<Process>,
    arrived: Arc<Mutex<Arrived>>,
    stop: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
    sent: u64,
}

impl Load {
    fn new(source: &str, read_from: &str, process: Option<Process>) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", source)
            .set("acks", "all")
            .set("linger.ms", "0.5")
            .set("queue.buffering.max.messages", "1000000")
            .set("socket.nagle.disable", "true")
            .create()?;
        let consumer = count::consumer(read_from, TOPIC)?;
        let clock = Instant::now();
        let (arrived, stop) = (Arc::default(), Arc::default());
        let reader = {
            let (arrived, stop) = (Arc::clone(&arrived), Arc::clone(&stop));
            thread::spawn(move || read(&consumer, clock, &arrived, &stop))
        };
        Ok(Self {
            clock,
            producer,
            process,
            arrived,
            stop,
            reader: Some(reader),
            sent: 0,
        })
    }

    fn all(&mut self, rates: &[u32], progress: &Progress) -> Result<Vec<Latency>> {
        progress.say("latency: waiting for the first record");
        let waiting = Arc::clone(&self.arrived);
        self.send(PRELUDE, false, FIRST, || lock(&waiting).records > 0)?;
        ensure!(lock(&waiting).records > 0, "no record came within {FIRST:?}");
        self.drain()?;
        rates.iter().map(|rate| self.at(*rate, progress)).collect()
    }

    fn at(&mut self, rate: u32, progress: &Progress) -> Result<Latency> {
        progress.say(&format!("latency at {rate} rec/s"));
        self.send(rate, false, WARM_UP, || false)?;
        let runs: Vec<Latency> = (0..RUNS).map(|_| self.once(rate)).collect::<Result<_>>()?;
        let median = |figure: fn(&Latency) -> f64| Spread::of(runs.iter().map(figure));
        let p50 = median(|run| run.p50_ms);
        Ok(Latency {
            carrier: None,
            invocation: 0,
            rate,
            sent: runs.iter().map(|run| run.sent).sum(),
            arrived: runs.iter().map(|run| run.arrived).sum(),
            p50_ms: p50.median,
            p99_ms: median(|run| run.p99_ms).median,
            p999_ms: median(|run| run.p999_ms).median,
            max_ms: median(|run| run.max_ms).median,
            p50_spread_ms: Some((p50.min, p50.max)),
        })
    }

    fn once(&mut self, rate: u32) -> Result<Latency> {
        let sent = self.send(rate, true, MEASURED, || false)?;
        self.drain()?;
        let mut latencies = std::mem::take(&mut lock(&self.arrived).latencies);
        latencies.sort_unstable();
        let quantile = |q: f64| {
            let at = ((latencies.len() as f64 * q).ceil() as usize).clamp(1, latencies.len().max(1)) - 1;
            latencies
                .get(at)
                .map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
        };
        ensure!(!latencies.is_empty(), "no record came at {rate} rec/s");
        Ok(Latency {
            carrier: None,
            invocation: 0,
            rate,
            sent,
            arrived: latencies.len() as u64,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: quantile(1.0),
            p50_spread_ms: None,
        })
    }

    /// Produces at `rate` for `time`, or until `done`. Gives how many.
    fn send(&mut self, rate: u32, measured: bool, time: Duration, done: impl Fn() -> bool) -> Result<u64> {
        let interval = Duration::from_secs(1) / rate;
        let start = Instant::now();
        let mut due = start;
        let mut sent = 0;
        let mut value = [b'.'; SIZE];
        while due < start + time && !done() {
            let now = Instant::now();
            if now < due {
                thread::sleep((due - now).min(Duration::from_millis(1)));
                continue;
            }
            let stamp = u64::try_from((due - self.clock).as_nanos())?;
            value[..8].copy_from_slice(&stamp.to_be_bytes());
            value[8] = u8::from(measured);
            let partition = i32::try_from(stamp / STICKY_NANOS % u64::from(PARTITIONS.unsigned_abs()))?;
            let record = BaseRecord::<(), [u8]>::to(TOPIC)
                .partition(partition)
                .payload(&value);
            self.producer
                .send(record)
                .map_err(|(why, _)| why)
                .context("producing")?;
            (sent, self.sent) = (sent + 1, self.sent + 1);
            due += interval;
        }
        Ok(sent)
    }

    /// Waits until all that was sent is there, or nobody would wait longer.
    fn drain(&mut self) -> Result<()> {
        self.producer.flush(DRAIN)?;
        let deadline = Instant::now() + DRAIN;
        loop {
            if let Some(process) = self.process {
                process.cpu()?;
            }
            let arrived = lock(&self.arrived);
            if let Some(why) = &arrived.failed {
                bail!("reading: {why}");
            }
            if arrived.records >= self.sent || Instant::now() > deadline {
                return Ok(());
            }
            drop(arrived);
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It cannot panic while nobody holds its lock.
            reader.join().ok();
        }
    }
}

fn read(consumer: &BaseConsumer, clock: Instant, arrived: &Mutex<Arrived>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                let now = clock.elapsed();
                let value = record.payload().unwrap_or_default();
                let Some((stamp, [measured, ..])) = value.split_first_chunk() else {
                    continue;
                };
                let took = now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(*stamp)));
                let mut arrived = lock(arrived);
                arrived.records += 1;
                if *measured == 1 {
                    arrived
                        .latencies
                        .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(why)) => lock(arrived).failed = Some(why.to_string()),
        }
    }
}

/// Nothing panics while the lock is held.
fn lock(arrived: &Mutex<Arrived>) -> MutexGuard<'_, Arrived> {
    arrived.lock().unwrap_or_else(PoisonError::into_inner)
}
