//! What is read of a log for an answer.

use std::collections::HashSet;
use std::ops::Range;

use kuroshio_core::search::{Ask, Found, NEAR, Search, Stretch};
use kuroshio_core::translate::Unread;

use crate::legs::Leg;
use crate::log::{Log, PROBE, wider};
use crate::translator::Error;

/// So many bytes are read rather than halved again: a request across regions costs more.
const NEAR_BYTES: i32 = 512 << 10;
/// Offsets looked at in front of one, for what lies before it.
const BEFORE: i64 = 200;

impl Log<'_> {
    /// For each offset the first record in `known` that comes from the leg's source at or behind it. The offsets may themselves be
    /// less than what is right, which the answer then is too.
    pub(crate) async fn search(
        &mut self,
        leg: &Leg,
        wanted: &[(i64, bool)],
        known: &[Range<i64>],
        found: &mut [Vec<Found>],
    ) -> Result<(), Error> {
        let mut searches: Vec<Search> = wanted
            .iter()
            .zip(known)
            .map(|((wanted, _), known)| Search::new(*wanted, known.clone(), known.start, leg.in_order()))
            .collect();
        let mut stuck = vec![false; searches.len()];
        while let Some((number, ask)) = searches
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| !stuck[*number])
            .find_map(|(number, search)| Some((number, search.ask(self.offsets_in(NEAR_BYTES))?)))
        {
            let (at, bytes) = match ask {
                Ask::Probe(at) => (at, PROBE),
                Ask::Scan(at) => (at, self.bytes_of(searches[number].unknown())),
            };
            let Some(chunk) = self.read(at, bytes).await? else {
                stuck[number] = true;
                continue;
            };
            let of = leg.of(self.partition.partition);
            let stretch = chunk.stretch(self.here(), of, &leg.producers);
            for search in &mut searches {
                search.read(&stretch);
            }
        }
        for ((search, (_, sure)), found) in searches.iter().zip(wanted).zip(found) {
            let Found { at, exact } = search.found();
            found.push(Found {
                at,
                exact: exact && *sure,
            });
        }
        Ok(())
    }

    /// For each offset the first record at or behind it that was born here; those behind what was found already do not matter.
    pub(crate) async fn first_born(
        &mut self,
        wanted: &[(i64, bool)],
        known: &[Range<i64>],
        found: &mut [Vec<Found>],
    ) -> Result<(), Error> {
        for (((wanted, sure), known), found) in wanted.iter().zip(known).zip(found) {
            let end = found.iter().map(|part| part.at).min().unwrap_or(known.end);
            let mut search = Search::new(*wanted, known.start..end, (*wanted).max(known.start), None);
            let mut bytes = PROBE;
            while let Some(Ask::Scan(at) | Ask::Probe(at)) = search.ask(NEAR) {
                let Some(chunk) = self.read(at, bytes).await? else {
                    break;
                };
                bytes = wider(bytes);
                let here = self.here();
                search.read(&chunk.stretch(here, here, &HashSet::new()));
            }
            let part = search.found();
            found.push(Found {
                exact: part.exact && *sure,
                ..part
            });
        }
        Ok(())
    }

    /// For each offset the smallest one in the leg's source among the records from it on, and whether it is sure; `None`: there
    /// are none.
    pub(crate) async fn unread(
        &mut self,
        leg: &Leg,
        offsets: &[i64],
        log: &Range<i64>,
    ) -> Result<Vec<Option<(i64, bool)>>, Error> {
        let end = leg.copies.end.map_or(log.end, |end| end.0.min(log.end));
        let mut stretches = Vec::new();
        let mut all = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let from = (*offset).max(log.start);
            let mut unread = Unread::new(from..end, leg.in_order());
            let before = (from - BEFORE).max(log.start);
            if from < end
                && before < from
                && let Some(stretch) = self.stretch(leg, before, PROBE, &mut stretches).await?
            {
                unread.before(stretch);
                unread.read(stretch);
            }
            let mut known = true;
            let mut bytes = PROBE;
            while let Some(at) = unread.ask() {
                match self.stretch(leg, at, bytes, &mut stretches).await? {
                    Some(stretch) => unread.read(stretch),
                    None => {
                        known = false;
                        break;
                    }
                }
                bytes = wider(bytes);
            }
            all.push(if known {
                unread.smallest()
            } else {
                Some((0, false))
            });
        }
        Ok(all)
    }

    /// What comes from the leg's source, from `at` on, read unless it was before.
    async fn stretch<'a>(
        &mut self,
        leg: &Leg,
        at: i64,
        bytes: i32,
        known: &'a mut Vec<Stretch>,
    ) -> Result<Option<&'a Stretch>, Error> {
        if let Some(number) = known.iter().position(|stretch| stretch.offsets.contains(&at)) {
            return Ok(known.get(number));
        }
        let Some(chunk) = self.read(at, bytes).await? else {
            return Ok(None);
        };
        let of = leg.of(self.partition.partition);
        known.push(chunk.stretch(self.here(), of, &leg.producers));
        Ok(known.last())
    }
}
