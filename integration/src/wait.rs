//! Waiting for conditions.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Asks `probe` again and again until it gives `Ok`, for at most `within`. The `Err` of a probe is what was
/// seen instead; the last one is in the error when the time is up.
///
/// # Errors
/// When the condition does not hold within the time.
pub async fn until<T, E, F, P>(within: Duration, what: &str, mut probe: P) -> Result<T>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
    P: FnMut() -> F,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(reached) => return Ok(reached),
            Err(seen) if start.elapsed() >= within => {
                bail!("waited {within:?} for {what}; seen last: {seen:#}")
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
