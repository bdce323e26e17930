//! What was produced, and whether it arrived.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;
use rdkafka::ClientContext;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use twox_hash::XxHash3_128;

use crate::cluster::Cluster;
use crate::event::{self, Digester, Event};
use crate::read::read_to_end;
use crate::tally::{Report, Seen, Stream, Streams, Tally};

/// One producer for each.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Longest wait for a record's acknowledgement.
const ACKNOWLEDGED: Duration = Duration::from_secs(300);

/// How much to produce, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of records, over all partitions.
    pub records: u64,
    /// Number of partitions of the topic, all of them written to.
    pub partitions: i32,
    /// Records per second; none: as fast as it goes.
    pub rate: Option<u64>,
}

/// Produces seeded events and remembers a digest of each: 16 bytes a record. Clones share what they know.
#[derive(Clone)]
pub struct Ledger {
    seed: u64,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    producers: u32,
    streams: Streams,
}

impl Ledger {
    /// An empty ledger; the same seed makes the same events.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            book: Arc::default(),
        }
    }

    /// Produces to `topic` of `cluster` with five idempotent producers, one for each codec, and returns when
    /// all is acknowledged. Calls may run at the same time, also for one topic: every call has producers of
    /// its own, and order is judged by producer. What a running call writes is known only when it returns.
    ///
    /// # Errors
    /// When a record is not acknowledged within five minutes.
    pub async fn produce(&self, cluster: &Cluster, topic: &str, load: Load) -> Result<()> {
        let first = self.producers(CODECS.len())?;
        let count = CODECS.len() as u64;
        let works = (first..).zip(CODECS).zip(0..).map(|((number, codec), index)| {
            let load = Load {
                records: load.records / count + u64::from(index < load.records % count),
                rate: load.rate.map(|rate| (rate / count).max(1)),
                ..load
            };
            let mut work = self.work(cluster, topic, load, number);
            work.config.set("compression.codec", codec).set("linger.ms", "5");
            work
        });
        self.run(works.collect()).await
    }

    /// Produces to `topic` of `cluster` at the rate of `load` with one idempotent producer, until `stop` or all its records, and
    /// returns when all is acknowledged. Otherwise as [`Ledger::produce`].
    ///
    /// # Errors
    /// As [`Ledger::produce`].
    pub async fn produce_until(
        &self,
        cluster: &Cluster,
        topic: &str,
        load: Load,
        stop: &Arc<AtomicBool>,
    ) -> Result<()> {
        let number = self.producers(1)?;
        let mut work = self.work(cluster, topic, load, number);
        let codec = CODECS[usize::try_from(number)? % CODECS.len()];
        // So many small requests would cost brokers more than what is tested.
        work.config
            .set("compression.codec", codec)
            .set("linger.ms", "400");
        work.stop = Arc::clone(stop);
        self.run(vec![work]).await
    }

    /// Numbers for so many producers; the first of them.
    fn producers(&self, count: usize) -> Result<u32> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let first = book.producers;
        book.producers += u32::try_from(count)?;
        Ok(first)
    }

    fn work(&self, cluster: &Cluster, topic: &str, load: Load, number: u32) -> Work {
        let mut config = cluster.client();
        config.set("enable.idempotence", "true");
        // Longer than any fault of a test: who waits for what must not be the ledger.
        config.set("message.timeout.ms", ACKNOWLEDGED.as_millis().to_string());
        Work {
            config,
            birth: cluster.alias().to_owned(),
            topic: topic.to_owned(),
            number,
            seed: self.seed,
            load,
            stop: Arc::default(),
        }
    }

    async fn run(&self, works: Vec<Work>) -> Result<()> {
        // All are spawned before the first is waited for.
        let tasks: Vec<_> = works
            .into_iter()
            .map(|work| {
                let what = format!("producing to {} on {}", work.topic, work.birth);
                (what, tokio::task::spawn_blocking(move || work.run()))
            })
            .collect();
        for (what, task) in tasks {
            let streams = task.await?.context(what)?;
            self.book
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .streams
                .extend(streams);
        }
        Ok(())
    }

    /// How many records were born in `topic` of the cluster `birth`.
    #[must_use]
    pub fn count(&self, birth: &str, topic: &str) -> u64 {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let of = book
            .streams
            .iter()
            .filter(|(name, _)| born(name, &[(birth, topic)]));
        of.map(|(_, stream)| stream.digests.len() as u64).sum()
    }

    /// Reads `topic` of `cluster` from its beginning with a read_committed consumer and compares it with what
    /// was born in `births`, pairs of (cluster alias, topic). Waits up to `within` for what is missing; ends
    /// early once everything was seen and every partition is read to its end. Order is judged for each birth
    /// cluster, partition and producer by itself.
    ///
    /// # Errors
    /// When the topic cannot be read at all.
    pub async fn compare(
        &self,
        cluster: &Cluster,
        topic: &str,
        births: &[(&str, &str)],
        within: Duration,
    ) -> Result<Report> {
        let config = cluster.client();
        let book = Arc::clone(&self.book);
        let topic = topic.to_owned();
        let births: Vec<_> = births
            .iter()
            .map(|(birth, topic)| format!("{birth}/{topic}"))
            .collect();
        tokio::task::spawn_blocking(move || {
            let book = book.lock().unwrap_or_else(PoisonError::into_inner);
            let births: Vec<_> = births.iter().filter_map(|birth| birth.split_once('/')).collect();
            let mut tally = Tally::new(&book.streams, |name| born(name, &births));
            ensure!(
                !tally.is_complete(),
                "the ledger has nothing of {births:?}: the comparison would prove nothing"
            );
            let mut digester = Digester::default();
            let at_end = read_to_end(config, &topic, within, |record| {
                tally.see(&Seen {
                    partition: record.partition(),
                    offset: record.offset(),
                    name: event::name_of(record),
                    digest: digester.read(record),
                    tagged: event::is_tagged(record),
                });
                tally.is_complete()
            })?;
            Ok(tally.finish(at_end))
        })
        .await?
    }
}

/// Whether the stream `name` (`birth/topic/…`) is of one of `births`.
fn born(name: &str, births: &[(&str, &str)]) -> bool {
    let mut parts = name.split('/');
    let of = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    births.contains(&of)
}

/// What one producer has to do.
struct Work {
    config: rdkafka::ClientConfig,
    birth: String,
    topic: String,
    number: u32,
    seed: u64,
    load: Load,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(self) -> Result<Vec<(String, Stream)>> {
        let producer: BaseProducer<Deliveries> = self.config.create_with_context(Deliveries::default())?;
        let mut streams: Vec<_> = (0..self.load.partitions)
            .map(|partition| {
                let name = format!("{}/{}/{partition}/{}", self.birth, self.topic, self.number);
                (
                    name,
                    Stream {
                        partition,
                        digests: Vec::new(),
                    },
                )
            })
            .collect();
        ensure!(!streams.is_empty(), "a load needs partitions");
        let salt = XxHash3_128::oneshot(streams[0].0.as_bytes());
        let mut rng = Rng::with_seed(self.seed ^ u64::try_from(salt & u128::from(u64::MAX))?);
        let mut digester = Digester::default();
        let start = Instant::now();
        for sent in 0..self.load.records {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(rate) = self.load.rate {
                let due = Duration::from_nanos(sent.saturating_mul(1_000_000_000) / rate);
                thread::sleep(due.saturating_sub(start.elapsed())); // the pace itself; nothing waits for it
            }
            let choice = rng.usize(..streams.len());
            let (name, stream) = &mut streams[choice];
            let name = format!("{name}/{}", stream.digests.len());
            // Clocks of producers differ: timestamps are near to now, and not in order.
            let timestamp = now()? - i64::from(rng.u16(..2_000));
            let event = event::make(&mut rng, &name, timestamp);
            stream.digests.push(digester.produced(&event));
            send(&producer, &self.topic, stream.partition, &event)?;
        }
        producer.flush(ACKNOWLEDGED + Duration::from_secs(10))?;
        producer.context().outcome()?;
        Ok(streams)
    }
}

fn now() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, partition: i32, event: &Event) -> Result<()> {
    let mut headers = OwnedHeaders::new_with_capacity(event.headers.len());
    for (key, value) in &event.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(partition)
        .timestamp(event.timestamp);
    record.key = event.key.as_deref();
    record.payload = event.value.as_deref();
    if !event.headers.is_empty() {
        record = record.headers(headers);
    }
    loop {
        match producer.send(record) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            Err((why, _)) => return Err(why.into()),
        }
    }
}

/// Remembers the first record that was not acknowledged.
#[derive(Default)]
struct Deliveries {
    inner: DefaultClientContext,
    refused: Mutex<Option<String>>,
}

impl Deliveries {
    fn outcome(&self) -> Result<()> {
        match self.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Err(anyhow!("not acknowledged: {why}")),
            None => Ok(()),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
        self.inner.log(level, facility, line);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((why, record)) = result {
            let text = format!("{} partition {}: {why}", record.topic(), record.partition());
            self.refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(text);
        }
    }
}
