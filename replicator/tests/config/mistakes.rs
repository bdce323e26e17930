//! Every kind of mistake, with what is said of it.

use super::{SMALLEST, mistakes, parse};

#[test]
fn all_mistakes_are_listed_at_once() {
    let text = r#"
clusters:
  tw: { bootstrap_servers: "b-1.tw.example", rak: az1 }
  jp: { bootstrap_servers: [a] }
  "k r": { bootstrap_servers: "k:1" }
flows:
  - { source: tw, target: jp, topics: { include: [a, b, "c("] } }
  - { source: tw, target: us }
  - { source: tw, target: tw, commit_interval: 1h, delivery: twice }
  - { target: jp, delivry: exactly_once }
defaults:
  commit_interval: 10 parsecs
  memory: 128MB
  pumps: 0
  positions_on_source: maybe
  replication_factor: 40000
  start: yesterday
shutdown_grace: "${env:GRACE}"
delivery: exactly_once
"#;
    assert_eq!(
        mistakes(text),
        [
            "shutdown_grace: the environment variable GRACE is not set; set it or write the value in the file",
            "clusters.jp.bootstrap_servers: must be a text (put it in quotes), found a list",
            "clusters.tw.bootstrap_servers: `b-1.tw.example` is not host:port; write for example b-1.example:9092,b-2.example:9092",
            "clusters.tw.rak: unknown key; did you mean `rack`?",
            "defaults.commit_interval: `10 parsecs` is not a duration; write a number with a unit, such as 250ms, 10s or 5m",
            "defaults.memory: `128MB` is not a size; write a whole number with B, KiB, MiB, GiB or TiB, such as 16MiB",
            "defaults.positions_on_source: must be true or false, found a text",
            "defaults.pumps: `0` is not a number of pumps; write auto or a number from 1 to 256",
            "defaults.replication_factor: 40000 is out of range; write -1 to 32767",
            "defaults.start: `yesterday` is not a start; write earliest, latest or an RFC 3339 timestamp such as 2026-01-31T12:00:00Z",
            "delivery: unknown key; it belongs in defaults.delivery or flows[…].delivery",
            "flows[0].topics.include[2]: `c(` is not a regular expression (unclosed group); to match a special character as it is, put it in brackets, such as [.]",
            "flows[2].commit_interval: `1h` is out of range; write 1ms to 10s",
            "flows[2].delivery: `twice` is not known; write exactly_once or at_least_once",
            "flows[3].source: is missing: The cluster whose records are copied.",
            "flows[3].delivry: unknown key; did you mean `delivery`?",
            "clusters[\"k r\"]: `k r` is not an alias; use only letters, digits, `.`, `_` and `-`",
            "flows[1].target: `us` is not a cluster in `clusters`; write jp, k r or tw",
            "flows[2]: source and target are both `tw`; a flow goes from one cluster to another",
        ]
    );
}

/// A file with one mistake: what is added to the smallest file, and what is said.
fn with(added: &str) -> String {
    format!("{SMALLEST}\n{added}\n")
}

#[test]
fn mistakes_of_every_kind() {
    let flows = |flows: &str| {
        SMALLEST.replace(
            "flows: [{ source: tw, target: jp }, { source: jp, target: tw }]",
            flows,
        )
    };
    for (text, says) in [
        ("- a".to_owned(), "the file is not a YAML mapping: "),
        ("a: [".to_owned(), "the file is not a YAML mapping: "),
        (
            with("log: {level: info}\nlog: {level: warn}"),
            "the file is not a YAML mapping: ",
        ),
        (
            "flows: []".to_owned(),
            "clusters: is missing: The clusters by alias: the cluster's name in tags, topic prefixes and metrics.",
        ),
        (
            flows("flows: []"),
            "flows: is empty; name at least one flow, such as { source: tw, target: jp }",
        ),
        (
            flows("flows: [{ source: tw, target: jp }, ]\nflow: 1"),
            "flow: unknown key; did you mean `flows`?",
        ),
        (flows("flows: [7]"), "flows[0]: must be a mapping, found a number"),
        (flows("flows: [~]"), "flows[0]: is empty; write it or remove it"),
        (flows("flows: {}"), "flows: must be a list, found a mapping"),
        (
            flows("flows: [{ source: tw, target: jp }, { source: tw, target: jp, name: x }]"),
            "flows[1]: duplicate flow: flows[0] already goes from tw to jp; remove one, or name all topics in one",
        ),
        (
            flows("flows: [{ source: tw, target: jp, name: x }, { source: jp, target: tw, name: x }]"),
            "flows[1].name: `x` is the name of flows[0] too; give each flow a name of its own",
        ),
        (
            flows("flows: [{ source: tw, target: jp, name: x }, { source: jp, target: tw, name: x.y }]"),
            "flows[0].name: `x` followed by a point begins the name `x.y` of flows[1]; their transactional ids could be equal, rename one",
        ),
        (
            flows("flows: [{ source: tw, target: jp, authority: us }]"),
            "flows[0].authority: `us` is not an end of the flow tw-jp; write source, tw or jp",
        ),
        (
            flows(
                "flows: [{ source: tw, target: jp, authority: tw }, { source: jp, target: tw, authority: jp }]",
            ),
            "flows[1].authority: `jp` contradicts `tw` of the flow back; a pair of flows has one authority",
        ),
        (
            flows("flows: [{ source: tw, target: jp, memory: 1GiB }]"),
            "flows[0].memory: is a part of defaults.memory, which is 128MiB; write at most that",
        ),
        (
            with("region: us"),
            "region: `us` is not a cluster in `clusters`; write jp or tw",
        ),
        (
            flows("flows: [{ source: tw, target: jp }]\nregion: tw"),
            "region: no flow has the target `tw`, so nothing would run; name a target or remove the key",
        ),
        (
            with("instance: ''"),
            "instance: a name must not be empty; use letters, digits, `.`, `_` and `-`",
        ),
        (
            with("instance: 'a b'"),
            "instance: `a b` is not a name; use only letters, digits, `.`, `_` and `-`",
        ),
        (
            with("instance: 7"),
            "instance: must be a text (put it in quotes), found a number",
        ),
        (
            flows(&format!(
                "flows: [{{ source: tw, target: jp }}]\ninstance: {}",
                "i".repeat(240)
            )),
            "flows[0].name: flow name and instance have 245 characters together, of 235 that Kafka's ids leave; shorten one",
        ),
        (
            with("http: { listen: 8080 }"),
            "http.listen: must be a text (put it in quotes), found a number",
        ),
        (
            with("http: { listen: ':8080' }"),
            "http.listen: `:8080` is not an address to listen on; write an IP address and a port, such as 0.0.0.0:8080",
        ),
        (
            with("shutdown_grace: 2h"),
            "shutdown_grace: `2h` is too large; write at most 1h",
        ),
        (
            with("log: { format: human }"),
            "log.format: `human` is not known; write json or text",
        ),
        (
            with("otlp: { endpoint: 'collector:4317' }"),
            "otlp.endpoint: is neither http:// nor https://, and nothing else is supported; write for example http://collector:4317",
        ),
        (
            with("otlp: { endpoint: 'https://collector' }"),
            "otlp.endpoint: has no host and port; write for example http://collector:4317",
        ),
        (
            with("otlp: { endpoint: 'http://collector:4318/v1/traces' }"),
            "otlp.endpoint: has a path or a query, which OTLP over gRPC does not have (OTLP over HTTP is not supported); write",
        ),
        (
            with("residency: [{ topics: [a], stay_in: [us] }]"),
            "residency[0].stay_in[0]: `us` is not a cluster in `clusters`; write jp or tw",
        ),
        (
            with("residency: [{ topics: [a], stay_in: [] }]"),
            "residency[0].stay_in: is empty; name the clusters that the topics stay in",
        ),
        (
            with("residency: [{ topics: ['('], stay_in: [tw] }]"),
            "residency[0].topics[0]: `(` is not a regular expression",
        ),
        (
            with("defaults: { topics: { include: [] } }"),
            "defaults.topics.include: is empty, so nothing would be copied; name topics, such as [\".*\"]",
        ),
        (
            with("defaults: { topics: { rename: { a: x, b: x } } }"),
            "defaults.topics.rename.b: `a` is renamed to `x` too; two topics cannot be mapped to one name",
        ),
        (
            with("defaults: { topics: { rename: { a: 'x y' } } }"),
            "defaults.topics.rename.a: `x y` is not a topic name; use only letters, digits, `.`, `_` and `-`",
        ),
        (
            with("defaults: { topics: { rename: { 'a b': x } } }"),
            "defaults.topics.rename[\"a b\"]: `a b` is not a topic name",
        ),
        (
            with("defaults: { topics: { rename: { a: kuroshio.x } } }"),
            "defaults.topics.rename.a: `kuroshio.x` is reserved; choose another name",
        ),
        (
            with("defaults: { prefix_separator: '' }"),
            "defaults.prefix_separator: a separator must not be empty",
        ),
        (
            with("defaults: { engine: batch }"),
            "defaults.engine: `batch` is not known; write librdkafka",
        ),
        (
            with("defaults: { memory: 1MiB }"),
            "defaults.memory: `1MiB` is out of range; write 4MiB to 1TiB",
        ),
        (
            "
clusters: { tw: { bootstrap_servers: 'a:1' }, tw.x: { bootstrap_servers: 'b:1' } }
flows: [{ source: tw, target: tw.x, naming: prefix }]"
                .to_owned(),
            "flows[0].prefix_separator: \"tw.\" also begins the alias \"tw.x\", so a name on the target could mean either; choose another separator or alias",
        ),
        (
            "
clusters: { tw: { bootstrap_servers: 'a:1,b:1' }, jp: { bootstrap_servers: 'B:1' } }
flows: [{ source: tw, target: jp }]"
                .to_owned(),
            "clusters.tw.bootstrap_servers: the broker b:1 is named by cluster jp too; one cluster has one alias",
        ),
    ] {
        let found = mistakes(&text);
        assert!(
            found.len() == 1 && found[0].starts_with(says),
            "{text}\nexpected: {says}\nfound: {found:#?}"
        );
    }
}

#[test]
fn a_token_is_something_that_can_be_sent_and_is_never_shown() {
    for token in ["''", "'two words'", "'l\u{ef}ne'"] {
        let found = mistakes(&with(&format!("http: {{ token: {token} }}")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("http.token: is not made of"), "{found:?}");
        assert!(
            !found[0].contains("words") && !found[0].contains("ne'"),
            "{found:?}"
        );
    }
    let text = with("http: { token: planted-s3cret, tls: { cert_file: a, key_file: b } }");
    let config = parse(&text).unwrap();
    assert!(config.http_token.is_some() && config.http_tls.is_some());
    assert!(!format!("{config:?}").contains("planted"), "{config:?}");
    // What is of no text is not repeated either.
    let found = mistakes(&with("http: { token: [planted-s3cret], tls: { cert_file: a } }"));
    assert!(
        !found.iter().any(|mistake| mistake.contains("planted")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|mistake| mistake.starts_with("http.tls.key_file")),
        "{found:?}"
    );
}

#[test]
fn credentials_are_asked_for_as_their_mechanism_wants_them() {
    let cluster = |key: &str| SMALLEST.replace("jp.example:9092' }", &format!("jp.example:9092', {key} }}"));
    for (text, says) in [
        (
            cluster("sasl: { mechanism: plain, password: planted }"),
            "clusters.jp.sasl: the mechanism plain needs username; add it",
        ),
        (
            cluster("sasl: { mechanism: scram-sha-512, username: me }"),
            "clusters.jp.sasl: the mechanism scram-sha-512 needs password; add it",
        ),
        (
            cluster("sasl: { mechanism: plain, username: me, password: planted, scope: all }"),
            "clusters.jp.sasl.scope: is not a key of the mechanism plain; remove it",
        ),
        (
            cluster("sasl: { mechanism: oauthbearer, token_url: 'https://idp.example', client_id: me }"),
            "clusters.jp.sasl: the mechanism oauthbearer needs client_secret; add it",
        ),
        (
            cluster(
                "sasl: { mechanism: oauthbearer, token_url: 'http://idp.example', client_id: me, client_secret: planted }",
            ),
            "clusters.jp.sasl.token_url: would send the secret in clear; write https://",
        ),
        (
            cluster("sasl: { mechanism: aws-msk-iam, aws_region: ap-northeast-1 }"),
            "clusters.jp.sasl: a listener with IAM wants TLS; add `tls: {}` to the cluster",
        ),
        (
            cluster("tls: {}, sasl: { mechanism: aws-msk-iam }"),
            "clusters.jp.sasl: the mechanism aws-msk-iam needs aws_region; add it",
        ),
        (
            with("defaults: { groups: { include: ['('] } }"),
            "defaults.groups.include[0]: `(` is not a regular expression",
        ),
        (
            cluster("sasl: { mechanism: kerberos }"),
            "clusters.jp.sasl.mechanism: `kerberos` is not known; write plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam",
        ),
    ] {
        let found = mistakes(&text);
        assert!(
            found.len() == 1 && found[0].starts_with(says),
            "{text}\nexpected: {says}\nfound: {found:#?}"
        );
    }
}

/// Flows as `a>b`, relaying where written `a>>b`, with `:topic` as the only topic.
fn graph(flows: &str) -> String {
    let flow = |flow: &str| {
        let (ends, topic) = flow
            .split_once(':')
            .map_or((flow, ""), |(ends, topic)| (ends, topic));
        let (ends, forward) = (
            ends.replace(">>", ">"),
            if ends.contains(">>") { "relay" } else { "local" },
        );
        let (source, target) = ends.split_once('>').expect("a flow");
        let topics = if topic.is_empty() {
            String::new()
        } else {
            format!(", topics: {{ include: ['{topic}'] }}")
        };
        format!("  - {{ source: {source}, target: {target}, forward: {forward}{topics} }}\n")
    };
    let flows: String = flows.split(' ').map(flow).collect();
    let clusters: String = "abcd"
        .chars()
        .map(|c| format!("  {c}: {{ bootstrap_servers: '{c}:1' }}\n"))
        .collect();
    format!("clusters:\n{clusters}flows:\n{flows}")
}

#[test]
fn relay_graphs_have_one_path() {
    for right in [
        "a>b b>a",
        "a>b b>a b>c c>b a>c c>a",       // full mesh
        "a>>b b>>c c>>d",                // chain
        "a>>b b>>c c>>a",                // ring
        "a>>b b>>a a>>c c>>a a>>d d>>a", // hub
        "a>>b b>>c a>c:x b>>d",          // refused below without the names
    ] {
        let text = graph(right);
        let names = right.contains(":x");
        let text = if names {
            text.replace(
                "source: b, target: c, forward: relay",
                "source: b, target: c, forward: relay, topics: { include: [y, 'z[.]z'] }",
            )
        } else {
            text
        };
        assert!(parse(&text).is_ok(), "{right}: {:?}", parse(&text).err());
    }
    for (wrong, says) in [
        (
            "a>b b>>c a>c",
            "flows[1].forward: records born in a would reach c by two paths, a-b > b-c and a-c, and arrive twice; set forward: local, remove a flow, or let their topics.include name different topics",
        ),
        (
            "a>>b b>>c c>>d a>>d",
            "flows[2].forward: records born in a would reach d by two paths, a-b > b-c > c-d and a-d, and",
        ),
        (
            "a>b:x b>>c:x a>c:x",
            "flows[1].forward: records born in a would reach c by two paths",
        ),
        (
            "a>b:x.* b>>c a>c:y",
            "flows[1].forward: records born in a would reach c by two paths",
        ),
    ] {
        let found = mistakes(&graph(wrong));
        assert!(
            found.iter().any(|found| found.starts_with(says)),
            "{wrong}: {found:#?}"
        );
    }
}

#[test]
fn secrets_are_not_repeated_in_mistakes() {
    for endpoint in ["{ hunter2: hunter2 }", "'http://me:hunter2@collector:4317'"] {
        let text = with(&format!(
            "http: {{ token: ['hunter2'] }}\notlp: {{ endpoint: {endpoint} }}"
        ));
        assert!(
            mistakes(&text).iter().all(|mistake| !mistake.contains("hunter2")),
            "{:?}",
            mistakes(&text)
        );
    }
}
