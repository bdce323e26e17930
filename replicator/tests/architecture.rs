//! The rules of the house (DESIGN §3, ARCHITECTURE): who may name whom. Reads the sources of the workspace
//! and fails with the broken rule's own sentence.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::too_many_lines, reason = "tables are long")]

use std::fs;
use std::path::Path;

use regex::Regex;

/// Longest file; one that comes near it holds two ideas. Tests hold tables, which are longer.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 800;

/// Modules of the core that know the types and nothing of each other.
const LEAVES: &[&str] = &[
    "origin",
    "routes",
    "batch",
    "slots",
    "runs",
    "window",
    "lag",
    "start",
    "search",
    "groups",
    "mm2",
    "ages",
    "configs",
    "control",
    "departures",
    "acls",
    "health",
    "heartbeats",
];

/// What must not be written where.
struct Rule {
    sentence: &'static str,
    /// Files that it is about, and those of them that it spares.
    files: fn(&str) -> bool,
    /// Names that must not occur, as regular expressions between word boundaries.
    names: &'static [&'static str],
    /// Whether unit tests are spared.
    spares_tests: bool,
}

const RULES: &[Rule] = &[
    Rule {
        sentence: "the core decides and touches nothing: no runtime, client, thread, clock, socket, file or log",
        files: |path| path.starts_with("replicator/core/src/"),
        names: &[
            "tokio",
            "rdkafka",
            "rdkafka_sys",
            "kafka_protocol",
            "std::thread",
            "Instant",
            "SystemTime",
            "std::net",
            "std::fs",
            "tracing",
        ],
        spares_tests: true,
    },
    Rule {
        sentence: "imports go one way, core ◀ wire ◀ librdkafka ◀ app: the core names none of them",
        files: |path| path.starts_with("replicator/core/"),
        names: &["kuroshio_wire", "kuroshio_librdkafka", "kuroshio::"],
        spares_tests: false,
    },
    Rule {
        sentence: "imports go one way, core ◀ wire ◀ librdkafka ◀ app: the wire client names no engine and no app",
        files: |path| path.starts_with("replicator/wire/"),
        names: &["rdkafka", "rdkafka_sys", "kuroshio_librdkafka", "kuroshio::"],
        spares_tests: false,
    },
    Rule {
        sentence: "imports go one way, core ◀ wire ◀ librdkafka ◀ app: the engine names no app",
        files: |path| path.starts_with("replicator/librdkafka/"),
        names: &["kuroshio::"],
        spares_tests: false,
    },
    Rule {
        sentence: "the engine moves records and speaks no control plane: no kafka_protocol, no task of its own",
        files: |path| path.starts_with("replicator/librdkafka/src/"),
        names: &["kafka_protocol", "tokio::spawn"],
        spares_tests: false,
    },
    Rule {
        sentence: "rdkafka is named by the engine alone (tests and benches may use it as an independent client)",
        files: |path| {
            path.starts_with("replicator/")
                && path.contains("/src/")
                && !path.starts_with("replicator/librdkafka/")
        },
        names: &["rdkafka", "rdkafka_sys"],
        spares_tests: true,
    },
    Rule {
        sentence: "unsafe code lives in replicator/librdkafka, where each block says why it is sound",
        files: |path| !path.starts_with("replicator/librdkafka/"),
        names: &["unsafe"],
        spares_tests: false,
    },
    Rule {
        sentence: "every number that we export is in metrics: nothing else names prometheus",
        files: |path| path.starts_with("replicator/src/") && !path.starts_with("replicator/src/metrics"),
        names: &["prometheus"],
        spares_tests: true,
    },
    Rule {
        sentence: "HTTP is in http: nothing else names axum",
        files: |path| path.starts_with("replicator/src/") && !path.starts_with("replicator/src/http"),
        names: &["axum", "hyper"],
        spares_tests: true,
    },
    Rule {
        sentence: "spans leave the process in traces.rs: nothing else names OpenTelemetry",
        files: |path| path.starts_with("replicator/src/") && path != "replicator/src/traces.rs",
        names: &[
            "opentelemetry",
            "opentelemetry_sdk",
            "opentelemetry_otlp",
            "tracing_opentelemetry",
            "tonic",
        ],
        spares_tests: true,
    },
    Rule {
        sentence: "spans are in spans.rs, with their names and attributes: nothing else makes one",
        files: |path| {
            path.starts_with("replicator/") && path.contains("/src/") && path != "replicator/src/spans.rs"
        },
        names: &["info_span", "debug_span", "trace_span", "tracing::instrument"],
        spares_tests: true,
    },
    Rule {
        sentence: "files are parsed under config/: nothing else names a YAML reader",
        files: |path| path.starts_with("replicator/src/") && !path.starts_with("replicator/src/config/"),
        names: &[
            "FileFormat",
            "ConfigBuilder",
            "config::Value",
            "config::Source",
            "serde_yaml",
            "yaml_rust2",
        ],
        spares_tests: true,
    },
    Rule {
        sentence: "threads and tasks begin in the composition roots, app.rs and demo.rs, which also end them",
        files: |path| path.starts_with("replicator/src/") && !is_root(path),
        names: &[
            "tokio::spawn",
            "thread::spawn",
            "thread::Builder",
            "spawn_blocking",
            "JoinSet",
        ],
        spares_tests: true,
    },
    Rule {
        sentence: "engines are chosen in the composition roots, app.rs and demo.rs: the rest knows the seam (config asks for the properties that the engine owns)",
        files: |path| {
            path.starts_with("replicator/src/")
                && !is_root(path)
                && !path.starts_with("replicator/src/config/")
        },
        names: &["kuroshio_librdkafka"],
        spares_tests: true,
    },
];

fn is_root(path: &str) -> bool {
    matches!(path, "replicator/src/app.rs" | "replicator/src/demo.rs")
        || path.starts_with("replicator/src/app/")
        || path.starts_with("replicator/src/demo/")
}

/// A source file: its path from the workspace's root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every broken rule, as `path:line: sentence (found …)`.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for rule in RULES.iter().filter(|rule| (rule.files)(&source.path)) {
            if rule.spares_tests && is_test_file(&source.path) {
                continue;
            }
            let code = code(&source.text, rule.spares_tests);
            found.extend(rule.names.iter().filter_map(|name| {
                let line = line_of(&code, &pattern(name))?;
                Some(format!(
                    "{}:{line}: {} (found `{name}`)",
                    source.path, rule.sentence
                ))
            }));
        }
        found.extend(leaf_violations(source));
        let lines = source.text.lines().count();
        let lines_max = if is_test_file(&source.path) {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        if lines > lines_max {
            found.push(format!(
                "{}: no file is longer than {lines_max} lines: it holds two ideas (found {lines})",
                source.path
            ));
        }
    }
    found
}

fn pattern(name: &str) -> Regex {
    let end = if name.ends_with(':') { "" } else { r"\b" };
    // Not as a part of a longer path or name: `crate::config::Value` is not `config::Value`.
    let start = if name.contains("::") && !name.starts_with("std::") {
        r"(^|[^\w:])"
    } else {
        r"\b"
    };
    Regex::new(&format!("(?m){start}{name}{end}")).unwrap()
}

fn leaf_violations(source: &Source) -> Option<String> {
    let module = source.path.strip_prefix("replicator/core/src/")?;
    let module = module.split(['/', '.']).next()?;
    let (leaf, code) = (
        LEAVES.iter().find(|leaf| **leaf == module)?,
        code(&source.text, false),
    );
    LEAVES.iter().filter(|other| *other != leaf).find_map(|other| {
        // `use crate::other`, and `use crate::{…, other::…}`.
        let named = Regex::new(&format!(r"crate::({other}\b|\{{[^;]*\b{other}\b)")).unwrap();
        let line = line_of(&code, &named)?;
        Some(format!(
            "{}:{line}: leaves of the core never import each other (found `{other}`)",
            source.path
        ))
    })
}

fn line_of(code: &str, pattern: &Regex) -> Option<usize> {
    let found = pattern.find(code)?;
    Some(code[..found.end()].matches('\n').count() + 1)
}

/// The text without comments and, if asked, without the unit tests at its end. Lines keep their numbers.
fn code(text: &str, without_tests: bool) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests {").filter(|_| without_tests);
    let text = &text[..tests.unwrap_or(text.len())];
    let without_comment = |line: &str| {
        // A `//` behind a colon or a quote is an address in a text.
        let comment = line
            .match_indices("//")
            .find(|(at, _)| !line[..*at].ends_with([':', '"']));
        format!("{}\n", &line[..comment.map_or(line.len(), |(at, _)| at)])
    };
    text.lines().map(without_comment).collect()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// All sources of ours below `folder`.
fn read(root: &Path, folder: &str, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/target") {
                read(root, &path, sources);
            }
        // This file holds the names that it forbids.
        } else if path.ends_with(".rs") && path != "replicator/tests/architecture.rs" {
            sources.push(Source {
                text: fs::read_to_string(entry.path()).unwrap(),
                path,
            });
        }
    }
}

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for folder in ["replicator", "integration", "benches", "fuzz"] {
        read(root, folder, &mut sources);
    }
    assert!(
        sources.len() > 30,
        "only {} sources: are they still where this test looks?",
        sources.len()
    );
    let violations = violations(&sources);
    assert!(
        violations.is_empty(),
        "{} broken rules:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn a_planted_violation_is_found() {
    let found = |path: &str, text: &str| {
        violations(&[Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }])
    };
    for (path, text, line, name) in [
        (
            "replicator/core/src/window.rs",
            "//! x\nuse std::time::Instant;\n",
            2,
            "Instant",
        ),
        (
            "replicator/core/src/flow/mod.rs",
            "fn f() { tracing::info!(\"x\") }",
            1,
            "tracing",
        ),
        ("replicator/core/src/lag.rs", "use crate::runs::Runs;", 1, "runs"),
        (
            "replicator/core/src/lag.rs",
            "use crate::{\n    types::Lane,\n    window::Window,\n};",
            3,
            "window",
        ),
        (
            "replicator/core/src/origin/tag.rs",
            "use crate::start::Start;",
            1,
            "start",
        ),
        (
            "replicator/core/src/types.rs",
            "use kuroshio_wire::Cluster;",
            1,
            "kuroshio_wire",
        ),
        (
            "replicator/wire/src/lib.rs",
            "use rdkafka::ClientConfig;",
            1,
            "rdkafka",
        ),
        (
            "replicator/wire/tests/real.rs",
            "use kuroshio::config;",
            1,
            "kuroshio::",
        ),
        (
            "replicator/librdkafka/src/lib.rs",
            "fn f() { tokio::spawn(g()); }",
            1,
            "tokio::spawn",
        ),
        (
            "replicator/src/pump.rs",
            "use rdkafka_sys as sys;",
            1,
            "rdkafka_sys",
        ),
        (
            "replicator/src/pump.rs",
            "use kuroshio_librdkafka::Librdkafka;",
            1,
            "kuroshio_librdkafka",
        ),
        (
            "replicator/src/pump.rs",
            "let unsure = unsafe { f() };",
            1,
            "unsafe",
        ),
        (
            "replicator/src/app.rs",
            "use prometheus::Registry;",
            1,
            "prometheus",
        ),
        ("replicator/src/app.rs", "use axum::Router;", 1, "axum"),
        (
            "replicator/src/logs.rs",
            "use opentelemetry::KeyValue;",
            1,
            "opentelemetry",
        ),
        (
            "replicator/src/pump.rs",
            "let span = tracing::info_span!(\"record\");",
            1,
            "info_span",
        ),
        (
            "replicator/src/app.rs",
            "let f = config::Value::from(1);",
            1,
            "config::Value",
        ),
        (
            "replicator/src/http.rs",
            "std::thread::spawn(f);\ntokio::spawn(f());",
            2,
            "tokio::spawn",
        ),
        (
            "replicator/src/pump.rs",
            "use std::thread;\nthread::spawn(f);",
            2,
            "thread::spawn",
        ),
        ("integration/tests/it/main.rs", "unsafe fn f() {}", 1, "unsafe"),
    ] {
        let found = found(path, text);
        let said = format!("{path}:{line}: ");
        let is_said =
            |found: &String| found.starts_with(&said) && found.ends_with(&format!("(found `{name}`)"));
        assert!(found.iter().any(is_said), "{path}: {text}: {found:#?}");
    }
    let long = "\n".repeat(LINES_MAX + 1);
    assert_eq!(found("benches/src/x.rs", &long).len(), 1);
    for (path, text) in [
        (
            "replicator/core/src/window.rs",
            "// No clock: an Instant comes from outside.\nuse crate::types::Lane;",
        ),
        ("replicator/core/src/flow/mod.rs", "use crate::runs::Runs;"),
        (
            "replicator/src/app.rs",
            "use kuroshio_librdkafka::Librdkafka;\nfn f() { std::thread::spawn(g); }",
        ),
        (
            "replicator/src/http.rs",
            "use axum::Router;\n#[cfg(test)]\nmod tests {\n    fn f() { tokio::spawn(g()); }\n}\n",
        ),
        ("replicator/src/check.rs", "use crate::config::Config;"),
        (
            "replicator/librdkafka/src/ffi.rs",
            "unsafe { rd_kafka_poll(x, 0) }; use rdkafka_sys as sys;",
        ),
        ("integration/tests/it/main.rs", "use rdkafka::ClientConfig;"),
    ] {
        assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
