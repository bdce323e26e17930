//! The second floor: what a loop costs that fetches record batches and produces them again without a client
//! library between, for one broker on each side. It knows no transactions, no compaction and no retries:
//! everything that is not as expected ends it.

mod batch;
mod codec;
mod rewrite;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProduceRequest};

use super::Carry;
use crate::client::{Broker, topic_name};
use crate::clusters::PARTITIONS;
use rewrite::Lane;

/// Bytes in a fetch response, and of one partition in it.
const FETCH: i32 = 8 << 20;
const FETCH_PARTITION: i32 = 1 << 20;
/// Produce requests on their way: as many as Kafka's own clients have.
const IN_FLIGHT: usize = 5;

/// What is done with records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// Nothing.
    Verbatim,
    /// Each gets an origin tag.
    Tagged,
}

pub(super) fn run(carry: &Carry, mode: Mode) -> Result<()> {
    let mut source = Broker::connect(&carry.source)?;
    let mut target = Broker::connect(&carry.target)?;
    let (put, taken) = sync_channel(IN_FLIGHT);
    let answers = answers(target.reader()?, taken, source.reader()?);
    let done = copy(carry, mode, (&mut source, &mut target), &put);
    // What ended the answers is the cause, if they ended first: they close the source to wake us. Otherwise
    // they wait for an answer, and are woken the same way.
    target.shutdown();
    match answers.join() {
        Ok(Ok(())) => done,
        Ok(Err(answer)) => done.context(format!("{answer:#}")),
        Err(_) => Err(anyhow!("the thread that reads the target's answers panicked")),
    }
}

fn copy(
    carry: &Carry,
    mode: Mode,
    (source, target): (&mut Broker, &mut Broker),
    put: &SyncSender<()>,
) -> Result<()> {
    let mut lanes = (0..PARTITIONS)
        .map(|partition| Lane::new(&carry.topic, partition))
        .collect::<Result<Vec<_>>>()?;
    source.send(&fetch(&carry.topic, &lanes))?;
    loop {
        let response = source.receive::<FetchRequest>()?;
        let fetched = advance(response, &mut lanes)?;
        // The next response is on its way while this one is worked on.
        source.send(&fetch(&carry.topic, &lanes))?;
        let mut ready = Vec::with_capacity(fetched.len());
        for (at, batches) in fetched {
            let lane = lanes.get_mut(at).context("a lane that is there was lost")?;
            ready.push((lane.partition, lane.carry(batches, mode)?.into_iter()));
        }
        // A broker takes one batch of a partition in one request.
        loop {
            let round: Vec<_> = ready
                .iter_mut()
                .filter_map(|(partition, batches)| Some((*partition, batches.next()?)))
                .collect();
            if round.is_empty() {
                break;
            }
            put.send(()).context("the target's answers are no longer read")?;
            target.send(&produce(&carry.topic, round))?;
        }
    }
}

/// Takes the batches of a response, moving the lanes to where the next fetch begins.
fn advance(response: FetchResponse, lanes: &mut [Lane]) -> Result<Vec<(usize, Vec<batch::Batch>)>> {
    ensure!(
        response.error_code == 0,
        "fetching: Kafka error {}",
        response.error_code
    );
    let mut fetched = Vec::new();
    for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        let (partition, code) = (data.partition_index, data.error_code);
        ensure!(code == 0, "fetching partition {partition}: Kafka error {code}");
        let at = usize::try_from(partition)?;
        let lane = lanes.get_mut(at).context("a partition that was not asked for")?;
        let batches = batch::split(data.records.unwrap_or_default(), lane.next)?;
        if let Some(last) = batches.last() {
            lane.next = last.next_offset();
            fetched.push((at, batches));
        }
    }
    Ok(fetched)
}

/// Reads the target's answers, one for each token; closes the source on an error, so that the loop ends too.
fn answers(mut target: Broker, taken: Receiver<()>, source: Broker) -> JoinHandle<Result<()>> {
    thread::spawn(move || {
        // A token is put before its request is sent, so each answer has one.
        let done = loop {
            let answer = target.receive::<ProduceRequest>().and_then(|answer| {
                let mut partitions = answer
                    .responses
                    .iter()
                    .flat_map(|topic| &topic.partition_responses);
                match partitions.find(|partition| partition.error_code != 0) {
                    None => Ok(()),
                    Some(refused) => Err(anyhow!(
                        "the target refused a batch of partition {}: Kafka error {} {:?}",
                        refused.index,
                        refused.error_code,
                        refused.error_message
                    )),
                }
            });
            if answer.is_err() || taken.recv().is_err() {
                break answer;
            }
        };
        source.shutdown();
        done
    })
}

fn fetch(topic: &str, lanes: &[Lane]) -> FetchRequest {
    let partitions = lanes
        .iter()
        .map(|lane| {
            FetchPartition::default()
                .with_partition(lane.partition)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_fetch_offset(lane.next)
                .with_partition_max_bytes(FETCH_PARTITION)
        })
        .collect();
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(FETCH)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(partitions),
        ])
}

fn produce(topic: &str, batches: Vec<(i32, Bytes)>) -> ProduceRequest {
    let partitions = batches
        .into_iter()
        .map(|(partition, batch)| {
            PartitionProduceData::default()
                .with_index(partition)
                .with_records(Some(batch))
        })
        .collect();
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(partitions),
        ])
}
