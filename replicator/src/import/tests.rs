use super::*;

/// As in Kafka's `config/connect-mirror-maker.properties` and operators' guides.
const DEDICATED: &str = r#"
# specify any number of cluster aliases
clusters = tw, jp
tw.bootstrap.servers = b-1.tw.example:9092,b-2.tw.example:9092
jp.bootstrap.servers = \
    b-1.jp.example:9092
tw->jp.enabled = true
tw->jp.topics = orders.*, payments
jp->tw.enabled = false
topics = .*
groups.exclude = console-consumer-.*, connect-.*
sync.group.offsets.enabled = true
sync.group.offsets.interval.seconds = 10
replication.factor = 3
replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy
refresh.topics.interval.seconds = 30
tasks.max = 8
offset.lag.max = 0
tw.consumer.max.poll.records = 5000
transforms = route
producer.compression.type = lz4
no.such.key = 1
"#;

fn import(text: &str) -> Result<String, ImportError> {
    super::import(text, None).map(|imported| imported.config)
}

fn parsed(out: &str) -> config::Config {
    let environment = Environment::from([("HOSTNAME".to_owned(), "here".to_owned())]);
    config::parse(out, &environment).unwrap()
}

#[test]
fn dedicated_mode_becomes_a_configuration() {
    let out = import(DEDICATED).unwrap();
    let config = parsed(&out);
    assert_eq!(config.clusters.len(), 2);
    assert_eq!(config.clusters["tw"].bootstrap_servers.len(), 2);
    let [flow] = config.flows.as_slice() else {
        panic!("{out}")
    };
    assert_eq!((&*flow.source, &*flow.target), ("tw", "jp"));
    assert_eq!(flow.router.route("orders.new").as_deref(), Ok("orders.new"));
    assert!(flow.router.route("other").is_err());
    assert!(flow.groups.sync && flow.groups.interval.as_secs() == 10);
    assert!(
        flow.groups
            .exclude
            .iter()
            .any(|pattern| pattern.matches("kuroshio.f"))
    );
    assert_eq!((flow.replication_factor, flow.refresh.as_secs()), (3, 30));
    assert_eq!(flow.compression, config::Compression::Lz4);
    for comment in [
        "- tasks.max: not needed:",
        "- offset.lag.max: not needed:",
        "- tw.consumer.max.poll.records: not needed:",
        "- transforms: NO EQUIVALENT:",
        "- no.such.key: NO EQUIVALENT:",
    ] {
        assert!(out.contains(comment), "{comment} is not in {out}");
    }
    assert!(!out.contains("Not accepted"), "{out}");
}

#[test]
fn what_mirror_maker_does_unasked_is_asked_for() {
    let out =
        import("clusters=a,b\na.bootstrap.servers=x:1\nb.bootstrap.servers=y:1\na->b.enabled=true").unwrap();
    let flow = &parsed(&out).flows[0];
    assert_eq!(flow.router.route("orders").as_deref(), Ok("a.orders"));
    assert!(!flow.groups.sync && flow.acls.is_some() && flow.replication_factor == 2);
}

#[test]
fn every_key_is_mapped_or_has_a_reason() {
    let out = import(DEDICATED).unwrap();
    let properties = source::read(DEDICATED).unwrap().0;
    let mapped = |key: &str| {
        let of_flow = key.strip_prefix("tw->jp.").or(key.strip_prefix("jp->tw."));
        let of_cluster = key.strip_prefix("tw.").or(key.strip_prefix("jp."));
        let becomes = match of_cluster {
            Some(rest) => keys::of_cluster(rest),
            None => keys::of_flow(of_flow.unwrap_or(key)),
        };
        key == "clusters" || becomes == keys::Becomes::Mapped
    };
    for key in properties.keys().filter(|key| !mapped(key)) {
        assert!(out.contains(&format!("# - {key}: ")), "{key} is not in {out}");
    }
}

#[test]
fn connectors_and_strimzi_resources_are_read() {
    let connector = r#"{ "name": "mm2", "config": {
        "connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector",
        "source.cluster.alias": "tw", "source.cluster.bootstrap.servers": "x:1",
        "target.cluster.alias": "jp", "target.cluster.bootstrap.servers": "y:1",
        "topics": "orders", "replication.factor": 3, "tasks.max": "4" } }"#;
    let strimzi = r#"{ "kind": "KafkaMirrorMaker2", "spec": {
        "clusters": [ { "alias": "tw", "bootstrapServers": "x:1" }, { "alias": "jp", "bootstrapServers": "y:1" } ],
        "mirrors": [ { "sourceCluster": "tw", "targetCluster": "jp", "topicsPattern": "orders",
            "sourceConnector": { "tasksMax": 4, "config": { "replication.factor": 3 } } } ] } }"#;
    for text in [connector.to_owned(), format!("[{connector}]"), strimzi.to_owned()] {
        let out = import(&text).unwrap();
        let config = parsed(&out);
        let flow = &config.flows[0];
        assert_eq!(&*config.clusters["jp"].bootstrap_servers[0], "y:1", "{out}");
        assert_eq!(flow.router.route("orders").as_deref(), Ok("tw.orders"), "{out}");
        assert_eq!(flow.replication_factor, 3);
    }
}

#[test]
fn secrets_are_not_copied() {
    let out = import(
        "clusters=tw,jp\ntw.bootstrap.servers=x:1\njp.bootstrap.servers=b-1.c.kafka.ap-northeast-1.amazonaws.com:9098\n\
         tw->jp.enabled=true\ntw.security.protocol=SASL_SSL\ntw.sasl.mechanism=SCRAM-SHA-512\n\
         tw.ssl.truststore.location=/etc/trust.jks\ntw.ssl.truststore.password=hidden\n\
         tw.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"hidden\";\n\
         jp.security.protocol=SASL_SSL\njp.sasl.mechanism=AWS_MSK_IAM\n\
         jp.sasl.jaas.config=software.amazon.msk.auth.iam.IAMLoginModule required awsRoleArn=\"arn:aws:iam::1:role/x\";",
    )
    .unwrap();
    assert!(!out.contains("hidden"), "{out}");
    for part in [
        "${env:TW_PASSWORD}",
        "scram-sha-512",
        "/etc/trust.jks.ca_file.pem",
        "ap-northeast-1",
        "arn:aws:iam::1:role/x",
    ] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
}

#[test]
fn what_is_none_says_so() {
    assert!(matches!(import("a=b"), Err(ImportError::NoClusters)));
    assert!(matches!(import("{ \"a\": "), Err(ImportError::Json(_))));
    assert!(matches!(import("{ \"a\": 1 }"), Err(ImportError::NoConnector)));
    assert!(matches!(
        import("clusters=\\u00"),
        Err(ImportError::Properties(_))
    ));
}

#[test]
fn mm2_left_its_positions_where_it_was_told() {
    let clusters = "clusters=a,b\na->b.enabled=true\na.bootstrap.servers=x:1\nb.bootstrap.servers=y:1\n";
    let strimzi = |target: &str| {
        format!(
            r#"{{ "kind": "KafkaMirrorMaker2", "spec": {{
                "clusters": [ {{ "alias": "a", "bootstrapServers": "x:1" }}, {{ "alias": "b", {target} "bootstrapServers": "y:1" }} ],
                "mirrors": [ {{ "sourceCluster": "a", "targetCluster": "b" }} ] }} }}"#
        )
    };
    let connector = r#"{ "source.cluster.alias": "a", "target.cluster.alias": "b" }"#;
    for (text, told, topic, workers, checkpoints) in [
        (
            clusters.to_owned(),
            None,
            "mm2-offsets.a.internal",
            Some("a-mm2"),
            "a.checkpoints.internal",
        ),
        (
            format!("{clusters}replication.policy.separator=_\nb.offset.storage.topic=o\nb.group.id=g"),
            None,
            "o",
            Some("g"),
            "a_checkpoints_internal",
        ),
        (
            format!(
                "{clusters}replication.policy.separator=_\nreplication.policy.internal.topic.separator.enabled=false"
            ),
            Some("told"),
            "told",
            Some("a-mm2"),
            "a.checkpoints.internal",
        ),
        (
            connector.to_owned(),
            None,
            "connect-offsets",
            None,
            "a.checkpoints.internal",
        ),
        (
            strimzi(""),
            None,
            "mirrormaker2-cluster-offsets",
            Some("mirrormaker2-cluster"),
            "a.checkpoints.internal",
        ),
        (
            strimzi(r#""config": { "offset.storage.topic": "o", "group.id": "g" },"#),
            None,
            "o",
            Some("g"),
            "a.checkpoints.internal",
        ),
    ] {
        let imported = super::import(&text, told).unwrap();
        assert_eq!(
            imported.flows,
            [Mm2Flow {
                source: "a".to_owned(),
                target: "b".to_owned(),
                offsets_topic: topic.to_owned(),
                workers: workers.map(str::to_owned),
                checkpoints_topic: checkpoints.to_owned(),
            }],
            "{text}"
        );
    }
}

/// Keys come from whoever wrote the file; ours is read by a process that may take commands.
#[test]
fn a_key_or_value_cannot_leave_its_comment() {
    let connector = serde_json::json!({
        "source.cluster.alias": "a",
        "target.cluster.alias": "b",
        "x\nhttp: { admin: true }\n#": "1",
        "replication.policy.class": "x.Y\rhttp: { admin: true }",
        "topics": "a\u{2028}http: [",
        "refresh.topics.interval.seconds": "\nhttp: { admin: true }\n# ",
    });
    let config = import(&connector.to_string()).unwrap();
    let lines: Vec<_> = config.split(['\n', '\r']).collect();
    let ours = |line: &&&str| !line.is_empty() && !line.starts_with([' ', '#']);
    let keys: Vec<_> = lines.iter().filter(ours).collect();
    assert_eq!(keys, [&"clusters:", &"flows:", &"defaults:"], "{config}");
}

#[test]
fn words_that_yaml_takes_for_values_stay_names() {
    let text = "clusters = null, true\nnull.bootstrap.servers = a:1\ntrue.bootstrap.servers = b:1\n\
                null->true.enabled = true\n";
    let config = parsed(&import(text).unwrap());
    assert_eq!(
        config.clusters.keys().map(|alias| &**alias).collect::<Vec<_>>(),
        ["null", "true"]
    );
}

#[test]
fn a_thousand_clusters_are_read_at_once() {
    let aliases: Vec<_> = (0..5_000).map(|number| format!("c{number}")).collect();
    let text = format!(
        "clusters = {}\nc1->c0.enabled = true\nc0->c1.enabled = true\n",
        aliases.join(",")
    );
    let imported = super::import(&text, None).unwrap();
    let flows: Vec<_> = imported
        .flows
        .iter()
        .map(|flow| (&*flow.source, &*flow.target))
        .collect();
    assert_eq!(flows, [("c0", "c1"), ("c1", "c0")]);
}
