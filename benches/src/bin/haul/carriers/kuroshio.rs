//! Kuroshio itself: the real binary with an ordinary configuration.

use anyhow::Result;
use kuroshio_integration::Kuroshio;
use serde_json::json;

use super::{Job, fresh};

/// Everything but the delivery is at its default. The flow has a new name each time, and so its own positions.
pub(super) fn start(job: &Job<'_>, delivery: &str) -> Result<Kuroshio> {
    Kuroshio::run(json!({
        "clusters": {
            "tw": { "bootstrap_servers": job.source },
            "jp": { "bootstrap_servers": job.target },
        },
        "flows": [{ "name": format!("haul-{}", fresh()), "source": "tw", "target": "jp" }],
        "defaults": { "delivery": delivery, "topics": { "include": [job.topics] } },
    }))
}
