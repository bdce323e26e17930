//! Stretches of one partition, drawn by chance.

use std::sync::Arc;

use kuroshio_client::{Asked, Flow, Question, Topic, Translator};
use kuroshio_core::types::SourceOffset;
use kuroshio_core::verify::Sample;

use super::PartitionReport;
use super::partition::{Log, Span, Task, Trouble};

impl Task<'_> {
    /// Compares what the sample draws. The target is read from the first copy of a stretch until one of what lies behind it comes.
    pub(super) async fn sampled(
        &self,
        target: &Span,
        sample: Sample,
        report: &mut PartitionReport,
        told: &impl Fn(u64),
    ) -> Result<(), Trouble> {
        // Where the log begins with the flow's first copy, what should lie before that counts.
        let whole = target.start == self.ours_from();
        let first = self.first_copy(target).await?.unwrap_or(self.position.offset);
        let from = self.expected(whole, first).await?.from;
        let stretches = sample.stretches(&self.lane.source, from.0..self.position.offset.0);
        let starts = self.starts(stretches.iter().map(|stretch| stretch.start)).await?;
        (report.from, report.stretches) = (from.0, Some(stretches.len() as u64));
        for (stretch, start) in stretches.iter().zip(starts) {
            let mut piece = self.piece(stretch)?;
            let mut log = Log {
                cluster: self.target,
                partition: &self.lane.target,
                next: start.max(self.ours_from()).max(target.start),
                end: target.end,
            };
            while !piece.passed
                && let Some(records) = log.read().await?
            {
                self.see(&records, &mut piece, report, told).await?;
            }
            self.finish(piece, target, report, told).await?;
        }
        Ok(())
    }

    /// Of which record the first copy is that counts.
    async fn first_copy(&self, target: &Span) -> Result<Option<SourceOffset>, Trouble> {
        let mut log = Log {
            cluster: self.target,
            partition: &self.lane.target,
            next: self.target_from(target).await?.max(self.ours_from()),
            end: target.end,
        };
        while let Some(records) = log.read().await? {
            if let Some((of, _)) = records.iter().find_map(|record| self.copied(record)) {
                return Ok(Some(of));
            }
        }
        Ok(None)
    }

    /// For each source offset: no copy of it, or of anything behind it, lies before this offset of the target.
    async fn starts(&self, offsets: impl Iterator<Item = i64>) -> Result<Vec<i64>, Trouble> {
        let asked = |offset| Asked {
            offset,
            anchor: None,
            hint: None,
        };
        let flow = Flow {
            name: Arc::clone(&self.flow.name),
            source: Arc::clone(&self.flow.source),
            topic: Arc::clone(&self.lane.source.topic),
        };
        let question = Question {
            topic: Arc::new(Topic {
                flow,
                name: Arc::clone(&self.lane.target.topic),
                into_from: Vec::new(),
                into_to: Vec::new(),
            }),
            partition: self.lane.source.partition,
            offsets: offsets.map(asked).collect(),
            count: false,
        };
        let translator = Translator::new(self.source.clone(), self.target.clone());
        let mut starts = Vec::new();
        for answer in translator.translate(&[question]).await? {
            starts.extend(answer?.iter().map(|translated| translated.translation.offset));
        }
        Ok(starts)
    }
}
