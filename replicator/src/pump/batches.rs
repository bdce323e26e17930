//! The spans of what a pump has open: a transaction, or in `at_least_once` a batch of positions.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use kuroshio_core::engine::{Ended, Fact};
use kuroshio_core::flow::Delivery;
use kuroshio_core::types::Lane;
use tracing::Span;

use crate::spans;

/// A pump's batches. Where nobody listens to spans they stay empty and count nothing.
pub(super) struct Batches {
    flow: Arc<str>,
    pump: Arc<str>,
    delivery: Delivery,
    open: Option<Batch>,
    /// Only in `at_least_once`, where records go on while positions are stored.
    storing: Option<Storing>,
}

struct Batch {
    span: Span,
    records: u64,
    bytes: u64,
    lanes: HashSet<Lane>,
}

struct Storing {
    batch: Batch,
    _commit: Span,
    positions: usize,
}

impl Batch {
    fn end(&self, outcome: &str, why: Option<&dyn Display>) {
        self.span.record("records", self.records);
        self.span.record("bytes", self.bytes);
        self.span.record("lanes", self.lanes.len());
        self.span.record("outcome", outcome);
        if let Some(why) = why {
            spans::failed(&self.span, why);
        }
    }
}

impl Batches {
    pub(super) fn new(flow: Arc<str>, pump: Arc<str>, delivery: Delivery) -> Self {
        Self {
            flow,
            pump,
            delivery,
            open: None,
            storing: None,
        }
    }

    /// The open batch, which begins now if there is none; `None`: nobody listens.
    fn opened(&mut self) -> Option<&mut Batch> {
        if self.open.is_none() {
            // An open transaction without records may wait for hours: its span begins with the first ones.
            let span = match self.delivery {
                Delivery::ExactlyOnce => spans::transaction(&self.flow, &self.pump),
                Delivery::AtLeastOnce => spans::batch(&self.flow, &self.pump),
            };
            if span.is_disabled() {
                return None;
            }
            self.open = Some(Batch {
                span,
                records: 0,
                bytes: 0,
                lanes: HashSet::new(),
            });
        }
        self.open.as_mut()
    }

    /// Counts what the engine tells.
    pub(super) fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::Read(_) => drop(self.opened()),
            Fact::Placed(run) => {
                if let Some(batch) = self.opened() {
                    batch.records += run.count;
                    batch.bytes += run.bytes;
                    batch.lanes.insert(run.lane);
                }
            }
            Fact::Refused { .. }
            | Fact::OutOfRange { .. }
            | Fact::Unreadable { .. }
            | Fact::Trouble { .. } => {}
        }
    }

    /// The span of the transaction's commit; it ends when it is dropped.
    pub(super) fn commit(&mut self, positions: usize) -> Span {
        self.opened()
            .map_or_else(Span::none, |batch| spans::commit(&batch.span, positions))
    }

    /// The transaction has ended.
    pub(super) fn ended(&mut self, ended: &Ended) {
        if let Some(batch) = self.open.take() {
            match ended {
                Ended::Committed => batch.end("committed", None),
                Ended::Aborted { why, .. } => batch.end("aborted", Some(why)),
                Ended::Unknown { why } => batch.end("unknown", Some(why)),
            }
        }
    }

    /// Positions are being stored: what comes now belongs to the next batch.
    pub(super) fn store(&mut self, positions: usize) {
        let commit = self.commit(positions);
        if let Some(batch) = self.open.take() {
            self.storing = Some(Storing {
                batch,
                _commit: commit,
                positions,
            });
        }
    }

    /// So many of them were stored.
    pub(super) fn stored(&mut self, positions: usize) {
        if let Some(storing) = self.storing.take() {
            if positions == storing.positions {
                storing.batch.end("committed", None);
            } else {
                let why = format!("{positions} of {} positions stored", storing.positions);
                storing.batch.end("not_committed", Some(&why));
            }
        }
    }

    /// The engine cannot go on: what was open is read again.
    pub(super) fn lost(&mut self, why: &dyn Display) {
        if let Some(batch) = self.open.take() {
            batch.end("lost", Some(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::Mutex;

    use kuroshio_core::engine::PlacedRun;
    use kuroshio_core::types::{SourceOffset, TargetOffset};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing_subscriber::layer::{Context, SubscriberExt};
    use tracing_subscriber::registry::LookupSpan;
    use tracing_subscriber::{Layer, Registry};

    use super::*;

    /// Fields of a span, and those of all that ended.
    #[derive(Default)]
    struct Fields(BTreeMap<&'static str, String>);
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.insert(field.name(), format!("{value:?}").replace('"', ""));
        }
    }

    impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            context.span(id).unwrap().extensions_mut().insert(fields);
        }

        fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
            let span = context.span(id).unwrap();
            values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
        }

        fn on_close(&self, id: Id, context: Context<'_, S>) {
            let span = context.span(&id).unwrap();
            let extensions = span.extensions();
            let mut fields = extensions.get::<Fields>().unwrap().0.clone();
            fields.retain(|name, _| !matches!(*name, "flow" | "pump"));
            let parent = span.parent().map_or("", |parent| parent.metadata().name());
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let text = format!("{parent}/{} {}", span.name(), fields.join(" "));
            self.0.lock().unwrap().push(text);
        }
    }

    fn placed(lane: u32, count: u64) -> Fact {
        Fact::Placed(PlacedRun {
            lane: Lane(lane),
            first: SourceOffset(0),
            base: TargetOffset(0),
            count,
            bytes: 10 * count,
            oldest_timestamp: None,
        })
    }

    /// What spans say after `act`, in the order in which they ended.
    fn ended(delivery: Delivery, act: impl FnOnce(&mut Batches)) -> Vec<String> {
        let told = Told::default();
        tracing::subscriber::with_default(Registry::default().with(told.clone()), || {
            act(&mut Batches::new("tw-jp".into(), "pump".into(), delivery));
        });
        let told = told.0.lock().unwrap();
        told.clone()
    }

    #[test]
    fn a_transaction_is_a_span_with_its_commit_below_it() {
        let aborted = Ended::Aborted {
            why: "fenced".to_owned(),
            rejoin: true,
        };
        let told = ended(Delivery::ExactlyOnce, |batches| {
            batches.note(&placed(1, 5));
            batches.note(&placed(2, 1));
            let commit = batches.commit(2);
            drop(commit);
            batches.note(&placed(1, 1));
            batches.ended(&Ended::Committed);
            // Nothing was open.
            batches.ended(&aborted);
            batches.note(&placed(1, 1));
            batches.ended(&aborted);
            batches.note(&placed(1, 1));
            batches.lost(&"clients gone");
        });
        let failed = |outcome, why| {
            format!(
                "/transaction bytes=10 lanes=1 otel.status_code=error otel.status_description={why} outcome={outcome} records=1"
            )
        };
        assert_eq!(
            told,
            [
                "transaction/commit positions=2".to_owned(),
                "/transaction bytes=70 lanes=2 outcome=committed records=7".to_owned(),
                failed("aborted", "fenced"),
                failed("lost", "clients gone"),
            ]
        );
    }

    #[test]
    fn records_go_on_while_a_batch_is_stored() {
        let told = ended(Delivery::AtLeastOnce, |batches| {
            batches.note(&placed(1, 5));
            batches.store(2);
            batches.note(&placed(1, 3));
            batches.stored(2);
            batches.store(1);
            batches.stored(0);
        });
        assert_eq!(told.len(), 4, "{told:?}");
        let batches: Vec<_> = told.iter().filter(|span| span.starts_with("/batch")).collect();
        assert_eq!(batches[0], "/batch bytes=50 lanes=1 outcome=committed records=5");
        assert!(
            batches[1].contains("outcome=not_committed records=3") && batches[1].contains("0 of 1 positions"),
            "{told:?}"
        );
    }

    #[test]
    fn nothing_is_counted_where_nobody_listens() {
        let mut batches = Batches::new("tw-jp".into(), "pump".into(), Delivery::ExactlyOnce);
        let deaf = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(deaf, || {
            batches.note(&placed(1, 5));
            assert!(batches.open.is_none() && batches.commit(1).is_disabled());
        });
    }
}
