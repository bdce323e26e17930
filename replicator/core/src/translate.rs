//! Translation of an offset of one log into another that holds copies of it (DESIGN D4).
//!
//! A topic of the same name may be written on several clusters, and each copies from the others. A consumer that stands at X in
//! the log of `from` has read, of every cluster O that records of this partition were born on, all below some offset Z(O). Going on
//! in the log of `to` it must start at or before T(O), the first record there whose offset in O is Z(O) or more; the smallest T(O) is
//! the answer. [`Unread`] finds Z(O), [`Search`](crate::search::Search) finds T(O), [`answer`] puts them together.

use std::ops::Range;

use crate::batch::Record;
use crate::origin::{self, Tag};
use crate::search::{Found, Mark, Stretch};

/// A partition of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Alias of the cluster.
    pub cluster: &'a str,
    /// Topic there.
    pub topic: &'a str,
    /// Partition, from 0.
    pub partition: i32,
}

/// The offset that `record`, which lies at `here`, has at `of`: what its tag says if that explains it and its way led through
/// `of`; its own offset if it was born here and `of` is here. `None`: it does not come from there.
#[must_use]
pub fn offset_in(record: &Record, here: Place<'_>, of: Place<'_>) -> Option<i64> {
    let Some(tag) = way(record, here) else {
        return (of == here).then_some(record.offset);
    };
    let through = |hop: &origin::Hop<'_>| {
        (hop.cluster, hop.topic, hop.partition) == (of.cluster, of.topic, of.partition)
    };
    tag.hops().find(through).map(|hop| hop.offset.0)
}

/// The tag that explains the record; of several the longest, as [`origin::Guard`] takes it.
fn way<'a>(record: &'a Record, here: Place<'_>) -> Option<Tag<'a>> {
    let check = origin::check(record.key.as_deref(), record.value.as_deref());
    origin::tag_values(&record.headers)
        .filter_map(Tag::parse)
        .filter(|tag| tag.explains(here.topic, here.partition, check))
        .max_by_key(|tag| tag.hops().count())
}

/// Looks for the smallest offset in O among the records of a log from X on: what a consumer at X has not read of O.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Everything from X up to here was read.
    at: i64,
    until: i64,
    in_order: Option<i64>,
    /// Offsets in O below it lie before X.
    known_read: i64,
    first: Option<Mark>,
    smallest: Option<i64>,
}

impl Unread {
    /// From `offsets.start`, which is X, to `offsets.end`, behind which no copy lies. From `in_order` on own copies lie in the
    /// order of O.
    #[must_use]
    pub fn new(offsets: Range<i64>, in_order: Option<i64>) -> Self {
        Self {
            at: offsets.start,
            until: offsets.end,
            in_order: in_order.filter(|from| *from <= offsets.start),
            known_read: 0,
            first: None,
            smallest: None,
        }
    }

    /// Takes in a stretch that lies before X: what is before an own copy there need not be looked for, though others may have
    /// written it again behind X.
    pub fn before(&mut self, stretch: &Stretch) {
        let Some(from) = self.in_order else { return };
        let own = |mark: &&Mark| mark.ours && mark.at >= from && mark.at < self.at;
        if let Some(mark) = stretch.marks.iter().rev().find(own) {
            self.known_read = self.known_read.max(mark.key + 1);
        }
    }

    /// Where to read on; `None`: it is known.
    #[must_use]
    pub fn ask(&self) -> Option<i64> {
        (self.at < self.until).then_some(self.at)
    }

    /// Takes in a stretch of the log, whoever asked for it.
    pub fn read(&mut self, stretch: &Stretch) {
        if !stretch.offsets.contains(&self.at) {
            return;
        }
        let from = self.at;
        let news = |mark: &&Mark| mark.at >= from && mark.at < self.until && mark.key >= self.known_read;
        for mark in stretch.marks.iter().filter(news) {
            self.first.get_or_insert(*mark);
            self.smallest = Some(self.smallest.map_or(mark.key, |known| known.min(mark.key)));
            if mark.ours && self.in_order.is_some() {
                // What the flow placed behind it is larger, and what others wrote again lies in front of it or behind it too.
                self.until = from;
                return;
            }
        }
        self.at = stretch.offsets.end;
    }

    /// The smallest offset, and whether a copy that was written again cannot be what made it so small, which only an order that is
    /// known can tell; `None`: there is none from X on. To be asked for when nothing is asked for any more.
    #[must_use]
    pub fn smallest(&self) -> Option<(i64, bool)> {
        let sure = |first: &Mark| self.in_order.is_some() && first.ours && Some(first.key) == self.smallest;
        Some((self.smallest?, self.first.as_ref().is_some_and(sure)))
    }
}

/// Where what was not read of O begins, and whether that is sure. `unread` is what [`Unread`] found; what lies behind the flow's
/// `position` was read by nobody. `settled`: nothing behind it was copied either, as long as X is not read before it is committed.
/// Copies behind it are of a topic that is no more, or of a flow that has gone back.
#[must_use]
pub fn unread_from(unread: Option<(i64, bool)>, position: i64, settled: bool) -> (i64, bool) {
    match unread {
        Some((smallest, sure)) if smallest < position => (smallest, sure),
        Some(_) => (position, false),
        None => (position, settled),
    }
}

/// An offset of `from` in terms of `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Where to go on: no record that was not read lies before it.
    pub offset: i64,
    /// Nor does a later offset have that property; otherwise nobody could say within the bytes that may be read. What a flow
    /// copied twice, after it had lost its position, may be read again all the same.
    pub exact: bool,
    /// Most records that will be read again, but for those that applications wrote again further behind.
    pub again: u64,
}

/// Puts together what was found for each cluster that records were born on.
#[must_use]
pub fn answer(found: &[Found]) -> Option<Translation> {
    let offset = found.iter().map(|part| part.at).min()?;
    let last = found.iter().map(|part| part.at).max()?;
    Some(Translation {
        offset,
        exact: found.iter().any(|part| part.at == offset && part.exact),
        again: last.abs_diff(offset),
    })
}

/// The records of a stretch that come from `of`. `ours` says of a producer id whether it is the flow's that copies from there.
pub fn stretch<'a>(
    offsets: Range<i64>,
    records: impl Iterator<Item = (i64, &'a Record)>,
    here: Place<'_>,
    of: Place<'_>,
    ours: impl Fn(i64) -> bool,
) -> Stretch {
    let marks = records.filter_map(|(producer_id, record)| {
        Some(Mark {
            at: record.offset,
            key: offset_in(record, here, of)?,
            ours: ours(producer_id),
        })
    });
    Stretch {
        marks: marks.collect(),
        offsets,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
