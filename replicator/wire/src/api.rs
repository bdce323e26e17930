//! The requests that we send, each with the newest version that we use.

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse, CreateAclsRequest, CreateAclsResponse, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteAclsRequest,
    DeleteAclsResponse, DeleteGroupsRequest, DeleteGroupsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeAclsRequest,
    DescribeAclsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest,
    InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse, ListTransactionsRequest,
    ListTransactionsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    ProduceRequest, ProduceResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

use crate::frame;

/// A request with its answer. (The trait of the same kind in `kafka-protocol` demands the broker's half of
/// the codec too.)
pub(crate) trait Api: Encodable + Message + HeaderVersion + Send + Sync {
    /// The number on the wire.
    const KEY: ApiKey;
    /// The name in errors.
    const NAME: &'static str;
    /// The newest version used, also where both sides know a newer one.
    const CAP: i16;
    /// Its answer.
    type Response: Decodable + HeaderVersion + Send;
}

const NEWEST: i16 = i16::MAX;

macro_rules! apis {
    ($($request:ident => $response:ident, $key:ident, $cap:expr;)*) => {
        $(impl Api for $request {
            const KEY: ApiKey = ApiKey::$key;
            const NAME: &'static str = stringify!($key);
            const CAP: i16 = $cap;
            type Response = $response;
        })*

        /// Reads `frame` as the answer to the request with this key (Kafka's `ApiKeys`) in this version, as a call does, and forgets
        /// it: what a broker can do to us by its bytes alone, for tests of that. `None`: we send no such request.
        ///
        /// # Errors
        /// What is wrong with the frame.
        pub fn read_answer(key: i16, version: i16, frame: Bytes) -> Option<Result<(), String>> {
            fn read<R: Api>(version: i16, frame: Bytes) -> Option<Result<(), String>> {
                let (oldest, newest) = ours::<R>();
                (oldest..=newest).contains(&version).then(|| frame::decode::<R>(frame, version).map(drop))
            }
            match ApiKey::try_from(key).ok()? {
                $(ApiKey::$key => read::<$request>(version, frame),)*
                _ => None,
            }
        }
    };
}

apis! {
    // v4 adds nothing that we read.
    ApiVersionsRequest => ApiVersionsResponse, ApiVersions, 3;
    MetadataRequest => MetadataResponse, Metadata, NEWEST;
    // v4 takes a list of keys in another shape; v3 is spoken from 2.4 to 4.3.
    FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 3;
    DescribeClusterRequest => DescribeClusterResponse, DescribeCluster, NEWEST;
    SaslHandshakeRequest => SaslHandshakeResponse, SaslHandshake, NEWEST;
    SaslAuthenticateRequest => SaslAuthenticateResponse, SaslAuthenticate, NEWEST;

    CreateTopicsRequest => CreateTopicsResponse, CreateTopics, NEWEST;
    CreatePartitionsRequest => CreatePartitionsResponse, CreatePartitions, NEWEST;
    DeleteTopicsRequest => DeleteTopicsResponse, DeleteTopics, NEWEST;
    DeleteRecordsRequest => DeleteRecordsResponse, DeleteRecords, NEWEST;
    DescribeConfigsRequest => DescribeConfigsResponse, DescribeConfigs, NEWEST;
    IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse, IncrementalAlterConfigs, NEWEST;
    DescribeAclsRequest => DescribeAclsResponse, DescribeAcls, NEWEST;
    CreateAclsRequest => CreateAclsResponse, CreateAcls, NEWEST;
    DeleteAclsRequest => DeleteAclsResponse, DeleteAcls, NEWEST;

    ListGroupsRequest => ListGroupsResponse, ListGroups, NEWEST;
    // v6 says of a group that does not exist no more than that; before, also what may be done with it.
    DescribeGroupsRequest => DescribeGroupsResponse, DescribeGroups, 5;
    ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse, ConsumerGroupDescribe, NEWEST;
    DeleteGroupsRequest => DeleteGroupsResponse, DeleteGroups, NEWEST;

    ListOffsetsRequest => ListOffsetsResponse, ListOffsets, NEWEST;
    OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse, OffsetForLeaderEpoch, NEWEST;
    // v8 has a list of groups (KIP-709), v9 is for members of KIP-848 groups, v10 names topics by id.
    OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 8;
    // v9 is for members of KIP-848 groups and answers with other codes; v10 names topics by id.
    OffsetCommitRequest => OffsetCommitResponse, OffsetCommit, 8;

    JoinGroupRequest => JoinGroupResponse, JoinGroup, NEWEST;
    SyncGroupRequest => SyncGroupResponse, SyncGroup, NEWEST;
    HeartbeatRequest => HeartbeatResponse, Heartbeat, NEWEST;
    LeaveGroupRequest => LeaveGroupResponse, LeaveGroup, NEWEST;

    InitProducerIdRequest => InitProducerIdResponse, InitProducerId, NEWEST;
    // v4 and v5 are for producers that write (KIP-890).
    EndTxnRequest => EndTxnResponse, EndTxn, 3;
    ListTransactionsRequest => ListTransactionsResponse, ListTransactions, NEWEST;
    DescribeTransactionsRequest => DescribeTransactionsResponse, DescribeTransactions, NEWEST;

    FetchRequest => FetchResponse, Fetch, NEWEST;
    // v13 names topics by id.
    ProduceRequest => ProduceResponse, Produce, 12;
}

/// Versions of `R` that this client can use, oldest and newest.
pub(crate) fn ours<R: Api>() -> (i16, i16) {
    (R::VERSIONS.min, R::VERSIONS.max.min(R::CAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest version that Kafka 2.8 speaks of each request that must work with it.
    #[test]
    fn no_call_needs_more_than_kafka_2_8_but_those_that_say_so() {
        fn check<R: Api>(kafka_2_8: i16) {
            let (oldest, newest) = ours::<R>();
            assert!(
                oldest <= kafka_2_8 && oldest <= newest,
                "{} {oldest} to {newest}",
                R::NAME
            );
        }
        check::<ApiVersionsRequest>(3);
        check::<MetadataRequest>(11);
        check::<FindCoordinatorRequest>(3);
        check::<CreateTopicsRequest>(7);
        check::<CreatePartitionsRequest>(3);
        check::<DeleteTopicsRequest>(6);
        check::<DeleteRecordsRequest>(2);
        check::<DescribeConfigsRequest>(4);
        check::<IncrementalAlterConfigsRequest>(1);
        check::<DescribeAclsRequest>(2);
        check::<CreateAclsRequest>(2);
        check::<DeleteAclsRequest>(2);
        check::<ListGroupsRequest>(4);
        check::<DescribeGroupsRequest>(5);
        check::<DeleteGroupsRequest>(2);
        check::<ListOffsetsRequest>(6);
        check::<OffsetForLeaderEpochRequest>(4);
        check::<OffsetFetchRequest>(7);
        check::<OffsetCommitRequest>(8);
        check::<JoinGroupRequest>(7);
        check::<SyncGroupRequest>(5);
        check::<HeartbeatRequest>(4);
        check::<LeaveGroupRequest>(4);
        check::<InitProducerIdRequest>(4);
        check::<EndTxnRequest>(3);
        check::<DescribeClusterRequest>(0);
        check::<FetchRequest>(12);
    }
}
