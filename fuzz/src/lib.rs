//! What others can send to Kuroshio, by format: what producers write (`tag`, `batch`), brokers (`answer`), whoever may
//! commit or join (`position`, `member`, `mm2`), and files (`config`, `import`). Each target takes any bytes, calls what the
//! product calls, and holds it to what must be true of its answer. A panic, an abort for want of memory, or a second too
//! many is a bug.
//!
//! The seeds are made by code, so that what they are can be read. `cargo test` runs each once; `make fuzz` goes on from there.

mod files;
mod input;
mod records;
mod seeds;
mod words;

/// A format and how it is tried.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Tries an input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> std::io::Result<Vec<Vec<u8>>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "tag",
        run: records::tag,
        seeds: seeds::tag,
    },
    Target {
        name: "batch",
        run: records::batch,
        seeds: seeds::batch,
    },
    Target {
        name: "answer",
        run: words::answer,
        seeds: seeds::answer,
    },
    Target {
        name: "position",
        run: words::position,
        seeds: seeds::position,
    },
    Target {
        name: "member",
        run: words::member,
        seeds: seeds::member,
    },
    Target {
        name: "mm2",
        run: words::mm2,
        seeds: seeds::mm2,
    },
    Target {
        name: "config",
        run: files::config,
        seeds: seeds::config,
    },
    Target {
        name: "import",
        run: files::import,
        seeds: seeds::import,
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests;
