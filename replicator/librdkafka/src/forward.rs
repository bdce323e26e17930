//! A record's way through the engine, and what is heard of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::engine::Fact;
use kuroshio_core::origin::{self, Verdict};
use kuroshio_core::types::SourceOffset;

use crate::engine::{Librdkafka, fatal_of};
use crate::faults::{self, Delivering, Reading};
use crate::fetch_size::Seen;
use crate::in_flight::Ticket;
use crate::lanes::{Lanes, forwarded, skipped};
use crate::native::{self, Code, Consumed, Delivery, Event, Failure, Headers, Outgoing};
use crate::properties::QUEUED_OVERHEAD;

/// Most messages taken at once: enough to spread the cost of a call, few enough to hear of deliveries often.
const BATCH: usize = 2000;

/// The longest single wait for deliveries while something else is waited for too.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// After a fatal error the producer gives up what it holds; the reports are waited for this long.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// Key of the origin tag's header.
const TAG: &std::ffi::CStr = c"kuroshio-origin";

const _: () = assert!(matches!(origin::HEADER.as_bytes(), b"kuroshio-origin"));

impl Librdkafka {
    /// Waits up to `wait` for records and forwards what came.
    pub(crate) fn take_records(&mut self, wait: Duration) {
        let mut batch = std::mem::take(&mut self.batch);
        native::consume(&self.records, wait, BATCH, &mut batch);
        for message in batch.drain(..) {
            if message.code() == Code::NONE {
                self.taken += QUEUED_OVERHEAD + message.value().map_or(0, <[u8]>::len) as u64;
                self.forward(message);
            } else {
                self.error(&message);
            }
        }
        self.batch = batch;
        self.size_fetches();
    }

    /// Judges how much to ask for at once by what the last responses became.
    fn size_fetches(&mut self) {
        let mut received = std::mem::take(&mut self.received);
        let brokers = native::received(&self.consumer, &mut received);
        let (count, bytes) = native::queued(&self.records);
        let seen = Seen {
            received: &received,
            unpacked: self.taken + count * QUEUED_OVERHEAD + bytes,
            brokers,
            partitions: self.lanes.count(),
        };
        if self.fetch_size.look(seen) {
            native::limit_fetches(&self.consumer, self.fetch_size.limit());
        }
        self.received = received;
    }

    fn forward(&mut self, mut message: Consumed) {
        let Some(slot) = self.lanes.find(message.topic(), message.partition()) else {
            return;
        };
        let offset = message.offset();
        let Some(lane) = self.lanes.at(slot) else { return };
        if !lane.open || lane.ended || offset < lane.next {
            return;
        }
        let epoch = message.leader_epoch();
        let verdict = lane
            .guard
            .judge(origin::tags(message.headers()), message.key(), message.value());
        match verdict {
            Verdict::Forward { earlier, check } => {
                self.tag.clear();
                lane.guard
                    .write(&mut self.tag, earlier, SourceOffset(offset), check);
            }
            Verdict::Skip(reason) => {
                if let Some(run) = self.lanes.passed(slot, offset + 1) {
                    run.leader_epoch = epoch.or(run.leader_epoch);
                    skipped(run, reason);
                }
                return;
            }
        }
        // Unpacked only now: a skipped record's never are.
        let headers = match Headers::take(&mut message) {
            Ok(Some(mut headers)) => {
                headers.remove(TAG);
                headers
            }
            Ok(None) => Headers::new(),
            Err(why) => {
                lane.ended = true;
                let why = format!("record {} at {offset}: {why}", lane.source);
                self.told.push(Fact::Unreadable { lane: lane.lane, why });
                return;
            }
        };
        let bytes = self.hand_over(slot, message, headers);
        if let Some(bytes) = bytes
            && let Some(run) = self.lanes.passed(slot, offset + 1)
        {
            run.leader_epoch = epoch.or(run.leader_epoch);
            forwarded(run, offset, bytes);
        }
    }

    /// Gives a record to the producer; tells its bytes, `None` if it was not taken (the lane is closed then).
    fn hand_over(&mut self, slot: usize, message: Consumed, mut headers: Headers) -> Option<u64> {
        headers.append(TAG.to_bytes(), Some(&self.tag));
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let bytes = (length(message.key()) + length(message.value()) + headers.size()) as u64;
        let offset = message.offset();
        let timestamp = message.timestamp();
        loop {
            let lane = self.lanes.at(slot)?;
            if !lane.open {
                // While we waited for room a record of this lane was refused.
                return None;
            }
            let record = Outgoing {
                topic: &lane.target,
                partition: message.partition(),
                message: &message,
                timestamp: if timestamp == 0 { 1 } else { timestamp },
                ticket: self.in_flight.next(),
            };
            // SAFETY: on success the message goes into `in_flight` until its report; `Librdkafka` drops its
            // producer before `in_flight`.
            match unsafe { native::produce(&self.producer, &record, headers) } {
                Ok(()) => {
                    Lanes::sent(lane);
                    let lane = lane.lane;
                    self.in_flight.put(Ticket {
                        lane,
                        slot,
                        offset,
                        bytes,
                        timestamp,
                        message,
                    });
                    return Some(bytes);
                }
                Err((failure, back)) if failure.code == Code::QUEUE_FULL && !self.in_flight.is_empty() => {
                    headers = back;
                    self.hear(SLICE);
                }
                Err((failure, _)) => {
                    self.not_taken(slot, offset, &failure);
                    return None;
                }
            }
        }
    }

    fn not_taken(&mut self, slot: usize, offset: i64, failure: &Failure) {
        self.failed(slot, offset, failure.code);
        if failure.code == Code::LOCAL_STATE || failure.fatal {
            // The transaction failed a moment ago, or the producer ended: events say why.
            self.transaction.fail(&failure.text);
            self.broken = self
                .broken
                .take()
                .or_else(|| fatal_of(&self.producer, &self.settings.target.alias));
        }
    }

    /// Closes the lane of a record that was not written, and tells of a refusal: the first one, but not necessarily the
    /// first report. It goes like this: a batch is refused while more of its partition waits; librdkafka gives the transaction
    /// up, drops what waits and reports that; then it reports the batch.
    fn failed(&mut self, slot: usize, offset: i64, code: Code) {
        let Some(lane) = self.lanes.at(slot) else { return };
        lane.open = false;
        let text = format!("record {} at {offset}: {code}", lane.source);
        if let Delivering::Refused(why) = faults::delivering(code)
            && !lane.refused
        {
            lane.refused = true;
            self.told.push(Fact::Refused {
                lane: lane.lane,
                at: SourceOffset(offset),
                why,
            });
        }
        self.transaction.fail(&text);
    }

    /// An error, or the end of a partition, in a record's place.
    fn error(&mut self, message: &Consumed) {
        let why = message.error();
        let meaning = faults::reading(message.code());
        let slot = self.lanes.find(message.topic(), message.partition());
        let Some(slot) = slot.filter(|_| message.topic() != 0) else {
            if meaning != Reading::End {
                self.trouble(true, format!("cluster {}: {why}", self.settings.source.alias));
            }
            return;
        };
        let Some(lane) = self.lanes.at(slot).filter(|lane| lane.open && !lane.ended) else {
            return;
        };
        let offset = message.offset();
        match meaning {
            // The end lies behind every record that was handed out: gaps and markers before it are passed.
            Reading::End => {
                if offset > lane.next {
                    self.lanes.passed(slot, offset);
                }
            }
            // The error is older than this lane, and so is the stop that comes with it. It goes like this: a fetch
            // at 100 fails; the partition is attached anew at 150; librdkafka's main thread carries that out and
            // then the reset for 100, after which it reads nothing of this partition any more.
            Reading::OutOfRange if (0..lane.next).contains(&offset) => self.stalled.push(lane.lane),
            Reading::OutOfRange => {
                lane.ended = true;
                let at = SourceOffset(offset.max(lane.next));
                self.told.push(Fact::OutOfRange { lane: lane.lane, at });
            }
            Reading::Passing => {
                let why = format!("cluster {}: {}: {why}", self.settings.source.alias, lane.source);
                self.trouble(true, why);
            }
            Reading::Unreadable => {
                lane.ended = true;
                self.told.push(Fact::Unreadable { lane: lane.lane, why });
            }
        }
    }

    /// Waits up to `wait` for the producer's events and takes all that are there.
    pub(crate) fn hear(&mut self, wait: Duration) {
        let queue = Arc::clone(&self.deliveries);
        let mut wait = wait;
        let mut ended: Option<Instant> = None;
        loop {
            match native::next_event(&queue, wait) {
                Some(Event::Deliveries(deliveries)) => {
                    deliveries.for_each(|delivery| self.delivered(&delivery));
                }
                Some(Event::Error { fatal: true, .. }) => {
                    let alias = &self.settings.target.alias;
                    self.broken = self.broken.take().or_else(|| fatal_of(&self.producer, alias));
                    ended = ended.or_else(|| Some(Instant::now()));
                }
                Some(Event::Error { text, .. }) => {
                    self.trouble(false, format!("cluster {}: {text}", self.settings.target.alias));
                }
                None if ended.is_some_and(|at| at.elapsed() < LAST_REPORTS) && !self.in_flight.is_empty() => {
                    // What was refused, and why, is in the reports that are still to come.
                }
                None => return,
            }
            wait = if ended.is_some() { SLICE } else { Duration::ZERO };
        }
    }

    fn delivered(&mut self, delivery: &Delivery) {
        let Some(ticket) = self.in_flight.settle(delivery.ticket) else {
            return;
        };
        // What belongs to a lane of before says nothing of the present, nor does what was written of a closed one.
        let open = self.lanes.back(ticket.slot, ticket.lane).map(|lane| lane.open);
        match (delivery.code == Code::NONE, open) {
            (true, Some(true)) => self.lanes.put(
                ticket.slot,
                ticket.offset,
                delivery.offset,
                ticket.bytes,
                ticket.timestamp,
            ),
            (true, _) => {}
            (false, Some(_)) => self.failed(ticket.slot, ticket.offset, delivery.code),
            (false, None) => self
                .transaction
                .fail(&format!("a record was not written: {}", delivery.code)),
        }
        // The message goes here, behind its report.
        drop(ticket.message);
    }
}
