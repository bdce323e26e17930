//! What holds for all names and settings.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// Of births, copies, copies of copies, and topics that belong to others.
fn any_name() -> impl Strategy<Value = String> {
    let prefix = select(vec!["", "", "tw.", "jp.", "us.", "tw.jp.", "jp.jp."]);
    let name = select(vec![
        "a",
        "b",
        "orders",
        "pii.a",
        "pii.b",
        "kuroshio.x",
        "__x",
        "mm2-x",
    ]);
    (prefix, name).prop_map(|(prefix, name)| format!("{prefix}{name}"))
}

/// Residency keeps `pii.*` in tw and jp.
fn any_settings(source: &'static str, target: &'static str) -> impl Strategy<Value = RouteSettings> {
    let include = subsequence(vec![".*", "orders", "[ab]", "(tw|jp)[.].*", "pii[.].*"], 1..4);
    let exclude = subsequence(vec!["b", ".*[.]b", "orders"], 0..2);
    let rename = prop::collection::btree_map(any_name(), select(vec!["a", "x", "y", "tw.z"]), 0..4);
    (include, exclude, rename, any::<bool>(), any::<bool>()).prop_map(
        move |(include, exclude, rename, prefixed, relay)| RouteSettings {
            source: source.into(),
            target: target.into(),
            include: strings(&include),
            exclude: strings(&exclude),
            naming: if prefixed {
                Naming::Prefix(".".into())
            } else {
                Naming::Identity
            },
            rename: rename
                .into_iter()
                .map(|(from, to)| (from, to.to_owned()))
                .collect(),
            relay,
            residency: vec![Residency {
                topics: strings(&["pii[.].*"]),
                stay_in: strings(&["tw", "jp"]),
            }],
            ..settings()
        },
    )
}

proptest! {
    #[test]
    fn every_topic_has_one_fate_and_every_name_one_topic(
        settings in any_settings("tw", "jp"), topics in prop::collection::btree_set(any_name(), 0..20)
    ) {
        let router = router(settings);
        let plan = router.plan(&topics);
        let targets: BTreeSet<_> = plan.routes.values().collect();
        prop_assert_eq!(targets.len(), plan.routes.len());
        let conflicting = plan.conflicts.iter().flat_map(|conflict| &conflict.sources);
        let fates: Vec<_> = plan.routes.keys().chain(plan.unselected.keys()).chain(conflicting).collect();
        prop_assert_eq!(fates.len(), topics.len());
        prop_assert!(topics.iter().all(|topic| fates.iter().any(|fate| ***fate == **topic)));
        for (source, target) in &plan.routes {
            prop_assert!(!is_reserved(source) && !is_reserved(target));
            let back = router.source_of(target);
            prop_assert!(back.is_some_and(|back| router.route(&back).as_ref() == Ok(target)));
        }
        prop_assert_eq!(router.plan(topics.iter().rev()), plan);
    }

    /// Whatever the flows of a chain call it, with or without their own prefixes, no topic that must stay in tw and jp is found elsewhere.
    #[test]
    fn what_must_stay_stays_along_chains(
        tw_jp in any_settings("tw", "jp"), jp_us in any_settings("jp", "us"), us_tw in any_settings("us", "tw"),
        us_eu in any_settings("us", "eu"), topics in prop::collection::btree_set(any_name(), 0..12)
    ) {
        let routers = [tw_jp, jp_us, us_tw, us_eu].map(router);
        let routers = routers.clone().map(|router| router.among(&routers));
        // Per cluster: names, each with what its records were called at birth in tw.
        let mut there: BTreeMap<&str, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        let born = topics.into_iter().map(|topic| (topic.clone(), BTreeSet::from([topic])));
        there.insert("tw", born.collect());
        for _ in 0..6 {
            for router in &routers {
                let here = there.get(router.settings.source.as_str()).cloned().unwrap_or_default();
                let plan = router.plan(here.keys());
                let target = match router.settings.target.as_str() {
                    "jp" => "jp",
                    "us" => "us",
                    "tw" => "tw",
                    _ => "eu",
                };
                for (source, name) in plan.routes {
                    let births = here[&*source].clone();
                    there.entry(target).or_default().entry(name.to_string()).or_default().extend(births);
                }
            }
        }
        for (cluster, names) in there.iter().filter(|(cluster, _)| !["tw", "jp"].contains(*cluster)) {
            for (name, births) in names {
                let kept = births.iter().find(|birth| birth.starts_with("pii."));
                prop_assert!(kept.is_none(), "{kept:?} lies in {cluster} as {name}");
            }
        }
    }

    /// Flows that put prefixes before names come to rest, whether they relay or not.
    #[test]
    fn prefixes_do_not_pile_up(
        flows in ["tw jp", "jp tw", "jp us", "us jp"].map(|ends| {
            let (source, target) = ends.split_once(' ').unwrap();
            any_settings(source, target)
        }),
        relay: bool, topics in prop::collection::btree_set(any_name(), 0..12)
    ) {
        let routers = flows.map(|settings| router(RouteSettings {
            naming: Naming::Prefix(".".into()),
            relay,
            rename: BTreeMap::new(),
            ..settings
        }));
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for cluster in ["tw", "jp", "us"] {
            there.insert(cluster.to_owned(), topics.clone());
        }
        let round = |there: &mut BTreeMap<String, BTreeSet<String>>| {
            for router in &routers {
                let copies = router.plan(&there[&router.settings.source]).routes;
                let names = copies.values().map(ToString::to_string);
                there.entry(router.settings.target.clone()).or_default().extend(names);
            }
        };
        // A name grows once for each cluster on its way.
        for _ in 0..3 {
            round(&mut there);
        }
        let after = there.clone();
        round(&mut there);
        prop_assert_eq!(there, after);
    }
}
