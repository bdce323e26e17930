mod properties;

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn settings() -> RouteSettings {
    RouteSettings {
        source: "tw".into(),
        target: "jp".into(),
        aliases: strings(&["tw", "jp", "us"]),
        include: strings(&[".*"]),
        exclude: strings(&["secret[.].*"]),
        naming: Naming::Identity,
        rename: BTreeMap::new(),
        relay: false,
        residency: Vec::new(),
        heartbeats: false,
        mm2_heartbeats: None,
    }
}

fn prefixed() -> RouteSettings {
    RouteSettings {
        naming: Naming::Prefix(".".into()),
        ..settings()
    }
}

fn rename(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
        .collect()
}

fn router(settings: RouteSettings) -> Router {
    Router::new(settings).unwrap()
}

fn routed(router: &Router, topic: &str) -> String {
    match router.route(topic) {
        Ok(name) => format!("-> {name}"),
        Err(why) => why.to_string(),
    }
}

fn assert_routes(settings: RouteSettings, table: &[(&str, &str)]) {
    let router = router(settings);
    for (topic, expected) in table {
        assert_eq!(routed(&router, topic), *expected, "{topic}");
    }
}

#[test]
fn reserved_topics() {
    const KAFKA: &str = "belongs to Kafka";
    const KUROSHIO: &str = "belongs to Kuroshio";
    const MM2: &str = "belongs to MirrorMaker 2";
    let table = [
        ("kuroshio.heartbeats", KUROSHIO),
        ("kuroshio", "-> kuroshio"),
        ("heartbeats", MM2),
        ("device.heartbeats", "-> device.heartbeats"),
        ("mm2-offset-syncs.jp.internal", MM2),
        ("mm2-configs", MM2),
        ("tw.checkpoints.internal", MM2),
        ("my-internal", MM2),
        ("internal", "-> internal"),
        ("__consumer_offsets", KAFKA),
        ("__amazon_msk_canary", KAFKA),
    ];
    assert_routes(settings(), &table);
}

#[test]
fn patterns_match_whole_names() {
    let excluded = "excluded by \"secret[.].*\"";
    let not_included = "not in topics.include";
    let identity = [
        ("orders", "-> orders"),
        ("secret.keys", excluded),
        ("my.secret.keys", "-> my.secret.keys"),
        ("tw.orders", "-> tw.orders"),
    ];
    assert_routes(settings(), &identity);
    let two = RouteSettings {
        include: strings(&["orders", "a|b", "pay.*"]),
        ..settings()
    };
    let some = [
        ("orders", "-> orders"),
        ("orders2", not_included),
        ("my.orders", not_included),
        ("payments", "-> payments"),
        ("b", "-> b"),
        ("ab", not_included),
    ];
    assert_routes(two, &some);
    assert_routes(
        RouteSettings {
            include: Vec::new(),
            ..settings()
        },
        &[("orders", not_included)],
    );
}

#[test]
fn naming() {
    let prefix = [
        ("orders", "-> tw.orders"),
        ("jp.orders", "a copy from jp, and forward is local"),
        ("tw.orders", "a copy from tw, and forward is local"),
        ("jporders", "-> tw.jporders"),
        ("jp.", "-> tw.jp."),
    ];
    assert_routes(prefixed(), &prefix);
    assert_routes(
        RouteSettings {
            relay: true,
            ..prefixed()
        },
        &[
            ("us.orders", "-> tw.us.orders"),
            ("us.eu.orders", "-> tw.us.eu.orders"),
            ("jp.orders", "a copy that has come through jp"),
            ("us.jp.orders", "a copy that has come through jp"),
            ("orders.jp.x", "-> tw.orders.jp.x"),
        ],
    );
    let pairs = rename(&[("orders", "o"), ("secret.a", "a")]);
    let renamed = [("orders", "-> o"), ("secret.a", "excluded by \"secret[.].*\"")];
    assert_routes(
        RouteSettings {
            rename: pairs.clone(),
            ..settings()
        },
        &renamed,
    );
    let both = [("orders", "-> o"), ("order", "-> tw.order")];
    assert_routes(
        RouteSettings {
            rename: pairs,
            ..prefixed()
        },
        &both,
    );
}

#[test]
fn a_name_on_the_target_leads_back_to_its_topic() {
    let renamed = RouteSettings {
        rename: rename(&[("orders", "jp-orders"), ("secret.keys", "keys")]),
        ..settings()
    };
    for (settings, target, expected) in [
        (settings(), "orders", Some("orders")),
        (settings(), "secret.keys", None),
        (settings(), "__consumer_offsets", None),
        (renamed.clone(), "jp-orders", Some("orders")),
        // `orders` itself has another name there.
        (renamed.clone(), "orders", None),
        (renamed, "keys", Some("keys")),
        (prefixed(), "tw.orders", Some("orders")),
        (prefixed(), "orders", None),
        (prefixed(), "us.orders", None),
        // A copy of a copy, which is not relayed.
        (prefixed(), "tw.us.orders", None),
    ] {
        let found = router(settings).source_of(target);
        assert_eq!(found.as_deref(), expected, "{target}");
    }
}

#[test]
fn heartbeats_are_copied_whatever_the_rest_says() {
    let settings = RouteSettings {
        heartbeats: true,
        include: Vec::new(),
        ..prefixed()
    };
    let router = router(settings);
    assert_eq!(routed(&router, HEARTBEATS), "-> kuroshio.heartbeats");
    assert_eq!(routed(&router, "kuroshio.other"), "belongs to Kuroshio");
}

#[test]
fn mirror_makers_heartbeats_are_copied_once_where_that_is_asked_for() {
    for settings in [settings(), prefixed()] {
        let without = router(settings.clone());
        let router = router(RouteSettings {
            mm2_heartbeats: Some("_".into()),
            ..settings
        });
        assert_eq!(routed(&router, "heartbeats"), "-> tw_heartbeats");
        assert_eq!(
            routed(&router, "us_heartbeats"),
            Unselected::Reserved(Owner::MirrorMaker).to_string()
        );
        assert!(router.route("device_heartbeats").is_ok());
        assert_ne!(router.fingerprint(), without.fingerprint());
        assert_eq!(router.source_of("tw_heartbeats").as_deref(), Some("heartbeats"));
    }
}

#[test]
fn residency_goes_before_everything_and_holds_for_copies() {
    let kept = "must stay where it is (residency \"pii[.].*\")";
    let rule = |stay_in: &[&str], settings| {
        let residency = vec![Residency {
            topics: strings(&["pii[.].*"]),
            stay_in: strings(stay_in),
        }];
        RouteSettings {
            residency,
            ..settings
        }
    };
    assert_routes(rule(&["tw"], settings()), &[("pii.a", kept), ("pii", "-> pii")]);
    assert_routes(rule(&["tw", "jp"], settings()), &[("pii.a", "-> pii.a")]);
    assert_routes(rule(&[], settings()), &[("pii.a", kept)]);
    let relay = RouteSettings {
        relay: true,
        ..prefixed()
    };
    assert_routes(rule(&["us"], relay), &[("us.pii.a", kept), ("us.tw.pii.a", kept)]);
    let renamed = RouteSettings {
        rename: rename(&[("pii.a", "a")]),
        ..settings()
    };
    assert_routes(rule(&["tw"], renamed), &[("pii.a", kept)]);
    // What other flows call it, one after the other: tw -> jp renames, jp -> us puts a prefix.
    let onwards = RouteSettings {
        source: "us".into(),
        target: "eu".into(),
        relay: true,
        ..settings()
    };
    let others = [
        RouteSettings {
            rename: rename(&[("pii.a", "a"), ("b", "a")]),
            ..settings()
        },
        RouteSettings {
            source: "jp".into(),
            target: "us".into(),
            ..prefixed()
        },
    ];
    let alone = router(rule(&["tw", "jp", "us"], onwards));
    assert!(alone.route("jp.a").is_ok());
    let among = alone.among(&others.map(router));
    assert_eq!(among.route("jp.a").unwrap_err().to_string(), kept);
    assert_eq!(among.route("jp.pii.b").unwrap_err().to_string(), kept);
    assert!(among.route("jp.b").is_ok());
}

#[test]
fn two_topics_for_one_name_stop_and_the_others_go_on() {
    let settings = RouteSettings {
        rename: rename(&[("a", "x"), ("b", "x"), ("c", "d")]),
        ..settings()
    };
    let plan = router(settings).plan(["d", "e", "c", "b", "a", "a", "__x"]);
    let routes: Vec<_> = plan.routes.iter().map(|(from, to)| (&**from, &**to)).collect();
    assert_eq!(routes, [("e", "e")]);
    let conflicts: Vec<_> = plan.conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        conflicts,
        [
            "the topics c, d would all be \"d\" on the target: rename or exclude all but one",
            "the topics a, b would all be \"x\" on the target: rename or exclude all but one",
        ]
    );
    assert_eq!(plan.unselected.len(), 1);
}

#[test]
fn names_that_kafka_does_not_take() {
    let long = "x".repeat(247);
    assert_eq!(router(settings()).route(&long).as_deref(), Ok(long.as_str()));
    let refused = router(prefixed()).route(&long);
    assert!(matches!(
        refused,
        Err(Unselected::Name {
            why: BadName::Length,
            ..
        })
    ));
}

#[test]
fn every_mistake_is_told_at_once() {
    let settings = RouteSettings {
        aliases: strings(&["tw", "tw.x"]),
        include: strings(&["ok", "("]),
        exclude: strings(&["a)|(b"]),
        residency: vec![Residency {
            topics: strings(&["["]),
            stay_in: Vec::new(),
        }],
        rename: rename(&[("a", "a b"), ("b", ""), ("c", "__c"), ("d", ".."), ("e", "fine")]),
        ..prefixed()
    };
    let errors = Router::new(settings).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 8, "{texts:#?}");
    for (text, begins) in texts.iter().zip([
        "topics.include[1]: \"(\" is not",
        "topics.exclude[0]: \"a)|(b\" is not",
        "residency[0].topics[0]: \"[\" is not",
        "prefix_separator: \"tw.\" also begins the alias \"tw.x\"",
        "topics.rename.a: \"a b\" is not made of",
        "topics.rename.b: \"\" is not 1 to 249",
        "topics.rename.c: \"__c\" is reserved",
        "topics.rename.d: \"..\" is not made of",
    ]) {
        assert!(
            text.starts_with(begins),
            "{text:?} does not begin with {begins:?}"
        );
    }
}

#[test]
fn separators() {
    for (separator, good) in [(".", true), ("__", true), ("", false), ("/", false), (" ", false)] {
        let settings = RouteSettings {
            naming: Naming::Prefix(separator.into()),
            ..settings()
        };
        assert_eq!(Router::new(settings).is_ok(), good, "{separator:?}");
    }
    // Under identity naming nothing is read from prefixes.
    assert!(
        Router::new(RouteSettings {
            aliases: strings(&["tw", "tw.x"]),
            ..settings()
        })
        .is_ok()
    );
}

#[test]
fn the_fingerprint_follows_the_meaning() {
    let base = || RouteSettings {
        include: strings(&["a", "b"]),
        ..settings()
    };
    let stay = |alias| {
        vec![Residency {
            topics: strings(&["a"]),
            stay_in: strings(&[alias]),
        }]
    };
    let print = |settings: RouteSettings| router(settings).fingerprint();
    let same = RouteSettings {
        include: strings(&["b", "a", "a"]),
        ..base()
    };
    assert_eq!(print(base()), print(same));
    assert_eq!(
        print(base()),
        print(RouteSettings {
            residency: stay("jp"),
            ..base()
        })
    );

    let moved = strings(&["b", "secret[.].*"]);
    let different = [
        base(),
        RouteSettings {
            include: strings(&["a"]),
            ..base()
        },
        RouteSettings {
            include: strings(&["ab"]),
            ..base()
        },
        RouteSettings {
            include: strings(&["a"]),
            exclude: moved,
            ..base()
        },
        RouteSettings {
            naming: Naming::Prefix(".".into()),
            ..base()
        },
        RouteSettings {
            rename: rename(&[("a", "b")]),
            ..base()
        },
        RouteSettings {
            relay: true,
            ..base()
        },
        RouteSettings {
            heartbeats: true,
            ..base()
        },
        RouteSettings {
            residency: stay("tw"),
            ..base()
        },
        RouteSettings {
            source: "us".into(),
            ..base()
        },
    ];
    let count = different.len();
    let prints: BTreeSet<u64> = different.into_iter().map(print).collect();
    assert_eq!(prints.len(), count);
}

/// Members of different releases compare it: it must not change.
#[test]
fn the_fingerprint_is_known() {
    assert_eq!(router(settings()).fingerprint(), 0xeead_7d77_57b5_8e27);
}
