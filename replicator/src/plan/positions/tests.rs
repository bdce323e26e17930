use kuroshio_core::start::LogId;

use super::*;

const HERE: &str = "1 here orders";

fn row() -> PositionRow {
    PositionRow {
        topic: "orders".into(),
        partition: 0,
        target_topic: "orders".into(),
        resumes: Resumes::Unknown,
        offset: None,
        lag: None,
        note: None,
    }
}

/// A log from 10 to 30 of the topic `orders` in the cluster `here`, and what is stored for it.
fn judged(
    stored: Option<(i64, &str)>,
    fresh: bool,
    on_data_loss: OnDataLoss,
) -> (PositionRow, Option<String>) {
    let stored = stored.map(|(offset, metadata)| GroupOffset {
        offset,
        leader_epoch: None,
        metadata: metadata.into(),
    });
    let log = LogId {
        cluster: "here".to_owned(),
        topic: "orders".to_owned(),
    };
    let facts = Facts {
        committed: stored.as_ref().map(|stored| committed(stored, None)),
        copy: None,
        target_end: TargetOffset(40),
        cut: None,
        target: start::NO_TOPIC_ID,
        source: &log,
        log_start: SourceOffset(10),
        log_end: SourceOffset(30),
        first: fresh,
        configured: Configured::Latest(None),
        tail: Tail::Unread,
        on_data_loss,
    };
    let mut row = row();
    let problem = judge(&facts, config::Start::Latest, &mut row);
    (row, problem)
}

#[test]
fn a_position_is_gone_on_with_or_it_is_said_why_not() {
    use OnDataLoss::{Continue, Halt};
    use Resumes::{Begins, Committed, Elsewhere, Stands};
    for (stored, fresh, on_loss, resumes, offset, note) in [
        (Some((20, HERE)), false, Continue, Committed, Some((20, 10)), ""),
        (None, true, Continue, Begins, Some((30, 0)), "latest"),
        // It appeared after the flow's first start.
        (None, false, Continue, Begins, Some((10, 20)), "earliest"),
        (
            Some((5, HERE)),
            false,
            Continue,
            Elsewhere,
            Some((10, 20)),
            "5 to 10 are gone by retention",
        ),
        (Some((5, HERE)), false, Halt, Stands, None, "on_data_loss: halt"),
        (
            Some((40, HERE)),
            false,
            Continue,
            Elsewhere,
            Some((30, 0)),
            "cut at 30, before the position 40",
        ),
        (
            Some((20, "1 here bills")),
            false,
            Continue,
            Elsewhere,
            Some((10, 20)),
            "made anew",
        ),
        (
            Some((20, "somebody's")),
            false,
            Continue,
            Elsewhere,
            Some((10, 20)),
            "not written by this flow",
        ),
    ] {
        let (row, problem) = judged(stored, fresh, on_loss);
        assert_eq!(
            (row.resumes, row.offset.zip(row.lag)),
            (resumes, offset),
            "{stored:?}"
        );
        let said = row.note.unwrap_or_default();
        assert!(
            said.contains(note) && said.is_empty() == note.is_empty(),
            "{said}"
        );
        assert_eq!(
            problem.is_some(),
            matches!(resumes, Elsewhere | Stands),
            "{problem:?}"
        );
    }
}

#[test]
fn what_stands_between_a_position_and_going_on_is_said() {
    use OnDataLoss::Continue;
    use Resumes::{Committed, Elsewhere, Stands};
    let (row, problem) = judged(Some((20, "1 elsewhere orders")), false, Continue);
    assert_eq!((row.resumes, row.offset), (Stands, None));
    assert!(problem.unwrap().contains("the source is the cluster here"));
    for (end, resumes) in [(40, Committed), (41, Elsewhere)] {
        let metadata = format!("1 here orders - {end}");
        let (row, problem) = judged(Some((20, &metadata)), false, Continue);
        let said = problem.unwrap_or_default();
        assert_eq!(
            (row.resumes, said.contains("cut at 40")),
            (resumes, resumes == Elsewhere)
        );
    }
}
