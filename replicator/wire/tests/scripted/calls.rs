//! Coordinators that move, positions, membership.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kuroshio_core::types::{Membership, TopicPartition};
use kuroshio_wire::{Class, Committer, Error, GroupOffset, Join, KafkaCode, Stored};
use tokio::time::timeout;

use crate::broker::{Broker, Peer, play, with_brokers};

fn membership(generation: i32) -> Membership {
    Membership {
        group: "g".into(),
        instance: "i".into(),
        member: "m".into(),
        generation,
    }
}

fn one() -> GroupOffset {
    GroupOffset {
        offset: 1,
        leader_epoch: None,
        metadata: "".into(),
    }
}

#[tokio::test]
async fn not_coordinator_leads_to_the_new_one() {
    let (old, new) = (Broker::start().await, Broker::start().await);
    let cluster = old.cluster(|_| {});
    let found = |id: i32| FindCoordinatorResponse::default().with_node_id(id.into());
    let script = async {
        let mut control = old.serve().await;
        let asked = control.next::<FindCoordinatorRequest>().await;
        assert_eq!(
            (&*asked.request.key, asked.request.key_type, asked.version),
            ("g", 0, 3)
        );
        control.answer(&asked, &found(1)).await;
        let asked = control.next::<MetadataRequest>().await;
        control.answer(&asked, &with_brokers(&[&old, &new])).await;

        let mut group = old.serve().await;
        let asked = group.next::<HeartbeatRequest>().await;
        let moved = HeartbeatResponse::default().with_error_code(KafkaCode::NotCoordinator.code());
        group.answer(&asked, &moved).await;

        // Any broker may be asked for the new coordinator.
        let ask_again = async |mut peer: Peer| {
            let asked = peer.next::<FindCoordinatorRequest>().await;
            peer.answer(&asked, &found(2)).await;
            peer
        };
        let (_asked, mut group) = tokio::select! {
            peer = ask_again(control) => (peer, new.serve().await),
            peer = async { ask_again(new.serve().await).await } => (peer, new.serve().await),
        };
        let asked = group.next::<HeartbeatRequest>().await;
        assert_eq!((asked.request.generation_id, &*asked.request.member_id), (4, "m"));
        assert_eq!(asked.request.group_instance_id.as_deref(), Some("i"));
        group.answer(&asked, &HeartbeatResponse::default()).await;
    };
    let membership = membership(4);
    play(cluster.heartbeat(&membership), script).await.0.unwrap();
}

#[tokio::test]
async fn positions_are_not_read_without_require_stable() {
    for embedded in [false, true] {
        let broker = Broker::start().await;
        let cluster = broker.cluster(|settings| settings.embedded = embedded);
        let script = async {
            let mut peer = broker.accept().await;
            peer.negotiate(&[(ApiKey::OffsetFetch, 6)]).await;
            peer.coordinate(&broker).await;
            if embedded {
                let asked = peer.next::<OffsetFetchRequest>().await;
                peer.answer(&asked, &stored(Some(0))).await;
            }
            peer
        };
        let partition = [TopicPartition::new("t", 0)];
        let (offsets, _peer) = play(cluster.fetch_offsets("g", Some(&partition)), script).await;
        match offsets {
            Ok(offsets) => assert!(embedded && offsets.len() == 1),
            Err(error) => assert!(!embedded && matches!(error, Error::Version { .. }), "{error}"),
        }
    }
}

/// An answer for partition t-0 with an error code, up to v7.
fn stored(code: Option<i16>) -> OffsetFetchResponse {
    use offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
    let partition = OffsetFetchResponsePartition::default()
        .with_committed_offset(5)
        .with_error_code(code.unwrap_or_default());
    let topic = OffsetFetchResponseTopic::default()
        .with_name(StrBytes::from_static_str("t").into())
        .with_partitions(vec![partition]);
    OffsetFetchResponse::default().with_topics(vec![topic])
}

/// What is said from v8 on of a group with this offset for t-0, and with these errors of the group and the partition.
fn of_group(
    group: &'static str,
    offset: i64,
    errors: (i16, i16),
) -> offset_fetch_response::OffsetFetchResponseGroup {
    use offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };
    let partition = OffsetFetchResponsePartitions::default()
        .with_committed_offset(offset)
        .with_metadata(Some(StrBytes::from_static_str("note")))
        .with_error_code(errors.1);
    let topic = OffsetFetchResponseTopics::default()
        .with_name(StrBytes::from_static_str("t").into())
        .with_partitions(vec![partition]);
    OffsetFetchResponseGroup::default()
        .with_group_id(StrBytes::from_static_str(group).into())
        .with_error_code(errors.0)
        .with_topics(vec![topic])
}

/// One group moves while they are asked for, one is left out: both are asked for again, alone.
#[tokio::test]
async fn groups_of_one_broker_are_asked_for_together() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let names = ["a", "b", "c"];
    let script = async {
        let mut peer = broker.serve().await;
        let asked = peer.next::<MetadataRequest>().await;
        peer.answer(&asked, &broker.metadata()).await;
        let asked = peer.next::<ListGroupsRequest>().await;
        let listed = names.map(|name| {
            list_groups_response::ListedGroup::default().with_group_id(StrBytes::from_static_str(name).into())
        });
        peer.answer(&asked, &ListGroupsResponse::default().with_groups(listed.into()))
            .await;
        let asked = peer.next::<OffsetFetchRequest>().await;
        let wanted = asked
            .request
            .groups
            .iter()
            .map(|group| (&**group.group_id, &group.topics));
        assert!(asked.request.require_stable && asked.version == 8);
        assert!(wanted.eq(names.map(|name| (name, &None))));
        let moved = (KafkaCode::NotCoordinator.code(), 0);
        let answer = vec![of_group("a", 1, (0, 0)), of_group("b", 0, moved)];
        peer.answer(&asked, &OffsetFetchResponse::default().with_groups(answer))
            .await;
        for _ in 0..2 {
            let asked = peer.next::<OffsetFetchRequest>().await;
            assert_eq!(asked.request.groups.len(), 1);
            let answer = match &**asked.request.groups[0].group_id {
                "b" => of_group("b", 2, (0, 0)),
                "c" => of_group("c", -1, (0, 0)),
                other => panic!("{other}"),
            };
            peer.answer(&asked, &OffsetFetchResponse::default().with_groups(vec![answer]))
                .await;
        }
    };
    let ask = async {
        let listed = cluster.list_groups().await.unwrap();
        assert_eq!(listed.len(), 3);
        cluster.fetch_offsets_of(&names.map(Into::into)).await
    };
    let (mut stored, ()) = play(ask, script).await;
    let mut of = |group: &str| {
        let stored = stored
            .remove(group)
            .unwrap()
            .unwrap()
            .remove(&TopicPartition::new("t", 0));
        stored.unwrap().unwrap()
    };
    assert!(matches!(of("a"), Stored::Offset(offset) if offset.offset == 1 && &*offset.metadata == "note"));
    assert!(matches!(of("b"), Stored::Offset(offset) if offset.offset == 2));
    assert_eq!(of("c"), Stored::Nothing);
}

#[tokio::test]
async fn unstable_positions_are_told_and_not_waited_for() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let partition = TopicPartition::new("t", 0);
    let script = async {
        let mut peer = broker.serve().await;
        peer.coordinate(&broker).await;
        let asked = peer.next::<OffsetFetchRequest>().await;
        assert!(asked.request.require_stable && asked.version == 8);
        let unstable = of_group("g", 5, (0, KafkaCode::UnstableOffsetCommit.code()));
        peer.answer(
            &asked,
            &OffsetFetchResponse::default().with_groups(vec![unstable]),
        )
        .await;
    };
    let partitions = [partition.clone()];
    let (offsets, ()) = play(cluster.fetch_offsets("g", Some(&partitions)), script).await;
    assert!(matches!(
        offsets.unwrap().remove(&partition),
        Some(Ok(Stored::Unstable))
    ));
}

#[tokio::test]
async fn a_join_that_is_given_up_does_not_hold_up_what_follows() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let join = Join {
        group: "g".into(),
        instance: "i".into(),
        member: None,
        protocol_type: "kuroshio",
        protocol: "v1",
        metadata: Bytes::from_static(b"claims"),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
    };
    let script = async {
        let mut control = broker.serve().await;
        control.coordinate(&broker).await;
        let mut group = broker.serve().await;
        let asked = group.next::<JoinGroupRequest>().await;
        assert_eq!(
            (
                asked.request.session_timeout_ms,
                asked.request.rebalance_timeout_ms
            ),
            (10_000, 60_000)
        );
        (control, group)
    };
    // The join's future is dropped when the script is through.
    let (_control, mut group) = timeout(Duration::from_secs(20), async {
        tokio::select! {
            joined = cluster.join_group(&join) => panic!("joined: {joined:?}"),
            peers = script => peers,
        }
    })
    .await
    .unwrap();
    assert!(group.gone().await, "the connection with the open join is kept");
    let script = async {
        let mut group = broker.serve().await;
        let asked = group.next::<LeaveGroupRequest>().await;
        assert_eq!(asked.request.members[0].group_instance_id.as_deref(), Some("i"));
        let unknown = LeaveGroupResponse::default().with_error_code(KafkaCode::UnknownMemberId.code());
        group.answer(&asked, &unknown).await;
    };
    let membership = membership(4);
    play(cluster.leave_group(&membership), script)
        .await
        .0
        .expect("who is out has left");
}

#[tokio::test]
async fn a_member_never_commits_unfenced() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let offsets = [(TopicPartition::new("t", 0), one())];
    let nameless = Membership {
        member: "".into(),
        ..membership(1)
    };
    let foreign = Membership {
        group: "other".into(),
        ..membership(1)
    };
    for membership in [membership(-1), nameless, foreign] {
        let commit = cluster.commit_offsets("g", Committer::Member(&membership), &offsets);
        let error = commit.await.unwrap_err();
        assert!(
            matches!(error, Error::NotSent { .. }) && error.class() == Class::Fatal,
            "{error}"
        );
    }
}

/// The broker writes what one request commits as one batch, and refuses one of ten thousand positions.
#[tokio::test]
async fn many_positions_are_committed_in_several_requests() {
    let broker = Broker::start().await;
    let cluster = broker.cluster(|_| {});
    let offsets: Vec<_> = (0..2_500)
        .map(|partition| (TopicPartition::new("t", partition), one()))
        .collect();
    let script = async {
        let mut peer = broker.serve().await;
        peer.coordinate(&broker).await;
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 2_500 {
            let asked = peer.next::<OffsetCommitRequest>().await;
            let [topic] = &asked.request.topics[..] else {
                panic!("one topic was committed")
            };
            sizes.push(topic.partitions.len());
            peer.answer(&asked, &committed(&topic.partitions)).await;
        }
        sizes
    };
    let commit = cluster.commit_offsets("g", Committer::Observer, &offsets);
    let (outcomes, sizes) = play(commit, script).await;
    let outcomes = outcomes.unwrap();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    for (partition, _) in offsets {
        let refused = partition.partition == 1_700;
        assert_eq!(outcomes[&partition].is_err(), refused, "{partition}");
    }
}

/// Takes all partitions of t but one.
fn committed(partitions: &[offset_commit_request::OffsetCommitRequestPartition]) -> OffsetCommitResponse {
    use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let taken = partitions.iter().map(|partition| {
        let refused = partition.partition_index == 1_700;
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(if refused {
                KafkaCode::OffsetMetadataTooLarge.code()
            } else {
                0
            })
    });
    let topic = OffsetCommitResponseTopic::default()
        .with_name(StrBytes::from_static_str("t").into())
        .with_partitions(taken.collect());
    OffsetCommitResponse::default().with_topics(vec![topic])
}
