//! Inputs to begin with: good ones of every format, and those that have done harm elsewhere: counts and lengths beyond the
//! end, ten thousand headers, bombs of aliases and of compression, deep nesting, bytes that are no text.

mod batches;

use std::io::Result;

use kuroshio_core::origin::{self, check};
use kuroshio_core::slots::{Assignment, Claims, Share, Slot, Subscription};

pub(crate) use batches::batch;
use batches::{bytes, number};

type Seeds = Result<Vec<Vec<u8>>>;

/// A record as the target `tag` takes it.
fn record(flags: u8, headers: &[u8]) -> Vec<u8> {
    [&[flags, 1, b'k', 1, b'v'], headers].concat()
}

/// Headers as they lie in a record.
fn headers<'a>(all: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, all.len() as i64);
    for (key, value) in all {
        bytes(&mut out, Some(key));
        bytes(&mut out, value);
    }
    out
}

/// `#` and the check of the record of [`record`].
fn checked(hops: &str) -> Vec<u8> {
    let check = check(Some(b"k"), Some(b"v"));
    [hops.as_bytes(), b"#", &check.text()].concat()
}

pub(crate) fn tag() -> Seeds {
    let key = origin::HEADER.as_bytes();
    let way = "us/orders/3/1=tw.orders>jp/tw.orders/3/2=orders";
    let eight = ["tw/orders/3/9"; 8].join(">");
    let nine = ["tw/orders/3/9"; 9].join(">");
    let long = "a".repeat(65_536);
    let texts = [
        "tw/orders/3/8814",
        way,
        &eight,
        &nine,
        "jp/orders/3/9223372036854775807",
        "jp/orders/2147483648/9223372036854775808",
        "jp/orders/03/-1=orders",
        "臺灣/orders/3/1",
        ">>//==",
        "",
        &long,
    ];
    let mut all = Vec::new();
    for text in texts {
        let tag = checked(text);
        for flags in 0..4 {
            all.push(record(flags, &tag));
            all.push(record(flags, &headers([(key, Some(&*tag))].into_iter())));
        }
        all.push(record(4, &tag[..tag.len() - 3]));
    }
    let no_text: Vec<u8> = (0..=255).collect();
    let good = checked("us/orders/3/8814");
    all.push(record(0, &no_text));
    all.push(record(
        0,
        &headers([(key, Some(&*no_text)), (key, None), (key, Some(&*good))].into_iter()),
    ));
    all.push(record(
        1,
        &headers((0..10_000).map(|at| (key, (at % 3 > 0).then_some(&*good)))),
    ));
    all.push(record(0, &headers((0..10_000).map(|_| (&b"h"[..], None)))));
    // More headers than there are, and a gigabyte of one.
    for claimed in [2, 1 << 30, i64::MAX, -1] {
        let mut lie = Vec::new();
        number(&mut lie, claimed);
        bytes(&mut lie, Some(key));
        number(&mut lie, claimed);
        all.push(record(0, &lie));
    }
    Ok(all)
}

pub(crate) fn answer() -> Seeds {
    let mut all = Vec::new();
    for key in 0..90_u8 {
        for version in [0, 1, 3, 5, 8, 9, 12, 13] {
            all.push([&[key, version], &[0; 80][..]].concat());
        }
        // Behind correlation id, tags and throttle time: counts of a gigabyte and of four, plain and compact.
        for (version, claim) in [
            (3, &[0x3f, 0xff, 0xff, 0xff][..]),
            (9, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            all.push([&[key, version, 0, 0, 0, 1, 0, 0, 0, 0], claim].concat());
            all.push([&[key, version, 0, 0, 0, 1, 0, 0, 0, 0, 0], claim].concat());
        }
    }
    Ok(all)
}

pub(crate) fn position() -> Seeds {
    let notes = [
        "1 cluster topic",
        "1 cluster topic 5 -",
        "1 cluster topic 5 9 2",
        "1 cluster topic - - - target",
        "1 cluster topic 05 9",
        "2 cluster topic",
        "1  ",
        "kuroshio:tw-jp:8814",
        "kuroshio::-1",
        "\u{85}\u{2028} 1",
    ];
    let offsets = [
        [100_i64, 0, 200, 150, 120],
        [i64::MAX; 5],
        [i64::MIN; 5],
        [-1, i64::MAX, i64::MIN, 0, i64::MAX],
    ];
    let mut all = Vec::new();
    for note in notes {
        for (offsets, flags) in offsets
            .iter()
            .zip([0b1100_0001, 0b0101_0111, 0b0000_0100, 0b1011_0000])
        {
            let numbers = offsets.iter().flat_map(|offset| offset.to_be_bytes());
            all.push(
                std::iter::once(flags)
                    .chain(numbers)
                    .chain(note.bytes())
                    .collect(),
            );
        }
    }
    Ok(all)
}

pub(crate) fn member() -> Seeds {
    let name = |number: u16| format!("kuroshio.tw-jp.pod-{number}.0");
    let said = Subscription {
        transactional_id: name(1),
        claims: Some(Claims {
            generation: 3,
            slot_count: 256,
            slots: [0, 7, 255].map(Slot).into(),
        }),
        fingerprint: u64::MAX,
        incarnation: u64::MAX,
    };
    let share = |number: u16| Share {
        owner: (!number.is_multiple_of(3)).then(|| name(number % 3)),
        promised: number.is_multiple_of(3).then(|| name(2)),
        last: Some(name(number % 5)),
    };
    let given = Assignment {
        fresh: [1, u64::MAX].into(),
        slots: (0..16).map(share).collect(),
        mismatched: [name(9)].into(),
    };
    // One name of 60 kB in every place of the largest table.
    let list = format!("[{}]", ["0"; 4096].join(","));
    let swollen = format!(
        r#"{{"version":1,"fresh":[],"slot_count":4096,"members":["{}"],"owners":{list},"promised":[{}],"last":{list},"mismatched":[]}}"#,
        "x".repeat(60_000),
        ["null"; 4096].join(",")
    );
    let failed = |error| std::io::Error::other(format!("{error}"));
    Ok(vec![
        said.encode().map_err(failed)?,
        given.encode().map_err(failed)?,
        swollen.into_bytes(),
        br#"{"version":1,"slot_count":65535,"fresh":[],"members":[],"owners":[],"promised":[],"last":[],"mismatched":[]}"#.to_vec(),
        "[".repeat(60_000).into_bytes(),
        br#"{"version":18446744073709551616}"#.to_vec(),
        b"1;resume 7 orders 3;resume 18446744073709551615 * *;pause 9 x *".to_vec(),
        b"\xff\xfe\0".to_vec(),
    ])
}

pub(crate) fn mm2() -> Seeds {
    let checkpoint = [0, 1, b'g', 0, 4, b't', b'w', b'.', b't', 0, 0, 0, 3];
    let value = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0];
    let of = |key: &[u8], value: &[u8]| [&[key.len() as u8], key, value].concat();
    Ok(vec![
        of(&checkpoint, &value),
        of(b"\0\x02tw\0\x02jp", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        of(b"\x7f\xff", b"\x7f\xff"),
        of(b"\xff\xff\0\0", &[0xff; 30]),
        of(b"\0\x02\xff\xfe\0\x00", &[0; 10]),
        of(&[], &[]),
    ])
}

pub(crate) fn config() -> Seeds {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..40 {
        let alias = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [&*alias; 9].join(", "));
    }
    let numbers = "shutdown_grace: 99999999999999999999y\nhttp: { listen: '0.0.0.0:99999999999' }\ndefaults:\n  \
                   { replication_factor: 1e999, memory: 99999999999999TiB, pumps: -1, throttle: { bytes_per_second: 0x7fffffffffffffff } }\n";
    let patterns = "clusters: { a: { bootstrap_servers: 'a:1' }, b: { bootstrap_servers: 'b:1' } }\nflows: [{ source: a, target: b }]\n\
                    defaults: { topics: { include: ['((a{99}){99}){99}', '(((((((((((a|b)*)*)*)*)*)*)*)*)*)*)*', '[\u{0}-\u{10ffff}]{9}'] } }\n";
    let texts = [
        include_str!("../../config/reference.yaml"),
        include_str!("../../config/two-regions.yaml"),
        include_str!("../../config/local.yaml"),
        &laughs,
        numbers,
        patterns,
        "a: &a [*a]\nb: { <<: *a, ? { x: 1 } : 2 }\n",
        "instance: '${env:A}${env:B}$${env:A}${'\n",
        "--- 1\n--- 2\n...\n%YAML 9.9\n",
        "a: !!binary x\nb: !!float .nan\nc: !!int 99999999999999999999\n? [1]\n: 2\n",
        "flows:\n  -\n  - {}\n  - 1\nclusters: []\n\tx",
        "",
    ];
    let mut all: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    for deep in ["- ", "? ", "[", "{a: ", "a:\n  - "] {
        all.push(deep.repeat(40_000).into_bytes());
    }
    all.push(b"a: \xff\xfe".to_vec());
    Ok(all)
}

pub(crate) fn import() -> Seeds {
    let properties = "clusters = tw, jp\ntw.bootstrap.servers = a:1, b:2\njp.bootstrap.servers = c:3\ntw.security.protocol = SASL_SSL\n\
        tw.sasl.mechanism = SCRAM-SHA-512\ntw.sasl.jaas.config = x required username=\"u\" password=\"p\";\n\
        tw.ssl.truststore.location = /t.jks\ntw->jp.enabled = true\ntw->jp.topics = orders.*, \\\n  other\n\
        tw->jp.replication.policy.class = x.IdentityReplicationPolicy\nsync.topic.acls.enabled = false\nname \\u0061\\ud800 : b\n";
    let connector = serde_json::json!([
        { "name": "source", "config": { "source.cluster.alias": "tw", "target.cluster.alias": "jp", "topics": "a,b",
            "source.cluster.bootstrap.servers": "a:1", "target.cluster.bootstrap.servers": "b:1", "tasks.max": 4 } },
        { "source.cluster.alias": "jp", "target.cluster.alias": "tw", "x\nhttp: { admin: true }\r#\u{2028}": null },
    ]);
    let strimzi = serde_json::json!({ "kind": "KafkaMirrorMaker2", "spec": {
        "clusters": [
            { "alias": "tw", "bootstrapServers": "a:1", "tls": {}, "authentication": { "type": "scram-sha-512", "username": "u" } },
            { "alias": "jp", "bootstrapServers": "b:1", "config": { "offset.storage.topic": "o" } },
        ],
        "mirrors": [{ "sourceCluster": "tw", "targetCluster": "jp", "topicsPattern": ".*",
            "sourceConnector": { "config": { "replication.factor": -1 } } }],
    } });
    let many: Vec<_> = (0..200).map(|number| format!("c{number}")).collect();
    let keys: String = (0..200)
        .map(|number| format!("c{number}.x{number} = ${{env:A}}\n"))
        .collect();
    let deep = |open: &str| open.repeat(60_000).into_bytes();
    Ok(vec![
        properties.into(),
        connector.to_string().into(),
        strimzi.to_string().into(),
        serde_json::json!({ "items": [strimzi] }).to_string().into(),
        format!("clusters = {}\n{keys}", many.join(",")).into(),
        b"clusters = a,a, null ,\xc3\xa9,,\nnull.bootstrap.servers = \nnull->a.enabled = true\n".to_vec(),
        b"clusters = a\\\n\\u12\\uzzzz \\\\\\".to_vec(),
        deep("["),
        deep("{\"a\":"),
        b"{\"kind\":\"KafkaMirrorMaker2\",\"spec\":{\"clusters\":1e999}}".to_vec(),
        b"[\xff]".to_vec(),
        Vec::new(),
    ])
}
