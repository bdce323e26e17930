//! The configuration file: examples hold, layers lie over each other in order; the modules hold the
//! reference, the schema and the chart's values against each other, and try every kind of mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::too_many_lines, reason = "tables are long")]

mod chart;
mod mistakes;
mod reference;

use kuroshio::config::{self, Config, Environment, Mistakes};

const REFERENCE: &str = include_str!("../../../config/reference.yaml");
const LOCAL: &str = include_str!("../../../config/local.yaml");
const TWO_REGIONS: &str = include_str!("../../../config/two-regions.yaml");
const SMALLEST: &str = "
clusters:
  tw: { bootstrap_servers: 'b-1.tw.example:9092,b-2.tw.example:9092' }
  jp: { bootstrap_servers: 'b-1.jp.example:9092' }
flows: [{ source: tw, target: jp }, { source: jp, target: tw }]
";

fn environment(variables: &[(&str, &str)]) -> Environment {
    let host = [("HOSTNAME", "pod-0")];
    host.iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    config::parse(text, &environment(&[]))
}

/// The mistakes of a text that must be refused, one text each.
fn mistakes(text: &str) -> Vec<String> {
    let mistakes = parse(text).expect_err("must be refused");
    mistakes.0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_examples_hold() {
    assert_eq!(parse(LOCAL).unwrap().flows.len(), 2);
    let rack = environment(&[
        ("KUROSHIO__CLUSTERS__TW__RACK", "${env:RACK}"),
        ("RACK", "apne1-az1"),
    ]);
    let regions = config::parse(TWO_REGIONS, &rack).unwrap();
    assert_eq!(regions.clusters["tw"].rack.as_deref(), Some("apne1-az1"));
    let names = |region, flows: &[&str]| {
        let flows: Vec<String> = flows.iter().map(ToString::to_string).collect();
        let selected = regions
            .selected_flows(region, &flows)
            .map_err(|mistakes| mistakes.to_string())?;
        Ok::<Vec<String>, String>(selected.iter().map(|flow| flow.name.to_string()).collect())
    };
    assert_eq!(names(None, &[]), Ok(vec!["tw-jp".into()]));
    assert_eq!(names(Some("tw"), &[]), Ok(vec!["jp-tw".into()]));
    assert_eq!(names(Some("tw"), &["jp-tw"]), Ok(vec!["jp-tw".into()]));
    assert_eq!(
        names(Some("us"), &[]),
        Err("--region: no flow has the target `us`; targets are jp, tw".into())
    );
    assert_eq!(
        names(None, &["x"]),
        Err("--flow: no flow is named `x`; flows are tw-jp, jp-tw".into())
    );
    assert_eq!(
        names(None, &["jp-tw"]),
        Err("--flow: the flow jp-tw has the target tw, not the region asked for".into())
    );
    assert!(regions.flows[0].router.route("orders").is_ok());
    assert!(regions.flows[0].router.route("pii.people").is_err());
    assert!(regions.flows[1].router.route("pii.people").is_ok());
}

#[test]
fn flow_over_defaults_over_built_in() {
    let text = "
clusters: { a: { bootstrap_servers: 'a:1' }, b: { bootstrap_servers: 'b:1' }, c: { bootstrap_servers: 'c:1' } }
flows:
  - { source: a, target: b, name: one, topics: { include: [x] }, memory: 16MiB, pumps: 3 }
  - { source: b, target: a, delivery: exactly_once, start: '2026-01-31T12:00:00Z' }
  - { source: a, target: c, authority: c }
defaults: { delivery: at_least_once, topics: { refresh: 1s, include: [y], exclude: [z] }, memory: 1GiB }
";
    let config = parse(text).unwrap();
    let [one, two, three] = config.flows.as_slice() else {
        panic!("three flows")
    };
    assert_eq!((&*one.name, &*two.name), ("one", "b-a"));
    assert_eq!(
        (one.delivery, two.delivery),
        (config::Delivery::AtLeastOnce, config::Delivery::ExactlyOnce)
    );
    assert_eq!(two.start, config::Start::Timestamp(1_769_860_800_000));
    assert_eq!(one.refresh.as_secs(), 1);
    assert!(one.router.route("x").is_ok() && one.router.route("y").is_err());
    assert!(two.router.route("y").is_ok() && two.router.route("z").is_err());
    assert_eq!(
        (&*one.authority, &*two.authority, &*three.authority),
        ("a", "a", "c")
    );
    assert_eq!(one.pumps, config::Pumps::Count(3));
    assert_eq!(
        (config.memory_of(one, 2), config.memory_of(two, 2)),
        (16 << 20, 512 << 20)
    );
}

#[test]
fn what_one_flow_of_a_pair_says_of_authority_holds_for_both() {
    let text = SMALLEST.replace("target: tw }", "target: tw, authority: jp }");
    let config = parse(&text).unwrap();
    assert_eq!(
        (&*config.flows[0].authority, &*config.flows[1].authority),
        ("jp", "jp")
    );
}

#[test]
fn the_environment_overrides_and_is_named_in_mistakes() {
    let environment = environment(&[
        ("KUROSHIO__CLUSTERS__TW__BOOTSTRAP_SERVERS", "other:1"),
        ("KUROSHIO__DEFAULTS__POSITIONS_ON_SOURCE", "false"),
        ("KUROSHIO__DEFAULTS__REPLICATION_FACTOR", "3"),
        ("KUROSHIO__FLOWS__1__PUMPS", "2"),
    ]);
    let config = config::parse(SMALLEST, &environment).unwrap();
    assert_eq!(config.clusters["tw"].bootstrap_servers, ["other:1"]);
    assert!(!config.flows[0].positions_on_source);
    assert_eq!(
        (config.flows[0].replication_factor, config.flows[1].pumps),
        (3, config::Pumps::Count(2))
    );

    for (name, value, says) in [
        (
            "KUROSHIO__DEFAULTS__DELIVRY",
            "x",
            "defaults.delivry: unknown key; did you mean `delivery`? (set by the environment variable KUROSHIO__DEFAULTS__DELIVRY)",
        ),
        (
            "KUROSHIO__FLOWS__7__SOURCE",
            "x",
            "the environment variable KUROSHIO__FLOWS__7__SOURCE has `7` where an index of the list flows is expected, 0 to 2",
        ),
        (
            "KUROSHIO__CLUSTERS__TW__BOOTSTRAP_SERVERS__X",
            "x",
            "the environment variable KUROSHIO__CLUSTERS__TW__BOOTSTRAP_SERVERS__X goes below clusters.tw.bootstrap_servers, which is a single value",
        ),
        (
            "KUROSHIO__FLOWS",
            "[]",
            "the environment variable KUROSHIO__FLOWS would replace the whole of flows; name the keys or items below it",
        ),
    ] {
        let environment = self::environment(&[(name, value)]);
        assert_eq!(
            config::parse(SMALLEST, &environment).unwrap_err().to_string(),
            says
        );
    }
}
