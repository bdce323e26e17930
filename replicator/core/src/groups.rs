//! Which offsets of users' groups a flow may write on its target, and from what (DESIGN D4 "Group sync touches only what is
//! ours").

use std::fmt;

/// Note on offsets that a flow commits for users' groups: `kuroshio:<flow>:<source offset>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The flow that wrote it.
    pub flow: &'a str,
    /// The source offset that was translated.
    pub source: i64,
}

impl<'a> Mark<'a> {
    /// `None` if the metadata is not one to the letter.
    #[must_use]
    pub fn parse(metadata: &'a str) -> Option<Self> {
        let (flow, offset) = metadata.strip_prefix("kuroshio:")?.rsplit_once(':')?;
        let source: i64 = offset.parse().ok()?;
        let canonical = source >= 0 && source.to_string() == offset && !flow.is_empty();
        canonical.then_some(Self { flow, source })
    }
}

impl fmt::Display for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kuroshio:{}:{}", self.flow, self.source)
    }
}

/// An offset as a group has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset<'a> {
    /// The next offset to read.
    pub offset: i64,
    /// The committer's note.
    pub metadata: &'a str,
}

/// All that the sync of one partition of a group depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The flow.
    pub flow: &'a str,
    /// What the group has on the source.
    pub source: Option<Offset<'a>>,
    /// What the group has on the target.
    pub target: Option<Offset<'a>>,
    /// Whether the group has members there.
    pub living_on_source: bool,
    /// Whether the group has members there.
    pub living_on_target: bool,
    /// The flow's position in the source partition: what is behind it is not on the target yet.
    pub position: i64,
}

/// Why an offset is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// The group has none on the source.
    Nothing,
    /// It has members on both sides.
    Independent,
    /// It has members on the target.
    Living,
    /// The offset on the source was written by a flow: it says nothing that the target does not know.
    Ours,
    /// The offset on the target was not written by this flow.
    NotOurs,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "it has none on the source",
            Self::Independent => "it has members on both sides, which go their own ways",
            Self::Living => "it has members on the target",
            Self::Ours => "on the source it has what a flow wrote, and no consumer since",
            Self::NotOurs => "somebody else wrote those on the target",
        })
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Leave(Left),
    /// What the target has is the translation already.
    Current,
    /// Translate this source offset, and mark what is written with it.
    Translate(i64),
}

/// Decides about one partition of a group.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let Some(source) = facts.source else {
        return Plan::Leave(Left::Nothing);
    };
    match (facts.living_on_source, facts.living_on_target) {
        (true, true) => return Plan::Leave(Left::Independent),
        (false, true) => return Plan::Leave(Left::Living),
        (_, false) => {}
    }
    if Mark::parse(source.metadata).is_some() {
        return Plan::Leave(Left::Ours);
    }
    // A group that is ahead of replication is where replication is; it is translated again as that moves.
    let wanted = source.offset.min(facts.position);
    match facts.target.map(|target| Mark::parse(target.metadata)) {
        None => Plan::Translate(wanted),
        Some(Some(mark)) if mark.flow == facts.flow => {
            if mark.source == wanted {
                Plan::Current
            } else {
                Plan::Translate(wanted)
            }
        }
        Some(_) => Plan::Leave(Left::NotOurs),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_ours_is_written() {
        let at = |offset, metadata| Some(Offset { offset, metadata });
        let ours = "kuroshio:tw-jp:7";
        for (source, target, living, expected) in [
            (None, None, (false, false), Plan::Leave(Left::Nothing)),
            (at(9, ""), None, (false, false), Plan::Translate(9)),
            (at(9, "note"), None, (true, false), Plan::Translate(9)),
            (at(9, ""), at(5, ours), (false, false), Plan::Translate(9)),
            (at(7, ""), at(5, ours), (false, false), Plan::Current),
            // It followed; now the source was rewound.
            (at(3, ""), at(5, ours), (false, false), Plan::Translate(3)),
            // Ahead of replication, which is at 50.
            (at(90, ""), at(5, ours), (false, false), Plan::Translate(50)),
            (
                at(90, ""),
                at(60, "kuroshio:tw-jp:50"),
                (false, false),
                Plan::Current,
            ),
            (at(9, ""), at(5, ""), (false, false), Plan::Leave(Left::NotOurs)),
            (
                at(9, ""),
                at(5, "kuroshio:kr-jp:7"),
                (false, false),
                Plan::Leave(Left::NotOurs),
            ),
            (
                at(9, "kuroshio:jp-tw:3"),
                None,
                (false, false),
                Plan::Leave(Left::Ours),
            ),
            (at(9, ""), at(5, ours), (false, true), Plan::Leave(Left::Living)),
            (at(9, ""), None, (false, true), Plan::Leave(Left::Living)),
            (
                at(9, ""),
                at(5, ours),
                (true, true),
                Plan::Leave(Left::Independent),
            ),
        ] {
            let facts = Facts {
                flow: "tw-jp",
                source,
                target,
                living_on_source: living.0,
                living_on_target: living.1,
                position: 50,
            };
            assert_eq!(plan(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn marks_table() {
        for bad in [
            "",
            "kuroshio",
            "kuroshio:",
            "kuroshio:f",
            concat!("kuroshio:", ":1"),
            "kuroshio:f:",
            "kuroshio:f:01",
            "kuroshio:f:-1",
            "x:f:1",
            "kuroshio:f:1 ",
        ] {
            assert_eq!(Mark::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn marks_round_trip(flow in "[A-Za-z0-9._:-]{1,20}", source in 0..i64::MAX) {
            let mark = Mark { flow: &flow, source };
            let text = mark.to_string();
            prop_assert_eq!(Mark::parse(&text), Some(mark));
        }

        #[test]
        fn any_metadata_is_no_panic(metadata: String) {
            if let Some(mark) = Mark::parse(&metadata) {
                prop_assert_eq!(mark.to_string(), metadata.clone());
            }
        }
    }
}
