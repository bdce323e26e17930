//! Commands of people to a flow (INTERFACE `POST /flows/{flow}/pause|resume`): taken by one pod, noted in the group
//! `kuroshio.<flow>.control` on the target as metadata of offsets that nobody reads from, and done by every pod that sees the note,
//! also by those that start later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::control::{Command, Notes, Scope};
use kuroshio_core::flow::{Pairing, Phase};
use kuroshio_core::routes::is_reserved;
use kuroshio_core::types::{TopicPartition, group_of};
use kuroshio_wire::{Class, Cluster, Committer, Error, GroupOffset, Stored};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::board::{FlowBoard, wall_ms};
use crate::lanes::LaneView;
use crate::line::PumpLine;
use crate::pump::News;
use crate::topics::Remake;

/// Between two looks at the notes.
const LOOK: Duration = Duration::from_secs(2);
/// How long the target may take for a look or a note.
const PATIENCE: Duration = Duration::from_secs(5);
/// Topics with whose offsets notes are kept: with one of them deleted they are not lost.
const HOMES: usize = 3;
/// Commands that wait.
pub const WAITING: usize = 8;

/// A command, and who waits to hear what became of it, or why it was not taken.
pub struct Asked {
    /// What is to be done.
    pub command: Command,
    /// With which partitions.
    pub scope: Scope,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Taken, String>>,
}

/// A command that is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Partitions of this process that it is about: to pause all, to resume those that stand still.
    pub here: usize,
    /// It is noted for all pods.
    pub noted: bool,
}

/// Takes a flow's commands and does what its notes say.
pub struct Control {
    /// The flow's name.
    pub flow: Arc<str>,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The partitions to copy.
    pub catalog: watch::Receiver<Arc<[Pairing]>>,
    /// To discovery, which makes topics again.
    pub remakes: mpsc::Sender<Remake>,
    /// To the pumps.
    pub lines: Vec<PumpLine>,
    /// What is to stand still; `None`: not known yet.
    pub notes: watch::Sender<Option<Arc<Notes>>>,
    /// Commands from the outside.
    pub asked: Arc<Mutex<mpsc::Receiver<Asked>>>,
}

impl Control {
    /// Runs until the flow ends.
    pub async fn run(mut self) {
        self.target = self.target.within(PATIENCE);
        // What was noted before this process began is not for it: whatever stands still does so since then.
        let mut seen: Option<u64> = None;
        let mut failed = false;
        let mut pause = Duration::ZERO;
        loop {
            let asked = tokio::select! {
                // Where no commands are taken, none ever comes.
                Some(asked) = async { self.asked.lock().await.recv().await } => Some(asked),
                () = tokio::time::sleep(std::mem::replace(&mut pause, LOOK)) => None,
            };
            let notes = match self.read().await {
                Ok(notes) => notes,
                Err(error) => {
                    let text = format!("commands cannot be read: {error}");
                    if error.class() == Class::Fatal {
                        // Nobody can have told us anything.
                        self.notes.send_if_modified(|known| learn(known, None));
                    }
                    if let Some(asked) = asked {
                        drop(asked.answer.send(Err(text)));
                    } else if !failed {
                        self.board.error(text);
                    }
                    failed = true;
                    continue;
                }
            };
            failed = false;
            let before = *seen.get_or_insert_with(|| notes.newest());
            let notes = match asked {
                Some(asked) => self.take(notes, asked).await,
                None => notes,
            };
            for scope in notes.resumed_after(before) {
                self.resume(scope).await;
            }
            // What is only paused goes on after that: nobody has said that it may lose something.
            self.notes.send_if_modified(|known| learn(known, Some(&notes)));
            seen = Some(notes.newest().max(before));
        }
    }

    fn group(&self) -> String {
        format!("{}.control", group_of(&self.flow))
    }

    async fn read(&self) -> Result<Notes, Error> {
        let mut notes = Notes::default();
        for stored in self
            .target
            .fetch_offsets(&self.group(), None)
            .await?
            .into_values()
        {
            if let Ok(Stored::Offset(offset)) = stored {
                notes = notes.or_newer(Notes::parse(&offset.metadata));
            }
        }
        Ok(notes)
    }

    /// Notes the command and answers; what is left unnoted is left undone.
    async fn take(&self, notes: Notes, asked: Asked) -> Notes {
        let mut new = notes.clone();
        let added = new.add(
            asked.command,
            asked.scope.clone(),
            u64::try_from(wall_ms()).unwrap_or(0),
        );
        let kept = match added {
            Ok(()) => self.keep(&new).await,
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(false) if asked.command == Command::Pause => {
                let why = "no topic of the flow is on its target to note it with: nothing is paused";
                drop(asked.answer.send(Err(why.to_owned())));
                notes
            }
            Ok(noted) => {
                let here = match asked.command {
                    Command::Pause => self.count(&asked.scope, |_| true),
                    Command::Resume => self.standing(&asked.scope),
                };
                drop(asked.answer.send(Ok(Taken { here, noted })));
                new
            }
            Err(why) => {
                drop(asked.answer.send(Err(why)));
                notes
            }
        }
    }

    /// Whether there is a topic with which they can be kept.
    async fn keep(&self, notes: &Notes) -> Result<bool, String> {
        let offset = GroupOffset {
            offset: 0,
            leader_epoch: None,
            metadata: notes.to_string().into(),
        };
        let homes = homes(&self.catalog.borrow());
        let offsets: Vec<_> = homes.into_iter().map(|home| (home, offset.clone())).collect();
        if offsets.is_empty() {
            return Ok(false);
        }
        let outcomes = self
            .target
            .commit_offsets(&self.group(), Committer::Observer, &offsets)
            .await
            .map_err(|error| error.to_string())?;
        let mut refused = None;
        for outcome in outcomes.into_values() {
            match outcome {
                Ok(()) => return Ok(true),
                Err(error) => refused = Some(error.to_string()),
            }
        }
        Err(refused.unwrap_or_else(|| "the note was not answered".to_owned()))
    }

    /// Partitions of this process that stand still and are meant.
    fn standing(&self, scope: &Scope) -> usize {
        self.count(scope, |lane| {
            matches!(lane.phase, Phase::Quarantined { .. } | Phase::Paused)
        })
    }

    fn count(&self, scope: &Scope, which: impl Fn(&LaneView) -> bool) -> usize {
        let views = self.board.views();
        let lanes = views.iter().flat_map(|view| view.lanes.iter());
        lanes
            .filter(|lane| scope.covers(&lane.pairing.source) && which(lane))
            .count()
    }

    /// First topics are made that were deleted, so that what is then tried finds them.
    async fn resume(&self, scope: &Scope) {
        let partitions = self.standing(scope);
        tracing::info!(
            flow = %self.flow, topic = scope.topic.as_deref(), partition = scope.partition, partitions,
            "told to resume what stands still"
        );
        let (done, made) = oneshot::channel();
        let remake = Remake {
            scope: scope.clone(),
            done,
        };
        if self.remakes.send(remake).await.is_err() || made.await.is_err() {
            tracing::debug!(flow = %self.flow, "discovery has ended");
        }
        for line in &self.lines {
            let catalog = noted(&self.catalog.borrow(), self.notes.borrow().as_deref());
            // Its lanes must be those of the topics just made.
            let told = async {
                line.tell(News::Catalog(catalog)).await?;
                line.tell(News::Resume(scope.clone())).await
            };
            if told.await.is_err() {
                tracing::debug!(flow = %self.flow, "a pump has ended before it was told to resume");
            }
        }
    }
}

/// What holds from now on; `None`: notes may not be read. Then there are none, unless some were read before: what is paused stays so. Whether
/// that is something else.
fn learn(known: &mut Option<Arc<Notes>>, read: Option<&Notes>) -> bool {
    let now = read.cloned().map(Arc::new);
    let now = now.or_else(|| known.clone()).unwrap_or_default();
    let changed = known.as_ref() != Some(&now);
    *known = Some(now);
    changed
}

/// The partitions, and which of them are to stand still.
pub fn noted(catalog: &Arc<[Pairing]>, notes: Option<&Notes>) -> Arc<[Pairing]> {
    let Some(notes) = notes.filter(|notes| **notes != Notes::default()) else {
        return Arc::clone(catalog);
    };
    let noted = |pairing: &Pairing| Pairing {
        paused: notes.is_paused(&pairing.source),
        ..pairing.clone()
    };
    catalog.iter().map(noted).collect()
}

/// Partitions with which notes are kept: of topics that nobody deletes, as far as there are such.
fn homes(catalog: &[Pairing]) -> BTreeSet<TopicPartition> {
    let there = |pairing: &&Pairing| pairing.source.partition == 0 && pairing.target_id.is_some();
    let mut homes: Vec<&Pairing> = catalog.iter().filter(there).collect();
    homes.sort_by_key(|pairing| (!is_reserved(&pairing.target_topic), &pairing.target_topic));
    homes.into_iter().take(HOMES).map(Pairing::target).collect()
}

#[cfg(test)]
mod tests {
    use kuroshio_core::engine::{BatchForm, Codec};

    use super::*;

    #[test]
    fn what_is_paused_stays_so_when_notes_may_not_be_read_any_more() {
        let notes = |text: &str| Notes::parse(text);
        let paused = notes("1;pause 5 a *");
        let mut known = None;
        // (what was read, whether that is news, whether `a` stands still)
        for (read, news, stands) in [
            (None, true, false),
            (None, false, false),
            (Some(&paused), true, true),
            (Some(&paused), false, true),
            (None, false, true),
            (Some(&Notes::default()), true, false),
        ] {
            assert_eq!(learn(&mut known, read), news, "{read:?}");
            let known = known.as_ref().unwrap();
            assert_eq!(known.is_paused(&TopicPartition::new("a", 0)), stands, "{read:?}");
        }
    }

    #[test]
    fn notes_are_kept_where_they_last() {
        let pairing = |topic: &str, partition, there: bool| Pairing {
            source: TopicPartition::new(topic, partition),
            topic_id: [1; 16],
            target_topic: topic.into(),
            target_id: there.then_some([2; 16]),
            form: BatchForm::of(Codec::None),
            paused: false,
        };
        let catalog = [
            pairing("a", 0, true),
            pairing("a", 1, true),
            pairing("b", 0, false),
            pairing("c", 0, true),
            pairing("d", 0, true),
            pairing("kuroshio.heartbeats", 0, true),
        ];
        let names: Vec<String> = homes(&catalog).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a-0", "c-0", "kuroshio.heartbeats-0"]);
        assert!(homes(&catalog[2..3]).is_empty());
    }
}
