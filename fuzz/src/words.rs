//! What brokers answer, and what others may have committed, joined with or noted.

use bytes::Bytes;
use kuroshio_core::control::{Command, Notes};
use kuroshio_core::groups::Mark;
use kuroshio_core::mm2::{Checkpoint, Heartbeat};
use kuroshio_core::slots::{Assignment, Subscription};
use kuroshio_core::start::{
    Committed, Configured, Facts, LogId, Metadata, NO_TOPIC_ID, OnDataLoss, Record, Start, Tail, decide,
};
use kuroshio_core::types::{Copies, Position, SourceOffset, TargetOffset};

use crate::input::Input;

/// A request's key and version, then the frame of its answer.
pub(crate) fn answer(input: &[u8]) {
    let mut input = Input(input);
    let (key, version) = (i16::from(input.byte()), i16::from(input.byte()));
    let _ = kuroshio_wire::read_answer(key, version, Bytes::copy_from_slice(input.0));
}

/// Offsets as brokers tell them, then the note of a committed offset.
pub(crate) fn position(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.byte();
    let mut offset = || SourceOffset(input.number());
    let (committed, log_start, log_end, epoch_end, tagged) =
        (offset(), offset(), offset(), offset(), offset());
    let note = String::from_utf8_lossy(input.0);
    let parsed = Metadata::parse(&note);
    if let Some(parsed) = &parsed {
        assert_eq!(parsed.to_string(), note, "one position has one text");
    }
    if let Some(mark) = Mark::parse(&note) {
        assert_eq!(mark.to_string(), note, "one mark has one text");
    }
    let set = |bit: u8| flags & bit != 0;
    let other = LogId {
        cluster: "c".to_owned(),
        topic: "t".to_owned(),
    };
    let log = parsed.map_or(other, |parsed| parsed.log);
    let position = Position {
        offset: committed,
        leader_epoch: None,
        copies: Copies::default(),
    };
    let mut facts = Facts {
        committed: set(1).then_some(Committed {
            position,
            metadata: &note,
            epoch_end: set(2).then_some(epoch_end),
        }),
        copy: set(4).then_some((committed, &*note)),
        source: &log,
        target: if set(8) { NO_TOPIC_ID } else { "x" },
        target_end: TargetOffset(log_end.0),
        cut: set(2).then_some(TargetOffset(tagged.0)),
        log_start,
        log_end,
        first: set(16),
        configured: Configured::Latest(set(32).then_some(tagged)),
        tail: Tail::Unread,
        on_data_loss: if set(64) {
            OnDataLoss::Continue
        } else {
            OnDataLoss::Halt
        },
    };
    let record = if set(128) { Record::Equal } else { Record::Differs };
    // Each question is asked once.
    for tail in [Tail::Tag(tagged, Record::Unread), Tail::Tag(tagged, record)] {
        match decide(&facts) {
            Start::AskTail { .. } | Start::AskRecord(_) => facts.tail = tail,
            Start::Lost(loss) | Start::Halt(loss) => {
                let _ = loss.count();
                return;
            }
            Start::At(_) | Start::WrongCluster { .. } => return,
        }
    }
    assert!(!matches!(
        decide(&facts),
        Start::AskTail { .. } | Start::AskRecord(_)
    ));
}

/// What a member of the flow's group says, what its leader answers, and commands in notes.
pub(crate) fn member(input: &[u8]) {
    if let Ok(said) = Subscription::decode(input) {
        let again = said.encode().map(|bytes| Subscription::decode(&bytes));
        assert_eq!(again, Ok(Ok(said)));
    }
    if let Ok(given) = Assignment::decode(input) {
        let again = given.encode().map(|bytes| Assignment::decode(&bytes));
        assert_eq!(again, Ok(Ok(given)));
    }
    let mut notes = Notes::parse(&String::from_utf8_lossy(input));
    assert_eq!(Notes::parse(&notes.to_string()), notes);
    if notes.add(Command::Resume, Default::default(), 1).is_ok() {
        assert!(notes.to_string().len() <= 4_000, "notes are bounded");
    }
}

/// A key, then a value.
pub(crate) fn mm2(input: &[u8]) {
    let mut input = Input(input);
    let (key, value) = (input.part(), input.0);
    if let Some(checkpoint) = Checkpoint::parse(key, value) {
        assert_eq!(checkpoint.key().as_deref(), Some(key));
        assert_eq!(checkpoint.value().as_deref(), Some(value));
    }
    if let Some(heartbeat) = Heartbeat::parse(key, value) {
        assert_eq!(
            (heartbeat.key().as_deref(), &*heartbeat.value()),
            (Some(key), value)
        );
    }
}
