//! What pages show of the configuration is such as the binary takes.

use std::collections::BTreeSet;

use kuroshio::config::{self, Environment};
use regex::Regex;

/// Mistakes of a part of a file, but for what it lacks because it is a part, and for files that are not here.
fn mistakes(text: &str) -> Vec<String> {
    let host = [("HOSTNAME".to_owned(), "pod-0".to_owned())];
    let environment: Environment = host.into_iter().collect();
    let Err(mistakes) = config::parse(text, &environment) else {
        return vec![];
    };
    let all = mistakes.0.iter().map(ToString::to_string);
    let missing = ["clusters: is missing", "flows: is missing"];
    all.filter(|mistake| {
        !missing.iter().any(|missing| mistake.starts_with(missing)) && !mistake.contains("No such file")
    })
    .collect()
}

/// The keys at the beginning of lines.
fn keys(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with([' ', '#', '-']));
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key)
        .collect()
}

#[test]
fn configurations_that_pages_show_are_taken() {
    let known: BTreeSet<&str> = config::schema()["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in super::pages() {
        for block in super::split(&text).0 {
            if block.language.is_empty() {
                wrong.push(format!("{page}:{}: of which language is the block?", block.line));
            }
            if block.language != "yaml" {
                continue;
            }
            let of_values = super::commands::below(&block.text, "config");
            let keys = keys(&block.text);
            let config = match of_values {
                Some(config) => config,
                None if !keys.is_empty() && keys.is_subset(&known) => block.text,
                None => continue,
            };
            count += 1;
            let found = mistakes(&config).into_iter();
            wrong.extend(found.map(|mistake| format!("{page}:{}: {mistake}", block.line)));
        }
    }
    assert!(count >= 8, "only {count} configurations: are they still found?");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn planted_mistakes_are_found() {
    for (text, count) in [
        ("http: { admin: true }\n", 0),
        ("http: { token: \"${file:/nowhere/token}\" }\n", 0),
        ("http: { admn: true }\n", 1),
        ("defaults: { delivery: twice }\n", 1),
    ] {
        assert_eq!(mistakes(text).len(), count, "{text}: {:?}", mistakes(text));
    }
}

#[test]
fn compose_has_what_it_mounts() {
    let compose = super::text("compose.yaml");
    let mounted = Regex::new(r"\./([^:\s]+):/").unwrap();
    let mut count = 0;
    for path in mounted.captures_iter(&compose) {
        count += 1;
        assert!(super::root().join(&path[1]).exists(), "{}", &path[1]);
    }
    assert!(count >= 5, "{count} mounts: are they still found?");
    assert_eq!(
        mistakes(&super::text("config/compose/kuroshio.yaml")),
        Vec::<String>::new()
    );
    for (name, version) in [("kuroshio", env!("CARGO_PKG_VERSION")), ("apache/kafka", "4.3.1")] {
        assert!(compose.contains(&format!("{name}:{version}}}")), "{name}");
    }
}
