//! The membership of one pump in its flow's group on the target: joins when told, leads when chosen, beats in
//! between, and tells the pump what it hears.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kuroshio_core::flow::Assigned;
use kuroshio_core::slots::{self, Assignment, Claims, Round, Subscription};
use kuroshio_core::types::Membership;
use kuroshio_wire::{Backoff, Class, Cluster, Error, Join, Joined, KafkaCode};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::config::Current;
use crate::line::{PumpGone, PumpLine};
use crate::metrics::FlowMetrics;
use crate::pump::News;
use crate::spans;

/// Protocol type of our groups, as Connect has its own.
const PROTOCOL_TYPE: &str = "kuroshio";
/// Name of the assignment protocol; another one for a change that members of before would not understand.
const PROTOCOL: &str = "slots-1";
/// A pump that is silent for so long loses its slots.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a rebalance waits for a pump that is still ending a transaction.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Others wait for a rebalance until every member has heard of it: hear often.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// After a generation began, loads are measured for so long before they can be a reason for the next one.
const CALM: Duration = Duration::from_secs(180);
/// Longest wait for the answer to a heartbeat; several fit into a session.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the clerk must know of the seat of its pump.
#[derive(Clone, Debug)]
pub struct Seating {
    /// Who we are.
    pub membership: Membership,
    /// The whole group's slots.
    pub assignment: Arc<Assignment>,
    /// The flow had no position at all when this generation was made, of which this process was.
    pub fresh: bool,
    /// Some generation of this process was made so: the flow first started with it.
    pub first: bool,
}

/// What the leader keeps in mind between two generations.
pub struct Leads {
    /// Transactional ids of all members.
    members: BTreeSet<String>,
    /// When the generation began.
    since: Instant,
}

/// One pump's membership.
pub struct Member {
    /// The target.
    pub target: Cluster,
    /// `kuroshio.<flow>`.
    pub group: Arc<str>,
    /// `group.instance.id` and transactional id.
    pub instance: Arc<str>,
    /// Of this process.
    pub incarnation: u64,
    /// The flow, with its routing rules.
    pub flow: Current,
    /// What the slots have to move, as far as known.
    pub loads: watch::Receiver<Arc<[u32]>>,
    /// While it leads the group.
    pub leads: Option<Leads>,
    /// To the pump.
    pub line: PumpLine,
    /// From the pump: join with these claims.
    pub orders: mpsc::Receiver<Option<Claims>>,
    /// To the clerk.
    pub seating: watch::Sender<Option<Seating>>,
    /// Errors for people.
    pub board: Arc<FlowBoard>,
    /// Counts rebalances.
    pub metrics: FlowMetrics,
    /// Whether the flow first started with this process: shared by its pumps, for slots may move between them before all is decided.
    pub first: Arc<AtomicBool>,
    /// Our member id, once given.
    pub id: Option<Arc<str>>,
    /// Between attempts that fail.
    pub backoff: Backoff,
}

impl Member {
    /// Runs until the pump has ended.
    pub async fn run(mut self) {
        // The only error is that nobody is left to hear us.
        if self.serve().await.is_err() {
            tracing::debug!(flow = self.board.name(), pump = %self.instance, "the pump has ended before its member");
        }
    }

    async fn serve(&mut self) -> Result<(), PumpGone> {
        let mut seat: Option<Membership> = None;
        loop {
            let beat = tokio::time::sleep(HEARTBEAT);
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => return Ok(()),
                    Some(claims) => seat = self.join(claims).await?,
                },
                () = rules_change(&mut self.flow), if seat.is_some() => self.line.tell(News::Rebalancing).await?,
                () = lopsided(&mut self.loads, self.leads.as_ref(), &self.seating), if seat.is_some() => {
                    tracing::info!(flow = self.board.name(), pump = %self.instance, "loads differ: the group is divided anew");
                    self.leads = None;
                    self.line.tell(News::Rebalancing).await?;
                }
                () = beat, if seat.is_some() => {
                    if let Some(membership) = seat.take() {
                        seat = self.beat(membership).await?;
                    }
                }
            }
        }
    }

    /// One heartbeat; the seat that beats from now on.
    async fn beat(&mut self, seat: Membership) -> Result<Option<Membership>, PumpGone> {
        match self.target.within(PATIENCE).heartbeat(&seat).await {
            Ok(()) => Ok(Some(seat)),
            // Nothing is known: the broker may be away. Commits are fenced anyway.
            Err(error) if error.class() == Class::Retry => {
                tracing::warn!(flow = self.board.name(), pump = %self.instance, %error, "heartbeat failed");
                Ok(Some(seat))
            }
            // The pump may still have to let records land before it joins again: until then we live.
            Err(error) if error.code() == Some(KafkaCode::RebalanceInProgress) => {
                self.line.tell(News::Rebalancing).await?;
                Ok(Some(seat))
            }
            Err(error) => self.trouble(&error).await,
        }
    }

    /// The seat that beats from now on.
    async fn join(&mut self, claims: Option<Claims>) -> Result<Option<Membership>, PumpGone> {
        let takes_over = self.id.is_none();
        let span = spans::join(self.board.name(), &self.instance);
        match self.take_seat(claims).instrument(span.clone()).await {
            Ok((assigned, seating)) => {
                span.record("generation", assigned.membership.generation);
                self.backoff.reset();
                self.metrics.rebalanced();
                // A restarted member is given what was made for its forerunner: whose rules differ now is not known until the group is
                // divided anew, and of itself it is not.
                let outdated = takes_over && !seating.assignment.mismatched.is_empty();
                if !outdated && seating.assignment.mismatched.contains(&*self.instance) {
                    self.board.error(format!(
                        "group {}: this instance's routing rules differ from those of the group's leader, or another process has the \
                         name {}; it gets no partitions until they are equal",
                        self.group, self.instance
                    ));
                }
                self.seating.send_replace(Some(seating));
                let membership = assigned.membership.clone();
                self.line.tell(News::Assigned(assigned)).await?;
                if outdated {
                    self.line.tell(News::Rebalancing).await?;
                }
                Ok(Some(membership))
            }
            Err(Trouble::Gone) => Err(PumpGone),
            Err(Trouble::Wire(error)) => {
                spans::failed(&span, &error);
                let seat = self.trouble(&error).await?;
                // Each order to join has one end; what was told before it says what became of the seat.
                self.line.tell(News::JoinFailed).await?;
                Ok(seat)
            }
            Err(Trouble::Group(why)) => {
                spans::failed(&span, &why);
                self.board.error(format!("group {}: {why}", self.group));
                tokio::time::sleep(self.backoff.pause()).await;
                self.line.tell(News::JoinFailed).await?;
                Ok(None)
            }
        }
    }

    async fn take_seat(&mut self, claims: Option<Claims>) -> Result<(Assigned, Seating), Trouble> {
        self.flow.renew();
        let subscription = Subscription {
            transactional_id: self.instance.to_string(),
            // The order may have been given before the pump heard that its seat is lost.
            claims: claims.filter(|_| self.id.is_some()),
            fingerprint: self.flow.router.fingerprint(),
            incarnation: self.incarnation,
        };
        let join = Join {
            group: Arc::clone(&self.group),
            instance: Arc::clone(&self.instance),
            member: self.id.clone(),
            protocol_type: PROTOCOL_TYPE,
            protocol: PROTOCOL,
            metadata: subscription.encode()?.into(),
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: REBALANCE_TIMEOUT,
        };
        let joined = self.target.join_group(&join).await?;
        self.id = Some(Arc::clone(&joined.membership.member));
        // From here on the broker takes the new generation, but nobody knows yet whose slots are whose.
        self.line.tell(News::Joined).await.map_err(|_| Trouble::Gone)?;
        let members = if joined.leader {
            self.members(&joined)
        } else {
            Vec::new()
        };
        let shares = if joined.leader && !joined.skip_assignment {
            self.divide(&joined, &members).await?
        } else {
            Vec::new()
        };
        let bytes = self
            .target
            .sync_group(&joined, &shares, REBALANCE_TIMEOUT)
            .await?;
        if bytes.is_empty() {
            return Err(Trouble::Group(
                "the leader left this member out of the assignment; joining again".to_owned(),
            ));
        }
        let assignment = Assignment::decode(&bytes)?;
        self.leads = joined.leader.then(|| Leads {
            members: members
                .into_iter()
                .map(|member| member.subscription.transactional_id)
                .collect(),
            since: Instant::now(),
        });
        let fresh = assignment.fresh.contains(&self.incarnation);
        let first = self.first.fetch_or(fresh, Ordering::Relaxed) || fresh;
        let assigned = Assigned {
            membership: joined.membership.clone(),
            slot_count: assignment.slot_count(),
            slots: assignment.slots_of(&self.instance),
            given_up: assignment.given_up_by(&self.instance),
            awaited: assignment.awaits(&self.instance),
        };
        Ok((
            assigned,
            Seating {
                membership: joined.membership,
                assignment: Arc::new(assignment),
                fresh,
                first,
            },
        ))
    }

    /// Those that said who they are.
    fn members(&self, joined: &Joined) -> Vec<slots::Member> {
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            match Subscription::decode(&member.metadata) {
                Ok(subscription) => members.push(slots::Member {
                    id: member.member.to_string(),
                    subscription,
                }),
                Err(error) => self.board.error(format!(
                    "group {}: member {} gets no slots: {error}",
                    self.group,
                    member.instance.as_ref().unwrap_or(&member.member)
                )),
            }
        }
        members
    }

    /// As the leader: everybody's slots.
    async fn divide(
        &self,
        joined: &Joined,
        members: &[slots::Member],
    ) -> Result<Vec<(Arc<str>, Bytes)>, Trouble> {
        let fresh = self.target.fetch_offsets(&self.group, None).await?.is_empty();
        let previous = self
            .seating
            .borrow()
            .as_ref()
            .map(|seating| Arc::clone(&seating.assignment));
        let weights = Arc::clone(&self.loads.borrow());
        let assignment = slots::assign(&Round {
            members,
            leader: &joined.membership.member,
            weights: &weights,
            previous: previous.as_deref(),
            fresh,
        });
        let bytes = Bytes::from(assignment.encode()?);
        Ok(joined
            .members
            .iter()
            .map(|member| (Arc::clone(&member.member), bytes.clone()))
            .collect())
    }

    /// What an error of the group means for the pump.
    async fn trouble(&mut self, error: &Error) -> Result<Option<Membership>, PumpGone> {
        let news = match (error.class(), error.code()) {
            (Class::Fenced, _) => News::Fenced(error.to_string()),
            (Class::Rejoin, Some(KafkaCode::UnknownMemberId)) => {
                self.id = None;
                News::SeatLost
            }
            (Class::Rejoin, _) => News::Rebalancing,
            (Class::Retry | Class::Fatal, _) => {
                self.board.error(error.to_string());
                tokio::time::sleep(self.backoff.pause()).await;
                News::Rebalancing
            }
        };
        tracing::info!(flow = self.board.name(), pump = %self.instance, %error, "the group says");
        self.line.tell(news).await?;
        Ok(None)
    }
}

/// Waits for other routing rules. Whose differ from the leader's gets no partitions until the group is divided anew.
async fn rules_change(flow: &mut Current) {
    let before = flow.router.fingerprint();
    while flow.router.fingerprint() == before {
        flow.changed().await;
    }
}

/// Waits until the loads of a group that is led from here differ so much that it pays to divide it anew.
async fn lopsided(
    loads: &mut watch::Receiver<Arc<[u32]>>,
    leads: Option<&Leads>,
    seating: &watch::Sender<Option<Seating>>,
) {
    let Some(leads) = leads else {
        return std::future::pending().await;
    };
    // Ends when nobody measures any more: the flow ends.
    while loads.changed().await.is_ok() {
        let weights = Arc::clone(&loads.borrow_and_update());
        let assignment = seating
            .borrow()
            .as_ref()
            .map(|seating| Arc::clone(&seating.assignment));
        let uneven = |assignment: Arc<Assignment>| {
            let fits = |name: &&String| !assignment.mismatched.contains(*name);
            let members = leads.members.iter().filter(fits).cloned().collect();
            slots::is_lopsided(&assignment, &members, &weights)
        };
        if leads.since.elapsed() > CALM && assignment.is_some_and(uneven) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Why a seat was not taken.
enum Trouble {
    Gone,
    Wire(Error),
    Group(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Wire(error)
    }
}

impl From<slots::SlotsError> for Trouble {
    fn from(error: slots::SlotsError) -> Self {
        Self::Group(error.to_string())
    }
}
