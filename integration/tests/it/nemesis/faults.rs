//! The faults: what there is, for how long, and what must be seen of it.

use std::time::Instant;

use fastrand::Rng;

use super::stage::Side;

/// A fault. Instances are struck in both deployments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// SIGKILL, and a start after the hold.
    Killed(usize),
    /// SIGKILL of both instances again and again, each at once started anew, as by a limit of memory that is too small.
    KilledInBursts,
    /// SIGSTOP for longer than sessions and transactions last, then SIGCONT.
    Frozen(usize),
    /// The wall clock is so many seconds ahead, or behind, and then right again.
    ClockSet(usize, i64),
    /// SIGKILL of a broker, and a start after the hold.
    BrokerKilled(Side, usize),
    /// A broker stands still; its connections stay open.
    BrokerFrozen(Side, usize),
    /// SIGKILL of the broker that coordinates the group of the flow to this side, with a transaction open.
    GroupCoordinatorKilled(Side),
    /// SIGKILL of the broker that coordinates the transactions of the flow to this side, with one open.
    TransactionCoordinatorKilled(Side),
    /// Every partition gets another leader, again and again.
    LeadersMoved(Side),
    /// Connections to one broker are closed, and new ones at once.
    BrokerCut(Side, usize),
    /// The same for a whole cluster.
    ClusterCut(Side),
    /// Nothing arrives at one broker or comes from it; connections stay open.
    BrokerStalled(Side, usize),
    /// The same for a whole cluster.
    ClusterStalled(Side),
    /// An asymmetric partition: nothing arrives at one broker, or at all of them.
    RequestsLost(Side, Option<usize>),
    /// An asymmetric partition: nothing comes back from one broker, or from all of them.
    AnswersLost(Side, Option<usize>),
    /// A round trip of 150 ms, and 128 KiB/s.
    Slow(Side),
    /// Topics of the target take nothing that has more than a few bytes.
    TooLarge(Side),
    /// No topic of a cluster takes records, from nobody: one broker is down, and three must be in sync.
    WritesRefused(Side, usize),
    /// The source deletes what was copied.
    DeletedBehind(Side),
    /// The source deletes what was not copied yet, while it is out of reach.
    DeletedAhead(Side),
    /// A broker that lacks what was acknowledged leads (unclean leader election): logs of a cluster are cut.
    Cut(Side),
}

/// A fault that was there, and when.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub(super) fault: Fault,
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Fault {
    /// Every kind, with what chance says about the rest.
    pub(super) fn all(rng: &mut Rng) -> Vec<Self> {
        let mut node = || rng.usize(1..=3);
        let nodes: [usize; 6] = std::array::from_fn(|_| node());
        let mut side = || if rng.bool() { Side::Tw } else { Side::Jp };
        let mut all = vec![
            Self::BrokerKilled(side(), nodes[0]),
            Self::BrokerFrozen(side(), nodes[1]),
            Self::GroupCoordinatorKilled(side()),
            Self::TransactionCoordinatorKilled(side()),
            Self::LeadersMoved(side()),
            Self::BrokerCut(side(), nodes[2]),
            Self::ClusterCut(side()),
            Self::BrokerStalled(side(), nodes[3]),
            Self::ClusterStalled(side()),
            Self::RequestsLost(side(), None),
            Self::RequestsLost(side(), Some(nodes[4])),
            Self::AnswersLost(side(), None),
            Self::AnswersLost(side(), Some(nodes[4])),
            Self::Slow(side()),
            Self::TooLarge(side()),
            Self::WritesRefused(side(), nodes[5]),
            Self::DeletedBehind(side()),
            Self::DeletedAhead(side()),
            Self::Cut(side()),
        ];
        let instance = rng.usize(..2);
        all.extend([
            Self::Killed(instance),
            Self::KilledInBursts,
            Self::Frozen(instance),
            Self::ClockSet(instance, 3_600),
            Self::ClockSet(instance, -3_600),
        ]);
        all
    }

    /// What it is called in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Killed(_) => "replicator: SIGKILL",
            Self::KilledInBursts => "replicators: SIGKILL in bursts, as out of memory",
            Self::Frozen(_) => "replicator: SIGSTOP, SIGCONT",
            Self::ClockSet(_, ahead) if ahead > 0 => "replicator: clock an hour ahead, and back",
            Self::ClockSet(..) => "replicator: clock an hour behind, and back",
            Self::BrokerKilled(..) => "broker: SIGKILL",
            Self::BrokerFrozen(..) => "broker: frozen",
            Self::GroupCoordinatorKilled(_) => "broker: group coordinator killed in a transaction",
            Self::TransactionCoordinatorKilled(_) => {
                "broker: transaction coordinator killed in a transaction"
            }
            Self::LeadersMoved(_) => "cluster: leaders move",
            Self::BrokerCut(..) => "network: cut from one broker",
            Self::ClusterCut(_) => "network: cut from a cluster",
            Self::BrokerStalled(..) => "network: one broker stalls",
            Self::ClusterStalled(_) => "network: a cluster stalls",
            Self::RequestsLost(_, None) => "network: one way, requests to a cluster lost",
            Self::RequestsLost(..) => "network: one way, requests to one broker lost",
            Self::AnswersLost(_, None) => "network: one way, answers of a cluster lost",
            Self::AnswersLost(..) => "network: one way, answers of one broker lost",
            Self::Slow(_) => "network: slow",
            Self::TooLarge(_) => "target: refuses records of a topic (max.message.bytes)",
            Self::WritesRefused(..) => "cluster: takes no records (too few replicas)",
            Self::DeletedBehind(_) => "source: records deleted that were copied",
            Self::DeletedAhead(_) => "source: records deleted that were not",
            Self::Cut(_) => "cluster: unclean leader election, logs are cut",
        }
    }

    /// How long it may last, in seconds.
    pub(super) fn hold(self) -> (f64, f64) {
        match self {
            Self::Killed(_) => (0.0, 4.0),
            Self::KilledInBursts => (1.0, 6.0),
            // Sessions and transactions last 10 s.
            Self::Frozen(_) | Self::BrokerFrozen(..) => (12.0, 20.0),
            Self::DeletedBehind(_) => (1.0, 2.0),
            Self::LeadersMoved(_) => (4.0, 8.0),
            Self::ClockSet(..) => (4.0, 10.0),
            // Health turns within 20 s.
            _ if self.unreachable().is_some() => (4.0, 26.0),
            _ => (4.0, 16.0),
        }
    }

    /// Of the mix: what is lost by it has to be told from what is lost otherwise, so these stand alone.
    pub(super) fn mixes(self) -> bool {
        !matches!(self, Self::DeletedAhead(_) | Self::Cut(_))
    }

    /// The cluster of which one broker is down, or not heard, meanwhile: the others must not be broken before it is whole again.
    pub(super) fn breaks_a_broker(self) -> Option<Side> {
        match self {
            Self::BrokerKilled(side, _)
            | Self::BrokerFrozen(side, _)
            | Self::GroupCoordinatorKilled(side)
            | Self::TransactionCoordinatorKilled(side)
            | Self::LeadersMoved(side)
            | Self::WritesRefused(side, _)
            | Self::Cut(side) => Some(side),
            _ => None,
        }
    }

    /// The cluster that nobody reaches meanwhile.
    pub(super) fn unreachable(self) -> Option<Side> {
        match self {
            Self::ClusterCut(side)
            | Self::ClusterStalled(side)
            | Self::RequestsLost(side, None)
            | Self::AnswersLost(side, None)
            | Self::DeletedAhead(side) => Some(side),
            _ => None,
        }
    }

    /// The cluster that takes no records from anybody meanwhile.
    pub(super) fn refusing(self) -> Option<Side> {
        match self {
            Self::WritesRefused(side, _) => Some(side),
            other => other.unreachable(),
        }
    }

    /// Whether it does something to instances, whose metrics then tell nothing for a while.
    pub(super) fn strikes(self, instance: usize) -> bool {
        match self {
            Self::Killed(struck) | Self::Frozen(struck) | Self::ClockSet(struck, _) => struck == instance,
            Self::KilledInBursts => true,
            _ => false,
        }
    }
}
