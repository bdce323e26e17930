//! A plan for people and for programs. Every line says all that it is about: people grep.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::{
    Acls, ConfigRow, Configs, GroupAction, GroupRow, Groups, NoAcls, PositionRow, Positions, Resumes,
    TopicAction, TopicRow, Topics,
};
use crate::config::Flow;
use crate::figures::many;

/// What a start would do.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it would make, change or delete.
    pub changes: usize,
    /// What would not work, or is lost.
    pub problems: usize,
    /// In the order of the file.
    pub flows: Vec<FlowPlan>,
}

/// What a flow would do.
#[derive(Debug, Serialize)]
pub struct FlowPlan {
    /// Its name.
    pub flow: Arc<str>,
    /// Alias of the source.
    pub source: Arc<str>,
    /// Alias of the target.
    pub target: Arc<str>,
    /// What it would make, change or delete: topics, partitions, configs, ACLs, positions.
    pub changes: usize,
    /// What would not work, or is lost, a sentence each.
    pub problems: Vec<String>,
    /// Topics.
    pub topics: Topics,
    /// Configs of topics that are there.
    pub configs: Configs,
    /// ACLs of topics.
    pub acls: Acls,
    /// Users' groups.
    pub groups: Groups,
    /// Where partitions resume.
    pub positions: Positions,
    #[serde(skip)]
    replication_factor: i16,
}

impl FlowPlan {
    pub(super) fn new(flow: &Flow) -> Self {
        Self {
            flow: Arc::clone(&flow.name),
            source: Arc::clone(&flow.source),
            target: Arc::clone(&flow.target),
            changes: 0,
            problems: Vec::new(),
            topics: Topics::default(),
            configs: Configs::default(),
            acls: Acls::default(),
            groups: Groups::default(),
            positions: Positions::default(),
            replication_factor: flow.replication_factor,
        }
    }

    /// What would be made, changed or deleted. Offsets of groups are not counted: they follow all the time.
    pub(super) fn count(&self) -> usize {
        let made = |row: &&TopicRow| matches!(row.action, TopicAction::Create | TopicAction::Grow);
        let written = |row: &&PositionRow| matches!(row.resumes, Resumes::Begins | Resumes::Elsewhere);
        self.topics.rows.iter().filter(made).count()
            + self.topics.own.len()
            + self
                .configs
                .rows
                .iter()
                .filter(|row| row.refused.is_none())
                .count()
            + self.acls.create.len()
            + self.acls.delete.len()
            + self.positions.rows.iter().filter(written).count()
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let Self {
            flow,
            source,
            target,
            changes,
            problems,
            ..
        } = self;
        let (changes, wrong) = (many(*changes, "change"), many(problems.len(), "problem"));
        writeln!(text, "flow {flow}, {source} to {target}: {changes}, {wrong}")?;
        for problem in problems {
            writeln!(text, "  problem     {problem}")?;
        }
        self.topics(&mut text)?;
        self.configs(&mut text)?;
        self.acls(&mut text)?;
        self.groups(&mut text)?;
        self.positions(&mut text)?;
        Ok(text)
    }

    fn topics(&self, text: &mut String) -> std::fmt::Result {
        let rows = &self.topics.rows;
        let count = |action| rows.iter().filter(|row| row.action == action).count();
        let (create, grow) = (count(TopicAction::Create), count(TopicAction::Grow));
        let copied = count(TopicAction::Copy) + create + grow;
        let left = count(TopicAction::Leave);
        writeln!(
            text,
            "topics: {copied} copied, of which {create} are created and {grow} grow; {left} not copied"
        )?;
        for row in rows {
            self.topic(text, row)?;
        }
        for made in &self.topics.own {
            writeln!(
                text,
                "  create      {} on {}, for Kuroshio itself",
                made.topic, made.cluster
            )?;
        }
        Ok(())
    }

    fn topic(&self, text: &mut String, row: &TopicRow) -> std::fmt::Result {
        let mut name = row.topic.to_string();
        if let Some(target) = row.target_topic.as_ref().filter(|target| **target != row.topic) {
            write!(name, " as {target}")?;
        }
        let partitions = many(usize::try_from(row.partitions).unwrap_or(0), "partition");
        let (verb, mut what) = match row.action {
            TopicAction::Copy => ("copy", partitions),
            TopicAction::Create => ("create", partitions + &self.creation(row)),
            TopicAction::Grow => {
                let there = row.target_partitions.unwrap_or(0);
                ("grow", format!("from {there} to {partitions}"))
            }
            TopicAction::Leave => {
                let why = row.note.as_deref().unwrap_or_default();
                return writeln!(text, "  not copied  {name}: {why}");
            }
        };
        if let Some(note) = &row.note {
            write!(what, "; {note}")?;
        }
        writeln!(text, "  {verb:<10}  {name}, {what}")
    }

    fn creation(&self, row: &TopicRow) -> String {
        let factor = match self.replication_factor {
            -1 => "the target's default".to_owned(),
            factor => factor.to_string(),
        };
        let configs = row.creation.iter().flat_map(|creation| &creation.configs);
        let configs: String = configs.map(|(name, value)| format!(" {name}={value}")).collect();
        let comma = if configs.is_empty() { "" } else { "," };
        format!(", replication factor: {factor}{comma}{configs}")
    }

    fn configs(&self, text: &mut String) -> std::fmt::Result {
        if !self.configs.sync {
            return writeln!(text, "configs: left alone (configs.sync is off)");
        }
        let changed = self
            .configs
            .rows
            .iter()
            .filter(|row| row.refused.is_none())
            .count();
        writeln!(
            text,
            "configs of topics that are there: {}",
            many(changed, "change")
        )?;
        for ConfigRow {
            topic,
            name,
            from,
            to,
            refused,
        } in &self.configs.rows
        {
            let from = from.as_deref().unwrap_or("not set");
            let (verb, what) = match (refused, to) {
                (Some(_), _) => ("keep", name.to_string()),
                (None, Some(to)) => ("set", format!("{name}={to}")),
                (None, None) => ("unset", name.to_string()),
            };
            let why = refused
                .as_ref()
                .map(|why| format!("; the target does not take the source's: {why}"));
            writeln!(
                text,
                "  {verb:<10}  {topic} {what} (now {from}){}",
                why.unwrap_or_default()
            )?;
        }
        Ok(())
    }

    fn acls(&self, text: &mut String) -> std::fmt::Result {
        match self.acls.none {
            Some(NoAcls::Off) => return writeln!(text, "ACLs: left alone (acls.sync is off)"),
            Some(NoAcls::NoAuthorizer) => {
                return writeln!(text, "ACLs: none, for a cluster has no authorizer");
            }
            None => {}
        }
        let (create, delete) = (self.acls.create.len(), self.acls.delete.len());
        writeln!(text, "ACLs: {create} created, {delete} deleted")?;
        for acl in &self.acls.create {
            writeln!(text, "  create      {acl}")?;
        }
        for acl in &self.acls.delete {
            writeln!(text, "  delete      {acl}")?;
        }
        Ok(())
    }

    fn groups(&self, text: &mut String) -> std::fmt::Result {
        if !self.groups.sync {
            return writeln!(text, "groups: left alone (groups.sync is off)");
        }
        let count = |action| {
            let rows = self.groups.rows.iter();
            rows.filter(|row| row.action == action).count()
        };
        writeln!(
            text,
            "groups: {} follow, {} are left as they are, {} not selected",
            count(GroupAction::Follow),
            count(GroupAction::Leave),
            count(GroupAction::Ignore)
        )?;
        for GroupRow {
            group,
            action,
            partitions,
            behind,
            note,
        } in &self.groups.rows
        {
            let note = note.as_deref().unwrap_or_default();
            match action {
                GroupAction::Follow => {
                    let partitions = many(*partitions, "partition");
                    writeln!(
                        text,
                        "  follow      {group}, {partitions}, {behind} to be written"
                    )?;
                }
                GroupAction::Leave => writeln!(text, "  leave       {group}: {note}")?,
                GroupAction::Ignore => writeln!(text, "  ignore      {group}: {note}")?,
            }
        }
        Ok(())
    }

    fn positions(&self, text: &mut String) -> std::fmt::Result {
        let Positions { pumps, rows } = &self.positions;
        let count = |resumes| rows.iter().filter(|row| row.resumes == resumes).count();
        let behind: u64 = rows.iter().filter_map(|row| row.lag).sum();
        let running = if *pumps > 0 {
            format!("; the flow runs with {} and moves them", many(*pumps, "pump"))
        } else {
            String::new()
        };
        writeln!(
            text,
            "positions: {} of {} committed, {} begin; {} behind{running}",
            count(Resumes::Committed),
            many(rows.len(), "partition"),
            count(Resumes::Begins),
            many(usize::try_from(behind).unwrap_or(usize::MAX), "record"),
        )?;
        for row in rows {
            let verb = match row.resumes {
                Resumes::Committed => "resume",
                Resumes::Begins => "begin",
                Resumes::Elsewhere => "go on",
                Resumes::Stands => "stand",
                Resumes::Unknown => "unknown",
            };
            write!(text, "  {verb:<10}  {}-{}", row.topic, row.partition)?;
            if let Some(offset) = row.offset {
                write!(text, " at {offset}")?;
            }
            if let Some(lag) = row.lag {
                write!(text, ", {lag} behind")?;
            }
            match &row.note {
                Some(note) => writeln!(text, ": {note}")?,
                None => writeln!(text)?,
            }
        }
        Ok(())
    }
}

impl Report {
    pub(super) fn of(flows: Vec<FlowPlan>) -> Self {
        Self {
            changes: flows.iter().map(|flow| flow.changes).sum(),
            problems: flows.iter().map(|flow| flow.problems.len()).sum(),
            flows,
        }
    }

    /// For people.
    ///
    /// # Errors
    /// None that a text could have.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let flows: Result<Vec<String>, _> = self.flows.iter().map(FlowPlan::text).collect();
        Ok(flows?.join("\n"))
    }
}
