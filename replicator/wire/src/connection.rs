//! One connection: requests go out as they come, answers find their askers by correlation id.
//!
//! A broker serves the requests of a connection one after the other, so what may take long (a join, a long
//! read, the creation of topics) must not share one with what must be quick: see [`Purpose`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, timeout_at};

use crate::api::{Api, ours};
use crate::error::{Error, On, Place, Unreachable};
use crate::frame;
use crate::sasl;
use crate::settings::{CONNECT_TIMEOUT, IDLE, IN_FLIGHT, Sasl};

/// What a connection is used for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Quick questions: metadata, offsets, positions.
    Control,
    /// Changes of topics and configurations: the broker answers when they are done.
    Admin,
    /// Membership of one instance: a join waits for the others.
    Group(Arc<str>),
    /// Reads, which may wait for records.
    Fetch,
    /// Writes, which may wait for replicas.
    Produce,
    /// Whether the broker is there: behind nothing that waits.
    Check,
}

/// Versions that a broker offers, by API number.
pub(crate) type Versions = HashMap<i16, (i16, i16)>;

/// An open connection. Dropping it closes it; the requests on it then fail.
pub(crate) struct Connection {
    cluster: Arc<str>,
    address: Arc<str>,
    client_id: StrBytes,
    versions: Versions,
    /// Requests given up by their asker close the connection, lest the next one waits behind them.
    exclusive: bool,
    outgoing: mpsc::Sender<Bytes>,
    limit: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    /// Who we said we are on it, and until when that holds.
    session: Option<Session>,
    task: AbortHandle,
}

/// An authenticated connection.
struct Session {
    sasl: Sasl,
    /// When to say it again (KIP-368); `None`: never. Held by whoever does.
    due: tokio::sync::Mutex<Option<Instant>>,
}

struct State {
    next_correlation: i32,
    waiting: HashMap<i32, Waiting>,
    closed: Option<Arc<str>>,
    used: Instant,
    /// Whether something was answered since it was opened.
    served: bool,
}

/// The asker of a request. Its permit is held until the answer came, also if the asker is gone; who holds them all has none here.
struct Waiting {
    answer: oneshot::Sender<Bytes>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Takes over an open stream.
    pub(crate) fn start(
        cluster: Arc<str>,
        address: Arc<str>,
        client_id: &str,
        exclusive: bool,
        stream: (
            impl AsyncRead + Send + Unpin + 'static,
            impl AsyncWrite + Send + Unpin + 'static,
        ),
    ) -> Self {
        // The permits bound the queue: there are never more frames in it than requests in flight.
        let (outgoing, frames) = mpsc::channel(IN_FLIGHT);
        let limit = Arc::new(Semaphore::new(IN_FLIGHT));
        let state = Arc::new(Mutex::new(State {
            next_correlation: 0,
            waiting: HashMap::new(),
            closed: None,
            used: Instant::now(),
            served: false,
        }));
        let task = tokio::spawn(run(
            stream.0,
            stream.1,
            frames,
            Arc::clone(&state),
            Arc::clone(&limit),
        ))
        .abort_handle();
        let client_id = StrBytes::from_string(client_id.to_owned());
        Self {
            cluster,
            address,
            client_id,
            versions: Versions::new(),
            exclusive,
            outgoing,
            limit,
            state,
            session: None,
            task,
        }
    }

    /// Notes what the broker offers.
    pub(crate) fn negotiated(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self.lock().served = false;
        self
    }

    /// Says who we are. Nothing else may be sent before.
    pub(crate) async fn authenticated(mut self, sasl: Sasl) -> Result<Self, Unreachable> {
        let lifetime = sasl::authenticate(&self, &sasl).await?;
        self.session = Some(Session {
            sasl,
            due: tokio::sync::Mutex::new(lifetime.map(sasl::again_at)),
        });
        Ok(self)
    }

    /// Says who we are again where that is due: a broker closes a connection whose session is over at the next request.
    /// Between its two steps nothing else may be sent, so that this waits for all answers, and keeps others waiting.
    async fn renew<R: Api>(&self, deadline: Instant) -> Result<(), Error> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let mut due = session.due.lock().await;
        if due.is_none_or(|due| Instant::now() < due) {
            return Ok(());
        }
        let renewed = async {
            let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
            let _all = self
                .limit
                .acquire_many(all)
                .await
                .map_err(|_| self.disconnected::<R>())?;
            sasl::authenticate(self, &session.sasl).await.map_err(|why| {
                // The next one connects anew, and is told what is wrong.
                self.close(&why.to_string());
                self.disconnected::<R>()
            })
        };
        let silent = |_| Error::Silent {
            at: self.at::<R>(),
            after: CONNECT_TIMEOUT,
        };
        *due = timeout_at(deadline, renewed)
            .await
            .map_err(silent)??
            .map(sasl::again_at);
        Ok(())
    }

    /// Whether requests can no longer be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Whether it has long been unused.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.used.elapsed() > IDLE
    }

    /// The newest version of `R` that both sides know, not below `least`.
    fn version<R: Api>(&self, least: i16) -> Result<i16, Error> {
        let (oldest, newest) = ours::<R>();
        let oldest = oldest.max(least);
        let offered = self.versions.get(&(R::KEY as i16)).copied();
        if let Some((first, most)) = offered
            && first.max(oldest) <= most.min(newest)
        {
            return Ok(most.min(newest));
        }
        let text = |(first, last)| format!("{first} to {last}").into();
        let offered = offered.map_or_else(|| "none".into(), text);
        Err(Error::Version {
            at: self.at::<R>(),
            offered,
            needed: text((oldest, newest)),
        })
    }

    /// Asks with the newest common version, at least `least`. `allowance` is the broker's time to answer; `deadline` ends the
    /// wait earlier without blame for the connection.
    pub(crate) async fn call<R: Api>(
        &self,
        build: &(impl Fn(i16) -> R + Sync),
        least: i16,
        allowance: Duration,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let version = self.version::<R>(least)?;
        self.renew::<R>(deadline).await?;
        let frame = self.ask(&build(version), version, allowance, deadline).await?;
        frame::decode::<R>(frame, version).map_err(|why| self.garbled::<R>(why))
    }

    /// Sends a request of a given version and returns the frame of its answer.
    ///
    /// An answer that stays out for the whole allowance closes the connection: everything behind it would
    /// wait in vain too.
    pub(crate) async fn ask<R: Api>(
        &self,
        request: &R,
        version: i16,
        allowance: Duration,
        deadline: Instant,
    ) -> Result<Bytes, Error> {
        let started = Instant::now();
        let silent = started + allowance;
        let until = silent.min(deadline);
        let reply = async {
            let Ok(permit) = Arc::clone(&self.limit).acquire_owned().await else {
                return Err(self.disconnected::<R>());
            };
            let mut given_up = GivenUp {
                connection: self,
                armed: self.exclusive,
            };
            let frame = self.exchange(request, version, Some(permit)).await;
            given_up.armed = false;
            frame
        };
        if let Ok(outcome) = timeout_at(until, reply).await {
            return outcome;
        }
        if until == silent {
            self.close("an answer did not come in time");
        }
        Err(Error::Silent {
            at: self.at::<R>(),
            after: started.elapsed(),
        })
    }

    /// Asks while no one else can: it holds all permits, or has not shown the connection to anybody yet.
    pub(crate) async fn ask_alone<R: Api>(&self, request: &R) -> Result<R::Response, Error> {
        let version = self.version::<R>(1)?;
        let frame = self.exchange(request, version, None).await?;
        frame::decode::<R>(frame, version).map_err(|why| self.garbled::<R>(why))
    }

    /// Sends a request, and waits for the frame of its answer. The permit is held until that has come.
    async fn exchange<R: Api>(
        &self,
        request: &R,
        version: i16,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Error> {
        let (answer, reply) = oneshot::channel();
        let waiting = Waiting {
            answer,
            _permit: permit,
        };
        self.dispatch(request, version, waiting)?;
        reply.await.map_err(|_| self.disconnected::<R>())
    }

    fn dispatch<R: Api>(&self, request: &R, version: i16, waiting: Waiting) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed.is_some() {
            drop(state);
            return Err(self.disconnected::<R>());
        }
        let correlation = state.next_correlation;
        let frame =
            frame::encode(request, version, correlation, &self.client_id).map_err(|why| Error::NotSent {
                cluster: Arc::clone(&self.cluster),
                api: R::NAME,
                on: On::Cluster,
                why: format!("version {version}: {why}").into(),
            })?;
        state.next_correlation = correlation.wrapping_add(1);
        state.used = Instant::now();
        state.waiting.insert(correlation, waiting);
        drop(state);
        if self.outgoing.try_send(frame).is_err() {
            self.close("its task has ended");
        }
        Ok(())
    }

    /// Ends it: every waiting request fails with `why`.
    pub(crate) fn close(&self, why: &str) {
        end(&self.state, &self.limit, why);
        self.task.abort();
    }

    /// This request, here, for errors.
    pub(crate) fn at<R: Api>(&self) -> Place {
        Place {
            cluster: Arc::clone(&self.cluster),
            api: R::NAME,
            address: Arc::clone(&self.address),
        }
    }

    pub(crate) fn garbled<R: Api>(&self, why: String) -> Error {
        Error::Garbled {
            at: self.at::<R>(),
            why: why.into(),
        }
    }

    fn disconnected<R: Api>(&self) -> Error {
        let state = self.lock();
        let mut why = state.closed.clone().unwrap_or_else(|| "closed".into());
        if !state.served && !self.versions.is_empty() && self.session.is_none() {
            // Versions are told to everybody, the rest to those that say who they are.
            why = format!("{why}, before it served anything (a listener that wants SASL?)").into();
        }
        drop(state);
        Error::Disconnected {
            at: self.at::<R>(),
            why,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Closes an exclusive connection whose asker stopped waiting (its future was dropped or timed out).
struct GivenUp<'a> {
    connection: &'a Connection,
    armed: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.connection.close("the caller gave the request up");
        }
    }
}

/// Nothing panics while the lock is held, and its state is whole between any two statements.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(state: &Mutex<State>, limit: &Semaphore, why: &str) {
    let mut state = lock(state);
    state.closed.get_or_insert_with(|| why.into());
    state.waiting.clear();
    drop(state);
    limit.close();
}

async fn run(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Bytes>,
    state: Arc<Mutex<State>>,
    limit: Arc<Semaphore>,
) {
    let write = async {
        while let Some(frame) = frames.recv().await {
            if let Err(error) = writer.write_all(&frame).await {
                return error.to_string();
            }
            if let Err(error) = writer.flush().await {
                return error.to_string();
            }
        }
        "no longer used".to_owned()
    };
    let read = async {
        loop {
            let frame = match frame::read(&mut reader).await {
                Ok(frame) => frame,
                Err(why) => return why,
            };
            let asked = frame::correlation(&frame).and_then(|id| {
                let mut state = lock(&state);
                state.served = true;
                state.waiting.remove(&id)
            });
            let Some(waiting) = asked else {
                return "an answer came that nobody had asked for".to_owned();
            };
            // An asker that is gone no longer needs its answer.
            let _gone = waiting.answer.send(frame);
        }
    };
    let why = tokio::select! { why = write => why, why = read => why };
    end(&state, &limit, &why);
}
