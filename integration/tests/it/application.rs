//! An application that consumes in a group and remembers what it saw.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kuroshio_core::origin::{self, Tag};
use kuroshio_integration::{Cluster, until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};

use crate::regions::{WAIT, headers};

/// Where a record was born: cluster, partition and offset.
pub(crate) type Birth = (String, i32, i64);

/// Where a record that lies on `alias` was born.
pub(crate) fn birth(alias: &str, record: &OwnedMessage) -> Birth {
    let check = origin::check(record.key(), record.payload());
    let tags = headers(record, origin::HEADER);
    let mut tag = tags.into_iter().filter_map(Tag::parse);
    let tag = tag.find(|tag| tag.explains(record.topic(), record.partition(), check));
    let (cluster, offset) = match tag {
        Some(tag) => (tag.birth().cluster.to_owned(), tag.birth().offset.0),
        None => (alias.to_owned(), record.offset()),
    };
    (cluster, record.partition(), offset)
}

/// It runs until it is stopped, or dropped: then without a commit.
pub(crate) struct Application {
    stop: Arc<AtomicBool>,
    commit: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Birth>>>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Application {
    /// Starts it, the only member of its group on this cluster.
    pub(crate) fn start(cluster: &Cluster, group: &str, topic: &str) -> Result<Self> {
        let mut config = cluster.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        let (stop, commit): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let alias = cluster.alias().to_owned();
        let (stopped, commits, noted) = (Arc::clone(&stop), Arc::clone(&commit), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                match consumer.poll(Duration::from_millis(50)) {
                    Some(Ok(record)) => {
                        let birth = birth(&alias, &record.detach());
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push(birth);
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => {}
                }
            }
            if !commits.load(Ordering::SeqCst) {
                return Ok(());
            }
            match consumer.commit_consumer_state(CommitMode::Sync) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        Ok(Self {
            stop,
            commit,
            seen,
            thread: Some(thread),
        })
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Vec<Birth> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has seen so many different records that are not in `known`.
    pub(crate) async fn until_seen(&self, known: &HashSet<Birth>, count: usize) -> Result<()> {
        until(WAIT, &format!("{count} more records"), || async {
            let seen: HashSet<Birth> = self.seen().into_iter().collect();
            let new = seen.difference(known).count();
            if new >= count {
                Ok(())
            } else {
                Err(format!("{new} seen"))
            }
        })
        .await
    }

    /// Stops it: it commits what it has seen, and leaves its group. Gives that.
    pub(crate) async fn stop(mut self) -> Result<Vec<Birth>> {
        self.commit.store(true, Ordering::SeqCst);
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("stopped twice")?;
        let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
        ended.map_err(|_| anyhow!("the application panicked"))??;
        Ok(self.seen())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
