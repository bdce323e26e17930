//! Files: whoever may write them may do anything, but not crash what is running: a bad new configuration is refused.

use std::sync::OnceLock;

use kuroshio::config::{self, Environment};

/// Variables that texts may name, and one that is laid over the file.
fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        [("HOSTNAME", "h"), ("A", "a"), ("KUROSHIO__LOG__LEVEL", "warn")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    })
}

/// The text, naming no file but the one that is tried: what a reference names may wait for somebody.
fn text(input: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(input).ok()?;
    Some(text.replace("${file:", "${env:"))
}

/// A configuration.
pub(crate) fn config(input: &[u8]) {
    let Some(text) = text(input) else { return };
    match config::parse(&text, environment()) {
        Ok(config) => assert!(!config.flows.is_empty() && config.memory > 0),
        Err(mistakes) => assert!(!mistakes.0.is_empty(), "refused without a reason"),
    }
}

/// A configuration of MirrorMaker 2. Nothing of it becomes a key of ours that import does not write.
pub(crate) fn import(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(imported) = kuroshio::import::import(&text, None) else {
        return;
    };
    for line in imported.config.split(['\n', '\r']) {
        let ours = ["clusters:", "flows:", "defaults:"].contains(&line);
        assert!(
            ours || line.is_empty() || line.starts_with([' ', '#']),
            "{line:?}"
        );
    }
}
