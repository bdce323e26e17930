use super::*;

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

/// `orders` is there, `bills` must be made and is called `jp.bills` there; nothing else is wanted.
fn plain() -> Facts {
    Facts {
        flow: "tw-jp".into(),
        routes: [
            ("orders", "orders"),
            ("bills", "jp.bills"),
            ("kuroshio.heartbeats", "kuroshio.heartbeats"),
        ]
        .map(|(source, target)| (source.into(), target.into()))
        .into(),
        missing: names(&["jp.bills"]),
        exactly_once: true,
        ..Facts::default()
    }
}

fn everything() -> Facts {
    Facts {
        ruled: names(&["orders"]),
        own: vec![
            Own {
                side: Side::Source,
                topic: "kuroshio.heartbeats".into(),
                missing: true,
            },
            Own {
                side: Side::Target,
                topic: "heartbeats".into(),
                missing: false,
            },
        ],
        groups: names(&["app"]),
        others: [names(&["jp-tw"]), names(&["kr-jp"])],
        partitions: true,
        configs: true,
        compression: true,
        acls: true,
        sync: true,
        positions_on_source: true,
        deletes: true,
        admin: true,
        ..plain()
    }
}

/// A line each: `source topic bills,orders DESCRIBE,READ`.
fn lines(facts: &Facts) -> Vec<String> {
    let line = |need: &Need| {
        let side = match need.side {
            Side::Source => "source",
            Side::Target => "target",
        };
        let names: Vec<&str> = need.names.iter().map(|name| &**name).collect();
        let operations: Vec<String> = need.operations.iter().map(ToString::to_string).collect();
        let (names, operations) = (names.join(","), operations.join(","));
        format!("{side} {} {names} {operations}", need.kind).replace("  ", " ")
    };
    needs(facts).iter().map(line).collect()
}

#[test]
fn nothing_is_asked_for_that_is_not_wanted() {
    assert_eq!(
        lines(&plain()),
        [
            "source topic bills,kuroshio.heartbeats,orders DESCRIBE,READ",
            "source topic bills DESCRIBE_CONFIGS",
            "source group kuroshio.tw-jp DESCRIBE",
            "target topic jp.bills CREATE",
            "target topic jp.bills,kuroshio.heartbeats,orders DESCRIBE,READ,WRITE",
            "target topic jp.bills,kuroshio.heartbeats,orders DESCRIBE_CONFIGS",
            "target group kuroshio.tw-jp DESCRIBE,READ",
            "target transactional id kuroshio.tw-jp.* DESCRIBE,WRITE",
        ]
    );
    let at_least_once = Facts {
        exactly_once: false,
        ..plain()
    };
    let lines = lines(&at_least_once);
    assert!(
        lines.contains(&"target cluster IDEMPOTENT_WRITE".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn each_setting_asks_for_its_own() {
    assert_eq!(
        lines(&everything()),
        [
            "source topic bills,kuroshio.heartbeats,orders DESCRIBE,READ",
            "source topic bills,kuroshio.heartbeats,orders DESCRIBE_CONFIGS",
            "source group kuroshio.tw-jp DESCRIBE,READ",
            "source group app DESCRIBE",
            "source cluster DESCRIBE",
            "source topic kuroshio.heartbeats DESCRIBE,WRITE",
            "source topic kuroshio.heartbeats CREATE",
            "source group kuroshio.jp-tw DESCRIBE",
            "source transactional id kuroshio.jp-tw.* DESCRIBE",
            "target topic jp.bills CREATE",
            "target topic jp.bills,kuroshio.heartbeats,orders DESCRIBE,READ,WRITE",
            "target topic jp.bills,kuroshio.heartbeats,orders DESCRIBE_CONFIGS",
            "target topic jp.bills,orders ALTER",
            "target topic orders ALTER_CONFIGS",
            "target topic orders DELETE",
            "target group kuroshio.tw-jp DESCRIBE,READ",
            "target transactional id kuroshio.tw-jp.* DESCRIBE,WRITE",
            "target group app DESCRIBE,READ",
            "target cluster DESCRIBE,ALTER",
            "target group kuroshio.tw-jp.acls DESCRIBE,READ",
            "target group kuroshio.tw-jp.control DESCRIBE,READ",
            "target topic heartbeats DESCRIBE,WRITE",
            "target group kuroshio.kr-jp DESCRIBE",
            "target transactional id kuroshio.kr-jp.* DESCRIBE",
        ]
    );
}

#[test]
fn a_permission_is_named_as_kafka_and_as_iam_name_it() {
    let all: BTreeSet<String> = needs(&everything())
        .iter()
        .flat_map(|need| {
            let of_need = need
                .operations
                .iter()
                .flat_map(|operation| need.permissions(*operation));
            let named = of_need.map(|permission| format!("{permission}: {}", permission.iam().unwrap()));
            named.collect::<Vec<_>>()
        })
        .collect();
    for named in [
        "WRITE on topic orders: kafka-cluster:WriteData on topic/orders",
        "READ on group kuroshio.tw-jp: kafka-cluster:AlterGroup on group/kuroshio.tw-jp",
        "WRITE on transactional id kuroshio.tw-jp.*: kafka-cluster:AlterTransactionalId on transactional-id/kuroshio.tw-jp.*",
        "ALTER on the cluster: kafka-cluster:AlterCluster on the cluster",
    ] {
        assert!(all.contains(named), "{named} is not in {all:#?}");
    }
}

#[test]
fn the_same_list_serves_where_names_are_not_known() {
    let star = Facts {
        routes: [("*".into(), "*".into())].into(),
        missing: names(&["*"]),
        ruled: names(&["*"]),
        groups: names(&["*"]),
        ..everything()
    };
    let lines = lines(&star);
    for line in [
        "target topic * CREATE",
        "target topic * DESCRIBE,READ,WRITE",
        "target group * DESCRIBE,READ",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} is not in {lines:?}");
    }
}

/// A line each: `topic orders READ,WRITE`.
fn granted(grants: &[Grant]) -> Vec<String> {
    let line = |grant: &Grant| {
        let operations: Vec<String> = grant.operations.iter().map(ToString::to_string).collect();
        format!("{} {} {}", grant.kind, grant.name, operations.join(",")).replace("  ", " ")
    };
    grants.iter().map(line).collect()
}

#[test]
fn grants_are_the_fewest_that_come_to_the_needs() {
    let need = |kind, some: &[&str], operations: &[Operation]| Need {
        side: Side::Target,
        kind,
        names: names(some),
        operations: operations.to_vec(),
        why: "test",
    };
    use Operation as O;
    let list = [
        need(
            Kind::Topic,
            &["orders", "pii.*", "pii.eu.*", "pii.eu.x"],
            &[O::DESCRIBE, O::READ],
        ),
        need(Kind::Topic, &["orders", "orders*"], &[O::DESCRIBE_CONFIGS]),
        need(
            Kind::Topic,
            &["orders", "pii.eu.x"],
            &[O::ALTER_CONFIGS, O::CREATE],
        ),
        need(Kind::Topic, &["*"], &[O::DESCRIBE]),
        need(Kind::Group, &["a"], &[O::DESCRIBE]),
        need(Kind::Group, &["a", "b"], &[O::READ]),
        need(Kind::Cluster, &[""], &[O::DESCRIBE]),
        need(Kind::Cluster, &[""], &[O::ALTER, O::IDEMPOTENT_WRITE]),
    ];
    let grants = grants(&list);
    assert_eq!(
        granted(&grants),
        [
            "cluster ALTER,DESCRIBE,IDEMPOTENT_WRITE",
            "topic * DESCRIBE",
            "topic orders READ,CREATE,ALTER_CONFIGS",
            "topic orders* DESCRIBE_CONFIGS",
            "topic pii.* READ",
            "topic pii.eu.x CREATE,ALTER_CONFIGS",
            "group a READ,DESCRIBE",
            "group b READ",
        ]
    );
    // Who may read some may not describe all; what begins with `orders` is wider than what may be altered.
    assert_eq!(
        granted(&acls(&grants)),
        [
            "cluster ALTER,IDEMPOTENT_WRITE",
            "topic * DESCRIBE",
            "topic orders READ,CREATE,ALTER_CONFIGS",
            "topic orders* DESCRIBE_CONFIGS",
            "topic pii.* READ",
            "topic pii.eu.x CREATE,ALTER_CONFIGS",
            "group a READ",
            "group b READ",
        ]
    );
    let written = [need(Kind::Topic, &["t*"], &[O::WRITE]), list[7].clone()];
    assert_eq!(
        granted(&acls(&super::grants(&written))),
        ["cluster ALTER", "topic t* WRITE"]
    );
}

#[test]
fn every_need_of_every_flow_is_granted() {
    let star = Facts {
        routes: [("*".into(), "tw.*".into())].into(),
        missing: names(&["tw.*"]),
        ..everything()
    };
    let list: Vec<Need> = [everything(), plain(), star].iter().flat_map(needs).collect();
    for side in [Side::Source, Side::Target] {
        let of_side: Vec<&Need> = list.iter().filter(|need| need.side == side).collect();
        let grants = grants(of_side.iter().copied());
        for need in of_side {
            for operation in &need.operations {
                for permission in need.permissions(*operation) {
                    let holds = grants.iter().any(|grant| {
                        let start = grant.name.trim_end_matches('*');
                        let wide = start.len() < grant.name.len() && permission.name.starts_with(start);
                        grant.kind == permission.kind
                            && (wide || *grant.name == *permission.name)
                            && grant.operations.contains(operation)
                    });
                    assert!(holds, "{permission} is not in {:#?}", granted(&grants));
                }
            }
        }
    }
}
