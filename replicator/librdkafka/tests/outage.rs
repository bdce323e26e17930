//! A source that ends as brokers in KRaft mode do: the last metadata that it gives name no broker at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of these tests stop a test too"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{
    Encodable, HeaderVersion, Request, StrBytes, decode_request_header_from_buffer,
};
use kuroshio_core::engine::{BatchForm, Codec, Engine, LaneSpec};
use kuroshio_core::origin::{Forward, Guard};
use kuroshio_core::types::{Copies, Lane, Position, SourceOffset, TopicPartition};
use kuroshio_librdkafka::embedded::EmbeddedCluster;
use kuroshio_librdkafka::{ClientSettings, Delivery, Librdkafka, MEMORY_MIN, Outdated, Security, Settings};

/// Longest wait for anything in this test.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it ends. Without the mend of `build.rs` (`NOBODY_LEFT`) a client does not survive a few.
const ENDS: usize = 10;

/// What all its connections know.
struct State {
    /// It has named itself since it last ended.
    named: bool,
    open: Vec<TcpStream>,
}

fn reply<R: Request>(correlation: i32, version: i16, answer: &R::Response) -> Bytes {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header
        .encode(&mut body, R::Response::header_version(version))
        .unwrap();
    answer.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(body.len().try_into().unwrap());
    frame.extend_from_slice(&body);
    frame.freeze()
}

fn versions() -> ApiVersionsResponse {
    let offered = ApiKey::iter().map(|api| {
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(0)
            .with_max_version(api.valid_versions().max)
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

/// The topic `orders`, led by the broker at this port; without one there is neither broker nor leader.
fn metadata(port: Option<u16>) -> MetadataResponse {
    let leader = if port.is_some() { 1 } else { -1 };
    let partition = MetadataResponsePartition::default()
        .with_leader_id(leader.into())
        .with_replica_nodes(vec![1.into()])
        .with_isr_nodes(vec![1.into()]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("orders"))))
        .with_topic_id(uuid::Uuid::from_u128(7))
        .with_partitions(vec![partition]);
    let named = port.map(|port| {
        MetadataResponseBroker::default()
            .with_node_id(1.into())
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(port.into())
    });
    MetadataResponse::default()
        .with_brokers(named.into_iter().collect())
        .with_controller_id(leader.into())
        .with_topics(vec![topic])
}

/// Serves one connection until it is closed; tells when the broker has ended.
fn serve(mut peer: TcpStream, port: u16, state: &Mutex<State>, ended: &mpsc::Sender<()>) -> Option<()> {
    loop {
        let mut length = [0; 4];
        peer.read_exact(&mut length).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
        peer.read_exact(&mut frame).ok()?;
        let header = decode_request_header_from_buffer(&mut Bytes::from(frame)).unwrap();
        let (correlation, version) = (header.correlation_id, header.request_api_version);
        match ApiKey::try_from(header.request_api_key).unwrap() {
            ApiKey::ApiVersions => {
                let answer = reply::<ApiVersionsRequest>(correlation, version, &versions());
                peer.write_all(&answer).ok()?;
            }
            ApiKey::Metadata => {
                let mut state = state.lock().unwrap();
                let ends = state.named;
                state.named = !ends;
                let answer = metadata((!ends).then_some(port));
                peer.write_all(&reply::<MetadataRequest>(correlation, version, &answer))
                    .ok()?;
                if ends {
                    for peer in state.open.drain(..) {
                        peer.shutdown(Shutdown::Both).ok();
                    }
                    ended.send(()).ok()?;
                }
            }
            // Nothing else is answered.
            _ => {}
        }
    }
}

fn lane() -> LaneSpec {
    let guard = Guard::new("tw", "orders", 0, "jp", "orders", Forward::Local).unwrap();
    LaneSpec {
        lane: Lane(1),
        source: TopicPartition::new("orders", 0),
        target_topic: "orders".into(),
        start: Position {
            offset: SourceOffset(0),
            leader_epoch: None,
            copies: Copies::default(),
        },
        guard: Arc::new(guard),
        form: BatchForm::of(Codec::Lz4),
    }
}

#[test]
fn a_source_that_named_no_broker_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ended, ends) = mpsc::channel();
    thread::spawn(move || {
        let state = Arc::new(Mutex::new(State {
            named: false,
            open: Vec::new(),
        }));
        for peer in listener.incoming().map_while(Result::ok) {
            state.lock().unwrap().open.push(peer.try_clone().unwrap());
            let (state, ended) = (Arc::clone(&state), ended.clone());
            thread::spawn(move || serve(peer, port, &state, &ended));
        }
    });
    let target = EmbeddedCluster::start(1).unwrap();
    target.create_topic("orders", 1).unwrap();
    let source = [
        ("bootstrap.servers", format!("127.0.0.1:{port}")),
        ("topic.metadata.refresh.interval.ms", "50".to_owned()),
        ("reconnect.backoff.ms", "1".to_owned()),
        ("reconnect.backoff.max.ms", "10".to_owned()),
    ];
    let mut engine = Librdkafka::new(Settings {
        flow: "tw-jp".into(),
        source: ClientSettings {
            alias: "tw".into(),
            properties: source.map(|(name, value)| (name.to_owned(), value)).into(),
            security: Security::default(),
        },
        target: ClientSettings {
            alias: "jp".into(),
            properties: BTreeMap::from([("bootstrap.servers".to_owned(), target.bootstrap())]),
            security: Security::default(),
        },
        delivery: Delivery::AtLeastOnce,
        memory_bytes: MEMORY_MIN,
        rack: None,
        outdated: Outdated::default(),
    })
    .unwrap();
    assert!(engine.open(PATIENCE, &mut Vec::new()).unwrap());
    engine.attach(vec![lane()]).unwrap();
    let mut facts = Vec::new();
    for end in 0..ENDS {
        let until = Instant::now() + PATIENCE;
        while ends.try_recv().is_err() {
            assert!(
                Instant::now() < until,
                "nobody asks any more after the broker has ended {end} times"
            );
            engine.haul(Duration::from_millis(10), &mut facts).unwrap();
            facts.clear();
        }
    }
}
