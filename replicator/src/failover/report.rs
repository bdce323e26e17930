//! What a translation or a move found, for people and for programs.

use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use kuroshio_client::Translated;
use kuroshio_core::failover::Objection;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::GroupOffset;
use serde::{Serialize, Serializer};

use super::Request;
use super::ends::Ends;
use crate::config;

/// What was found, and done.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Alias of the source.
    pub from: String,
    /// Alias of the target.
    pub to: String,
    /// Whether the source was there.
    pub source_reachable: bool,
    /// Offsets were written.
    pub moved: bool,
    /// Something stands against a move, so nothing was written.
    pub refused: bool,
    /// As asked for.
    pub groups: Vec<GroupReport>,
    /// Whether records to be read again were counted.
    #[serde(skip)]
    counted: bool,
}

/// A group.
#[derive(Debug, Serialize)]
pub struct GroupReport {
    /// Its id.
    pub group: Arc<str>,
    /// By topic and partition of the source.
    pub partitions: Vec<Row>,
    /// What stands against moving it.
    #[serde(serialize_with = "sentences")]
    pub objections: Vec<Objection>,
}

/// A partition of a group.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Topic on the source.
    pub topic: Arc<str>,
    /// Partition, from 0, on both sides.
    pub partition: i32,
    /// The flow that copies it.
    pub flow: Option<Arc<str>>,
    /// What the group has on the source.
    pub source_offset: Option<i64>,
    /// The topic on the target.
    pub target_topic: Option<Arc<str>>,
    /// Where it goes on there.
    pub target_offset: Option<i64>,
    /// Whether a later offset would skip a record; otherwise it may be an earlier one than needed.
    pub exact: Option<bool>,
    /// Records that will be read again: counted, or else at most.
    pub read_again: Option<u64>,
    /// Records that the group has read and the target does not have.
    pub ahead: Option<u64>,
    /// Records of the source that the target does not have, at most.
    pub not_replicated: Option<u64>,
    /// What the group has on the target now.
    #[serde(rename = "target_offset_now", serialize_with = "offset_of")]
    pub held: Option<GroupOffset>,
    /// Its offset on the target is the one above now.
    pub moved: bool,
    /// The flow back was told on the source.
    pub marked: bool,
    /// What else is to be said.
    pub note: Option<String>,
    /// Why it cannot be translated.
    #[serde(rename = "error")]
    pub failed: Option<String>,
}

fn sentences<S: Serializer>(objections: &[Objection], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(objections.iter().map(ToString::to_string))
}

fn offset_of<S: Serializer>(held: &Option<GroupOffset>, to: S) -> Result<S::Ok, S::Error> {
    held.as_ref().map(|held| held.offset).serialize(to)
}

impl Row {
    pub(super) fn new(topic: &Arc<str>, partition: i32) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition,
            flow: None,
            source_offset: None,
            target_topic: None,
            target_offset: None,
            exact: None,
            read_again: None,
            ahead: None,
            not_replicated: None,
            held: None,
            moved: false,
            marked: false,
            note: None,
            failed: None,
        }
    }

    pub(super) fn routed(&mut self, flow: &config::Flow, target: &Arc<str>) {
        self.flow = Some(Arc::clone(&flow.name));
        self.target_topic = Some(Arc::clone(target));
    }

    pub(super) fn fails(&mut self, why: &str) {
        self.failed = Some(why.to_owned());
    }

    pub(super) fn translated(&mut self, outcome: &Result<Translated, String>) {
        match outcome {
            Ok(translated) => {
                self.target_offset = Some(translated.translation.offset);
                self.exact = Some(translated.translation.exact);
                self.read_again = Some(translated.translation.again);
                self.ahead = Some(translated.missing);
                self.not_replicated = Some(translated.behind);
            }
            Err(why) => self.fails(why),
        }
    }

    pub(super) fn source(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), self.partition)
    }

    pub(super) fn target(&self) -> Option<TopicPartition> {
        let topic = Arc::clone(self.target_topic.as_ref()?);
        Some(TopicPartition::new(topic, self.partition))
    }

    fn cells(&self, counted: bool) -> Vec<String> {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let again = match self.read_again {
            Some(again) if !counted && again > 0 => format!("<= {again}"),
            again => count(again),
        };
        let exact = self
            .exact
            .map_or("-", |exact| if exact { "yes" } else { "no: safe" });
        let mut topic = self.topic.to_string();
        if let Some(target) = self.target_topic.as_ref().filter(|target| **target != self.topic) {
            topic = format!("{topic} = {target}");
        }
        vec![
            topic,
            self.partition.to_string(),
            number(self.source_offset),
            number(self.target_offset),
            exact.to_owned(),
            again,
            count(self.ahead),
            count(self.not_replicated),
            number(self.held.as_ref().map(|held| held.offset)),
            self.failed
                .clone()
                .or_else(|| self.note.clone())
                .unwrap_or_default(),
        ]
    }
}

impl GroupReport {
    pub(super) fn new(group: &str) -> Self {
        Self {
            group: group.into(),
            partitions: Vec::new(),
            objections: Vec::new(),
        }
    }

    /// Whether something stands against moving it.
    pub(super) fn stands_against(&self, force: bool) -> bool {
        self.objections
            .iter()
            .any(|objection| !force || !objection.yields_to_force())
    }
}

impl Report {
    pub(super) fn new(request: &Request, ends: &Ends<'_>) -> Self {
        Self {
            from: request.from.clone(),
            to: request.to.clone(),
            source_reachable: ends.lost.is_none(),
            moved: false,
            refused: false,
            groups: Vec::new(),
            counted: request.count,
        }
    }

    pub(super) fn row_mut(&mut self, group: &str, source: &TopicPartition) -> Option<&mut Row> {
        let group = self.groups.iter_mut().find(|known| *known.group == *group)?;
        let mut rows = group.partitions.iter_mut();
        rows.find(|row| row.topic == source.topic && row.partition == source.partition)
    }

    /// Whether waiting cannot help.
    pub(super) fn is_hopeless(&self) -> bool {
        self.groups.iter().any(|group| group.stands_against(true))
    }

    /// Whether every group has offsets, and each of those that are replicated was translated.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let sound = |group: &GroupReport| {
            !group.partitions.is_empty() && group.partitions.iter().all(|row| row.failed.is_none())
        };
        self.groups.iter().all(sound)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { from, to, .. } = self;
        let mut text = String::new();
        if !self.source_reachable {
            text += &format!("{from} cannot be asked; this is what {to} holds.\n\n");
        }
        for group in &self.groups {
            text += &format!("{}: {from} -> {to}\n", group.group);
            if group.partitions.is_empty() {
                text += &format!(
                    "it has no offsets on {}\n",
                    if self.source_reachable { from } else { to }
                );
            } else {
                text += &self.table(&group.partitions);
            }
            for objection in &group.objections {
                text += &format!("against it: {objection}\n");
            }
            text.push('\n');
        }
        text += &self.summary();
        text
    }

    fn table(&self, rows: &[Row]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "topic",
            "partition",
            &self.from,
            &self.to,
            "exact",
            "read again",
            "ahead",
            "not replicated",
            &format!("{} now", self.to),
            "",
        ]);
        for column in 1..9 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in rows {
            table.add_row(row.cells(self.counted));
        }
        format!("{}\n", table.trim_fmt())
    }

    fn summary(&self) -> String {
        let Self { from, to, .. } = self;
        let rows = || self.groups.iter().flat_map(|group| &group.partitions);
        let (moved, marked) = (
            rows().filter(|row| row.moved).count(),
            rows().filter(|row| row.marked).count(),
        );
        match (self.refused, self.moved) {
            (true, _) => "nothing was changed\n".to_owned(),
            (false, true) if !self.source_reachable => {
                format!("{to} has {moved} offset(s) since they were synced; nothing was changed\n")
            }
            (false, true) => format!("moved {moved} offset(s) to {to}, and marked {marked} on {from}\n"),
            (false, false) => String::new(),
        }
    }
}
