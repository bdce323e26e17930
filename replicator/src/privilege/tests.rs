use super::commands::quoted;
use super::*;
use crate::config::{Environment, parse};

const PAIR: &str = r#"
instance: i
clusters:
  tw: { bootstrap_servers: "b-1.x.c2.kafka.ap-east-2.amazonaws.com:9098,b-2.x.c2.kafka.ap-east-2.amazonaws.com:9098" }
  jp: { bootstrap_servers: "b-1.jp.example:9092,[::1]:9092" }
flows:
  - { source: tw, target: jp }
  - { source: jp, target: tw, delivery: at_least_once, positions_on_source: false }
defaults:
  topics: { include: ["orders", "pii[.].*"] }
  groups: { include: ["app-.*", "it's me", "connect-x"] }
"#;

fn config(text: &str) -> Config {
    parse(text, &Environment::new()).unwrap()
}

fn of(config: &Config, flows: &[&str]) -> Privileges {
    let flows: Vec<String> = flows.iter().map(|flow| (*flow).to_owned()).collect();
    privileges(config, &config.selected_flows(None, &flows).unwrap())
}

/// A line each: `tw topic orders READ,WRITE`.
fn lines(config: &Config, flows: &[&str]) -> Vec<String> {
    let line = |alias: &str, grant: &Grant| {
        let operations: Vec<String> = grant.operations.iter().map(ToString::to_string).collect();
        format!("{alias} {} {} {}", grant.kind, grant.name, operations.join(","))
    };
    let privileges = of(config, flows);
    let acls = privileges
        .iter()
        .map(|(alias, grants)| (alias, kuroshio_core::needs::acls(grants)));
    acls.flat_map(|(alias, grants)| grants.iter().map(|grant| line(alias, grant)).collect::<Vec<_>>())
        .collect()
}

fn granting(command_config: Option<&str>) -> Granting {
    Granting {
        principal: Some("User:CN=k, O=x".into()),
        command_config: command_config.map(str::to_owned),
    }
}

#[test]
fn commands_for_both_directions() {
    let config = config(PAIR);
    let text = commands(&config, &of(&config, &[]), &granting(None));
    let expected = "\
# cluster jp
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Read --operation Write --operation Create --operation Alter --operation AlterConfigs --topic orders
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Read --operation Write --operation Create --operation DescribeConfigs --topic kuroshio.heartbeats
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Read --operation Write --operation Create --operation Alter --operation AlterConfigs --topic pii. --resource-pattern-type prefixed
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Read --group 'it'\\''s me' --group kuroshio.tw-jp
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Describe --group kuroshio.jp-tw
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Read --group app- --resource-pattern-type prefixed
kafka-acls --bootstrap-server 'b-1.jp.example:9092,[::1]:9092' --add --allow-principal 'User:CN=k, O=x' \
--operation Write --transactional-id kuroshio.tw-jp. --resource-pattern-type prefixed
";
    let (jp, tw) = text.split_once("# cluster tw\n").unwrap();
    assert_eq!(jp, expected);
    // The source has the authority: nothing that is set on jp's copies is set on tw's.
    assert!(!tw.contains("AlterConfigs"), "{tw}");
    let secured = commands(&config, &of(&config, &[]), &granting(Some("ad min.properties")));
    let option = "--command-config 'ad min.properties' --add";
    assert_eq!(secured.matches(option).count(), text.matches("--add").count());
}

#[test]
fn a_process_that_runs_one_flow_needs_what_that_needs() {
    let config = config(PAIR);
    assert_eq!(
        lines(&config, &["jp-tw"]),
        [
            "jp topic kuroshio.heartbeats READ,WRITE,CREATE,DESCRIBE_CONFIGS",
            "jp topic orders READ,DESCRIBE_CONFIGS",
            "jp topic pii.* READ,DESCRIBE_CONFIGS",
            "jp group app-* DESCRIBE",
            "jp group it's me DESCRIBE",
            "jp group kuroshio.jp-tw DESCRIBE",
            "jp group kuroshio.tw-jp DESCRIBE",
            "jp transactional id kuroshio.tw-jp.* DESCRIBE",
            "tw topic kuroshio.heartbeats READ,WRITE,CREATE,DESCRIBE_CONFIGS",
            "tw topic orders READ,WRITE,CREATE,ALTER,DESCRIBE_CONFIGS",
            "tw topic pii.* READ,WRITE,CREATE,ALTER,DESCRIBE_CONFIGS",
            "tw group app-* READ",
            "tw group it's me READ",
            "tw group kuroshio.jp-tw READ",
            "tw transactional id kuroshio.jp-tw.* WRITE",
        ]
    );
}

#[test]
fn all_topics_under_names_with_prefix_and_what_else_can_be_wanted() {
    let config = config(
        r"
instance: i
clusters: { tw: { bootstrap_servers: 'a:1' }, jp: { bootstrap_servers: 'b:1' }, kr: { bootstrap_servers: 'c:1' } }
flows: [{ source: tw, target: jp }, { source: kr, target: jp }]
defaults:
  naming: prefix
  topics: { rename: { bills: accounts } }
  mm2_compat: { heartbeats: true, checkpoints: true }
  acls: { sync: true }
  on_topic_delete: delete
  configs: { sync: false }
  groups: { sync: false }
http: { admin: true }
",
    );
    assert_eq!(
        lines(&config, &["tw-jp"]),
        [
            "jp cluster  ALTER",
            "jp topic accounts READ,WRITE,CREATE,DELETE,ALTER,DESCRIBE_CONFIGS",
            "jp topic heartbeats WRITE,CREATE",
            "jp topic kuroshio.heartbeats READ,WRITE,CREATE,DESCRIBE_CONFIGS",
            "jp topic tw.* READ,WRITE,CREATE,DELETE,ALTER,DESCRIBE_CONFIGS",
            "jp group * DESCRIBE",
            "jp group kuroshio.tw-jp READ",
            "jp group kuroshio.tw-jp.acls READ",
            "jp group kuroshio.tw-jp.control READ",
            "jp transactional id kuroshio.kr-jp.* DESCRIBE",
            "jp transactional id kuroshio.tw-jp.* WRITE",
            "tw cluster  DESCRIBE",
            "tw topic * READ,DESCRIBE_CONFIGS",
            "tw topic heartbeats WRITE,CREATE",
            "tw topic kuroshio.heartbeats WRITE,CREATE",
            "tw group * DESCRIBE",
            "tw group kuroshio.tw-jp READ",
        ]
    );
    let told = wide(&of(&config, &["tw-jp"]));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].starts_with("cluster jp: `*` stands for all groups"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("cluster tw: `*` stands for all topics"),
        "{told:?}"
    );
}

#[test]
fn policies_name_what_is_known_and_leave_open_what_is_not() {
    let config = config(PAIR);
    let privileges = of(&config, &[]);
    let none = BTreeMap::new();
    let open = policies(&config, &privileges, &none).unwrap();
    let tw = serde_json::to_value(&open["tw"]).unwrap();
    assert_eq!(tw["Version"], "2012-10-17");
    let at = "arn:aws:kafka:ap-east-2:ACCOUNT_ID";
    let (topic, group) = (
        format!("{at}:topic/CLUSTER_NAME/CLUSTER_UUID"),
        format!("{at}:group/CLUSTER_NAME/CLUSTER_UUID"),
    );
    assert_eq!(
        tw["Statement"],
        serde_json::json!([
            {
                "Sid": "Cluster1", "Effect": "Allow",
                "Action": ["kafka-cluster:Connect", "kafka-cluster:WriteDataIdempotently"],
                "Resource": [format!("{at}:cluster/CLUSTER_NAME/CLUSTER_UUID")],
            },
            {
                "Sid": "Topics1", "Effect": "Allow",
                "Action": [
                    "kafka-cluster:AlterTopic", "kafka-cluster:CreateTopic", "kafka-cluster:DescribeTopic",
                    "kafka-cluster:DescribeTopicDynamicConfiguration", "kafka-cluster:ReadData", "kafka-cluster:WriteData",
                ],
                "Resource": [format!("{topic}/orders"), format!("{topic}/pii.*")],
            },
            {
                "Sid": "Topics2", "Effect": "Allow",
                "Action": [
                    "kafka-cluster:CreateTopic", "kafka-cluster:DescribeTopic",
                    "kafka-cluster:DescribeTopicDynamicConfiguration", "kafka-cluster:ReadData", "kafka-cluster:WriteData",
                ],
                "Resource": [format!("{topic}/kuroshio.heartbeats")],
            },
            {
                "Sid": "Groups1", "Effect": "Allow",
                "Action": ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"],
                "Resource": [
                    format!("{group}/app-*"), format!("{group}/it's me"),
                    format!("{group}/kuroshio.jp-tw"), format!("{group}/kuroshio.tw-jp"),
                ],
            },
            {
                "Sid": "TransactionalIds1", "Effect": "Allow",
                "Action": ["kafka-cluster:AlterTransactionalId", "kafka-cluster:DescribeTransactionalId"],
                "Resource": [format!("{at}:transactional-id/CLUSTER_NAME/CLUSTER_UUID/kuroshio.jp-tw.*")],
            },
        ])
    );
    let told = remarks(&config, &open, &none).unwrap();
    assert!(told[0].starts_with(
        "cluster jp: put its own in the place of REGION, ACCOUNT_ID, CLUSTER_NAME, CLUSTER_UUID"
    ));
    assert!(
        told[1].starts_with("cluster tw: put its own in the place of ACCOUNT_ID, CLUSTER_NAME, CLUSTER_UUID")
    );

    let arn = "arn:aws-cn:kafka:cn-north-1:123456789012:cluster/o/0a-1";
    let arns = BTreeMap::from([("tw".to_owned(), arn.parse::<Arn>().unwrap())]);
    let filled = policies(&config, &privileges, &arns).unwrap();
    let tw = serde_json::to_string(&filled["tw"]).unwrap();
    assert!(
        tw.contains(&format!("\"{arn}\""))
            && tw.contains("arn:aws-cn:kafka:cn-north-1:123456789012:topic/o/0a-1/orders")
    );
    assert!(!tw.contains("CLUSTER_"), "{tw}");
    assert_eq!(remarks(&config, &filled, &arns).unwrap().len(), 1);
    let stray = BTreeMap::from([("us".to_owned(), arn.parse::<Arn>().unwrap())]);
    let why = policies(&config, &privileges, &stray).unwrap_err().to_string();
    assert!(why.contains("no cluster has the alias `us`"), "{why}");
}

#[test]
fn what_means_something_to_iam_stands_for_itself() {
    let text = PAIR.replace(r#""connect-x""#, r#"'a\*b\?\$[{]c[}]'"#);
    let config = config(&text);
    let policies = policies(&config, &of(&config, &[]), &BTreeMap::new()).unwrap();
    let tw = serde_json::to_string(&policies["tw"]).unwrap();
    assert!(tw.contains("/a${*}b${?}${$}{c}\""), "{tw}");
}

#[test]
fn a_policy_that_is_too_long_is_told() {
    let topics: Vec<String> = (0..200).map(|number| format!("\"orders-{number}\"")).collect();
    let text = PAIR.replace(r#""orders", "pii[.].*""#, &topics.join(", "));
    let config = config(&text);
    let policies = policies(&config, &of(&config, &[]), &BTreeMap::new()).unwrap();
    let told = remarks(&config, &policies, &BTreeMap::new()).unwrap();
    assert!(told[1].contains("a managed policy at most 6144"), "{told:?}");
    // And no command is longer than a shell takes.
    let commands = commands(&config, &of(&config, &[]), &granting(None));
    assert!(commands.lines().all(|line| line.len() < 2_000), "{commands}");
}

#[test]
fn what_is_no_arn_of_a_cluster_is_refused() {
    for text in [
        "",
        "arn:aws:kafka:r:1:cluster/n",
        "arn:aws:kafka:r:1:topic/n/u/t",
        "arn:aws:kafka:r:1:cluster/n/",
        "arn:aws:s3:r:1:cluster/n/u",
    ] {
        assert!(text.parse::<Arn>().is_err(), "{text}");
    }
}

#[test]
fn one_cluster_may_be_asked_for() {
    let config = config(PAIR);
    let only = on(of(&config, &[]), Some("tw")).unwrap();
    assert_eq!(only.keys().map(|alias| &**alias).collect::<Vec<_>>(), ["tw"]);
    let why = on(of(&config, &[]), Some("us")).unwrap_err().to_string();
    assert!(
        why.contains("--cluster") && why.contains("theirs are jp, tw"),
        "{why}"
    );
}

#[test]
fn the_same_as_data() {
    let config = config(PAIR);
    let acls = acls(&config, &of(&config, &["tw-jp"]), &granting(None));
    let ids = acls["jp"].as_array().unwrap().last().unwrap();
    assert_eq!(
        *ids,
        serde_json::json!({
            "principal": "User:CN=k, O=x",
            "resource_type": "TRANSACTIONAL_ID",
            "pattern_type": "PREFIXED",
            "name": "kuroshio.tw-jp.",
            "operations": ["WRITE"],
            "why": ["records and positions are written in transactions"],
        })
    );
}

#[test]
fn it_is_granted_to_who_we_are_there() {
    let sasl = |sasl: &str| {
        let secured = format!("jp: {{ tls: {{}}, sasl: {{ {sasl} }}, bootstrap_servers:");
        config(&PAIR.replace("jp: { bootstrap_servers:", &secured))
    };
    let user = |mechanism: &str| sasl(&format!("mechanism: {mechanism}, username: me, password: x"));
    let absent = || Granting {
        principal: None,
        command_config: None,
    };
    let named = granting(None);
    for (config, granting, jp) in [
        (user("plain"), absent(), "User:me"),
        (user("scram-sha-256"), absent(), "User:me"),
        (user("scram-sha-512"), absent(), "User:me"),
        (user("plain"), named, "User:CN=k, O=x"),
        (
            sasl("mechanism: aws-msk-iam, aws_region: eu-west-1"),
            absent(),
            "User:kuroshio",
        ),
        (config(PAIR), absent(), "User:kuroshio"),
    ] {
        let privileges = of(&config, &["tw-jp"]);
        let acls = acls(&config, &privileges, &granting);
        assert_eq!(acls["jp"][0]["principal"], jp);
        let text = commands(&config, &privileges, &granting);
        assert!(
            text.contains(&format!("--allow-principal {} ", quoted(jp))),
            "{text}"
        );
        // Each cluster has its own.
        let tw = granting.principal.as_deref().unwrap_or("User:kuroshio");
        assert_eq!(acls["tw"][0]["principal"], tw);
    }
}
