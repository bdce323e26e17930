//! Calls over HTTP to what the tests start.

use std::time::Duration;

/// Waits so long for an answer, and takes any status for one.
pub(crate) fn agent(within: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .build();
    ureq::Agent::new_with_config(config)
}
