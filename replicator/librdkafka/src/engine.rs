//! The engine: its clients, its lanes, and the calls of the seam.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::engine::{Commit, Ended, Engine, EngineError, Fact, Hauled, LaneSpec};
use kuroshio_core::types::Lane;

use crate::calls::Calls;
use crate::faults;
use crate::fetch_size::FetchSize;
use crate::in_flight::InFlight;
use crate::lanes::Lanes;
use crate::native::{self, Consumed, Failure, Handle, PartitionList, Queue, Topic, Wakes};
use crate::properties::{self, Memory};
use crate::retiring;
use crate::settings::{Delivery, Settings};
use crate::transaction::Transaction;
use crate::waker::Waker;
use crate::widths::Widths;

/// How long librdkafka's main thread may take to answer a request that needs no broker.
const LOCAL_CALL: Duration = Duration::from_secs(10);

/// Trouble of one side is told at most this often.
const TROUBLE_EVERY: Duration = Duration::from_secs(1);

/// The engine on librdkafka. Made by one thread and used by one, not necessarily the same.
///
/// After an error of any call no other call is made: the engine is dropped, and another one built. Facts
/// gathered before the error are told.
pub struct Librdkafka {
    // Fields are dropped in this order. The producer's side goes first: its clients, destroyed with the last
    // of these, read the values of the messages in `in_flight`. A call that was left behind holds the producer, and is waited for.
    /// `None` without transactions.
    pub(crate) calls: Option<Calls>,
    _wakes: Vec<Wakes>,
    pub(crate) lanes: Lanes,
    targets: HashMap<Arc<str>, Arc<Topic>>,
    /// Partitions of target topics that the producer has heard of.
    widths: Widths,
    pub(crate) deliveries: Arc<Queue>,
    pub(crate) producer: Handle,
    pub(crate) in_flight: InFlight,
    /// The batch being taken; empty between calls.
    pub(crate) batch: Vec<Consumed>,
    sources: HashMap<Arc<str>, Arc<Topic>>,
    events: Arc<Queue>,
    pub(crate) records: Arc<Queue>,
    /// How much is asked for at once.
    pub(crate) fetch_size: FetchSize,
    /// Bytes of memory of all records that were taken.
    pub(crate) taken: u64,
    /// Room for what each broker has sent.
    pub(crate) received: Vec<(i32, u64)>,
    pub(crate) consumer: Handle,
    waker: Waker,
    pub(crate) settings: Settings,
    pub(crate) transaction: Transaction,
    /// Facts that are no runs, until they are told.
    pub(crate) told: Vec<Fact>,
    /// The tag of the record in hand.
    pub(crate) tag: Vec<u8>,
    /// Lanes that librdkafka stopped reading for a reason of before they were attached.
    pub(crate) stalled: Vec<Lane>,
    troubles: [Option<Instant>; 2],
    /// What ended this engine.
    pub(crate) broken: Option<EngineError>,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Librdkafka>();
};

impl Librdkafka {
    /// Creates the clients; connects to nothing that could fail yet. [`Engine::open`] comes next.
    ///
    /// # Errors
    /// [`EngineError::Fatal`] for properties that librdkafka does not take, or that are ours.
    pub fn new(settings: Settings) -> Result<Self, EngineError> {
        let client = |consumer: bool| {
            let (config, cluster, side) = if consumer {
                (properties::consumer(&settings)?, &settings.source, "source")
            } else {
                (properties::producer(&settings)?, &settings.target, "target")
            };
            let alias = &cluster.alias;
            let context = native::Context {
                name: format!("{} {side} {alias}", settings.flow),
                tokens: cluster.security.tokens.clone(),
            };
            native::client(&config, consumer, context).map_err(|error| {
                EngineError::Fatal(format!("clusters.{alias}: the client cannot be made: {error}"))
            })
        };
        let no_queue = || EngineError::Fatal("librdkafka gave no queue".to_owned());
        let (consumer, producer) = (client(true)?, client(false)?);
        let memory = Memory::of(settings.memory_bytes);
        let fetch_size = FetchSize::new(memory.fetch, memory.unpacked);
        native::limit_fetches(&consumer, fetch_size.limit());
        let records = Arc::new(Queue::records(&consumer).ok_or_else(no_queue)?);
        let events = Arc::new(Queue::main(&consumer).ok_or_else(no_queue)?);
        let deliveries = Arc::new(Queue::main(&producer).ok_or_else(no_queue)?);
        // `haul` waits for records alone: whatever arrives elsewhere wakes it.
        let wakes = [&deliveries, &events].map(|from| Wakes::new(Arc::clone(from), Arc::clone(&records)));
        let (transaction, calls) = match settings.delivery {
            Delivery::ExactlyOnce { .. } => (Transaction::Closed, Some(Calls::new(Arc::clone(&producer)))),
            Delivery::AtLeastOnce => (Transaction::Unused, None),
        };
        let calls = calls
            .transpose()
            .map_err(|error| EngineError::Fatal(format!("no thread for transactions: {error}")))?;
        Ok(Self {
            calls,
            _wakes: wakes.into(),
            lanes: Lanes::default(),
            targets: HashMap::new(),
            widths: Widths::default(),
            waker: Waker::new(vec![Arc::clone(&records), Arc::clone(&deliveries)]),
            deliveries,
            in_flight: InFlight::new(Arc::clone(&consumer), memory.in_flight),
            producer,
            batch: Vec::new(),
            sources: HashMap::new(),
            events,
            records,
            fetch_size,
            taken: 0,
            received: Vec::new(),
            consumer,
            settings,
            transaction,
            told: Vec::new(),
            tag: Vec::new(),
            stalled: Vec::new(),
            troubles: [None; 2],
            broken: None,
        })
    }

    /// A handle that wakes this engine from other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The source's high watermark of a lane as of its last fetch, `None` before the first.
    #[must_use]
    pub fn high_watermark(&mut self, lane: Lane) -> Option<i64> {
        let source = self.lanes.by_lane(lane)?.source.clone();
        native::high_watermark(&self.consumer, &source)
    }

    /// The producer learns about a topic once and then every 5 minutes; a partition that was added since would be
    /// refused as unknown.
    fn learn_partitions(&mut self, topic: &Arc<str>) {
        match self.producer.fetch_metadata(Some(topic), LOCAL_CALL) {
            Ok(metadata) => {
                let partitions = metadata
                    .topics()
                    .first()
                    .map_or(0, |topic| topic.partitions().len());
                self.widths.set(topic, partitions);
            }
            // Its records are refused then, and the lane is tried again.
            Err(error) => tracing::warn!(%topic, %error, "partitions of the target topic not learned"),
        }
    }

    fn topics(&mut self, spec: &LaneSpec) -> Result<(Arc<Topic>, Arc<Topic>), EngineError> {
        let failed = |alias: &str, why: String| EngineError::Fatal(format!("cluster {alias}: {why}"));
        let source = match self.sources.get(&spec.source.topic) {
            Some(topic) => Arc::clone(topic),
            None => {
                let topic = Topic::new(&self.consumer, &spec.source.topic)
                    .map_err(|why| failed(&self.settings.source.alias, why))?;
                let topic = Arc::new(topic);
                self.sources
                    .insert(Arc::clone(&spec.source.topic), Arc::clone(&topic));
                topic
            }
        };
        let target = match self.targets.get(&spec.target_topic) {
            Some(topic) => Arc::clone(topic),
            None => {
                let topic = Topic::new(&self.producer, &spec.target_topic)
                    .map_err(|why| failed(&self.settings.target.alias, why))?;
                let topic = Arc::new(topic);
                self.targets
                    .insert(Arc::clone(&spec.target_topic), Arc::clone(&topic));
                topic
            }
        };
        target.form(spec.form);
        Ok((source, target))
    }

    /// Takes topics out of the clients' care that no lane uses: they would be asked for for ever.
    fn forget_topics(&mut self) {
        self.sources.retain(|_, topic| Arc::strong_count(topic) > 1);
        self.targets.retain(|_, topic| Arc::strong_count(topic) > 1);
    }

    pub(crate) fn reading_failed(&self, doing: &str, failure: &Failure) -> EngineError {
        let alias = &self.settings.source.alias;
        EngineError::Rebuild(format!("cluster {alias}: {doing}: {}", failure.text))
    }

    /// Assigns lanes anew at their present offsets, whatever state librdkafka has them in.
    pub(crate) fn reassign(&mut self, lanes: &[Lane]) -> Result<(), EngineError> {
        let (mut out, mut back) = (
            PartitionList::with_capacity(lanes.len()),
            PartitionList::with_capacity(lanes.len()),
        );
        let mut any = false;
        for lane in lanes {
            let Some(state) = self.lanes.by_lane(*lane) else {
                continue;
            };
            out.add_start(&state.source, state.next);
            back.add_start(&state.source, state.next);
            any = true;
        }
        if any {
            native::unassign(&self.consumer, &out).map_err(|f| self.reading_failed("stop reading", &f))?;
            native::assign(&self.consumer, &back).map_err(|f| self.reading_failed("read again", &f))?;
        }
        Ok(())
    }

    /// Tells trouble of one side, unless it was told a moment ago.
    pub(crate) fn trouble(&mut self, source: bool, why: String) {
        let now = Instant::now();
        let last = &mut self.troubles[usize::from(source)];
        if last.is_none_or(|last| now.duration_since(last) >= TROUBLE_EVERY) {
            *last = Some(now);
            self.told.push(Fact::Trouble { source, why });
        }
    }

    /// Takes the consumer's events.
    pub(crate) fn hear_consumer(&mut self) {
        let events = Arc::clone(&self.events);
        while let Some(event) = native::next_event(&events, Duration::ZERO) {
            let native::Event::Error { fatal, text } = event else {
                continue;
            };
            let why = format!("cluster {}: {text}", self.settings.source.alias);
            if fatal {
                self.broken = Some(EngineError::Rebuild(why));
            } else {
                self.trouble(true, why);
            }
        }
    }

    /// Moves everything gathered into `facts`, and ends the call: with the fault that ended the engine, if any.
    pub(crate) fn tell(&mut self, facts: &mut Vec<Fact>) -> Result<(), EngineError> {
        self.lanes.tell(facts);
        facts.append(&mut self.told);
        self.alive()
    }

    pub(crate) fn alive(&self) -> Result<(), EngineError> {
        self.broken.clone().map_or(Ok(()), Err)
    }
}

impl Engine for Librdkafka {
    fn retire(self) {
        // Without transactions nothing of it may arrive behind what its successor sends.
        if !matches!(self.settings.delivery, Delivery::AtLeastOnce) {
            retiring::retire(self);
        }
    }

    fn is_outdated(&self) -> bool {
        self.settings.outdated.is()
    }

    fn open(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<bool, EngineError> {
        self.alive()?;
        let open = self.take_id_over(wait)?;
        self.hear(Duration::ZERO);
        self.hear_consumer();
        self.tell(facts)?;
        Ok(open)
    }

    fn attach(&mut self, lanes: Vec<LaneSpec>) -> Result<(), EngineError> {
        self.alive()?;
        let mut list = PartitionList::with_capacity(lanes.len());
        let any = !lanes.is_empty();
        let grown = self.widths.widen(&lanes);
        for topic in grown {
            self.learn_partitions(&topic);
        }
        for spec in lanes {
            let topics = self.topics(&spec)?;
            // The leader epoch is not handed over: librdkafka compares an answer about the epoch of an earlier
            // seek with the offset of a later one, and would tell of truncation where there is none. Positions
            // are checked against the source's epochs before they come here.
            list.add_start(&spec.source, spec.start.offset.0);
            if self.lanes.contains(spec.lane) {
                return Err(EngineError::Fatal(format!(
                    "lane {} ({}) is attached twice",
                    spec.lane.0, spec.source
                )));
            }
            self.lanes
                .add((spec.lane, spec.source, spec.guard), topics, spec.start.offset);
        }
        if any {
            self.fetch_size.restart();
            native::limit_fetches(&self.consumer, self.fetch_size.limit());
            native::assign(&self.consumer, &list).map_err(|f| self.reading_failed("begin to read", &f))?;
        }
        Ok(())
    }

    // Why nothing of before is read when a partition is attached again. librdkafka numbers what a partition is told
    // to do (`rktp_version`). Every message carries the number under which its fetch request was sent
    // (`rd_kafka_toppar_ver`), and what carries a lower one than the partition has is dropped when it is taken
    // (`rd_kafka_q_serve_rkmessages`). So: a fetch of 900.. is under way; the partition is detached, which raises
    // the number to 8; it is attached at 500; the answer comes and its messages carry 7; they are dropped, whether
    // they reached the queue before or after. A first message of 600 therefore means that 500..600 hold no record
    // (a gap), never that an old one slipped in.
    // Errors that librdkafka finds itself (`rd_kafka_offset_reset`) carry no number: see `forward::error`.
    fn detach(&mut self, lanes: &[Lane]) -> Result<(), EngineError> {
        self.alive()?;
        let mut list = PartitionList::with_capacity(lanes.len());
        let mut any = false;
        for lane in lanes {
            if let Some((source, next)) = self.lanes.remove(*lane) {
                list.add_start(&source, next);
                any = true;
            }
        }
        if any {
            native::unassign(&self.consumer, &list).map_err(|f| self.reading_failed("stop reading", &f))?;
            self.forget_topics();
        }
        Ok(())
    }

    fn haul(&mut self, mut wait: Duration, facts: &mut Vec<Fact>) -> Result<Hauled, EngineError> {
        self.alive()?;
        self.hear(Duration::ZERO);
        let mut hauled = Hauled::Looked;
        if self.in_flight.is_full() {
            self.hear(wait);
            wait = Duration::ZERO;
        }
        if self.broken.is_none() {
            if self.transaction.is_failed() {
                self.hear(wait);
            } else if self.in_flight.is_full() {
                hauled = Hauled::Full;
            } else if matches!(self.transaction, Transaction::Closed) {
                self.broken = Some(EngineError::Fatal(
                    "records were asked for outside a transaction".to_owned(),
                ));
            } else {
                self.take_records(wait);
                self.hear(Duration::ZERO);
            }
        }
        self.hear_consumer();
        let stalled = std::mem::take(&mut self.stalled);
        if let Err(error) = self.reassign(&stalled) {
            self.broken.get_or_insert(error);
        }
        self.tell(facts)?;
        Ok(hauled)
    }

    fn settle(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<(), EngineError> {
        self.alive()?;
        self.hear(wait);
        self.hear_consumer();
        self.tell(facts)
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        self.alive()?;
        self.begin_transaction()
    }

    fn commit(&mut self, commit: &Commit, facts: &mut Vec<Fact>) -> Result<Ended, EngineError> {
        self.alive()?;
        let ended = self.commit_transaction(commit);
        let fault = self.tell(facts);
        if let Ok(Ended::Unknown { why }) = &ended {
            let gone = EngineError::Rebuild(format!("a transaction ended in an unknown way: {why}"));
            self.broken.get_or_insert(gone);
        }
        // How the transaction ended is told even if the producer ended with it: the next call says so.
        ended.map_err(|error| fault.err().unwrap_or(error))
    }

    fn abort(&mut self) -> Result<(), EngineError> {
        self.alive()?;
        self.abort_transaction()
    }

    fn in_flight_bytes(&self) -> u64 {
        self.in_flight.bytes()
    }
}

impl Drop for Librdkafka {
    fn drop(&mut self) {
        // Without them the clients go with this engine's fields.
        self.waker.disarm();
        native::purge(&self.producer);
    }
}

/// The error that ended the producer, as it is told.
pub(crate) fn fatal_of(producer: &Handle, alias: &str) -> Option<EngineError> {
    Failure::fatal_of(producer)
        .map(|failure| faults::fatal(&failure, &format!("cluster {alias}: the producer ended")))
}
