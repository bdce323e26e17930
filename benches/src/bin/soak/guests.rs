//! The third instance: it comes, takes its part of the slots, and goes in each way that there is.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Result, ensure};
use kuroshio_integration::{Kuroshio, Pair, until};

use crate::{WAIT, instance};

/// How long each one stays, and how long the others are left alone.
const REST: Duration = Duration::from_secs(20);
const FLOWS: usize = 2;

/// Until it is over; how many came.
pub(crate) async fn come_and_go(pair: &Pair, stay: &[Kuroshio; 2], over: &Cell<bool>) -> Result<u64> {
    let mut came = 0;
    while !over.get() {
        let mut guest = instance(pair, "c")?;
        guest.ready(WAIT).await?;
        until(WAIT, "slots of the instance that came", || async {
            match slots(&guest).await {
                Ok(all) if all.iter().all(|slots| *slots > 0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        came += 1;
        tokio::time::sleep(REST).await; // the time is the input
        // As a scale-down, as a rolling update, and as a machine that dies.
        match came % 3 {
            0 => guest.interrupt()?,
            1 => guest.terminate()?,
            _ => guest.kill()?,
        }
        let ended = guest.exited(WAIT).await?;
        ensure!(
            came % 3 == 2 || ended.code() == Some(0),
            "{ended}\n{}",
            guest.log_tail()
        );
        until(WAIT, "all slots with those that stay", || async {
            let mut sum = 0;
            for process in stay {
                sum += slots(process)
                    .await
                    .map_err(|why| format!("{why:#}"))?
                    .iter()
                    .sum::<usize>();
            }
            if sum == FLOWS * usize::from(kuroshio_core::slots::SLOT_COUNT) {
                Ok(())
            } else {
                Err(format!("{sum} slots"))
            }
        })
        .await?;
        tokio::time::sleep(REST).await; // the time is the input
    }
    Ok(came)
}

/// Slots of each flow that the process has.
async fn slots(process: &Kuroshio) -> Result<Vec<usize>> {
    let status = process.status().await?;
    let flows = status["flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(flows.len() == FLOWS, "{status}");
    Ok(flows
        .iter()
        .map(|flow| flow["slots"].as_array().map_or(0, Vec::len))
        .collect())
}
