//! A cluster's logs and transactions, as far as replication can tell them from Kafka's.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use kuroshio_core::types::TopicPartition;

use crate::group::Group;

/// A record, and the truth about it, which only the judge reads.
#[derive(Clone, Debug)]
pub struct Rec {
    pub id: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Values of its `kuroshio-origin` headers.
    pub tags: Vec<Vec<u8>>,
    /// Truth: the clusters it has been in; the last is this one.
    pub path: Vec<usize>,
    /// Truth: its offset in the cluster before.
    pub from: i64,
}

#[derive(Clone, Debug)]
pub enum Entry {
    Data(Rc<Rec>, Option<usize>),
    Marker,
    /// Removed by compaction.
    Gap,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
    open: BTreeMap<usize, i64>,
    /// How far the judge has looked.
    pub judged: i64,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    pub fn last_stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(self.end())
    }

    pub fn append(&mut self, recs: impl IntoIterator<Item = Rec>, txn: Option<usize>) -> i64 {
        let base = self.end();
        self.entries
            .extend(recs.into_iter().map(|rec| Entry::Data(Rc::new(rec), txn)));
        if let Some(txn) = txn {
            self.open.entry(txn).or_insert(base);
        }
        base
    }

    fn mark(&mut self, txn: usize) {
        self.open.remove(&txn);
        self.entries.push(Entry::Marker);
    }
}

/// What the coordinator knows of a transactional id.
#[derive(Clone, Debug, Default)]
pub struct Producer {
    pub epoch: i32,
    open: Option<usize>,
    completing: bool,
    /// The newest client transaction that has ended.
    ended: u64,
}

#[derive(Clone, Debug)]
pub struct Txn {
    pub id: Arc<str>,
    client: u64,
    pub begun: u64,
    parts: BTreeSet<TopicPartition>,
    groups: BTreeSet<Arc<str>>,
    pub committed: Option<bool>,
    left: usize,
}

/// Who speaks in a transaction: id, epoch, and the number that its client gave the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub id: Arc<str>,
    pub epoch: i32,
    pub client: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnError {
    /// A newer producer has the id.
    Fenced,
    /// The transaction before is being completed.
    Concurrent,
    /// This transaction has ended already (timed out).
    Over,
}

/// Where the marker of an ended transaction is still to be written.
#[derive(Clone, Debug)]
pub enum Place {
    Partition(TopicPartition),
    Group(Arc<str>),
}

#[derive(Debug, Default)]
pub struct Cluster {
    pub alias: &'static str,
    pub topics: BTreeMap<Arc<str>, Vec<Log>>,
    pub producers: BTreeMap<Arc<str>, Producer>,
    pub txns: Vec<Txn>,
    pub groups: BTreeMap<Arc<str>, Group>,
    /// Open transactions, in the order of their begin.
    pub running: BTreeSet<usize>,
}

impl Cluster {
    pub fn log(&self, tp: &TopicPartition) -> Option<&Log> {
        self.topics.get(&tp.topic)?.get(tp.partition as usize)
    }

    pub fn log_mut(&mut self, tp: &TopicPartition) -> Option<&mut Log> {
        self.topics.get_mut(&tp.topic)?.get_mut(tp.partition as usize)
    }

    /// The record at an offset below the last stable one, as a read_committed reader sees it.
    pub fn committed(&self, tp: &TopicPartition, offset: i64) -> Option<&Rc<Rec>> {
        match self.log(tp)?.entries.get(offset as usize)? {
            Entry::Data(rec, txn) if txn.is_none_or(|txn| self.txns[txn].committed == Some(true)) => {
                Some(rec)
            }
            _ => None,
        }
    }

    /// The open transaction of a speaker, begun now if need be.
    pub fn enter(&mut self, now: u64, who: &Speaker) -> Result<usize, TxnError> {
        let producer = self.producers.entry(Arc::clone(&who.id)).or_default();
        if who.epoch < producer.epoch {
            return Err(TxnError::Fenced);
        }
        if who.client <= producer.ended {
            return Err(TxnError::Over);
        }
        if producer.completing {
            return Err(TxnError::Concurrent);
        }
        Ok(*producer.open.get_or_insert_with(|| {
            let id = Arc::clone(&who.id);
            let (parts, groups) = (BTreeSet::new(), BTreeSet::new());
            self.txns.push(Txn {
                id,
                client: who.client,
                begun: now,
                parts,
                groups,
                committed: None,
                left: 0,
            });
            self.running.insert(self.txns.len() - 1);
            self.txns.len() - 1
        }))
    }

    pub fn write(&mut self, tp: &TopicPartition, recs: Vec<Rec>, txn: Option<usize>) -> Option<i64> {
        let base = self.log_mut(tp)?.append(recs, txn);
        if let Some(txn) = txn {
            self.txns[txn].parts.insert(tp.clone());
        }
        Some(base)
    }

    pub fn hold_offsets(&mut self, txn: usize, group: &Arc<str>, offsets: Vec<(TopicPartition, i64)>) {
        self.txns[txn].groups.insert(Arc::clone(group));
        if let Some(group) = self.groups.get_mut(group) {
            group.pending.entry(txn).or_default().extend(offsets);
        }
    }

    /// Decides an open transaction; its markers are still to be written.
    pub fn decide(&mut self, txn: usize, commit: bool) -> Vec<Place> {
        self.running.remove(&txn);
        let parts = self.txns[txn].parts.iter().cloned().map(Place::Partition);
        let places: Vec<Place> = parts
            .chain(self.txns[txn].groups.iter().cloned().map(Place::Group))
            .collect();
        let it = &mut self.txns[txn];
        (it.committed, it.left) = (Some(commit), places.len());
        let producer = self.producers.entry(Arc::clone(&it.id)).or_default();
        (producer.open, producer.completing, producer.ended) = (None, !places.is_empty(), it.client);
        places
    }

    /// EndTxn: the transaction to decide, `None` if none was begun.
    pub fn ending(&mut self, who: &Speaker) -> Result<Option<usize>, TxnError> {
        let producer = self.producers.entry(Arc::clone(&who.id)).or_default();
        if who.epoch < producer.epoch {
            return Err(TxnError::Fenced);
        }
        if who.client <= producer.ended {
            return Err(TxnError::Over);
        }
        // What of it is still under way must not begin a transaction that nobody ends (KIP-890).
        producer.ended = who.client;
        Ok(producer.open)
    }

    /// InitProducerId: a new epoch; answers the transaction to abort first, if there is one.
    pub fn init(&mut self, id: &Arc<str>) -> Result<(i32, Option<usize>), TxnError> {
        let producer = self.producers.entry(Arc::clone(id)).or_default();
        if producer.completing {
            return Err(TxnError::Concurrent);
        }
        producer.epoch += 1;
        Ok((producer.epoch, producer.open))
    }

    /// Writes one marker; answers positions that now count.
    pub fn mark(&mut self, txn: usize, place: &Place) -> Vec<(TopicPartition, i64)> {
        let committed = self.txns[txn].committed == Some(true);
        let mut moved = Vec::new();
        match place {
            Place::Partition(tp) => {
                if let Some(log) = self.log_mut(tp) {
                    log.mark(txn);
                }
            }
            Place::Group(name) => {
                if let Some(group) = self.groups.get_mut(name) {
                    let offsets = group.pending.remove(&txn).unwrap_or_default();
                    if committed {
                        group.offsets.extend(offsets.clone());
                        moved.extend(offsets);
                    }
                }
            }
        }
        let it = &mut self.txns[txn];
        it.left -= 1;
        if it.left == 0
            && let Some(producer) = self.producers.get_mut(&it.id)
        {
            producer.completing = false;
        }
        moved
    }
}
