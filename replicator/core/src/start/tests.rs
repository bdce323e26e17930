use proptest::prelude::*;

use super::*;

const OURS: &str = "1 cluster-A topic-1";

fn source() -> LogId {
    Metadata::parse(OURS).unwrap().log
}

/// A log of offsets 100..200, without a position.
fn facts(source: &LogId) -> Facts<'_> {
    Facts {
        committed: None,
        copy: None,
        source,
        target: "target-1",
        target_end: TargetOffset(1_000),
        cut: None,
        log_start: SourceOffset(100),
        log_end: SourceOffset(200),
        first: false,
        configured: Configured::Latest(None),
        tail: Tail::Unread,
        on_data_loss: OnDataLoss::Continue,
    }
}

fn committed(offset: i64, metadata: &str) -> Committed<'_> {
    let position = Position {
        offset: SourceOffset(offset),
        leader_epoch: Some(7),
        copies: Copies::default(),
    };
    Committed {
        position,
        metadata,
        epoch_end: None,
    }
}

fn start_at(offset: i64) -> Start {
    at(SourceOffset(offset))
}

fn loss(reason: LossReason, from: i64, to: i64, then: i64) -> Start {
    Start::Lost(Loss {
        reason,
        from: SourceOffset(from),
        to: SourceOffset(to),
        then: SourceOffset(then),
    })
}

#[test]
fn a_committed_position() {
    let source = source();
    let stays = |offset| Start::At(committed(offset, OURS).position);
    for (offset, metadata, epoch_end, expected) in [
        (150, OURS, None, stays(150)),
        (100, OURS, None, stays(100)),
        (200, OURS, None, stays(200)),
        (150, OURS, Some(150), stays(150)),
        (150, "1 cluster-A AAAAAAAAAAAAAAAAAAAAAA", None, stays(150)),
        (99, OURS, None, loss(LossReason::Retention, 99, 100, 100)),
        (0, OURS, None, loss(LossReason::Retention, 0, 100, 100)),
        (201, OURS, None, loss(LossReason::Truncation, 200, 201, 200)),
        (150, OURS, Some(140), loss(LossReason::Truncation, 140, 150, 140)),
        (150, OURS, Some(90), loss(LossReason::Truncation, 90, 150, 100)),
        (
            150,
            "1 cluster-A topic-2",
            None,
            loss(LossReason::Recreated, 150, 150, 100),
        ),
        (
            900,
            "1 cluster-A topic-2",
            None,
            loss(LossReason::Recreated, 900, 900, 100),
        ),
        (
            150,
            "1 cluster-B topic-1",
            None,
            Start::WrongCluster {
                known: "cluster-B".into(),
                now: "cluster-A".into(),
            },
        ),
        (150, "", None, Start::AskTail { before: None }),
        (150, "2 cluster-A topic-1", None, Start::AskTail { before: None }),
    ] {
        let mut committed = committed(offset, metadata);
        committed.epoch_end = epoch_end.map(SourceOffset);
        let facts = Facts {
            committed: Some(committed),
            ..facts(&source)
        };
        assert_eq!(decide(&facts), expected, "{offset} {metadata:?} {epoch_end:?}");
    }
}

/// Metadata of a position whose copies lie in this target topic.
fn in_target(target: &str) -> String {
    format!("{OURS} - 50 - {target}")
}

#[test]
fn a_target_made_anew_is_filled_again() {
    let source = source();
    let gone = |from, to, then| loss(LossReason::TargetRecreated, from, to, then);
    for (log_start, offset, expected) in [
        // All that was copied is still on the source; or the part from its log start on.
        (0, 150, gone(0, 0, 0)),
        (100, 150, gone(100, 100, 100)),
        (100, 100, gone(100, 100, 100)),
        // Retention overtook the position, too.
        (100, 90, gone(90, 100, 100)),
        // Nothing had been copied.
        (0, 0, start_at(0)),
    ] {
        for copied in [false, true] {
            let metadata = in_target("target-0");
            let facts = Facts {
                committed: (!copied).then(|| committed(offset, &metadata)),
                copy: copied.then_some((SourceOffset(offset), metadata.as_str())),
                log_start: SourceOffset(log_start),
                // What it says of the new topic is no answer.
                tail: Tail::Tag(SourceOffset(149), Record::Equal),
                first: true,
                ..facts(&source)
            };
            assert_eq!(decide(&facts), expected, "{log_start} {offset} copied {copied}");
        }
    }
}

/// A lane at 150 whose copies ended at `stored` when that was committed.
fn decided(stored: &str, copied: Option<&str>, cut: Option<i64>, tail: Tail) -> Start {
    let (source, metadata) = (source(), format!("{OURS} - {stored} - target-1"));
    let mut committed = committed(150, &metadata);
    committed.position.copies.end = Some(TargetOffset(7));
    let mut decided = decide(&Facts {
        committed: Some(committed),
        copy: copied.map(|text| (SourceOffset(140), text)),
        cut: cut.map(TargetOffset),
        tail,
        ..facts(&source)
    });
    if let Start::At(position) = &mut decided {
        let end = std::mem::take(&mut position.copies.end);
        assert_eq!(
            end.is_none(),
            tail != Tail::Unread,
            "what was known is not true any more"
        );
    }
    decided
}

fn whole() -> Start {
    Start::At(committed(150, OURS).position)
}

#[test]
fn a_target_was_cut_where_it_ends_before_its_copies() {
    let before = |cut| Start::AskTail {
        before: Some(TargetOffset(cut)),
    };
    let copied = |source: u8, target: u8| format!("1 cluster-A topic-{source} - 1001 - target-{target}");
    for (stored, copied, cut, expected) in [
        ("1000", None, None, whole()),
        ("-", None, None, whole()),
        ("1001", None, None, before(1_000)),
        // The copy on the source knows more, unless it is of something else.
        ("-", Some(copied(1, 1)), None, before(1_000)),
        ("-", Some(copied(0, 1)), None, whole()),
        ("-", Some(copied(1, 0)), None, whole()),
        // The log has grown again since.
        ("-", None, Some(900), before(900)),
        ("1001", None, Some(900), before(900)),
        ("1001", None, Some(1_001), before(1_000)),
    ] {
        let decided = decided(stored, copied.as_deref(), cut, Tail::Unread);
        assert_eq!(decided, expected, "{stored} {copied:?} {cut:?}");
    }
}

#[test]
fn a_target_that_was_cut_is_filled_from_what_it_has() {
    use Record::{Differs, Equal, Unread};
    let tag = |offset, record| Tail::Tag(SourceOffset(offset), record);
    let gone = |from, then| loss(LossReason::TargetTruncation, from, then, then);
    for (tail, expected) in [
        (tag(120, Unread), Start::AskRecord(SourceOffset(120))),
        (tag(120, Equal), gone(121, 121)),
        (tag(149, Equal), whole()),
        (tag(160, Equal), whole()),
        // The source has them no more, or its tag is of another log.
        (tag(90, Unread), gone(99, 100)),
        (tag(120, Differs), gone(99, 100)),
        (tag(300, Unread), gone(99, 100)),
        (Tail::NoTag, gone(99, 100)),
    ] {
        assert_eq!(decided("1001", None, None, tail), expected, "{tail:?}");
    }
    let (source, metadata) = (source(), format!("{OURS} - 1001 - target-1"));
    let all = Facts {
        committed: Some(committed(150, &metadata)),
        log_start: SourceOffset(0),
        tail: Tail::NoTag,
        ..facts(&source)
    };
    assert!(matches!(decide(&all), Start::Lost(loss) if loss.then.0 == 0 && loss.count() == 0));
}

#[test]
fn a_target_is_another_one_only_where_both_ids_say_so() {
    let source = source();
    let other_source = "1 cluster-A topic-0 - 50 - target-0";
    for (metadata, now, is_other) in [
        (in_target("target-0"), "target-1", true),
        (in_target("target-1"), "target-1", false),
        (in_target("target-0"), NO_TOPIC_ID, false),
        (OURS.to_owned(), "target-1", false),
    ] {
        let there = Facts {
            target: now,
            committed: Some(committed(150, &metadata)),
            ..facts(&source)
        };
        let lost = matches!(
            decide(&there),
            Start::Lost(Loss {
                reason: LossReason::TargetRecreated,
                ..
            })
        );
        assert_eq!(lost, is_other, "{metadata:?} {now}");
        // A copy of a position says nothing else.
        let dropped = Facts {
            committed: None,
            copy: Some((SourceOffset(150), &metadata)),
            ..there
        };
        let lost = matches!(
            decide(&dropped),
            Start::Lost(Loss {
                reason: LossReason::TargetRecreated,
                ..
            })
        );
        assert_eq!(lost, is_other, "{metadata:?} {now}");
        assert!(
            lost || decide(&dropped) == Start::AskTail { before: None },
            "{metadata:?} {now}"
        );
    }
    // Of another source topic: this one was never copied.
    let facts = Facts {
        copy: Some((SourceOffset(150), other_source)),
        ..facts(&source)
    };
    assert_eq!(decide(&facts), Start::AskTail { before: None });
}

#[test]
fn without_a_position_the_tail_decides() {
    let source = source();
    let tag = |offset, record| Tail::Tag(SourceOffset(offset), record);
    for (tail, expected) in [
        (Tail::Unread, Start::AskTail { before: None }),
        (Tail::NoTag, start_at(100)),
        (tag(150, Record::Unread), Start::AskRecord(SourceOffset(150))),
        (tag(150, Record::Equal), start_at(151)),
        (tag(199, Record::Equal), start_at(200)),
        (
            tag(150, Record::Differs),
            loss(LossReason::Position, 151, 151, 100),
        ),
        (
            tag(200, Record::Unread),
            loss(LossReason::Position, 201, 201, 100),
        ),
        (tag(99, Record::Unread), start_at(100)),
        (tag(89, Record::Unread), loss(LossReason::Retention, 90, 100, 100)),
    ] {
        for first in [false, true] {
            // A first start with nothing on the target is what the configuration says, see below.
            let first = first && tail != Tail::NoTag;
            let facts = Facts {
                tail,
                first,
                ..facts(&source)
            };
            assert_eq!(decide(&facts), expected, "{tail:?} first {first}");
        }
    }
}

#[test]
fn an_untrusted_position_without_a_tag_is_lost() {
    let source = source();
    let facts = Facts {
        committed: Some(committed(150, "what?")),
        tail: Tail::NoTag,
        ..facts(&source)
    };
    assert_eq!(decide(&facts), loss(LossReason::Position, 150, 150, 100));
    let healed = Facts {
        tail: Tail::Tag(SourceOffset(120), Record::Equal),
        ..facts
    };
    assert_eq!(decide(&healed), start_at(121));
}

#[test]
fn the_first_start_is_as_configured() {
    let source = source();
    for (configured, at_first, later) in [
        (Configured::Earliest, 100, 100),
        (Configured::Latest(None), 200, 100),
        (Configured::Latest(Some(SourceOffset(170))), 170, 100),
        (Configured::Latest(Some(SourceOffset(20))), 100, 100),
        (Configured::Latest(Some(SourceOffset(999))), 200, 100),
        (Configured::Timestamp(Some(SourceOffset(170))), 170, 100),
        (Configured::Timestamp(Some(SourceOffset(20))), 100, 100),
        (Configured::Timestamp(Some(SourceOffset(999))), 200, 100),
        (Configured::Timestamp(None), 200, 100),
    ] {
        for (first, expected) in [(true, at_first), (false, later)] {
            let facts = Facts {
                configured,
                first,
                tail: Tail::NoTag,
                ..facts(&source)
            };
            assert_eq!(decide(&facts), start_at(expected), "{configured:?} first {first}");
        }
    }
}

#[test]
fn halt_stops_for_every_loss_and_nothing_else() {
    let source = source();
    let made_anew = in_target("target-0");
    let halt = |committed| {
        decide(&Facts {
            committed: Some(committed),
            on_data_loss: OnDataLoss::Halt,
            ..facts(&source)
        })
    };
    assert!(matches!(halt(committed(99, OURS)), Start::Halt(_)));
    assert!(matches!(halt(committed(201, OURS)), Start::Halt(_)));
    assert!(matches!(
        halt(committed(150, "1 cluster-A topic-2")),
        Start::Halt(_)
    ));
    assert!(matches!(halt(committed(150, &made_anew)), Start::Halt(_)));
    assert!(matches!(halt(committed(150, OURS)), Start::At(_)));
}

#[test]
fn a_loss_of_unknown_extent_counts_as_one() {
    let count = |reason, from, to| {
        let (from, to) = (SourceOffset(from), SourceOffset(to));
        Loss {
            reason,
            from,
            to,
            then: to,
        }
        .count()
    };
    for (from, to, position, target) in [
        (5, 5, 1, 1),
        (5, 6, 1, 1),
        (5, 15, 10, 10),
        (0, i64::MAX, i64::MAX as u64, i64::MAX as u64),
        // The source has its first record still: all of it comes again.
        (0, 0, 1, 0),
    ] {
        assert_eq!(count(LossReason::Position, from, to), position, "{from} {to}");
        assert_eq!(
            count(LossReason::TargetRecreated, from, to),
            target,
            "{from} {to}"
        );
    }
}

#[test]
fn metadata_table() {
    for bad in [
        "",
        "1",
        "1 a",
        "1 a b c",
        "1  a b",
        "1 a ",
        " 1 a b",
        "2 a b",
        "01 a b",
        "1 a b\n",
        "1 a b - -",
        "1 a b 1",
        "1 a b 01 2",
        "1 a b +1 2",
        "1 a b -1 2",
        "1 a b 1 2 -",
        "1 a b - - -",
        "1 a b 1 2 3 ",
        "1 a b 1 2 3 t 5",
    ] {
        assert_eq!(Metadata::parse(bad), None, "{bad:?}");
    }
    for (good, in_order, end, tagged_from, target) in [
        (OURS.to_owned(), None, None, None, None),
        (format!("{OURS} 0 17"), Some(0), Some(17), None, None),
        (format!("{OURS} - 17"), None, Some(17), None, None),
        (format!("{OURS} 5 -"), Some(5), None, None, None),
        (format!("{OURS} - - 9"), None, None, Some(9), None),
        (format!("{OURS} 5 17 9"), Some(5), Some(17), Some(9), None),
        (
            format!("{OURS} - - - target-1"),
            None,
            None,
            None,
            Some("target-1"),
        ),
        (
            format!("{OURS} 5 - - target-1"),
            Some(5),
            None,
            None,
            Some("target-1"),
        ),
        (
            format!("{OURS} 5 17 9 target-1"),
            Some(5),
            Some(17),
            Some(9),
            Some("target-1"),
        ),
    ] {
        let copies = Copies {
            in_order: in_order.map(TargetOffset),
            end: end.map(TargetOffset),
            tagged_from: tagged_from.map(SourceOffset),
        };
        let metadata = Metadata {
            log: source(),
            copies,
            target: target.map(str::to_owned),
        };
        assert_eq!(metadata.to_string(), good);
        assert_eq!(Metadata::parse(&good), Some(metadata));
    }
}

proptest! {
    #[test]
    fn metadata_round_trip(
        cluster in "[!-~]{1,40}", topic in "[A-Za-z0-9_-]{1,30}",
        in_order in proptest::option::of(0..i64::MAX), end in proptest::option::of(0..i64::MAX),
        tagged_from in proptest::option::of(0..i64::MAX), target in proptest::option::of("[A-Za-z0-9_-]{1,30}"),
    ) {
        let copies = Copies {
            in_order: in_order.map(TargetOffset),
            end: end.map(TargetOffset),
            tagged_from: tagged_from.map(SourceOffset),
        };
        let metadata = Metadata { log: LogId { cluster, topic }, copies, target };
        prop_assert_eq!(Metadata::parse(&metadata.to_string()), Some(metadata));
    }

    #[test]
    fn arbitrary_metadata_is_no_panic(metadata: String) {
        if let Some(parsed) = Metadata::parse(&metadata) {
            prop_assert_eq!(parsed.to_string(), metadata);
        }
    }

    /// Whatever is true: a lane starts inside the log, and no record after the position is passed silently.
    #[test]
    fn a_start_lies_in_the_log_and_passes_nothing_silently(
        offset in 0_i64..300, start in 0_i64..200, len in 0_i64..100, epoch_end in proptest::option::of(0_i64..300),
    ) {
        let source = source();
        let mut committed = committed(offset, OURS);
        committed.epoch_end = epoch_end.map(SourceOffset);
        let (log_start, log_end) = (SourceOffset(start), SourceOffset(start + len));
        let facts = Facts { committed: Some(committed), log_start, log_end, ..facts(&source) };
        match decide(&facts) {
            Start::At(position) => {
                prop_assert_eq!(position.offset.0, offset);
                prop_assert!(log_start <= position.offset && position.offset <= log_end);
            }
            Start::Lost(loss) => {
                prop_assert!(log_start <= loss.then && loss.then <= log_end);
                prop_assert!(loss.then.0 <= offset || loss.then <= loss.to);
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }
}
