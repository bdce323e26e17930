//! Open connections by broker address and purpose, made when first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::StrBytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::connection::{Connection, Purpose, Versions};
use crate::error::{Error, Unreachable, kafka_name};
use crate::frame;
use crate::settings::{BACKOFF, CONNECT_TIMEOUT, ClusterSettings, IDLE, KEEPALIVE, Security};
use crate::tls;

type Key = (Arc<str>, Purpose);

/// The connections of one cluster.
pub(crate) struct Pool {
    cluster: Arc<str>,
    client_id: String,
    security: Mutex<Security>,
    embedded: bool,
    slots: Mutex<Slots>,
}

struct Slots {
    by_key: HashMap<Key, Arc<tokio::sync::Mutex<Slot>>>,
    swept: Instant,
}

struct Slot {
    connection: Option<Arc<Connection>>,
    /// The last attempt failed; none is made before this moment.
    refused: Option<(Instant, Error)>,
    backoff: Backoff,
}

impl Pool {
    pub(crate) fn new(settings: &ClusterSettings) -> Self {
        Self {
            cluster: settings.alias.as_str().into(),
            client_id: settings.client_id.clone(),
            security: Mutex::new(settings.security.clone()),
            embedded: settings.embedded,
            slots: Mutex::new(Slots {
                by_key: HashMap::new(),
                swept: Instant::now(),
            }),
        }
    }

    /// An open connection to `address` for `purpose`; opens one where there is none. While an address is
    /// being left alone after a failed attempt, that attempt's error is returned at once.
    pub(crate) async fn get(
        &self,
        address: &Arc<str>,
        purpose: &Purpose,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Error> {
        let slot = self.slot(address, purpose);
        let Ok(mut slot) = timeout_at(deadline, slot.lock()).await else {
            return Err(self.unreachable(address, Unreachable::TimedOut(CONNECT_TIMEOUT)));
        };
        if let Some(connection) = &slot.connection
            && !connection.is_closed()
        {
            return Ok(Arc::clone(connection));
        }
        if let Some((until, error)) = &slot.refused
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let patience = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let started = Instant::now();
        match timeout_at(patience, self.open(address, purpose)).await {
            Ok(Ok(connection)) => {
                let connection = Arc::new(connection);
                slot.connection = Some(Arc::clone(&connection));
                slot.refused = None;
                slot.backoff.reset();
                Ok(connection)
            }
            Ok(Err(why)) => Err(self.refuse(&mut slot, address, why)),
            Err(_) => Err(self.refuse(&mut slot, address, Unreachable::TimedOut(started.elapsed()))),
        }
    }

    fn refuse(&self, slot: &mut Slot, address: &Arc<str>, why: Unreachable) -> Error {
        let error = self.unreachable(address, why);
        tracing::debug!(cluster = %self.cluster, %error, "connection attempt failed");
        slot.connection = None;
        slot.refused = Some((Instant::now() + slot.backoff.pause(), error.clone()));
        error
    }

    fn slot(&self, address: &Arc<str>, purpose: &Purpose) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = lock(&self.slots);
        if slots.swept.elapsed() > IDLE / 4 {
            slots.swept = Instant::now();
            slots.by_key.retain(|_, slot| is_in_use(slot));
        }
        let key = (Arc::clone(address), purpose.clone());
        let empty = || Slot {
            connection: None,
            refused: None,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
        };
        Arc::clone(
            slots
                .by_key
                .entry(key)
                .or_insert_with(|| Arc::new(tokio::sync::Mutex::new(empty()))),
        )
    }

    async fn open(&self, address: &Arc<str>, purpose: &Purpose) -> Result<Connection, Unreachable> {
        let security = lock(&self.security).clone();
        let stream = tls::secure(connect(address).await?, host_of(address)?.0, &security).await?;
        let exclusive = matches!(purpose, Purpose::Group(_) | Purpose::Check);
        let connection = Connection::start(
            Arc::clone(&self.cluster),
            Arc::clone(address),
            &self.client_id,
            exclusive,
            stream,
        );
        let mut versions = negotiate(&connection).await?;
        if self.embedded {
            limit_to_what_the_mock_parses(&mut versions);
        }
        let mut connection = connection.negotiated(versions);
        if let Some(sasl) = security.sasl {
            connection = connection.authenticated(sasl).await?;
        }
        tracing::debug!(cluster = %self.cluster, %address, ?purpose, "connected");
        Ok(connection)
    }

    /// From now on connections are made so; what is under way on others ends there.
    pub(crate) fn secure(&self, security: Security) {
        *lock(&self.security) = security;
        lock(&self.slots).by_key.clear();
    }

    fn unreachable(&self, address: &Arc<str>, why: Unreachable) -> Error {
        Error::Unreachable {
            cluster: Arc::clone(&self.cluster),
            address: Arc::clone(address),
            why,
        }
    }
}

/// Nothing panics while one of them is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot that somebody holds, or whose connection is alive and not idle, or that is in its back-off.
fn is_in_use(slot: &Arc<tokio::sync::Mutex<Slot>>) -> bool {
    let Ok(slot) = slot.try_lock() else { return true };
    let open = slot
        .connection
        .as_ref()
        .is_some_and(|connection| !connection.is_closed() && !connection.is_idle());
    open || slot
        .refused
        .as_ref()
        .is_some_and(|(until, _)| Instant::now() < *until)
}

/// Resolves the name and connects to the first of its addresses that answers.
async fn connect(address: &str) -> Result<TcpStream, Unreachable> {
    let (host, port) = host_of(address)?;
    let resolved = tokio::net::lookup_host((host, port)).await;
    let candidates = resolved.map_err(|error| Unreachable::NameNotResolved(error.to_string().into()))?;
    let mut last = Unreachable::NameNotResolved("the name has no address".into());
    for candidate in candidates {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return tune(stream).map_err(|error| Unreachable::Other(error.to_string().into())),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                last = Unreachable::Refused;
            }
            Err(error) => last = Unreachable::Other(error.to_string().into()),
        }
    }
    Err(last)
}

/// Host and port of an address.
fn host_of(address: &str) -> Result<(&str, u16), Unreachable> {
    let (host, port) = address.rsplit_once(':').ok_or(Unreachable::BadAddress)?;
    let port = port.parse::<u16>().map_err(|_| Unreachable::BadAddress)?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

fn tune(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// librdkafka's mock offers newer versions of these than its handlers can parse; its own client uses less.
fn limit_to_what_the_mock_parses(versions: &mut Versions) {
    let limits = [
        (ApiKey::JoinGroup, 5),
        (ApiKey::SyncGroup, 3),
        (ApiKey::Heartbeat, 3),
        (ApiKey::LeaveGroup, 2),
    ];
    for (api, newest) in limits {
        if let Some((_, offered)) = versions.get_mut(&(api as i16)) {
            *offered = newest.min(*offered);
        }
    }
}

/// Asks for the broker's versions with v3, and with v0 on the same connection where v3 is too new for it.
/// Of that refusal only the code is read: Kafka writes the rest as v0 (KIP-511), librdkafka's mock does not.
async fn negotiate(connection: &Connection) -> Result<Versions, Unreachable> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("kuroshio"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let refused = ResponseError::UnsupportedVersion.code().to_be_bytes();
    let (mut version, mut frame) = (3, versions_frame(connection, &request, 3).await?);
    // The error code leads in every version, after the correlation id.
    if frame.get(4..6) == Some(&refused[..]) {
        (version, frame) = (
            0,
            versions_frame(connection, &ApiVersionsRequest::default(), 0).await?,
        );
    }
    let answer = frame::decode::<ApiVersionsRequest>(frame, version);
    let answer = answer.map_err(|why| Unreachable::NotKafka(why.into()))?;
    if let Some(code) = ResponseError::try_from_code(answer.error_code) {
        return Err(Unreachable::NotKafka(
            format!("ApiVersions: {}", kafka_name(code)).into(),
        ));
    }
    Ok(answer
        .api_keys
        .iter()
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect())
}

async fn versions_frame(
    connection: &Connection,
    request: &ApiVersionsRequest,
    version: i16,
) -> Result<Bytes, Unreachable> {
    // The caller's deadline bounds this.
    let until = Instant::now() + 2 * CONNECT_TIMEOUT;
    let frame = connection.ask(request, version, 2 * CONNECT_TIMEOUT, until).await;
    frame.map_err(|error| match error {
        // In TLS 1.3 a broker judges our certificate after the handshake.
        Error::Disconnected { why, .. } if why.contains(tls::ALERT) => tls::refused(&why),
        Error::Disconnected { why, .. } => Unreachable::NotKafka(why),
        other => Unreachable::NotKafka(other.to_string().into()),
    })
}
