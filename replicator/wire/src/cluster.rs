//! The handle of a cluster: finds who serves a request, asks, and tries again elsewhere or later.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Duration, Instant, sleep};

use crate::api::Api;
use crate::backoff::Backoff;
use crate::class::waits;
use crate::connection::{Connection, Purpose};
use crate::directory::{Directory, Role};
use crate::error::{Error, On, Place};
use crate::metadata::{Topics, request as metadata_request};
use crate::pool::Pool;
use crate::settings::{BACKOFF, ClusterSettings, Security};

/// A cluster. Clones share connections and what was learned; dropping the last closes them.
///
/// Every call retries what passes by itself (moved leaders and coordinators, lost connections) until its
/// time is over, and then says what the last attempt met. A call that changes something may therefore have
/// been carried out twice: such calls say what the second attempt then answers.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    alias: Arc<str>,
    settings: ClusterSettings,
    bootstrap: Vec<Arc<str>>,
    pool: Pool,
    directory: Mutex<Directory>,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    Any,
    Controller,
    Broker(i32),
    Coordinator(Role, &'a str),
}

/// How a request travels.
pub(crate) struct Route<'a> {
    to: To<'a>,
    purpose: Purpose,
    on: On,
    /// Added to the request timeout: what the broker may lawfully wait.
    extra: Duration,
    /// Oldest version of the request that does what its caller relies on.
    least: i16,
}

impl<'a> Route<'a> {
    pub(crate) const fn new(to: To<'a>, purpose: Purpose, on: On) -> Self {
        Self {
            to,
            purpose,
            on,
            extra: Duration::ZERO,
            least: 0,
        }
    }

    pub(crate) const fn at_least(mut self, version: i16) -> Self {
        self.least = version;
        self
    }

    pub(crate) const fn waiting(mut self, extra: Duration) -> Self {
        self.extra = extra;
        self
    }
}

impl Cluster {
    /// A handle; connections are made when first needed.
    #[must_use]
    pub fn new(settings: ClusterSettings) -> Self {
        let patience = settings.call_timeout;
        let shared = Shared {
            alias: settings.alias.as_str().into(),
            bootstrap: settings
                .bootstrap_servers
                .iter()
                .map(|server| server.as_str().into())
                .collect(),
            pool: Pool::new(&settings),
            directory: Mutex::new(Directory::default()),
            settings,
        };
        Self {
            shared: Arc::new(shared),
            patience,
        }
    }

    /// The same cluster with another time for each call, instead of `call_timeout`.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            patience,
        }
    }

    /// From now on connections are encrypted and authenticated so; requests that are under way end on those that are open.
    pub fn secure(&self, security: Security) {
        self.shared.pool.secure(security);
    }

    /// The alias of the cluster.
    #[must_use]
    pub fn alias(&self) -> &Arc<str> {
        &self.shared.alias
    }

    pub(crate) fn settings(&self) -> &ClusterSettings {
        &self.shared.settings
    }

    /// What brokers are told to wait for before they answer REQUEST_TIMED_OUT: less than we wait for them.
    pub(crate) fn broker_timeout_ms(&self) -> i32 {
        millis(self.settings().request_timeout * 3 / 4)
    }

    pub(crate) fn deadline(&self, extra: Duration) -> Instant {
        Instant::now() + self.patience + extra
    }

    pub(crate) fn directory(&self) -> MutexGuard<'_, Directory> {
        // Nothing panics while the lock is held, and any state of it is usable: it is only a belief.
        self.shared
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until an answer comes that is not to be waited out. `code` reads the error of the whole request
    /// from an answer: its number and the broker's words.
    pub(crate) async fn ask<R: Api>(
        &self,
        route: Route<'_>,
        build: impl Fn(i16) -> R + Sync,
        code: impl Fn(&R::Response) -> (i16, Option<Arc<str>>),
    ) -> Result<(R::Response, Place), Error> {
        let started = Instant::now();
        let deadline = self.deadline(route.extra);
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut before: Option<Error> = None;
        loop {
            let error = match self.once(&route, &build, deadline).await {
                Ok((answer, at)) => match code(&answer) {
                    (0, _) => return Ok((answer, at)),
                    (code, message) => self.refused(at, route.on.clone(), code, message),
                },
                // Where our own time cut an attempt short, the attempt before says more about the cause.
                Err(error) if Instant::now() >= deadline => before.unwrap_or(error),
                Err(error) => error,
            };
            // A broker that is gone does not come back by waiting; who asked for it in particular must know.
            let gone = error.code() == Some(ResponseError::BrokerNotAvailable);
            let waits = error.is_connection() || error.code().is_some_and(waits);
            if !waits || gone && matches!(route.to, To::Broker(_)) {
                return Err(error);
            }
            self.forget(&route.to, error.is_connection());
            before = Some(error.clone());
            self.pause(&mut backoff, started, deadline, error).await?;
        }
    }

    /// One attempt.
    pub(crate) async fn once<R: Api>(
        &self,
        route: &Route<'_>,
        build: &(impl Fn(i16) -> R + Sync),
        deadline: Instant,
    ) -> Result<(R::Response, Place), Error> {
        let connection = self.connect(&route.to, &route.purpose, deadline).await?;
        let allowance = self.settings().request_timeout + route.extra;
        let answer = connection.call(build, route.least, allowance, deadline).await?;
        Ok((answer, connection.at::<R>()))
    }

    /// Waits before the next attempt; where the time is over, says so with what the last one met.
    pub(crate) async fn pause(
        &self,
        backoff: &mut Backoff,
        started: Instant,
        deadline: Instant,
        last: Error,
    ) -> Result<(), Error> {
        let pause = backoff.pause();
        if self.settings().inquiring && last.is_about_us() {
            return Err(last);
        }
        if Instant::now() + pause >= deadline {
            return Err(Error::GaveUp {
                after: started.elapsed(),
                last: Box::new(last),
            });
        }
        tracing::debug!(cluster = %self.alias(), error = %last, wait_ms = pause.as_millis(), "trying again");
        sleep(pause).await;
        Ok(())
    }

    pub(crate) fn refused(&self, at: Place, on: On, code: i16, message: Option<Arc<str>>) -> Error {
        let code = ResponseError::try_from_code(code).unwrap_or(ResponseError::Unknown(code));
        Error::Kafka {
            at,
            on,
            code,
            message,
        }
    }

    async fn connect(
        &self,
        to: &To<'_>,
        purpose: &Purpose,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Error> {
        let broker = match to {
            To::Any => return self.connect_any(purpose, deadline).await,
            To::Broker(id) => *id,
            To::Controller => self.find_controller(deadline).await?,
            To::Coordinator(role, key) => self.find_coordinator(*role, key, deadline).await?,
        };
        let address = self.address(broker, deadline).await?;
        self.shared.pool.get(&address, purpose, deadline).await
    }

    /// The known brokers and the bootstrap servers, each address once.
    pub(crate) fn addresses(&self) -> BTreeSet<Arc<str>> {
        let known = self.directory().addresses().into_iter();
        known.chain(self.shared.bootstrap.iter().cloned()).collect()
    }

    pub(crate) async fn connection(
        &self,
        address: &Arc<str>,
        purpose: &Purpose,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Error> {
        self.shared.pool.get(address, purpose, deadline).await
    }

    /// A connection to any broker: the known ones in random order, then the bootstrap servers.
    async fn connect_any(&self, purpose: &Purpose, deadline: Instant) -> Result<Arc<Connection>, Error> {
        let mut known = self.directory().addresses();
        fastrand::shuffle(&mut known);
        let mut bootstrap = self.shared.bootstrap.clone();
        fastrand::shuffle(&mut bootstrap);
        let mut last = Error::NotSent {
            cluster: Arc::clone(self.alias()),
            api: "connect",
            on: On::Cluster,
            why: "no bootstrap servers are configured".into(),
        };
        for address in known.iter().chain(&bootstrap) {
            match self.shared.pool.get(address, purpose, deadline).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn find_controller(&self, deadline: Instant) -> Result<i32, Error> {
        if let Some(controller) = self.directory().controller() {
            return Ok(controller);
        }
        self.refresh(Topics::None, deadline).await?;
        let controller = self.directory().controller();
        controller.ok_or_else(|| self.not_known::<MetadataRequest>(On::Cluster, ResponseError::NotController))
    }

    async fn address(&self, broker: i32, deadline: Instant) -> Result<Arc<str>, Error> {
        if let Some(address) = self.directory().address(broker) {
            return Ok(address);
        }
        self.refresh(Topics::None, deadline).await?;
        let address = self.directory().address(broker);
        address.ok_or_else(|| {
            self.not_known::<MetadataRequest>(On::Broker(broker), ResponseError::BrokerNotAvailable)
        })
    }

    async fn find_coordinator(&self, role: Role, key: &str, deadline: Instant) -> Result<i32, Error> {
        if let Some(broker) = self.directory().coordinator(role, key) {
            return Ok(broker);
        }
        let build = |version| {
            let request = FindCoordinatorRequest::default().with_key(name(key));
            // v0 knows groups only.
            if version == 0 {
                request
            } else {
                request.with_key_type(role as i8)
            }
        };
        let connection = self.connect_any(&Purpose::Control, deadline).await?;
        let answer: FindCoordinatorResponse = connection
            .call(&build, 0, self.settings().request_timeout, deadline)
            .await?;
        if answer.error_code != 0 {
            let on = on_coordinator(role, key);
            let message = answer.error_message.as_ref().map(text);
            return Err(self.refused(
                connection.at::<FindCoordinatorRequest>(),
                on,
                answer.error_code,
                message,
            ));
        }
        self.directory().set_coordinator(role, key, answer.node_id.0);
        Ok(answer.node_id.0)
    }

    /// Finds the coordinator of a transactional id, whatever is believed.
    pub(crate) async fn coordinator_of_transactions(&self, id: &str) -> Result<i32, Error> {
        let started = Instant::now();
        let deadline = self.deadline(Duration::ZERO);
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            self.directory().forget_coordinator(Role::Transaction, id);
            let error = match self.find_coordinator(Role::Transaction, id, deadline).await {
                Err(error) if error.is_connection() || error.code().is_some_and(waits) => error,
                outcome => return outcome,
            };
            self.pause(&mut backoff, started, deadline, error).await?;
        }
    }

    /// One attempt to learn metadata anew; the caller's retries are the retries.
    pub(crate) async fn refresh(
        &self,
        topics: Topics<'_>,
        deadline: Instant,
    ) -> Result<crate::Metadata, Error> {
        let connection = self.connect_any(&Purpose::Control, deadline).await?;
        let build = |version| metadata_request(topics, version);
        let answer = connection
            .call(&build, 0, self.settings().request_timeout, deadline)
            .await?;
        Ok(self.learn(&answer, &connection.at::<MetadataRequest>(), false))
    }

    /// Forgets what led to a failed attempt.
    fn forget(&self, to: &To<'_>, unreachable: bool) {
        let mut directory = self.directory();
        let broker = match to {
            To::Any => None,
            To::Broker(id) => Some(*id),
            To::Controller => {
                let controller = directory.controller();
                directory.forget_controller();
                controller
            }
            To::Coordinator(role, key) => {
                let coordinator = directory.coordinator(*role, key);
                directory.forget_coordinator(*role, key);
                coordinator
            }
        };
        if let Some(broker) = broker
            && unreachable
        {
            directory.forget_broker(broker);
        }
    }

    /// An error that the metadata amount to, in Kafka's terms.
    pub(crate) fn not_known<R: Api>(&self, on: On, code: ResponseError) -> Error {
        let at = Place {
            cluster: Arc::clone(self.alias()),
            api: R::NAME,
            address: "any broker".into(),
        };
        Error::Kafka {
            at,
            on,
            code,
            message: None,
        }
    }
}

pub(crate) fn on_coordinator(role: Role, key: &str) -> On {
    match role {
        Role::Group => On::Group(key.into()),
        Role::Transaction => On::TransactionalId(key.into()),
    }
}

/// A string as the codec wants it.
pub(crate) fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A string as the codec gave it.
pub(crate) fn text(name: &StrBytes) -> Arc<str> {
    name.as_str().into()
}

/// Milliseconds as Kafka counts them.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
