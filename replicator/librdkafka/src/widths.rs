//! How many partitions of each target topic the producer has heard of.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kuroshio_core::engine::LaneSpec;

/// Number of partitions known, by target topic.
#[derive(Debug, Default)]
pub(crate) struct Widths(HashMap<Arc<str>, usize>);

impl Widths {
    /// The topics among these lanes' that were known with fewer partitions: they have grown. A topic that is new
    /// here is asked about by librdkafka itself, so it counts as known.
    pub(crate) fn widen(&mut self, lanes: &[LaneSpec]) -> BTreeSet<Arc<str>> {
        let mut needed: HashMap<&Arc<str>, usize> = HashMap::new();
        for spec in lanes {
            let width = usize::try_from(spec.source.partition).map_or(0, |partition| partition + 1);
            let entry = needed.entry(&spec.target_topic).or_default();
            *entry = width.max(*entry);
        }
        let mut grown = BTreeSet::new();
        for (topic, width) in needed {
            match self.0.get(topic) {
                None => self.set(topic, width),
                Some(known) if *known < width => {
                    grown.insert(Arc::clone(topic));
                }
                Some(_) => {}
            }
        }
        grown
    }

    /// The producer has heard of so many.
    pub(crate) fn set(&mut self, topic: &Arc<str>, partitions: usize) {
        self.0.insert(Arc::clone(topic), partitions);
    }
}

#[cfg(test)]
mod tests {
    use kuroshio_core::engine::{BatchForm, Codec};
    use kuroshio_core::origin::{Forward, Guard};
    use kuroshio_core::types::{Copies, Lane, Position, SourceOffset, TopicPartition};

    use super::*;

    fn lane(partition: i32) -> LaneSpec {
        let guard = Guard::new("a", "t", partition, "b", "t", Forward::Local).unwrap();
        LaneSpec {
            lane: Lane(0),
            source: TopicPartition::new("t", partition),
            target_topic: "t".into(),
            start: Position {
                offset: SourceOffset(0),
                leader_epoch: None,
                copies: Copies::default(),
            },
            guard: Arc::new(guard),
            form: BatchForm::of(Codec::None),
        }
    }

    #[test]
    fn only_a_topic_that_grew_is_asked_about_until_it_is_heard() {
        let mut widths = Widths::default();
        assert!(widths.widen(&[lane(0), lane(2)]).is_empty());
        assert!(widths.widen(&[lane(1)]).is_empty());
        assert_eq!(widths.widen(&[lane(4)]).len(), 1);
        // The broker asked had not heard of it either.
        widths.set(&"t".into(), 3);
        assert_eq!(widths.widen(&[lane(4)]).len(), 1);
        widths.set(&"t".into(), 5);
        assert!(widths.widen(&[lane(4), lane(3)]).is_empty());
    }
}
