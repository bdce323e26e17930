//! The pump between an engine that follows its contract and slow tasks that take their time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use kuroshio_core::engine::{
    BatchForm, Codec, Commit, Ended, Engine, EngineError, Fact, Hauled, LaneSpec, PlacedRun, ReadRun,
};
use kuroshio_core::flow::{Assigned, Delivery, FlowSettings, Pairing};
use kuroshio_core::origin::Forward;
use kuroshio_core::slots::{Claims, SLOT_COUNT, Slot};
use kuroshio_core::types::{Copies, Lane, Membership, Position, SourceOffset, TargetOffset, TopicPartition};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Errands, News, OpenErrand, PumpError, PumpParts, run};
use crate::board::FlowBoard;
use crate::lanes::{FlowEnds, LaneDesk, PumpView};
use crate::metrics::Metrics;
use crate::pump::StoreErrand;
use crate::status::{FlowStatus, Health};

/// The pump's `commit_interval`.
const INTERVAL: Duration = Duration::from_millis(100);

/// For something that happens by itself.
const WAIT: Duration = Duration::from_secs(30);

/// What an engine without records was asked.
#[derive(Default)]
struct Seen {
    /// It may get ready.
    ready: AtomicBool,
    built: AtomicU64,
    /// Others are let in now, and not the engine that is there.
    outdated: AtomicBool,
    opens: AtomicU64,
    hauls: AtomicU64,
    attached: AtomicU64,
    /// It has one record, and then no memory for more.
    full: AtomicBool,
    /// Milliseconds from that record to its commit.
    held: AtomicU64,
}

/// An engine without records that holds its pump to the contract.
struct Strict {
    seen: Arc<Seen>,
    transaction: bool,
    /// The first lane, until its one record is forwarded.
    lane: Option<Lane>,
    forwarded: Option<Instant>,
}

fn one_record(lane: Lane) -> ReadRun {
    ReadRun {
        lane,
        first: SourceOffset(0),
        next: SourceOffset(1),
        forwarded: vec![(SourceOffset(0), SourceOffset(1))],
        skipped: Vec::new(),
        bytes: 1,
        leader_epoch: None,
    }
}

impl Strict {
    fn outside(what: &str) -> EngineError {
        EngineError::Fatal(format!("{what} outside a transaction"))
    }
}

impl Engine for Strict {
    fn open(&mut self, wait: Duration, _: &mut Vec<Fact>) -> Result<bool, EngineError> {
        self.seen.opens.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(wait.min(Duration::from_millis(1)));
        Ok(self.seen.ready.load(Ordering::SeqCst))
    }

    fn is_outdated(&self) -> bool {
        self.seen.outdated.load(Ordering::SeqCst)
    }

    fn attach(&mut self, lanes: Vec<LaneSpec>) -> Result<(), EngineError> {
        self.seen.attached.fetch_add(lanes.len() as u64, Ordering::SeqCst);
        self.lane = lanes.first().map(|spec| spec.lane);
        Ok(())
    }

    fn detach(&mut self, _: &[Lane]) -> Result<(), EngineError> {
        Ok(())
    }

    fn haul(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<Hauled, EngineError> {
        if !self.transaction {
            return Err(Self::outside("haul"));
        }
        self.seen.hauls.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(wait.min(Duration::from_millis(1)));
        if !self.seen.full.load(Ordering::SeqCst) {
            return Ok(Hauled::Looked);
        }
        if let Some(lane) = self.lane.take() {
            self.forwarded = Some(Instant::now());
            facts.push(Fact::Read(one_record(lane)));
            facts.push(Fact::Placed(PlacedRun {
                lane,
                first: SourceOffset(0),
                base: TargetOffset(0),
                count: 1,
                bytes: 1,
                oldest_timestamp: None,
            }));
        }
        Ok(Hauled::Full)
    }

    fn settle(&mut self, wait: Duration, _: &mut Vec<Fact>) -> Result<(), EngineError> {
        std::thread::sleep(wait.min(Duration::from_millis(1)));
        Ok(())
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.transaction, true) {
            return Err(EngineError::Fatal("begin in a transaction".to_owned()));
        }
        Ok(())
    }

    fn commit(&mut self, _: &Commit, _: &mut Vec<Fact>) -> Result<Ended, EngineError> {
        if !std::mem::take(&mut self.transaction) {
            return Err(Self::outside("commit"));
        }
        if let Some(forwarded) = self.forwarded.take() {
            let held = u64::try_from(forwarded.elapsed().as_millis()).unwrap();
            self.seen.held.store(held.max(1), Ordering::SeqCst);
        }
        Ok(Ended::Committed)
    }

    fn abort(&mut self) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.transaction) {
            return Err(Self::outside("abort"));
        }
        Ok(())
    }

    fn in_flight_bytes(&self) -> u64 {
        0
    }
}

/// A pump in its thread, and the other ends of its lines.
struct Bench {
    seen: Arc<Seen>,
    news: mpsc::Sender<News>,
    joins: mpsc::Receiver<Option<Claims>>,
    opens: mpsc::Receiver<OpenErrand>,
    _stores: mpsc::Receiver<StoreErrand>,
    ended: std_mpsc::Receiver<Result<(), PumpError>>,
}

fn bench() -> Bench {
    let seen = Arc::new(Seen::default());
    let (news, news_heard) = mpsc::channel(64);
    let (member, joins) = mpsc::channel(1);
    let (clerk, opens) = mpsc::channel(1);
    let (trials, _) = mpsc::channel(1);
    let (storer, stores) = mpsc::channel(1);
    let name: Arc<str> = "kuroshio.tw-jp.test.0".into();
    let board = Arc::new(FlowBoard::new(FlowStatus::default()));
    let ends = FlowEnds {
        flow: "tw-jp".into(),
        source: "tw".into(),
        target: "jp".into(),
        source_id: "source-id".into(),
        forward: Forward::Local,
    };
    let built = Arc::clone(&seen);
    let parts = PumpParts {
        name: Arc::clone(&name),
        settings: FlowSettings {
            delivery: Delivery::ExactlyOnce,
            commit_interval: INTERVAL,
            commit_bytes: 1 << 20,
            hold_limit: Duration::from_secs(5),
        },
        limit: Box::new(|_| None),
        build: move || {
            built.outdated.store(false, Ordering::SeqCst);
            built.built.fetch_add(1, Ordering::SeqCst);
            Ok(Strict {
                seen: Arc::clone(&built),
                transaction: false,
                lane: None,
                forwarded: None,
            })
        },
        news: news_heard,
        errands: Errands {
            member,
            clerk,
            trials,
            storer,
        },
        desk: LaneDesk::new(
            ends,
            Arc::new(Metrics::new().unwrap()).flow("tw-jp"),
            board,
            Arc::default(),
        ),
        view: watch::channel(PumpView::default()).0,
        pulse: Arc::new(Health::default()).pulse(name),
        started: Instant::now(),
        stop: CancellationToken::new(),
    };
    let (tell, ended) = std_mpsc::channel();
    std::thread::spawn(move || run(parts, |result| tell.send(result).unwrap()));
    Bench {
        seen,
        news,
        joins,
        opens,
        _stores: stores,
        ended,
    }
}

impl Bench {
    fn tell(&self, news: News) {
        self.news.blocking_send(news).unwrap();
    }

    /// Waits until `what` is so; a pump that ends meanwhile is a failure.
    fn until(&self, what: &str, is: impl Fn(&Seen) -> bool) {
        let end = Instant::now() + WAIT;
        while !is(&self.seen) {
            match self.ended.recv_timeout(Duration::from_millis(2)) {
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                other => panic!("waiting for {what}, the pump ended: {other:?}"),
            }
            assert!(Instant::now() < end, "waited in vain for {what}");
        }
    }

    /// Waits until the pump has carried out what it was told, as far as it can while its engine is not ready.
    fn heard(&self) {
        self.until("news to be heard", |_| {
            self.news.capacity() == self.news.max_capacity()
        });
        // One round may have begun before the news were told.
        let rounds = self.seen.opens.load(Ordering::SeqCst) + 2;
        self.until("two rounds", |seen| seen.opens.load(Ordering::SeqCst) >= rounds);
    }

    fn take_join(&mut self) {
        let end = Instant::now() + WAIT;
        while self.joins.try_recv().is_err() {
            assert!(Instant::now() < end, "waited in vain for a join");
            std::thread::sleep(Duration::from_millis(2)); // between two looks
        }
    }

    fn assign(&self, generation: i32) {
        self.tell(News::Joined);
        self.tell(News::Assigned(Assigned {
            membership: Membership {
                group: "kuroshio.tw-jp".into(),
                instance: "kuroshio.tw-jp.test.0".into(),
                member: "member".into(),
                generation,
            },
            slot_count: SLOT_COUNT,
            slots: (0..SLOT_COUNT).map(Slot).collect::<BTreeSet<_>>(),
            given_up: BTreeSet::new(),
            awaited: false,
        }));
    }

    /// Opens the first lane that is asked for, at the beginning of its log.
    fn open_first(&mut self) {
        let OpenErrand { lanes, .. } = self.opens.blocking_recv().unwrap();
        let start = Position {
            offset: SourceOffset(0),
            leader_epoch: None,
            copies: Copies::default(),
        };
        self.tell(News::Opened(lanes[0].0, start));
    }

    fn end(self) {
        self.tell(News::Stop);
        self.ended.recv_timeout(WAIT).unwrap().unwrap();
    }

    /// The routes select so many partitions.
    fn catalog(&self, partitions: i32) {
        let pairing = |partition| Pairing {
            source: TopicPartition::new("orders", partition),
            topic_id: [7; 16],
            target_topic: "orders".into(),
            target_id: Some([8; 16]),
            form: BatchForm::of(Codec::None),
            paused: false,
        };
        self.tell(News::Catalog((0..partitions).map(pairing).collect()));
    }
}

/// An engine got ready while the clerk was busy with one errand, had the next in its hands and a third one waited: the
/// pump asked for records before the transaction was begun, and ended. Nor could it join, so that the group went on without it.
#[test]
fn a_busy_clerk_holds_up_neither_the_engine_nor_a_join() {
    let mut bench = bench();
    bench.take_join();
    bench.assign(1);
    bench.catalog(1);
    bench.open_first();
    for partitions in 2..=4 {
        bench.catalog(partitions);
    }
    bench.heard();
    assert_eq!(bench.opens.len(), 1, "the clerk's hands are full");

    bench.seen.ready.store(true, Ordering::SeqCst);
    bench.until("records to be asked for", |seen| {
        seen.hauls.load(Ordering::SeqCst) > 0
    });
    assert_eq!(bench.seen.attached.load(Ordering::SeqCst), 1);

    bench.tell(News::Rebalancing);
    bench.take_join();
    bench.assign(2);

    // What waited for the clerk is asked for once he is free.
    let mut asked = BTreeSet::new();
    while asked.len() < 3 {
        let OpenErrand { lanes, .. } = bench.opens.blocking_recv().unwrap();
        asked.extend(lanes.iter().map(|(_, pairing)| pairing.source.partition));
    }
    assert_eq!(asked, BTreeSet::from([1, 2, 3]));
    bench.end();
}

/// An engine whose memory was used up brought no records; the pump took that for the end of the source and committed at
/// once: whatever `commit_interval` said, a transaction of a backlog held what fits the memory.
#[test]
fn an_engine_without_memory_has_not_caught_up() {
    let mut bench = bench();
    bench.seen.full.store(true, Ordering::SeqCst);
    bench.seen.ready.store(true, Ordering::SeqCst);
    bench.take_join();
    bench.assign(1);
    bench.catalog(1);
    bench.open_first();
    bench.until("a commit", |seen| seen.held.load(Ordering::SeqCst) > 0);
    let held = Duration::from_millis(bench.seen.held.load(Ordering::SeqCst));
    assert!(held >= INTERVAL, "committed after {held:?}");
    bench.end();
}

#[test]
fn an_engine_that_is_outdated_is_replaced_and_its_lanes_opened_again() {
    let mut bench = bench();
    bench.seen.ready.store(true, Ordering::SeqCst);
    bench.take_join();
    bench.assign(1);
    bench.catalog(1);
    for engines in 1..=3 {
        bench.open_first();
        bench.until("the lane to be attached", |seen| {
            seen.attached.load(Ordering::SeqCst) == engines
        });
        assert_eq!(bench.seen.built.load(Ordering::SeqCst), engines);
        bench.seen.outdated.store(true, Ordering::SeqCst);
    }
    bench.end();
}
