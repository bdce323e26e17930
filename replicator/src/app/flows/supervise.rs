//! A flow's pumps once they are started: ready, drained, gone.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::{FlowError, FlowRun, Started};
use crate::lanes::PumpView;
use crate::line::PumpGone;
use crate::pump::{News, PumpError};

/// How long a pump whose tasks have ended may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl FlowRun {
    /// Watches the flow until it is told to stop or ends unasked; then drains its pumps.
    pub(super) async fn supervise(
        &self,
        tasks: &mut JoinSet<&'static str>,
        pumps: &mut [Started],
        latch: crate::status::Latch,
    ) -> Result<(), FlowError> {
        let mut latch = Some(latch);
        loop {
            let views = pumps.iter().map(|pump| pump.view.clone()).collect();
            // In this order: a pump without an engine ends in the moment in which the process is told to stop.
            tokio::select! {
                biased;
                () = self.stop.now.cancelled() => break,
                ended = first_ended(pumps) => return ended_unasked(ended),
                Some(ended) = tasks.join_next() => {
                    // A pump that ends lets go of the tasks beside it: then its own words count.
                    if let Ok(pump) = tokio::time::timeout(LAST_WORDS, first_ended(pumps)).await {
                        return ended_unasked(pump);
                    }
                    let what = ended.map_or_else(|error| error.to_string(), |name| format!("the task {name} ended"));
                    return Err(FlowError::Lost(what));
                }
                () = all_ready(views), if latch.is_some() => {
                    latch = None;
                    self.board.state("running");
                }
            }
        }
        self.board.state("draining");
        for pump in pumps.iter() {
            if let Err(PumpGone) = pump.line.tell(News::Stop).await {
                tracing::debug!(flow = %self.flow.name, "a pump ended before it was told to");
            }
        }
        let mut result = Ok(());
        for pump in pumps.iter_mut() {
            result = result.and(pump_result((&mut pump.ended).await));
        }
        result
    }

    /// Gives our seats up for good.
    pub(super) async fn leave(&self, pumps: &[Started]) {
        for pump in pumps {
            let Some(seating) = pump.seating.borrow().clone() else {
                continue;
            };
            if let Err(error) = self
                .target
                .within(Duration::from_secs(3))
                .leave_group(&seating.membership)
                .await
            {
                tracing::warn!(flow = %self.flow.name, %error, "the group was not left; it notices after the session timeout");
            }
        }
    }
}

fn ended_unasked(pump: Result<(), FlowError>) -> Result<(), FlowError> {
    pump.and(Err(FlowError::Lost("a pump ended unasked".to_owned())))
}

/// Ends when every pump was seen ready; never, if one ends before.
async fn all_ready(views: Vec<watch::Receiver<PumpView>>) {
    for mut view in views {
        if view.wait_for(PumpView::is_ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The first pump to end.
async fn first_ended(pumps: &mut [Started]) -> Result<(), FlowError> {
    std::future::poll_fn(|cx| {
        for pump in pumps.iter_mut() {
            if let std::task::Poll::Ready(ended) = std::pin::Pin::new(&mut pump.ended).poll(cx) {
                return std::task::Poll::Ready(pump_result(ended));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn pump_result(ended: Result<Result<(), PumpError>, oneshot::error::RecvError>) -> Result<(), FlowError> {
    ended
        .map_err(|_| FlowError::Lost("a pump's thread panicked".to_owned()))?
        .map_err(FlowError::Pump)
}
