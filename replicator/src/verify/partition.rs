//! One partition, read on both sides at once.

use std::collections::HashMap;
use std::ops::Range;

use kuroshio_core::batch::Record;
use kuroshio_core::origin::{self, Guard, GuardError, Tag, Verdict};
use kuroshio_core::types::{Position, SourceOffset, TargetOffset, TopicPartition};
use kuroshio_core::verify::{Books, Digest, Sample, key_digest};
use kuroshio_wire::{Cluster, Error, Isolation, OffsetAt};

use super::{LOOK, PartitionReport, UNSTABLE};
use crate::config::{Flow, Start};
use crate::survey::Lane;

/// Bytes read at a time.
const CHUNK: i32 = 4 << 20;

/// Why a partition could not be compared to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A cluster did not answer, or refused.
    #[error("{0}")]
    Cluster(#[from] Error),
    /// A log cannot be read on.
    #[error(
        "{partition} on cluster {cluster} cannot be read at offset {at}: the record is damaged, or was deleted just now"
    )]
    Unreadable {
        partition: TopicPartition,
        cluster: String,
        at: i64,
    },
    /// What a transaction hides cannot be compared.
    #[error("an open transaction on cluster {cluster} hides {partition} from offset {at} on")]
    Hidden {
        partition: TopicPartition,
        cluster: String,
        at: i64,
    },
    /// Where the copies of a stretch begin was not found.
    #[error("{0}")]
    Translation(#[from] kuroshio_client::Error),
    /// The names make no tag.
    #[error("{0}")]
    Guard(#[from] GuardError),
}

/// What configurations say of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Topic {
    /// Compaction may take records, on the source or on the target.
    pub(super) compacted: bool,
    /// The target's broker stamps records itself.
    pub(super) stamped: bool,
}

/// A partition to be verified.
pub(super) struct Task<'a> {
    pub(super) flow: &'a Flow,
    pub(super) source: &'a Cluster,
    pub(super) target: &'a Cluster,
    pub(super) topic: Topic,
    /// Records with older timestamps do not count: milliseconds since 1970.
    pub(super) since: Option<i64>,
    /// Only a part of it.
    pub(super) sample: Option<Sample>,
    /// Up to here everything was copied.
    pub(super) position: Position,
    pub(super) lane: Lane,
}

/// A log that is read from its beginning to its end.
pub(super) struct Log<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) partition: &'a TopicPartition,
    pub(super) next: i64,
    pub(super) end: i64,
}

impl Log<'_> {
    /// Its next committed records; `None`: there are no more.
    pub(super) async fn read(&mut self) -> Result<Option<Vec<Record>>, Trouble> {
        if self.next >= self.end {
            return Ok(None);
        }
        let read = self
            .cluster
            .read_committed(self.partition, self.next, CHUNK)
            .await?;
        if read.next <= self.next {
            return Err(Trouble::Unreadable {
                partition: self.partition.clone(),
                cluster: self.cluster.alias().to_string(),
                at: self.next,
            });
        }
        self.next = read.next;
        let records = read.records.into_iter().map(|(_, record)| record);
        Ok(Some(records.filter(|record| record.offset < self.end).collect()))
    }
}

/// The source as it must be on the target.
pub(super) struct Expected<'a> {
    log: Log<'a>,
    guard: Guard,
    /// What is before it does not count.
    pub(super) from: SourceOffset,
    skipped: u64,
}

impl Expected<'_> {
    /// Tells the books what comes up to and with `of`; gives how many offsets were read.
    async fn tell(&mut self, of: SourceOffset, stamped: bool, books: &mut Books) -> Result<u64, Trouble> {
        let began = self.log.next;
        while self.log.next <= of.0 {
            let Some(records) = self.log.read().await? else {
                break;
            };
            for record in records {
                match self.guard.judge(
                    origin::tag_values(&record.headers),
                    record.key.as_deref(),
                    record.value.as_deref(),
                ) {
                    Verdict::Forward { .. } => {
                        books.expect(SourceOffset(record.offset), Digest::of(&record, !stamped));
                    }
                    Verdict::Skip(_) => self.skipped += 1,
                }
            }
        }
        Ok((self.log.next - began).unsigned_abs())
    }
}

/// Where a log begins and ends.
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// A piece of the partition that is compared.
pub(super) struct Piece<'a> {
    books: Books,
    expected: Option<Expected<'a>>,
    /// The offset after its last.
    until: SourceOffset,
    /// The target has all copies from the first on.
    whole: bool,
    /// A copy of what lies behind it was seen.
    pub(super) passed: bool,
}

impl Task<'_> {
    /// How many source offsets will be read, about.
    pub(super) fn offsets(&self) -> u64 {
        let share = self.sample.map_or(1.0, |sample| sample.percent / 100.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let offsets = (self.position.offset.0 as f64 * share) as u64;
        offsets
    }

    /// Reads both sides; `told` hears how many offsets of the source were read.
    pub(super) async fn verify(&self, told: impl Fn(u64)) -> Result<PartitionReport, Trouble> {
        let target = self.readable().await?;
        let mut report = PartitionReport::new(&self.lane, self.position.offset);
        if let Some(sample) = self.sample {
            self.sampled(&target, sample, &mut report, &told).await?;
            return Ok(report);
        }
        let mut piece = Piece {
            books: Books::new(self.topic.compacted),
            expected: None,
            until: self.position.offset,
            whole: target.start <= self.ours_from(),
            passed: false,
        };
        let mut log = Log {
            cluster: self.target,
            partition: &self.lane.target,
            next: self.target_from(&target).await?,
            end: target.end,
        };
        while let Some(records) = log.read().await? {
            self.see(&records, &mut piece, &mut report, &told).await?;
        }
        report.from = self.finish(piece, &target, &mut report, &told).await?.0;
        Ok(report)
    }

    /// Copies before this offset may be of anything that the topic was before.
    pub(super) fn ours_from(&self) -> i64 {
        self.position.copies.in_order.map_or(0, |offset| offset.0)
    }

    /// A piece whose source offsets are known.
    pub(super) fn piece(&self, offsets: &Range<i64>) -> Result<Piece<'_>, Trouble> {
        Ok(Piece {
            books: Books::new(self.topic.compacted),
            expected: Some(self.source(offsets.clone())?),
            until: SourceOffset(offsets.end),
            whole: false,
            passed: false,
        })
    }

    /// Records of the target, in the order of its log.
    pub(super) async fn see<'t>(
        &'t self,
        records: &[Record],
        piece: &mut Piece<'t>,
        report: &mut PartitionReport,
        told: &impl Fn(u64),
    ) -> Result<(), Trouble> {
        for record in records {
            let Some((of, explains)) = self.copied(record) else {
                report.others += 1;
                continue;
            };
            if record.offset < self.ours_from() {
                (piece.whole, report.before) = (false, report.before + 1);
                continue;
            }
            if of >= piece.until {
                piece.passed = true;
                continue;
            }
            let source = match &mut piece.expected {
                Some(source) => source,
                None => piece.expected.insert(self.expected(piece.whole, of).await?),
            };
            if of < source.from {
                report.before += 1;
                continue;
            }
            told(source.tell(of, self.topic.stamped, &mut piece.books).await?);
            let at = TargetOffset(record.offset);
            if explains {
                let digest = Digest::of(record, !self.topic.stamped);
                piece.books.copy(of, digest, at);
            } else {
                piece.books.claim(of, at);
            }
        }
        Ok(())
    }

    /// All copies were seen. Gives where the piece began.
    pub(super) async fn finish<'t>(
        &'t self,
        mut piece: Piece<'t>,
        target: &Span,
        report: &mut PartitionReport,
        told: &impl Fn(u64),
    ) -> Result<SourceOffset, Trouble> {
        let mut source = match piece.expected.take() {
            Some(source) => source,
            None => self.expected(piece.whole, piece.until).await?,
        };
        told(
            source
                .tell(piece.until, self.topic.stamped, &mut piece.books)
                .await?,
        );
        let later = self.later(&piece.books, target).await?;
        let survived = |of: SourceOffset, key| later.get(&key).is_some_and(|newest| *newest > of.0);
        report.take(&piece.books.close(survived), source.skipped);
        Ok(source.from)
    }

    /// The source record that a copy is one of, and whether its tag explains what it stands at.
    pub(super) fn copied(&self, record: &Record) -> Option<(SourceOffset, bool)> {
        let source = &self.lane.source;
        let check = origin::check(record.key.as_deref(), record.value.as_deref());
        let mut claimed = None;
        for tag in origin::tag_values(&record.headers).filter_map(Tag::parse) {
            let hop = tag.last();
            let names = *hop.cluster == *self.flow.source
                && *hop.topic == *source.topic
                && hop.partition == source.partition;
            if names && tag.explains(&self.lane.target.topic, source.partition, check) {
                return Some((hop.offset, true));
            }
            if names {
                claimed = Some((hop.offset, false));
            }
        }
        claimed
    }

    /// The source, from the record with which copying began. `whole`: the target has all copies from the first on, which is of `first`.
    pub(super) async fn expected(&self, whole: bool, first: SourceOffset) -> Result<Expected<'_>, Trouble> {
        let list = |at| self.list(self.source, &self.lane.source, at);
        let log_start = list(OffsetAt::Earliest).await?.unwrap_or(0);
        let began = match self.flow.start {
            Start::Earliest if whole => log_start,
            Start::Timestamp(ms) if whole => list(OffsetAt::Timestamp(ms)).await?.unwrap_or(first.0),
            // What lay before it nobody knows.
            Start::Earliest | Start::Timestamp(_) | Start::Latest => first.0,
        };
        let end = self.position.offset.0;
        let since = match self.since {
            Some(ms) => list(OffsetAt::Timestamp(ms)).await?.unwrap_or(end),
            None => 0,
        };
        self.source(began.max(log_start).max(since).min(end)..end)
    }

    /// These offsets of the source.
    fn source(&self, offsets: Range<i64>) -> Result<Expected<'_>, Trouble> {
        let (source, target) = (&self.lane.source, &self.lane.target);
        let guard = Guard::new(
            &self.flow.source,
            &source.topic,
            source.partition,
            &self.flow.target,
            &target.topic,
            self.flow.forward.into(),
        )?;
        Ok(Expected {
            from: SourceOffset(offsets.start),
            log: Log {
                cluster: self.source,
                partition: source,
                next: offsets.start,
                end: offsets.end,
            },
            guard,
            skipped: 0,
        })
    }

    /// From where on the target has copies that count: timestamps are copied, so none of a record behind the first that is young enough lies before
    /// the first that is as young here.
    pub(super) async fn target_from(&self, target: &Span) -> Result<i64, Trouble> {
        match self.since.filter(|_| !self.topic.stamped) {
            None => Ok(target.start),
            Some(ms) => {
                let listed = self
                    .list(self.target, &self.lane.target, OffsetAt::Timestamp(ms))
                    .await?;
                Ok(listed.unwrap_or(target.end))
            }
        }
    }

    /// The target's log, once everything in it can be read that was there with the position.
    async fn readable(&self) -> Result<Span, Trouble> {
        let partition = &self.lane.target;
        let high = self
            .target
            .list_offset(partition, OffsetAt::Latest, Isolation::ReadUncommitted)
            .await?
            .map_or(0, |listed| listed.offset);
        let began = tokio::time::Instant::now();
        loop {
            let start = self
                .list(self.target, partition, OffsetAt::Earliest)
                .await?
                .unwrap_or(0);
            let end = self
                .list(self.target, partition, OffsetAt::Latest)
                .await?
                .unwrap_or(0);
            if end >= high {
                return Ok(Span { start, end });
            }
            if began.elapsed() > UNSTABLE {
                return Err(Trouble::Hidden {
                    partition: partition.clone(),
                    cluster: self.target.alias().to_string(),
                    at: end,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn list(
        &self,
        cluster: &Cluster,
        partition: &TopicPartition,
        at: OffsetAt,
    ) -> Result<Option<i64>, Error> {
        let listed = cluster
            .list_offset(partition, at, Isolation::ReadCommitted)
            .await?;
        Ok(listed.map(|listed| listed.offset))
    }

    /// For each key of a record that is missing: the newest record with it on either side, by its offset on the source. What was born on the target
    /// is newer than all.
    async fn later(&self, books: &Books, target: &Span) -> Result<HashMap<u64, i64>, Trouble> {
        let mut newest: HashMap<u64, i64> = HashMap::new();
        let mut first = None;
        for (of, key) in books.missing().filter(|_| self.topic.compacted) {
            first.get_or_insert(of);
            newest.extend(key.map(|key| (key, -1)));
        }
        let Some(first) = first else {
            return Ok(newest);
        };
        let mut note = |record: &Record, offset: i64| {
            let key = record.key.as_deref().map(key_digest);
            if let Some(known) = key.and_then(|key| newest.get_mut(&key)) {
                *known = (*known).max(offset);
            }
        };
        let (source, copies) = (&self.lane.source, &self.lane.target);
        let end = self
            .list(self.source, source, OffsetAt::Latest)
            .await?
            .unwrap_or(0);
        let mut log = Log {
            cluster: self.source,
            partition: source,
            next: first.0,
            end,
        };
        while let Some(records) = log.read().await? {
            records.iter().for_each(|record| note(record, record.offset));
        }
        let mut log = Log {
            cluster: self.target,
            partition: copies,
            next: self.target_from(target).await?,
            end: target.end,
        };
        while let Some(records) = log.read().await? {
            for record in &records {
                note(record, self.copied(record).map_or(i64::MAX, |(of, _)| of.0));
            }
        }
        Ok(newest)
    }
}
