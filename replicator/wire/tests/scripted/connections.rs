//! Versions, frames, deadlines, lost connections.

use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::*;
use kuroshio_wire::{Class, Cluster, ClusterSettings, Error, KafkaCode, Metadata, Topics, Unreachable};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::broker::{Broker, offer, play, reply};

#[tokio::test]
async fn a_broker_that_is_too_old_for_our_version_request_is_asked_again() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let script = async {
        let mut peer = broker.accept().await;
        let asked = peer.next::<ApiVersionsRequest>().await;
        assert_eq!(asked.version, 3);
        let refusal = ApiVersionsResponse::default().with_error_code(KafkaCode::UnsupportedVersion.code());
        let frame = reply::<ApiVersionsRequest>(asked.correlation, 0, &refusal);
        peer.0.write_all(&frame).await.unwrap();
        let asked = peer.next::<ApiVersionsRequest>().await;
        assert_eq!(asked.version, 0);
        peer.answer(&asked, &offer(&[(ApiKey::Metadata, 5)])).await;
        let asked = peer.next::<MetadataRequest>().await;
        assert_eq!(asked.version, 5, "the newest common version");
        peer.answer(&asked, &broker.metadata()).await;
    };
    let (metadata, ()) = play(cluster.metadata(Topics::None), script).await;
    assert_eq!(metadata.unwrap().brokers[0].address.as_ref(), broker.address);
}

#[tokio::test]
async fn answers_find_their_askers_in_any_order() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let ask = async |topic: &str| {
        let names = [topic.into()];
        cluster.metadata(Topics::Named(&names)).await
    };
    let script = async {
        let mut peer = broker.serve().await;
        let requests = [
            peer.next::<MetadataRequest>().await,
            peer.next::<MetadataRequest>().await,
        ];
        assert_ne!(requests[0].correlation, requests[1].correlation);
        for asked in requests.iter().rev() {
            let name = asked.request.topics.as_ref().unwrap()[0].name.clone();
            let topic = MetadataResponseTopic::default().with_name(name);
            peer.answer(asked, &broker.metadata().with_topics(vec![topic]))
                .await;
        }
    };
    let ((a, b), ()) = play(async { tokio::join!(ask("a"), ask("b")) }, script).await;
    let name = |metadata: Result<Metadata, Error>| metadata.unwrap().topics[0].name.to_string();
    assert_eq!((name(a), name(b)), ("a".to_owned(), "b".to_owned()));
}

#[tokio::test]
async fn requests_in_flight_are_limited() {
    const LIMIT: usize = 32;
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let calls = async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..LIMIT + 8 {
            let cluster = cluster.clone();
            calls.spawn(async move { cluster.metadata(Topics::None).await.unwrap() });
        }
        calls.join_all().await.len()
    };
    let script = async {
        let mut peer = broker.serve().await;
        let mut asked = Vec::new();
        for _ in 0..LIMIT {
            asked.push(peer.next::<MetadataRequest>().await);
        }
        let more = timeout(Duration::from_millis(100), peer.0.peek(&mut [0])).await;
        assert!(more.is_err(), "more than {LIMIT} requests in flight");
        for asked in asked {
            peer.answer(&asked, &broker.metadata()).await;
        }
        for _ in 0..8 {
            let asked = peer.next::<MetadataRequest>().await;
            peer.answer(&asked, &broker.metadata()).await;
        }
    };
    assert_eq!(play(calls, script).await.0, LIMIT + 8);
}

#[tokio::test]
async fn a_silent_broker_costs_its_connection_and_the_call_ends_in_time() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|settings| {
        settings.request_timeout = Duration::from_millis(100);
        settings.call_timeout = Duration::from_millis(600);
    });
    let started = Instant::now();
    let script = async {
        let mut first = broker.serve().await;
        first.next::<MetadataRequest>().await;
        assert!(
            first.gone().await,
            "a connection whose answer did not come is kept"
        );
        let mut second = broker.serve().await;
        second.next::<MetadataRequest>().await;
        second
    };
    let (metadata, _second) = play(cluster.metadata(Topics::None), script).await;
    let error = metadata.unwrap_err();
    assert!(matches!(&error, Error::GaveUp { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("cluster tw: Metadata at {}: no answer", broker.address)),
        "{error}"
    );
    assert_eq!(error.class(), Class::Retry);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_caller_in_a_hurry_does_not_cost_the_connection() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let hurried = cluster.within(Duration::from_millis(200));
    let script = async {
        let mut peer = broker.serve().await;
        let late = peer.next::<MetadataRequest>().await;
        (peer, late)
    };
    let (outcome, (mut peer, late)) = play(hurried.metadata(Topics::None), script).await;
    assert!(matches!(outcome, Err(Error::GaveUp { .. })));
    let script = async {
        let asked = peer.next::<MetadataRequest>().await;
        peer.answer(&late, &broker.metadata().with_controller_id(7.into()))
            .await;
        peer.answer(&asked, &broker.metadata()).await;
    };
    let (metadata, ()) = play(cluster.metadata(Topics::None), script).await;
    assert_eq!(
        metadata.unwrap().controller,
        Some(1),
        "the late answer went to the wrong asker"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_in_an_answer_is_replaced() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let script = async {
        let mut peer = broker.serve().await;
        let asked = peer.next::<MetadataRequest>().await;
        let whole = reply::<MetadataRequest>(asked.correlation, asked.version, &broker.metadata());
        peer.0.write_all(&whole[..whole.len() / 2]).await.unwrap();
        drop(peer);
        let mut peer = broker.serve().await;
        let asked = peer.next::<MetadataRequest>().await;
        peer.answer(&asked, &broker.metadata()).await;
    };
    assert!(play(cluster.metadata(Topics::None), script).await.0.is_ok());
}

#[tokio::test]
async fn a_broken_connection_fails_all_its_requests() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {}).within(Duration::from_secs(2));
    let calls = async { tokio::join!(cluster.metadata(Topics::None), cluster.metadata(Topics::All)) };
    let script = async {
        let mut peer = broker.serve().await;
        peer.next::<MetadataRequest>().await;
        peer.next::<MetadataRequest>().await;
        drop((peer, broker));
    };
    let ((a, b), ()) = play(calls, script).await;
    for error in [a.unwrap_err(), b.unwrap_err()] {
        assert!(error.to_string().contains("connection refused"), "{error}");
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_not_read() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {}).within(Duration::from_millis(300));
    // A web server's answer: its first bytes are read as a length of 1.2 GB.
    let script = async {
        let mut peer = broker.accept().await;
        peer.frame().await;
        peer.0
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        assert!(peer.gone().await);
    };
    let (metadata, ()) = play(cluster.metadata(Topics::None), script).await;
    let error = metadata.unwrap_err();
    let Error::GaveUp { last, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(
            &**last,
            Error::Unreachable {
                why: Unreachable::NotKafka(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("1213486160 bytes"), "{error}");
}

#[tokio::test]
async fn unreachable_brokers_are_named_with_the_reason() {
    let closed = Broker::start().await.address;
    let cases = [
        (closed.as_str(), "connection refused"),
        ("no-such-host.invalid:9092", "name not resolved"),
        ("no-port", "must be host:port"),
    ];
    for (address, why) in cases {
        let settings = ClusterSettings::new("tw", vec![address.to_owned()]);
        let cluster = Cluster::new(settings).within(Duration::from_millis(200));
        let error = cluster.metadata(Topics::None).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("cluster tw: broker {address} is unreachable")),
            "{text}"
        );
        assert!(text.contains(why), "{text}");
        assert_eq!(error.class(), Class::Retry);
    }
}

#[tokio::test]
async fn any_bootstrap_server_will_do() {
    let (dead, alive) = (Broker::start().await.address, Broker::start().await);
    let servers = vec![dead.clone(), alive.address.clone(), dead];
    let cluster = Cluster::new(ClusterSettings::new("tw", servers));
    let script = async {
        let mut peer = alive.serve().await;
        let asked = peer.next::<MetadataRequest>().await;
        peer.answer(&asked, &alive.metadata()).await;
    };
    assert!(play(cluster.metadata(Topics::None), script).await.0.is_ok());
}
