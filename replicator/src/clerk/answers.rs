//! What became of lanes, told to the pump; starts are committed before.

use std::collections::HashMap;

use kuroshio_core::flow::{Pairing, Quarantine};
use kuroshio_core::start::{Loss, LossReason};
use kuroshio_core::types::{Lane, Membership, TopicPartition};
use kuroshio_wire::{ByPartition, Class, Committer, Error, GroupOffset, KafkaCode};

use super::{AGAIN, Clerk, Outcome};
use crate::line::PumpGone;
use crate::pump::News;

impl Clerk {
    /// Commits the new starts, fenced, and tells the pump what became of its lanes.
    pub(super) async fn write_and_tell(
        &self,
        decided: Vec<(Lane, Pairing, Outcome)>,
        membership: &Membership,
    ) -> Result<(), PumpGone> {
        let starts: Vec<(TopicPartition, GroupOffset)> = decided
            .iter()
            .filter_map(|(_, pairing, outcome)| match outcome {
                Outcome::Starts {
                    store: Some(offset), ..
                } => Some((pairing.target(), offset.clone())),
                _ => None,
            })
            .collect();
        let mut written: ByPartition<()> = HashMap::new();
        let mut refused = None;
        if !starts.is_empty() {
            match self
                .target
                .commit_offsets(&self.group, Committer::Member(membership), &starts)
                .await
            {
                Ok(outcomes) => written = outcomes,
                Err(error) => refused = Some(error),
            }
        }
        let mut later = Vec::new();
        for (lane, pairing, outcome) in decided {
            let outcome = match outcome {
                Outcome::Starts {
                    position,
                    store: Some(_),
                    loss,
                } => match (&refused, written.get(&pairing.target())) {
                    (None, Some(Ok(()))) => {
                        if let Some(loss) = loss {
                            self.report(&pairing, &loss);
                        }
                        Outcome::Starts {
                            position,
                            store: None,
                            loss: None,
                        }
                    }
                    (Some(error), _) | (None, Some(Err(error))) => self.failed(error),
                    (None, None) => Outcome::Again,
                },
                outcome => outcome,
            };
            let news = match outcome {
                Outcome::Starts { position, .. } => News::Opened(lane, position),
                Outcome::Failed(why) => News::OpenFailed(lane, why),
                Outcome::Halted(why) => News::Halt(why),
                Outcome::Again => {
                    later.push(lane);
                    continue;
                }
            };
            self.line.tell(news).await?;
        }
        self.again(later).await
    }

    /// These lanes are to be asked for again, not at once.
    async fn again(&self, lanes: Vec<Lane>) -> Result<(), PumpGone> {
        if !lanes.is_empty() {
            tokio::time::sleep(AGAIN).await;
        }
        self.stale(lanes).await
    }

    /// These lanes are to be asked for again, if they are still ours.
    pub(super) async fn stale(&self, lanes: Vec<Lane>) -> Result<(), PumpGone> {
        for lane in lanes {
            self.line.tell(News::OpenStale(lane)).await?;
        }
        Ok(())
    }

    pub(super) async fn put_off(&self, lanes: &[(Lane, Pairing)], error: &Error) -> Result<(), PumpGone> {
        match self.failed(error) {
            Outcome::Failed(why) => {
                for (lane, _) in lanes {
                    self.line.tell(News::OpenFailed(*lane, why.clone())).await?;
                }
                Ok(())
            }
            Outcome::Starts { .. } | Outcome::Halted(_) | Outcome::Again => {
                self.again(lanes.iter().map(|(lane, _)| *lane).collect()).await
            }
        }
    }

    /// An error that passes by itself means: ask again. Our generation may also just be over.
    pub(super) fn failed(&self, error: &Error) -> Outcome {
        match (error.class(), error.code()) {
            (Class::Retry, Some(KafkaCode::UnknownTopicOrPartition)) => {
                self.look.notify_one();
                Outcome::Failed(Quarantine {
                    reason: "topic_missing",
                    text: error.to_string(),
                })
            }
            (Class::Retry, _) => {
                self.board.error(error.to_string());
                Outcome::Again
            }
            (Class::Rejoin | Class::Fenced, _) => Outcome::Again,
            (
                Class::Fatal,
                Some(KafkaCode::TopicAuthorizationFailed | KafkaCode::GroupAuthorizationFailed),
            ) => Outcome::Failed(Quarantine {
                reason: "not_authorized",
                text: error.to_string(),
            }),
            (Class::Fatal, _) => Outcome::Failed(Quarantine {
                reason: "other",
                text: error.to_string(),
            }),
        }
    }

    fn report(&self, pairing: &Pairing, loss: &Loss) {
        let (source, count) = (&pairing.source, loss.count());
        if count > 0 {
            self.metrics
                .lost(&source.topic, source.partition, loss.reason, count);
        }
        self.board.error(format!(
            "{}; going on at offset {}",
            loss_text(pairing, loss),
            loss.then
        ));
    }
}

pub(super) fn loss_text(pairing: &Pairing, loss: &Loss) -> String {
    let (source, from, to) = (&pairing.source, loss.from, loss.to);
    if loss.reason == LossReason::TargetRecreated {
        let target = pairing.target();
        let gone = match to.0 {
            0 => "all of them are on the source still".to_owned(),
            start if from < to => format!(
                "what lay before offset {start} is gone for good, {from} to {to} without ever being copied"
            ),
            start => format!("what lay before offset {start} is gone for good"),
        };
        return format!(
            "target partition {target} was deleted and made anew without the copies of {source}: {gone}"
        );
    }
    if loss.reason == LossReason::TargetTruncation {
        let target = pairing.target();
        let gone = if from < to {
            format!("; {from} to {to} are on the source no more")
        } else {
            String::new()
        };
        return format!(
            "the log of target partition {target} was cut: copies of {source} from offset {from} on are gone{gone}"
        );
    }
    format!(
        "source partition {source}: offsets {from} to {to} are lost ({})",
        loss.reason.as_str()
    )
}
