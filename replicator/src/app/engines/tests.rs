use std::collections::BTreeMap;

use super::*;
use crate::config::{Tls, TokenServer};

fn cluster(tls: Option<Tls>, sasl: Option<Sasl>) -> Cluster {
    Cluster {
        bootstrap_servers: vec!["b:9094".to_owned()],
        tls,
        sasl,
        rack: None,
        librdkafka: BTreeMap::new(),
    }
}

const VERIFIED: &str = "ssl.endpoint.identification.algorithm=https enable.ssl.certificate.verification=true";

/// Each kind of stream: its TLS, librdkafka's word for it, and what goes with that.
fn streams() -> [(Option<Tls>, &'static str, String); 4] {
    let trusting = |identity| {
        Some(Tls {
            ca_file: Some("/ca.pem".into()),
            identity,
        })
    };
    let with_ca = format!(" ssl.ca.location=/ca.pem {VERIFIED}");
    let me = " ssl.certificate.location=/me.pem ssl.key.location=/me.key";
    [
        (None, "plaintext", String::new()),
        (
            Some(Tls::default()),
            "ssl",
            format!(" ssl.ca.location=probe {VERIFIED}"),
        ),
        (trusting(None), "ssl", with_ca.clone()),
        (
            trusting(Some(("/me.pem".into(), "/me.key".into()))),
            "ssl",
            with_ca + me,
        ),
    ]
}

/// Each mechanism, with its name and what else librdkafka is told.
fn mechanisms() -> [(Option<Sasl>, Option<&'static str>, &'static str); 6] {
    let user = || User {
        name: "me".to_owned(),
        password: "planted".into(),
    };
    let server = TokenServer {
        url: "https://idp.example/token".to_owned(),
        client_id: "me".to_owned(),
        client_secret: "planted".into(),
        scope: None,
    };
    let iam = Sasl::AwsMskIam {
        region: "ap-northeast-1".into(),
        role_arn: None,
    };
    let as_me = " sasl.username=me sasl.password=planted";
    [
        (None, None, ""),
        (Some(Sasl::Plain(user())), Some("PLAIN"), as_me),
        (Some(Sasl::ScramSha256(user())), Some("SCRAM-SHA-256"), as_me),
        (Some(Sasl::ScramSha512(user())), Some("SCRAM-SHA-512"), as_me),
        (Some(Sasl::OauthBearer(server)), Some("OAUTHBEARER"), ""),
        (Some(iam), Some("OAUTHBEARER"), " reconnect.backoff.ms=1000"),
    ]
}

/// Every kind of TLS with every mechanism: what librdkafka is told, and that our own client is told the same.
#[tokio::test]
async fn both_clients_do_the_same() {
    for (tls, stream, encrypted) in streams() {
        for (sasl, mechanism, more) in mechanisms() {
            let cluster = cluster(tls.clone(), sasl);
            let (prefix, named) = match mechanism {
                Some(name) => ("sasl_", format!(" sasl.mechanisms={name}")),
                None => ("", String::new()),
            };
            let told = security(&cluster);
            let text = |(key, value): &(&str, Secret)| format!("{key}={}", value.reveal());
            let properties: Vec<String> = told.properties.iter().map(text).collect();
            let expected = format!("security.protocol={prefix}{stream}{encrypted}{named}{more}");
            assert_eq!(properties.join(" "), expected);
            let ours = security::wire(&cluster);
            let same = ours.tls.as_ref().map(|tls| Tls {
                ca_file: tls.ca_file.clone(),
                identity: tls.identity.clone(),
            });
            assert_eq!(same, tls);
            assert_eq!(told.tokens.is_some(), mechanism == Some("OAUTHBEARER"));
            let name = ours.sasl.as_ref().map(|sasl| match sasl {
                kuroshio_wire::Sasl::Plain(_) => "PLAIN",
                kuroshio_wire::Sasl::ScramSha256(_) => "SCRAM-SHA-256",
                kuroshio_wire::Sasl::ScramSha512(_) => "SCRAM-SHA-512",
                kuroshio_wire::Sasl::OauthBearer(_) => "OAUTHBEARER",
            });
            assert_eq!(name, mechanism);
            // Nobody sets one of them beside ours, and no secret is printed.
            let owned = kuroshio_librdkafka::owned_properties();
            for (key, _) in &told.properties {
                assert!(
                    *key == "reconnect.backoff.ms" || owned.iter().any(|(name, _)| name == key),
                    "{key}"
                );
            }
            assert!(!format!("{cluster:?} {told:?} {ours:?}").contains("planted"));
        }
    }
}
