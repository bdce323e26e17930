//! One direction of a link.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Direction, State, Wan, flowing};

/// The most bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// Chunks of a connection that may be under way, should they be so small that the window is not what limits them.
const CHUNKS: usize = 1 << 14;
/// At a limit of bytes per second, a chunk takes at most this share of a second, and so long may a link that was idle
/// make up for it.
const SLICE: Duration = Duration::from_millis(5);

/// One direction, with what its connections share.
#[derive(Debug, Default)]
pub(super) struct Way {
    carried: AtomicU64,
    /// When the last byte that was let in has left, at the limit of bytes per second.
    free: Mutex<Option<Instant>>,
}

/// A direction of one connection.
#[derive(Clone)]
pub(super) struct Line {
    /// The broker at its end.
    pub(super) number: usize,
    pub(super) direction: Direction,
    pub(super) state: watch::Receiver<State>,
}

/// Bytes under way.
struct Chunk {
    due: Instant,
    /// None: the sender has closed its side.
    bytes: Bytes,
    window: OwnedSemaphorePermit,
}

type Acknowledged = (Instant, OwnedSemaphorePermit);

impl Way {
    pub(super) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Carries until the sender has closed its side and all has arrived.
    pub(super) async fn carry(&self, from: OwnedReadHalf, to: OwnedWriteHalf, line: Line) -> io::Result<()> {
        let (in_line, chunks) = mpsc::channel(CHUNKS);
        let (in_acknowledged, acknowledged) = mpsc::channel(CHUNKS);
        tokio::try_join!(
            self.take(from, in_line, line.state.clone()),
            self.give(to, chunks, in_acknowledged, line),
            acknowledge(acknowledged),
        )
        .map(drop)
    }

    /// Reads as long as the window allows, and stamps what was read with the time at which it is due: a delay is then
    /// the same for every byte, and costs no throughput.
    async fn take(
        &self,
        mut from: OwnedReadHalf,
        line: mpsc::Sender<Chunk>,
        state: watch::Receiver<State>,
    ) -> io::Result<()> {
        let size = state.borrow().wan.window.max(1);
        let window = Arc::new(Semaphore::new(size as usize));
        let mut buffer = BytesMut::new();
        loop {
            let wan = state.borrow().wan;
            let most = at_once(&wan).min(size);
            let mut permit = Arc::clone(&window)
                .acquire_many_owned(most)
                .await
                .map_err(io::Error::other)?;
            buffer.reserve(most as usize);
            let read = (&mut from).take(u64::from(most)).read_buf(&mut buffer).await?;
            drop(permit.split(most as usize - read));
            let left = self.left(read, wan.bytes_per_second);
            if left > Instant::now() {
                sleep_until(left).await;
            }
            let chunk = Chunk {
                due: left + wan.round_trip / 2,
                bytes: buffer.split().freeze(),
                window: permit,
            };
            let closed = line.send(chunk).await.is_err();
            if read == 0 || closed {
                return Ok(());
            }
        }
    }

    /// When the last of `count` bytes leaves that came in now.
    fn left(&self, count: usize, bytes_per_second: Option<u64>) -> Instant {
        let now = Instant::now();
        let Some(rate) = bytes_per_second else {
            return now;
        };
        let takes = Duration::from_secs_f64(count as f64 / rate.max(1) as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Timers are late; what that costs is made up for, and no more.
        let earliest = now.checked_sub(SLICE).unwrap_or(now);
        let left = free.map_or(now, |free| free.max(earliest)) + takes;
        *free = Some(left);
        left.max(now)
    }

    async fn give(
        &self,
        mut to: OwnedWriteHalf,
        mut chunks: mpsc::Receiver<Chunk>,
        acknowledged: mpsc::Sender<Acknowledged>,
        mut line: Line,
    ) -> io::Result<()> {
        while let Some(chunk) = chunks.recv().await {
            if chunk.due > Instant::now() {
                sleep_until(chunk.due).await;
            }
            flowing(&mut line.state, line.number, Some(line.direction)).await?;
            if chunk.bytes.is_empty() {
                break;
            }
            to.write_all(&chunk.bytes).await?;
            self.carried
                .fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            let back = line.state.borrow().wan.round_trip / 2;
            // The other end is there as long as this one is.
            acknowledged
                .send((Instant::now() + back, chunk.window))
                .await
                .ok();
        }
        to.shutdown().await
    }
}

/// Opens the window again half a round trip after the bytes arrived.
async fn acknowledge(mut acknowledged: mpsc::Receiver<Acknowledged>) -> io::Result<()> {
    while let Some((at, window)) = acknowledged.recv().await {
        if at > Instant::now() {
            sleep_until(at).await;
        }
        drop(window);
    }
    Ok(())
}

/// How much is read at once: little enough that a small window is used well, and that connections take turns.
fn at_once(wan: &Wan) -> u32 {
    let slice = wan
        .bytes_per_second
        .map_or(u64::MAX, |rate| (rate as f64 * SLICE.as_secs_f64()) as u64);
    let most = u64::from(wan.window / 8).min(slice).min(CHUNK as u64);
    u32::try_from(most).unwrap_or(u32::MAX).max(1)
}
