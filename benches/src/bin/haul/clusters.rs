//! The two clusters, one broker each, and a clean target between hauls.

use std::time::Duration;

use anyhow::Result;
use kuroshio_integration::{Cluster, Spec, until};

use crate::client::Broker;
use crate::data::DataSet;
use crate::wan;

/// Partitions of every topic that is copied.
pub(crate) const PARTITIONS: i32 = 24;

/// Brokers of a region, one in each zone: the least that it has.
pub(crate) const ZONES: u16 = 3;

/// Heap of each broker.
const HEAP_MIB: u32 = 1024;

/// Until a new topic can be read and written.
const CREATED: Duration = Duration::from_secs(60);

/// Source and target.
#[derive(Debug)]
pub(crate) struct Clusters {
    pub(crate) source: Cluster,
    pub(crate) target: Cluster,
}

impl Clusters {
    pub(crate) async fn start() -> Result<Self> {
        let (source, target) = tokio::try_join!(Cluster::start(spec("tw")), Cluster::start(spec("jp")))?;
        Ok(Self { source, target })
    }

    /// A target whose groups wait as long before their first rebalance as Kafka's default says.
    pub(crate) async fn target_with_delay() -> Result<Cluster> {
        Cluster::start(spec("jp").setting("group.initial.rebalance.delay.ms", "3000")).await
    }

    /// A source as a region has it. Clients have one fetch under way per broker.
    pub(crate) async fn source_of_zones() -> Result<Cluster> {
        Cluster::start(spec("tw").nodes(ZONES)).await
    }
}

fn spec(alias: &str) -> Spec {
    // What is deleted leaves the disk at once, not after a minute.
    Spec::new(alias)
        .linked()
        .heap_mib(HEAP_MIB)
        .setting("log.segment.delete.delay.ms", "1000")
}

/// Deletes what the last carrier left, but Kafka's own topics and, on the source, the data.
pub(crate) async fn clean(cluster: &Cluster, keep_data: bool) -> Result<()> {
    for topic in cluster.topics().await?.keys() {
        let data =
            keep_data && (DataSet::ALL.iter().any(|data| data.topic() == topic) || wan::is_data(topic));
        if !data && !topic.starts_with("__") {
            cluster.delete_topic(topic).await?;
        }
    }
    Ok(())
}

/// Makes a topic and waits until its broker leads all of its partitions. Metadata says so a little earlier, and
/// who then is refused begins by backing off. A busy broker still answers with the ends of a deleted topic of that name.
pub(crate) async fn create(cluster: &Cluster, topic: &str) -> Result<()> {
    cluster.create_topic(topic, PARTITIONS, &[]).await?;
    let broker = std::cell::RefCell::new(Broker::connect(cluster.bootstrap())?);
    until(CREATED, &format!("leaders of {topic}"), || async {
        match broker.borrow_mut().ends(topic, PARTITIONS) {
            Ok(ends) if ends.iter().all(|end| *end == 0) => Ok(()),
            Ok(ends) => Err(format!("it is not empty: {ends:?}")),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
}
