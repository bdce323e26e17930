//! A broker that does what the test says, step by step.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{
    Encodable, HeaderVersion, Request, StrBytes, decode_request_header_from_buffer,
};
use kuroshio_wire::{Cluster, ClusterSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub(crate) struct Broker {
    pub(crate) listener: TcpListener,
    pub(crate) address: String,
}

/// One accepted connection.
pub(crate) struct Peer(pub(crate) TcpStream);

/// A request as it came.
pub(crate) struct Asked<R> {
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) request: R,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer(self.listener.accept().await.unwrap().0)
    }

    /// Accepts a connection and lets it negotiate all versions.
    pub(crate) async fn serve(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.negotiate(&[]).await;
        peer
    }

    pub(crate) fn cluster(&self, change: impl FnOnce(&mut ClusterSettings)) -> Cluster {
        let mut settings = ClusterSettings::new("tw", vec![self.address.clone()]);
        change(&mut settings);
        Cluster::new(settings)
    }

    /// Metadata that name this broker, with id 1.
    pub(crate) fn metadata(&self) -> MetadataResponse {
        with_brokers(&[self]).with_controller_id(1.into())
    }
}

pub(crate) fn with_brokers(brokers: &[&Broker]) -> MetadataResponse {
    let described = brokers.iter().zip(1..).map(|(broker, id)| {
        let port = broker.listener.local_addr().unwrap().port();
        MetadataResponseBroker::default()
            .with_node_id(id.into())
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(port.into())
    });
    MetadataResponse::default().with_brokers(described.collect())
}

impl Peer {
    pub(crate) async fn next<R: Request>(&mut self) -> Asked<R> {
        let (mut frame, correlation) = self.frame().await;
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        assert_eq!(header.request_api_key, R::KEY, "another request came");
        let version = header.request_api_version;
        Asked {
            version,
            correlation,
            request: R::decode(&mut frame, version).unwrap(),
        }
    }

    pub(crate) async fn frame(&mut self) -> (Bytes, i32) {
        let length = usize::try_from(self.0.read_i32().await.unwrap()).unwrap();
        let mut frame = vec![0; length];
        self.0.read_exact(&mut frame).await.unwrap();
        let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
        (frame.into(), correlation)
    }

    pub(crate) async fn answer<R: Request>(&mut self, asked: &Asked<R>, answer: &R::Response) {
        self.0
            .write_all(&reply::<R>(asked.correlation, asked.version, answer))
            .await
            .unwrap();
    }

    /// Offers every version of every API, but for `limits`: (API, newest).
    pub(crate) async fn negotiate(&mut self, limits: &[(ApiKey, i16)]) {
        let asked = self.next::<ApiVersionsRequest>().await;
        assert_eq!(
            (asked.version, &*asked.request.client_software_name),
            (3, "kuroshio")
        );
        self.answer(&asked, &offer(limits)).await;
    }

    /// Is asked for a group's coordinator, which is `broker`, with id 1, and where that is.
    pub(crate) async fn coordinate(&mut self, broker: &Broker) {
        let asked = self.next::<FindCoordinatorRequest>().await;
        self.answer(&asked, &FindCoordinatorResponse::default().with_node_id(1.into()))
            .await;
        let asked = self.next::<MetadataRequest>().await;
        self.answer(&asked, &broker.metadata()).await;
    }

    pub(crate) async fn gone(&mut self) -> bool {
        matches!(
            timeout(Duration::from_secs(5), self.0.read(&mut [0])).await,
            Ok(Ok(0) | Err(_))
        )
    }
}

pub(crate) fn reply<R: Request>(correlation: i32, version: i16, answer: &R::Response) -> Bytes {
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

pub(crate) fn offer(limits: &[(ApiKey, i16)]) -> ApiVersionsResponse {
    let offered = ApiKey::iter().map(|api| {
        let limit = limits
            .iter()
            .find(|(limited, _)| *limited == api)
            .map(|(_, newest)| *newest);
        let newest = limit.unwrap_or(api.valid_versions().max);
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(0)
            .with_max_version(newest)
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

/// Runs a call and the broker's script side by side.
pub(crate) async fn play<T, S>(call: impl Future<Output = T>, script: impl Future<Output = S>) -> (T, S) {
    timeout(Duration::from_secs(20), async { tokio::join!(call, script) })
        .await
        .expect("call or script hangs")
}
