//! Calls over HTTP to what the tests start.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

/// Waits so long for an answer, and takes any status for one.
pub(crate) fn agent(within: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .build();
    ureq::Agent::new_with_config(config)
}

/// GET `path` of what listens there: status code and body.
///
/// # Errors
/// When nothing answers within 5 s.
pub async fn get(http: SocketAddr, path: &str) -> Result<(u16, String)> {
    let url = format!("http://{http}{path}");
    tokio::task::spawn_blocking(move || {
        let mut answer = agent(Duration::from_secs(5)).get(&url).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    })
    .await?
}
