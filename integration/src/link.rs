//! The way between two regions: a TCP proxy that delays, limits, holds up and cuts what goes through it.
//!
//! TCP ends at the proxy on both sides, so what lies between is modelled: bytes carry the time at which they are due,
//! a connection costs a round trip before its first byte, and a window says how many bytes of a connection may be under
//! way until the other end has acknowledged them.

mod part;
mod way;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::docker::free_port;
pub use part::{Direction, Held, Part};
use part::{Holds, Traffic};
use way::{Line, Way};

/// What a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wan {
    /// Time from one end to the other and back, half of it in each direction.
    pub round_trip: Duration,
    /// Bytes per second in each direction, of all connections together; none: no limit.
    pub bytes_per_second: Option<u64>,
    /// Bytes of a connection that may be under way in each direction, as TCP's window and the buffers of both ends
    /// allow; also the most memory that a connection takes in each direction. Connections keep the one that they were
    /// opened with.
    pub window: u32,
}

impl Wan {
    /// No delay, no limit, and a window of 64 MiB, which only a link of 64 MiB in a round trip could fill.
    pub const NONE: Self = Self {
        round_trip: Duration::ZERO,
        bytes_per_second: None,
        window: 64 << 20,
    };

    /// A link with nothing but a delay.
    #[must_use]
    pub fn delay(round_trip: Duration) -> Self {
        Self {
            round_trip,
            ..Self::NONE
        }
    }
}

#[derive(Debug)]
struct State {
    wan: Wan,
    holds: Holds,
}

/// What all connections of a link share.
#[derive(Debug)]
struct Shared {
    state: watch::Receiver<State>,
    to_broker: Way,
    from_broker: Way,
}

/// A link to the brokers of a cluster, which advertise its addresses to those who come over it. Everything can be
/// changed while it carries. Ends when dropped.
#[derive(Debug)]
pub struct Link {
    bootstrap: String,
    ports: Vec<u16>,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    /// Of its own: tests end their runtimes, and a busy one would not keep the times.
    runtime: Option<Runtime>,
}

impl Link {
    /// A link with one entrance for each of `brokers`, without delay or limit until told. They need not run yet.
    ///
    /// # Errors
    /// When no port is free, or no thread can be started.
    pub fn start(brokers: &[SocketAddr]) -> Result<Self> {
        let (state, seen) = watch::channel(State {
            wan: Wan::NONE,
            holds: Holds::default(),
        });
        let shared = Arc::new(Shared {
            state: seen,
            to_broker: Way::default(),
            from_broker: Way::default(),
        });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut ports = Vec::new();
        for (number, broker) in (1..).zip(brokers) {
            let port = free_port()?;
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            let entered = runtime.enter();
            let listener = TcpListener::from_std(listener)?;
            drop(entered);
            ports.push(port);
            runtime.spawn(accept(listener, (number, *broker), Arc::clone(&shared)));
        }
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Self {
            bootstrap: addresses.join(","),
            ports,
            state,
            shared,
            runtime: Some(runtime),
        })
    }

    /// `host:port,…` for clients on the other side.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The entrances, in the order of the brokers.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Changes what the link is like, also for what is under way from now on.
    pub fn set(&self, wan: Wan) {
        self.state.send_modify(|state| state.wan = wan);
    }

    /// Holds everything up, until [`Link::resume`]: connections stay open, nothing arrives, nothing is lost.
    pub fn stall(&self) {
        self.whole(Some(Traffic::Stalled));
    }

    /// Closes every connection with all that is under way, and new ones at once, until [`Link::resume`].
    pub fn cut(&self) {
        self.whole(Some(Traffic::Cut));
    }

    /// Ends [`Link::stall`] and [`Link::cut`].
    pub fn resume(&self) {
        self.whole(None);
    }

    fn whole(&self, traffic: Option<Traffic>) {
        self.state.send_modify(|state| state.holds.whole = traffic);
    }

    /// [`Link::stall`] of a part, as long as what is given lives; others may hold the same meanwhile. In one direction it is an asymmetric
    /// partition: no new connection is made either.
    #[must_use]
    pub fn stall_part(&self, part: Part) -> Held {
        Held::new(&self.state, part, Traffic::Stalled)
    }

    /// [`Link::cut`] of what leads to `broker`, by its number from 1, or to all, as long as what is given lives.
    #[must_use]
    pub fn cut_part(&self, broker: Option<usize>) -> Held {
        Held::new(
            &self.state,
            Part {
                broker,
                direction: None,
            },
            Traffic::Cut,
        )
    }

    /// Bytes that were carried to the brokers and from them.
    #[must_use]
    pub fn carried(&self) -> (u64, u64) {
        (self.shared.to_broker.carried(), self.shared.from_broker.carried())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It may be dropped inside another runtime, where waiting for its end is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, (number, broker): (usize, SocketAddr), shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(connection(client, (number, broker), Arc::clone(&shared)));
            }
            // Out of file descriptors, or the client went before it was heard: the next one may do better.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Carries a connection until both sides have closed it, one has broken it, or the link is cut. Whatever goes wrong
/// is seen by both sides as a connection that closes, as on a real link.
async fn connection(client: TcpStream, (number, broker): (usize, SocketAddr), shared: Arc<Shared>) {
    let mut state = shared.state.clone();
    let line = |direction| Line {
        number,
        direction,
        state: shared.state.clone(),
    };
    let carried = async {
        opened(&shared, number).await?;
        let broker = TcpStream::connect(broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let there = shared
            .to_broker
            .carry(from_client, to_broker, line(Direction::ToBroker));
        let back = shared
            .from_broker
            .carry(from_broker, to_client, line(Direction::FromBroker));
        tokio::try_join!(there, back).map(drop)
    };
    tokio::select! {
        _ = carried => {}
        _ = state.wait_for(|state| state.holds.of(number, None) == Some(Traffic::Cut)) => {}
    }
}

/// A client may send a round trip after it asked for the connection, if both directions let anything through.
async fn opened(shared: &Shared, number: usize) -> std::io::Result<()> {
    let mut state = shared.state.clone();
    let round_trip = state.borrow().wan.round_trip;
    tokio::time::sleep(round_trip).await;
    flowing(&mut state, number, None).await
}

/// Waits for the end of a stall in this direction; none: in any.
async fn flowing(
    state: &mut watch::Receiver<State>,
    number: usize,
    direction: Option<Direction>,
) -> std::io::Result<()> {
    let flows = state.wait_for(|state| state.holds.of(number, direction) != Some(Traffic::Stalled));
    flows.await.map(drop).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests;
