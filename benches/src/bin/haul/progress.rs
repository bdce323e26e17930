//! One line on stderr that says what is going on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The line. Nothing is drawn where stderr is no terminal, but what was finished is printed everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    line: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let line = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(Duration::from_millis(500));
        Self { line }
    }

    /// What is going on now.
    pub(crate) fn say(&self, what: &str) {
        self.line.set_message(what.to_owned());
    }

    /// A line that stays.
    pub(crate) fn done(&self, what: &str) {
        use std::io::Write;
        // Nobody reads when stderr is closed.
        self.line.suspend(|| writeln!(std::io::stderr(), "{what}").ok());
    }
}
