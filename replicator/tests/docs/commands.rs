//! Every command of the documentation is run here, or by a test or target that is named, or it says why not; and ours are such as the
//! binary takes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use kuroshio::cli::Cli;
use regex::Regex;

/// How it is known that a command does what its page says.
enum Known {
    /// Run by this test, in a folder with the files that its page shows; ends with 0 and fills what it writes.
    Here,
    /// By what stands in a file.
    By(&'static str, &'static str),
    /// It is not.
    Not(&'static str),
}
use Known::{By, Here, Not};

/// By the words of a command, some of which may be left out; of those that fit a command the one with the most words holds.
const KNOWN: &[(&str, Known)] = &[
    ("kuroshio acls", Here),
    (
        "kuroshio check",
        By(
            "integration/tests/it/check.rs",
            "the_acls_that_are_printed_are_enough",
        ),
    ),
    ("kuroshio check --offline", Here),
    ("kuroshio completions", Here),
    ("kuroshio config schema", Here),
    (
        "kuroshio demo",
        By("replicator/tests/demo.rs", "the_demo_copies_everything_once"),
    ),
    (
        "kuroshio failover",
        By(
            "integration/tests/it/failover.rs",
            "an_application_moves_and_returns",
        ),
    ),
    (
        "kuroshio failover --dry-run",
        By("integration/tests/it/failover.rs", "\"--dry-run\""),
    ),
    ("kuroshio iam-policy", Here),
    ("kuroshio import", Here),
    (
        "kuroshio import --resume",
        By(
            "integration/tests/it/takeover.rs",
            "a_stopped_mirror_maker_is_taken_over",
        ),
    ),
    (
        "kuroshio plan",
        By("integration/tests/it/plan.rs", "a_plan_says_what_a_start_does"),
    ),
    (
        "kuroshio plan --detailed-exitcode",
        By("integration/tests/it/configs.rs", "\"--detailed-exitcode\""),
    ),
    (
        "kuroshio run",
        By("integration/tests/it/both_ways.rs", "everything_arrives_once"),
    ),
    (
        "kuroshio status",
        By(
            "integration/tests/it/observed.rs",
            "[\"status\", \"--url\", &url]",
        ),
    ),
    (
        "kuroshio status --watch",
        By("integration/tests/it/observed.rs", "\"--watch\""),
    ),
    (
        "kuroshio translate",
        By("integration/tests/it/failover.rs", "\"translate\""),
    ),
    (
        "kuroshio verify",
        By("integration/tests/it/verify.rs", "each_planted_fault_is_named"),
    ),
    (
        "kuroshio verify --since",
        By("integration/tests/it/verify.rs", "\"--since\""),
    ),
    (
        "make demo",
        By("replicator/tests/demo.rs", "the_demo_copies_everything_once"),
    ),
    ("make test", By(".ci/run", "make test")),
    (
        "make image",
        By("integration/tests/it/image.rs", "the_image_is_small"),
    ),
    (
        "make image-release",
        Not("needs a registry and a machine for arm64"),
    ),
    ("make image-kafka", By("Makefile", "test: image-kafka")),
    (
        "docker run demo",
        By(
            "integration/tests/it/image.rs",
            "&[\"demo\", \"--seconds\", \"5\"]",
        ),
    ),
    (
        "docker run --read-only",
        By("integration/tests/it/image.rs", "\"--read-only\""),
    ),
    (
        "docker compose",
        Not("needs docker compose, which CI does not have; it was run by hand"),
    ),
    ("docker tag", Not("needs a registry of AWS")),
    ("docker push", Not("needs a registry of AWS")),
    (
        "helm install",
        Not("needs a Kubernetes API; helm/tests/chart.sh renders what it would install"),
    ),
    ("helm test", Not("needs a Kubernetes API")),
    ("kubectl", Not("needs a Kubernetes API")),
    (
        "yq .config",
        Not("another's tool; what it would write is what commands of its page are run with here"),
    ),
    ("aws", Not("needs an account of AWS")),
    ("cargo build", By("Makefile", "$(CARGO) build --release")),
    (
        "make drill",
        By(
            "integration/tests/it/drill.rs",
            "a_lost_region_is_left_returned_to_and_filled_again",
        ),
    ),
    (
        "make faults",
        Not("runs for half an hour; integration/tests/it/nemesis.rs"),
    ),
    (
        "make nemesis",
        Not("runs for a quarter of an hour; `make test` has a minute of it"),
    ),
    ("make soak", Not("runs for an hour; benches/src/bin/soak")),
    (
        "target/release/haul",
        Not("measures for an hour; benches/RESULTS.md is what it wrote"),
    ),
];

/// What a page's `mm2.properties` is.
const MM2: &str = "clusters = tw, jp\n\
    tw.bootstrap.servers = b-1.tw.example:9092\n\
    jp.bootstrap.servers = b-1.jp.example:9092\n\
    tw->jp.enabled = true\n\
    tw->jp.topics = orders.*\n";

/// A line of a block.
struct Line {
    /// Its page and line.
    at: String,
    text: String,
}

/// The commands of a page: lines of its blocks in `sh`, those that go on behind `\` put together.
fn lines(page: &str, text: &str) -> Vec<Line> {
    let mut lines = Vec::<Line>::new();
    for block in super::split(text).0 {
        if block.language != "sh" {
            continue;
        }
        let mut goes_on = false;
        for (below, line) in block.text.lines().enumerate() {
            let (text, more) = line.strip_suffix('\\').map_or((line, false), |text| (text, true));
            if goes_on {
                lines.last_mut().unwrap().text += text.trim_start();
            } else if !words(text).is_empty() {
                let at = format!("{page}:{}", block.line + below + 1);
                let text = text.to_owned();
                lines.push(Line { at, text });
            }
            goes_on = more;
        }
    }
    lines
}

/// The words of a command as a shell takes them, without its comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The words of our command in another's: behind `--`, or behind the image's name.
fn ours(words: &[String]) -> Option<Vec<String>> {
    let first = words.first()?;
    let mut ours = match first.as_str() {
        "kuroshio" => words.to_vec(),
        "kubectl" => words[words.iter().position(|word| word == "--")? + 1..].to_vec(),
        "docker" if words[1] == "compose" => {
            words[words.iter().position(|word| word == "kuroshio")?..].to_vec()
        }
        "docker" if words[1] == "run" => {
            let image = words.iter().position(|word| word.starts_with("kuroshio:"))?;
            let rest = &words[image + 1..];
            if rest.is_empty() {
                return None;
            }
            [&["kuroshio".to_owned()], rest].concat()
        }
        _ => return None,
    };
    // What the shell takes for itself.
    if let Some(end) = ours.iter().position(|word| word.starts_with('>')) {
        ours.truncate(end);
    }
    Some(ours)
}

/// The row of [`KNOWN`] that holds for a command.
fn known(words: &[String]) -> Option<usize> {
    let fits = |pattern: &str| {
        let mut left = words.iter();
        let mut pattern = pattern.split(' ');
        pattern.next() == left.next().map(String::as_str)
            && pattern.all(|wanted| left.any(|word| word == wanted))
    };
    let all = (0..KNOWN.len()).filter(|row| fits(KNOWN[*row].0));
    all.max_by_key(|row| KNOWN[*row].0.split(' ').count())
}

/// A mapping below a key at the beginning of a line, as a text of its own.
pub(crate) fn below(text: &str, key: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{key}:\n"))?;
    let inner = rest.lines().take_while(|line| line.starts_with("  "));
    Some(inner.map(|line| format!("{}\n", &line[2..])).collect())
}

/// The files that a page has shown: its configuration, or the README's; that of its values; a configuration of MirrorMaker 2.
fn given(text: &str) -> Vec<(&'static str, String)> {
    let yaml = |text: &str| -> Vec<String> {
        let blocks = super::split(text).0.into_iter();
        blocks
            .filter(|block| block.language == "yaml")
            .map(|block| block.text)
            .collect()
    };
    let whole = |text: &str| {
        yaml(text).into_iter().find(|text| {
            ["clusters:", "flows:"]
                .iter()
                .all(|key| text.lines().any(|line| line == *key))
        })
    };
    let config = whole(text).or_else(|| whole(&super::text("README.md"))).unwrap();
    let values = yaml(text).iter().find_map(|text| below(text, "config"));
    let mut given = vec![("kuroshio.yaml", config), ("mm2.properties", MM2.to_owned())];
    given.extend(values.map(|config| ("config.yaml", config)));
    given
}

/// Runs a command of a page in a folder of its own.
fn run(line: &Line, page: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in given(page) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_kuroshio")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let ended = Command::new("sh")
        .args(["-euc", &line.text])
        .current_dir(folder.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {}: {said}", line.at, line.text);
    let written = Regex::new(r">\s*(\S+)").unwrap();
    let written = written
        .captures(&line.text)
        .map(|found| std::fs::read(folder.path().join(&found[1])).unwrap());
    assert!(
        !written.unwrap_or(ended.stdout).is_empty(),
        "{}: {} says nothing",
        line.at,
        line.text
    );
}

#[test]
fn every_command_is_run_or_says_why_not() {
    let mut used = BTreeSet::new();
    let (mut here, mut elsewhere) = (0, 0);
    for (page, text) in super::pages() {
        for line in lines(&page, &text) {
            let words = words(&line.text);
            let Some(row) = known(&words) else {
                panic!("{}: `{}` is not in KNOWN: who runs it?", line.at, line.text)
            };
            used.insert(row);
            match &KNOWN[row].1 {
                Here => {
                    here += 1;
                    run(&line, &text);
                }
                By(file, what) => {
                    elsewhere += 1;
                    assert!(
                        super::text(file).contains(what),
                        "{}: {file} has no {what}",
                        line.at
                    );
                }
                Not(why) => assert!(!why.is_empty()),
            }
        }
    }
    assert!(
        here >= 8 && elsewhere >= 30,
        "{here} here, {elsewhere} elsewhere: are they still found?"
    );
    let idle = (0..KNOWN.len()).filter(|row| !used.contains(row));
    let idle: Vec<_> = idle.map(|row| KNOWN[row].0).collect();
    assert!(idle.is_empty(), "no page has {idle:?}: take them out of KNOWN");
}

#[test]
fn our_commands_are_such_as_the_binary_takes() {
    let mut count = 0;
    for (page, text) in super::pages() {
        for line in lines(&page, &text) {
            if let Some(ours) = ours(&words(&line.text)) {
                count += 1;
                if let Err(error) = Cli::try_parse_from(&ours) {
                    panic!("{}: {error}", line.at);
                }
            }
        }
    }
    assert!(count > 40, "only {count}: are they still found?");
}

#[test]
fn planted_commands_are_found_out() {
    assert_eq!(words("a  \"b c\" d#e 'f' # g"), ["a", "b c", "d#e", "f"]);
    let taken = |line: &str| ours(&words(line)).map(|ours| Cli::try_parse_from(ours).is_ok());
    assert_eq!(taken("kuroshio run --config f > log"), Some(true));
    assert_eq!(taken("kuroshio run --confg f"), Some(false));
    assert_eq!(taken("docker run kuroshio:0.1.0 demo --seconds 1"), Some(true));
    assert_eq!(taken("kubectl exec p -- kuroshio stats"), Some(false));
    assert_eq!(taken("docker run kuroshio:0.1.0"), None);
    assert!(known(&words("kuroshio unheard")).is_none());
    let offline = known(&words("kuroshio check --config f --offline")).unwrap();
    assert_eq!(KNOWN[offline].0, "kuroshio check --offline");
}
