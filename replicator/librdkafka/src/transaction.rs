//! Transactions: begin, commit with positions, abort.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::engine::{Commit, Ended, EngineError};
use kuroshio_core::types::POSITIONS_PER_REQUEST;

use crate::engine::{Librdkafka, fatal_of};
use crate::faults;
use crate::forward::SLICE;
use crate::native::transaction as call;
use crate::native::{Code, Failure, Handle, PartitionList};
use crate::settings::Delivery;

/// Where the producer's transaction stands.
#[derive(Debug)]
pub(crate) enum Transaction {
    /// At least once: there are none.
    Unused,
    /// None is open.
    Closed,
    /// One is open; if something of it failed, why: it can only be aborted.
    Open {
        /// The first failure.
        failed: Option<String>,
    },
}

impl Transaction {
    /// Notes that the open transaction cannot be committed.
    pub(crate) fn fail(&mut self, why: &str) {
        if let Self::Open { failed } = self {
            failed.get_or_insert_with(|| why.to_owned());
        }
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self, Self::Open { failed: Some(_) })
    }
}

/// Why records cannot be waited for any longer.
enum Waiting {
    /// The engine ended.
    Broken(EngineError),
    /// Something of the transaction failed, or its time is over.
    Failed(String),
    /// librdkafka gave the transaction up.
    Refused(Failure),
}

/// Between two looks at something that goes on elsewhere.
const SHORT: Duration = Duration::from_millis(5);

/// What a commit gets at least, see [`call::commit`].
const PATIENCE: Duration = Duration::from_secs(2);

impl Librdkafka {
    /// `exactly_once`: takes the transactional id over; `false`: not within `wait`, which is no fault, librdkafka goes on
    /// trying. `at_least_once`: nothing.
    pub(crate) fn take_id_over(&mut self, wait: Duration) -> Result<bool, EngineError> {
        if self.timeout().is_none() {
            return Ok(true);
        }
        match call::init(&self.producer, wait) {
            Ok(()) => Ok(true),
            Err(failure) if failure.retriable => Ok(false),
            Err(failure) => Err(faults::fatal(
                &failure,
                &self.doing("take the transactional id over"),
            )),
        }
    }

    /// `transaction.timeout.ms`; `None` without transactions.
    fn timeout(&self) -> Option<Duration> {
        match self.settings.delivery {
            Delivery::ExactlyOnce {
                transaction_timeout, ..
            } => Some(transaction_timeout),
            Delivery::AtLeastOnce => None,
        }
    }

    fn doing(&self, what: &str) -> String {
        format!("cluster {}: {what}", self.settings.target.alias)
    }

    pub(crate) fn begin_transaction(&mut self) -> Result<(), EngineError> {
        if !matches!(self.transaction, Transaction::Closed) {
            return Err(EngineError::Fatal(
                "a transaction was begun inside another, or in at_least_once".to_owned(),
            ));
        }
        call::begin(&self.producer)
            .map_err(|failure| faults::fatal(&failure, &self.doing("begin a transaction")))?;
        self.transaction = Transaction::Open { failed: None };
        Ok(())
    }

    pub(crate) fn commit_transaction(&mut self, commit: &Commit) -> Result<Ended, EngineError> {
        let (Transaction::Open { .. }, Some(timeout)) = (&self.transaction, self.timeout()) else {
            return Err(EngineError::Fatal(
                "no transaction is open to be committed".to_owned(),
            ));
        };
        let who = &commit.membership;
        if who.generation < 0 || who.member.is_empty() {
            // The broker takes such a commit without any fence.
            return Err(EngineError::Fatal(format!(
                "positions of group {} would be committed without membership (member {:?}, generation {})",
                who.group, who.member, who.generation
            )));
        }
        let end = Instant::now() + timeout;
        // Before the records are waited for: both go on at once, and a transaction that librdkafka gave up
        // without a word (see `wait_placed`) is found out here.
        if let Err(why) = self.send_positions(commit, end) {
            return self.not_asked(why, "add positions to the transaction");
        }
        if let Err(why) = self.wait_placed(end) {
            return self.not_asked(why, "wait for the transaction's records");
        }
        match self.retried(end, call::commit) {
            Ok(()) => {
                self.transaction = Transaction::Closed;
                for lane in self.lanes.iter_mut() {
                    lane.dirty = false;
                }
                Ok(Ended::Committed)
            }
            Err(Waiting::Refused(failure)) => self.commit_failed(&failure),
            Err(Waiting::Failed(why)) => Ok(Ended::Unknown { why }),
            Err(Waiting::Broken(error)) => Ok(Ended::Unknown {
                why: error.to_string(),
            }),
        }
    }

    /// A commit that nobody was asked for yet.
    fn not_asked(&mut self, why: Waiting, doing: &str) -> Result<Ended, EngineError> {
        match why {
            Waiting::Broken(error) => Err(error),
            Waiting::Failed(why) => self.give_up(why, false),
            Waiting::Refused(failure) => self.refused(&failure, doing),
        }
    }

    /// Waits until every record of the transaction is placed.
    ///
    /// librdkafka may hold records back for ever, without a report or an event: a batch was refused, the
    /// transaction aborted, and the next batch of that partition comes with a gap in its sequence numbers
    /// (`OUT_OF_ORDER_SEQUENCE_NUMBER`); then it waits for the abort to raise the epoch. So the transaction's state is
    /// looked at now and then.
    fn wait_placed(&mut self, end: Instant) -> Result<(), Waiting> {
        let mut probe = Instant::now() + SLICE;
        loop {
            if let Some(broken) = &self.broken {
                return Err(Waiting::Broken(broken.clone()));
            }
            if let Transaction::Open { failed: Some(why) } = &self.transaction {
                return Err(Waiting::Failed(why.clone()));
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.up_to_date()?;
            let now = Instant::now();
            if now >= end {
                return Err(Waiting::Failed(
                    self.doing("records were not placed within the transaction's time"),
                ));
            }
            if now >= probe {
                call::check_open(&self.producer).map_err(Waiting::Refused)?;
                probe = Instant::now() + SLICE;
            }
            self.hear(SLICE.min(end - now));
        }
    }

    fn send_positions(&mut self, commit: &Commit, end: Instant) -> Result<(), Waiting> {
        for part in commit.positions.chunks(POSITIONS_PER_REQUEST) {
            let part: Arc<[_]> = part.into();
            let who = Arc::new(commit.membership.clone());
            self.retried(end, move |producer, left| {
                let mut list = PartitionList::with_capacity(part.len());
                for (at, position, metadata) in &*part {
                    list.add_position(at, position, metadata);
                }
                call::send_offsets(producer, &list, &who, left)
            })?;
        }
        Ok(())
    }

    /// A transaction call before the commit failed.
    fn refused(&mut self, failure: &Failure, doing: &str) -> Result<Ended, EngineError> {
        let why = format!("{}: {}", self.doing(doing), failure.text);
        if failure.fatal {
            return Err(self.end(failure, doing));
        }
        self.give_up(why, faults::rejoin(failure.code))
    }

    fn commit_failed(&mut self, failure: &Failure) -> Result<Ended, EngineError> {
        let why = format!("{}: {}", self.doing("commit the transaction"), failure.text);
        if failure.fatal {
            let error = self.end(failure, "commit the transaction");
            // Fenced: whoever took over ended the transaction, one way or the other, and we go. Any other end leaves
            // open what became of it.
            return if matches!(error, EngineError::Fenced(_)) {
                Err(error)
            } else {
                Ok(Ended::Unknown { why })
            };
        }
        // Known not to be committed: librdkafka saw a failed delivery and did not ask, or the coordinator
        // refused, and then takes our abort. Anything else, a timeout above all, may have been committed.
        let asked_in_vain = failure.code == Code::INCONSISTENT || (failure.abort && failure.code.0 > 0);
        if asked_in_vain && let Ok(ended) = self.give_up(why.clone(), faults::rejoin(failure.code)) {
            return Ok(ended);
        }
        Ok(Ended::Unknown { why })
    }

    fn give_up(&mut self, why: String, rejoin: bool) -> Result<Ended, EngineError> {
        self.abort_transaction()?;
        Ok(Ended::Aborted { why, rejoin })
    }

    /// Notes what ended the producer.
    fn end(&mut self, failure: &Failure, doing: &str) -> EngineError {
        let alias = &self.settings.target.alias;
        let error =
            fatal_of(&self.producer, alias).unwrap_or_else(|| faults::fatal(failure, &self.doing(doing)));
        self.broken = Some(error.clone());
        error
    }

    pub(crate) fn abort_transaction(&mut self) -> Result<(), EngineError> {
        let (Transaction::Open { .. }, Some(timeout)) = (&self.transaction, self.timeout()) else {
            return Err(EngineError::Fatal(
                "no transaction is open to be aborted".to_owned(),
            ));
        };
        // Lanes with records in it have a hole from here on: they are closed for good. The others
        // may go on.
        for lane in self.lanes.iter_mut().filter(|lane| lane.dirty) {
            lane.open = false;
        }
        self.lanes.discard_placed();
        let end = Instant::now() + timeout;
        loop {
            self.alive()?;
            match self.call_abort(end) {
                Ok(()) => break,
                Err(Waiting::Refused(failure)) if failure.fatal => {
                    return Err(self.end(&failure, "abort the transaction"));
                }
                Err(Waiting::Refused(failure))
                    if failure.retriable && end.saturating_duration_since(Instant::now()) >= PATIENCE =>
                {
                    self.hear(SHORT);
                }
                Err(Waiting::Refused(Failure { text: why, .. }) | Waiting::Failed(why)) => {
                    let why = format!("{}: {why}", self.doing("abort the transaction"));
                    let error = EngineError::Rebuild(why);
                    self.broken = Some(error.clone());
                    return Err(error);
                }
                Err(Waiting::Broken(error)) => return Err(error),
            }
        }
        self.hear(Duration::ZERO);
        self.lanes.discard_placed();
        self.transaction = Transaction::Closed;
        Ok(())
    }

    /// Aborts; the call waits for the records in flight, whose reports are taken here meanwhile.
    ///
    /// It drops what waits to be sent, once, and then waits. Two requests of a partition are on their way; the first is
    /// refused, which breaks the transaction; the abort drops what waits; the second is told of the gap in the numbers
    /// (`OUT_OF_ORDER_SEQUENCE_NUMBER`), and its records wait to be sent again, which nothing does until the abort has raised the
    /// epoch: the abort ran into its time and the engine had to be built anew. So what waits is dropped now and then.
    fn call_abort(&mut self, end: Instant) -> Result<(), Waiting> {
        let left = end.saturating_duration_since(Instant::now()).max(PATIENCE);
        let mut dropped = Instant::now();
        let meanwhile = |engine: &mut Self| {
            engine.hear(Duration::ZERO);
            if dropped.elapsed() > SLICE {
                call::drop_waiting(&engine.producer);
                dropped = Instant::now();
            }
        };
        self.call(move |producer| call::abort(producer, left), meanwhile)
    }

    /// Repeats a call as long as its failure allows and there is time. librdkafka has repeated it with its own
    /// pauses already (500 ms for an offset commit that met an earlier transaction; that cannot be set); the wait
    /// for events keeps a quick failure from spinning.
    fn retried(
        &mut self,
        end: Instant,
        call: impl Fn(&Handle, Duration) -> Result<(), Failure> + Clone + Send + 'static,
    ) -> Result<(), Waiting> {
        let left = || end.saturating_duration_since(Instant::now());
        loop {
            let (call, time) = (call.clone(), left().max(PATIENCE));
            match self.call(move |producer| call(producer, time), |_| ()) {
                // Not after a timeout, which leaves no time.
                Err(Waiting::Refused(failure)) if failure.retriable && left() > PATIENCE => self.hear(SHORT),
                result => return result,
            }
        }
    }

    /// Makes a call, and does something else until its outcome is there. Where other credentials hold meanwhile it is left behind: the broker
    /// that it waits for may let nobody in any more who comes as it does.
    ///
    /// What is left behind can commit nothing that the successor does not see. Positions that are being added: nobody asks for their commit any
    /// more, and the successor's take-over of the transactional id aborts them. A commit: its positions lie in the group already, so a stable fetch
    /// of the successor's waits until the commit, or the take-over, has had its way with them.
    fn call(
        &mut self,
        call: impl FnOnce(&Handle) -> Result<(), Failure> + Send + 'static,
        mut meanwhile: impl FnMut(&mut Self),
    ) -> Result<(), Waiting> {
        let Some(calls) = &self.calls else {
            return Err(Waiting::Failed("there are no transactions".to_owned()));
        };
        calls.make(call);
        loop {
            if let Some(outcome) = self.calls.as_mut().and_then(|calls| calls.outcome(SHORT)) {
                return outcome.map_err(Waiting::Refused);
            }
            self.up_to_date()?;
            meanwhile(self);
        }
    }

    fn up_to_date(&mut self) -> Result<(), Waiting> {
        if !self.settings.outdated.is() {
            return Ok(());
        }
        let error = EngineError::Rebuild("other credentials hold".to_owned());
        Err(Waiting::Broken(self.broken.get_or_insert(error).clone()))
    }
}
