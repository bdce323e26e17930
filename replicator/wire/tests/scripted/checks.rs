//! Whether a cluster is there.

use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use kuroshio_wire::{Cluster, ClusterSettings};

use crate::broker::{Broker, play, with_brokers};

/// A cluster that knows both addresses and waits for a second.
fn cluster(brokers: [&Broker; 2]) -> Cluster {
    let servers = brokers.iter().map(|broker| broker.address.clone()).collect();
    Cluster::new(ClusterSettings::new("tw", servers)).within(Duration::from_secs(1))
}

#[tokio::test]
async fn a_broker_that_hangs_hides_no_other_and_is_connected_anew() {
    let (good, hanging) = (Broker::start().await, Broker::start().await);
    let cluster = cluster([&good, &hanging]);
    let script = async {
        let mut peer = good.serve().await;
        for _ in 0..2 {
            let asked = peer.next::<MetadataRequest>().await;
            peer.answer(&asked, &with_brokers(&[&good, &hanging])).await;
        }
    };
    let silence = async {
        for _ in 0..2 {
            let mut peer = hanging.serve().await;
            drop(peer.next::<MetadataRequest>().await);
            assert!(peer.gone().await, "what does not answer is closed");
        }
    };
    let checks = async { [cluster.check().await, cluster.check().await] };
    let (checks, _) = play(checks, async { tokio::join!(script, silence) }).await;
    for checked in checks {
        let checked = checked.unwrap();
        assert_eq!((checked.answered, checked.addresses), (1, 2));
        assert_eq!(checked.metadata.brokers.len(), 2);
    }
}

#[tokio::test]
async fn a_cluster_of_which_nobody_answers_is_not_there() {
    let brokers = [Broker::start().await, Broker::start().await];
    let cluster = cluster([&brokers[0], &brokers[1]]);
    // Connections are accepted by the kernel; nobody reads from them.
    let error = cluster.check().await.unwrap_err().to_string();
    assert!(error.starts_with("cluster tw: "), "{error}");
}
