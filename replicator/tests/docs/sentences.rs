//! What sentences name is there: our subcommands and their flags, the targets of make, metrics and alerts.

use clap::CommandFactory;
use kuroshio::cli::Cli;
use regex::Regex;

/// What is wrong with a command within a sentence: it may leave words out, but none may be of its own making.
fn strange(span: &str) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    // In tables a bar is escaped.
    for word in span.replace('\\', "").split_whitespace().skip(1) {
        let word = word.trim_matches(['[', ']', '…']);
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or_default();
            let mut known = at.get_arguments();
            if !flag.is_empty() && !known.any(|known| known.get_long() == Some(flag)) {
                return Some(format!("`{}` has no --{flag}", at.get_name()));
            }
        } else if at.has_subcommands() {
            let name = word.split('|').next().unwrap_or_default();
            match at.find_subcommand(name) {
                Some(below) => at = below,
                None => return Some(format!("`{}` has no {name}", at.get_name())),
            }
        }
    }
    None
}

#[test]
fn commands_within_sentences_are_there() {
    let ours = Regex::new("`(kuroshio [^`]+)`").unwrap();
    let target = Regex::new("`make ([a-z-]+)").unwrap();
    let makefile = super::text("Makefile");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in super::pages() {
        let prose = super::split(&text).1;
        for (at, line) in prose.lines().enumerate() {
            for found in ours.captures_iter(line) {
                count += 1;
                wrong.extend(strange(&found[1]).map(|why| format!("{page}:{}: {why}", at + 1)));
            }
            for found in target.captures_iter(line) {
                count += 1;
                if !makefile.contains(&format!("\n{}:", &found[1])) {
                    wrong.push(format!("{page}:{}: the Makefile has no {}", at + 1, &found[1]));
                }
            }
        }
    }
    assert!(count > 50, "only {count}: are they still found?");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn metrics_and_alerts_within_sentences_are_there() {
    let metric = Regex::new(r"\bkuroshio_[a-z_]+\b").unwrap();
    let alert = Regex::new(r"\bKuroshio[A-Z]\w+").unwrap();
    let described = super::text("docs/metrics.md");
    let rules = super::text("helm/kuroshio/rules/kuroshio.yaml");
    // Crates, where they are named as Rust does.
    let crates = ["kuroshio_client"];
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in super::pages() {
        let metrics = metric.find_iter(&text).map(|found| found.as_str());
        let alerts = alert.find_iter(&text).map(|found| found.as_str());
        for name in metrics.filter(|name| !crates.contains(name)) {
            count += 1;
            if !described.contains(&format!("| `{name}` |")) {
                wrong.push(format!("{page}: {name}"));
            }
        }
        for name in alerts {
            count += 1;
            if !rules.contains(&format!("- alert: {name}\n")) {
                wrong.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(count > 80, "only {count}: are they still found?");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn planted_commands_are_found_out() {
    for (span, wrong) in [
        ("kuroshio verify --since 2h", false),
        ("kuroshio pause|resume FLOW [--topic T] [--partition P]", false),
        ("kuroshio config schema", false),
        ("kuroshio … --group g", true),
        ("kuroshio verify --until 2h", true),
        ("kuroshio prove", true),
        ("kuroshio config shema", true),
    ] {
        assert_eq!(strange(span).is_some(), wrong, "{span}: {:?}", strange(span));
    }
}
