//! What was born where, and what arrived where: the demo's independent account of the replication.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kuroshio_core::origin::HEADER;
use kuroshio_librdkafka::embedded::DemoRecord;

use super::ALIASES;

/// The account of both sides.
pub(super) struct Books {
    began: Instant,
    pages: Mutex<[Page; 2]>,
}

/// What happened on one side.
#[derive(Debug, Default)]
struct Page {
    /// Records born here.
    born: u64,
    /// Copies of the other side's records that arrived here, by number.
    copies: Vec<u8>,
    copied: u64,
    duplicated: u64,
    looped: u64,
    foreign: u64,
    first_copied: Option<Duration>,
    last_entry: Option<Instant>,
    shown: u64,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Records born, both sides together.
    pub born: u64,
    /// Of them, those that arrived on the other side.
    pub copied: u64,
    /// Records that came back to where they were born.
    pub looped: u64,
    /// Records that did not arrive.
    pub lost: u64,
    /// Copies that arrived more than once.
    pub duplicated: u64,
    /// Records that nobody wrote.
    pub foreign: u64,
}

impl Verdict {
    /// Whether everything arrived, once, and nothing came back.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.born > 0
            && self.copied == self.born
            && self.looped + self.lost + self.duplicated + self.foreign == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds() { "ok" } else { "FAILED" };
        writeln!(
            f,
            "verdict: {word}: {} records born, {} copied, {} looped, {} lost, {} duplicated",
            self.born, self.copied, self.looped, self.lost, self.duplicated
        )
    }
}

impl Books {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            pages: Mutex::default(),
        }
    }

    /// So many records have been born on this side.
    pub(super) fn born(&self, side: usize, number: u64) {
        self.pages()[side].born = number;
    }

    /// A record was read on this side.
    pub(super) fn enter(&self, side: usize, record: &DemoRecord) {
        let after = self.began.elapsed();
        let mut pages = self.pages();
        let page = &mut pages[side];
        page.last_entry = Some(Instant::now());
        let tagged = record.headers.iter().any(|(key, _)| key == HEADER);
        let text = record
            .value
            .as_deref()
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default();
        let mut words = text.split(' ');
        let (birth, number) = (
            words.next(),
            words.next().and_then(|number| number.parse::<usize>().ok()),
        );
        match (birth, number) {
            (Some(birth), Some(_)) if birth == ALIASES[side] => page.looped += u64::from(tagged),
            (Some(birth), Some(number)) if birth == ALIASES[1 - side] && tagged => {
                if page.copies.len() <= number {
                    page.copies.resize(number + 1, 0);
                }
                let again = page.copies[number] > 0;
                page.copies[number] = 1;
                page.copied += u64::from(!again);
                page.duplicated += u64::from(again);
                page.first_copied.get_or_insert(after);
            }
            _ => page.foreign += 1,
        }
    }

    pub(super) fn first_copied(&self) -> Option<Duration> {
        self.pages().iter().filter_map(|page| page.first_copied).min()
    }

    pub(super) fn all_born(&self, each: u64) -> bool {
        self.pages().iter().all(|page| page.born == each)
    }

    pub(super) fn complete(&self) -> bool {
        let pages = self.pages();
        pages[0].copied >= pages[1].born && pages[1].copied >= pages[0].born
    }

    pub(super) fn silent_for(&self) -> Duration {
        let newest = self.pages().iter().filter_map(|page| page.last_entry).max();
        newest.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// One line of the live table.
    pub(super) fn line(&self) -> String {
        let mut pages = self.pages();
        let mut line = format!("{:6.1} s", self.began.elapsed().as_secs_f64());
        for side in 0..2 {
            let (from, to) = (ALIASES[1 - side], ALIASES[side]);
            let born = pages[1 - side].born;
            let page = &mut pages[side];
            let rate = page.copied - page.shown;
            page.shown = page.copied;
            line += &format!(
                "  | {from} -> {to}: born {born:>8}  copied {:>8}  behind {:>6}  {rate:>6}/s  looped {}",
                page.copied,
                born.saturating_sub(page.copied),
                page.looped
            );
        }
        line + "\n"
    }

    pub(super) fn verdict(&self) -> Verdict {
        let pages = self.pages();
        let sum = |of: fn(&Page) -> u64| pages.iter().map(of).sum::<u64>();
        let (born, copied) = (sum(|page| page.born), sum(|page| page.copied));
        Verdict {
            born,
            copied,
            looped: sum(|page| page.looped),
            lost: born.saturating_sub(copied),
            duplicated: sum(|page| page.duplicated),
            foreign: sum(|page| page.foreign),
        }
    }

    fn pages(&self) -> MutexGuard<'_, [Page; 2]> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str, tagged: bool) -> DemoRecord {
        let headers = if tagged {
            vec![(HEADER.to_owned(), Some(b"x".to_vec()))]
        } else {
            Vec::new()
        };
        DemoRecord {
            topic: "orders".to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            timestamp: None,
            headers,
        }
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let verdict = |entries: &[(usize, &str, bool)]| {
            let books = Books::new(Instant::now());
            books.born(0, 2);
            books.born(1, 1);
            for (side, value, tagged) in entries {
                books.enter(*side, &record(value, *tagged));
            }
            books.verdict()
        };
        let good = [
            (0, "tw 0 a", false),
            (0, "tw 1 a", false),
            (1, "tw 0 a", true),
            (1, "tw 1 a", true),
            (0, "jp 0 a", true),
        ];
        assert!(verdict(&good).holds());
        assert_eq!(verdict(&good[..4]).lost, 1);
        let with = |extra| verdict(&[&good[..], &[extra]].concat());
        assert_eq!(with((0, "tw 0 a", true)).looped, 1);
        assert_eq!(with((1, "tw 0 a", true)).duplicated, 1);
        assert_eq!(with((1, "kr 0 a", true)).foreign, 1);
        assert_eq!(with((1, "tw 0 a", false)).foreign, 1);
        assert!(!with((0, "tw 0 a", true)).holds());
    }
}
