//! What each of Kafka's error codes means for a caller: the one place where they are sorted.

use kafka_protocol::error::ResponseError as Code;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The cluster is busy or changing: the same call may succeed later.
    Retry,
    /// Our membership in the group is over or out of date: join again first.
    Rejoin,
    /// Another process has taken over our instance or transactional id: this one must end.
    Fenced,
    /// The same call will fail again until somebody changes something.
    Fatal,
}

/// Sorts a code, with the reason beside it.
#[expect(
    clippy::too_many_lines,
    reason = "one line per code of Kafka; splitting it would be two places"
)]
pub(crate) const fn class_of(code: Code) -> Class {
    use Class::{Fatal, Fenced, Rejoin, Retry};
    match code {
        Code::Unknown(_) => Fatal,              // newer than this client: a person must look
        Code::UnknownServerError => Retry,      // the broker met a bug or a shutdown; bounded by the deadline
        Code::OffsetOutOfRange => Fatal,        // that offset is gone, or not yet there
        Code::CorruptMessage => Retry,          // damaged on the way: send or read it again
        Code::UnknownTopicOrPartition => Retry, // a new topic is not known everywhere at once
        Code::InvalidFetchSize => Fatal,        // our request is wrong
        Code::LeaderNotAvailable => Retry,      // an election is under way
        Code::NotLeaderOrFollower => Retry,     // the leader moved: refresh
        Code::RequestTimedOut => Retry,         // replicas or the controller were slow
        Code::BrokerNotAvailable => Retry,      // it restarts or left: refresh
        Code::ReplicaNotAvailable => Retry,     // a replica starts or moves
        Code::MessageTooLarge => Fatal,         // the limit must be raised
        Code::StaleControllerEpoch => Retry,    // a new controller settles in
        Code::OffsetMetadataTooLarge => Fatal,  // offset.metadata.max.bytes is below what we write
        Code::NetworkException => Retry,        // a broker lost a connection behind the one we ask
        Code::CoordinatorLoadInProgress => Retry, // it reads its log; done in seconds
        Code::CoordinatorNotAvailable => Retry, // it moves, or its topic is being created
        Code::NotCoordinator => Retry,          // it moved: find it again
        Code::InvalidTopicException => Fatal,   // not a legal topic name
        Code::RecordListTooLarge => Fatal,      // larger than a segment
        Code::NotEnoughReplicas => Retry,       // replicas come back
        Code::NotEnoughReplicasAfterAppend => Retry, // replicas come back
        Code::InvalidRequiredAcks => Fatal,     // our request is wrong
        Code::IllegalGeneration => Rejoin,      // the group has moved on
        Code::InconsistentGroupProtocol => Fatal, // another protocol type lives under this group id
        Code::InvalidGroupId => Fatal,          // not a legal group id
        Code::UnknownMemberId => Rejoin,        // our session ended
        Code::InvalidSessionTimeout => Fatal,   // outside the broker's group.{min,max}.session.timeout.ms
        Code::RebalanceInProgress => Rejoin,    // the group waits for us to join
        Code::InvalidCommitOffsetSize => Fatal, // offsets and metadata exceed a batch
        Code::TopicAuthorizationFailed => Fatal, // an ACL is missing
        Code::GroupAuthorizationFailed => Fatal, // an ACL is missing
        Code::ClusterAuthorizationFailed => Fatal, // an ACL is missing
        Code::InvalidTimestamp => Fatal,        // outside the topic's bounds
        Code::UnsupportedSaslMechanism => Fatal, // configuration of either side
        Code::IllegalSaslState => Fatal,        // a listener that wants another handshake
        Code::UnsupportedVersion => Fatal,      // broker or group too old or too new for the call
        Code::TopicAlreadyExists => Fatal,      // the caller takes it as done
        Code::InvalidPartitions => Fatal,       // fewer than there are, or none
        Code::InvalidReplicationFactor => Fatal, // more than there are brokers
        Code::InvalidReplicaAssignment => Fatal, // our request is wrong
        Code::InvalidConfig => Fatal,           // the broker knows no such key or value
        Code::NotController => Retry,           // it moved: refresh
        Code::InvalidRequest => Fatal,          // our request is wrong
        Code::UnsupportedForMessageFormat => Fatal, // topic in a format of before 0.11
        Code::PolicyViolation => Fatal,         // the operator forbids it
        Code::OutOfOrderSequenceNumber => Fatal, // a producer lost its place
        Code::DuplicateSequenceNumber => Fatal, // the producer's matter; never ours here
        Code::InvalidProducerEpoch => Fenced,   // a newer producer has our transactional id
        Code::InvalidTxnState => Fatal,         // calls out of order
        Code::InvalidProducerIdMapping => Fatal, // the id expired: the producer must begin anew
        Code::InvalidTransactionTimeout => Fatal, // above the broker's transaction.max.timeout.ms
        Code::ConcurrentTransactions => Retry,  // the previous one is being completed
        Code::TransactionCoordinatorFenced => Retry, // between brokers: the coordinator moved
        Code::TransactionalIdAuthorizationFailed => Fatal, // an ACL is missing
        Code::SecurityDisabled => Fatal,        // the broker has no authorizer
        Code::OperationNotAttempted => Retry,   // another item of the same request stopped it
        Code::KafkaStorageError => Retry,       // a disk failed: the leader moves
        Code::LogDirNotFound => Fatal,          // of replica moves; never asked here
        Code::SaslAuthenticationFailed => Fatal, // wrong credentials
        Code::UnknownProducerId => Fatal,       // the producer's state is gone
        Code::ReassignmentInProgress => Retry,  // ends by itself
        Code::DelegationTokenAuthDisabled => Fatal, // of delegation tokens; never asked here
        Code::DelegationTokenNotFound => Fatal, // as above
        Code::DelegationTokenOwnerMismatch => Fatal, // as above
        Code::DelegationTokenRequestNotAllowed => Fatal, // as above
        Code::DelegationTokenAuthorizationFailed => Fatal, // as above
        Code::DelegationTokenExpired => Fatal,  // as above
        Code::InvalidPrincipalType => Fatal,    // our request is wrong
        Code::NonEmptyGroup => Fatal,           // it has members: the caller leaves it alone
        Code::GroupIdNotFound => Fatal,         // there is no such group
        Code::FetchSessionIdNotFound => Retry,  // we use none; a proxy's may have ended
        Code::InvalidFetchSessionEpoch => Retry, // as above
        Code::ListenerNotFound => Retry,        // a broker starts up or is reconfigured
        Code::TopicDeletionDisabled => Fatal,   // delete.topic.enable=false
        Code::FencedLeaderEpoch => Retry,       // our metadata are old: refresh
        Code::UnknownLeaderEpoch => Retry,      // the broker's are old: wait
        Code::UnsupportedCompressionType => Fatal, // zstd asked for with an old Fetch
        Code::StaleBrokerEpoch => Retry,        // between brokers: one has restarted
        Code::OffsetNotAvailable => Retry,      // a new leader does not know its end yet
        Code::MemberIdRequired => Rejoin,       // join with the id given
        Code::PreferredLeaderNotAvailable => Retry, // of elections
        Code::GroupMaxSizeReached => Fatal,     // group.max.size
        Code::FencedInstanceId => Fenced,       // another process joined with our instance id
        Code::EligibleLeadersNotAvailable => Retry, // of elections
        Code::ElectionNotNeeded => Fatal,       // of elections: nothing to do
        Code::NoReassignmentInProgress => Fatal, // nothing to do
        Code::GroupSubscribedToTopic => Fatal,  // a living group reads it
        Code::InvalidRecord => Fatal,           // the broker refuses the record's content
        Code::UnstableOffsetCommit => Retry,    // a transaction holds pending offsets
        Code::ThrottlingQuotaExceeded => Retry, // controller_mutation_rate: later
        Code::ProducerFenced => Fenced,         // a newer producer has our transactional id
        Code::ResourceNotFound => Fatal,        // no such resource
        Code::DuplicateResource => Fatal,       // our request names it twice
        Code::UnacceptableCredential => Fatal,  // of SCRAM users; never asked here
        Code::InconsistentVoterSet => Fatal,    // of controllers; never asked here
        Code::InvalidUpdateVersion => Fatal,    // of features; never asked here
        Code::FeatureUpdateFailed => Fatal,     // of features; never asked here
        Code::PrincipalDeserializationFailure => Fatal, // brokers disagree on a principal builder
        Code::SnapshotNotFound => Fatal,        // of controllers; never asked here
        Code::PositionOutOfRange => Fatal,      // of controllers; never asked here
        Code::UnknownTopicId => Retry,          // new, or recreated: refresh
        Code::DuplicateBrokerRegistration => Fatal, // of brokers; never asked here
        Code::BrokerIdNotRegistered => Retry,   // the broker starts or left
        Code::InconsistentTopicId => Retry,     // recreated: refresh
        Code::InconsistentClusterId => Fatal,   // the address leads to another cluster
        Code::TransactionalIdNotFound => Fatal, // never used, or expired
        Code::FetchSessionTopicIdError => Retry, // as the other session errors
        Code::IneligibleReplica => Fatal,       // between brokers
        Code::NewLeaderElected => Retry,        // the leader changed on the way
        Code::OffsetMovedToTieredStorage => Fatal, // of followers; never asked here
        Code::FencedMemberEpoch => Rejoin,      // KIP-848: the member's epoch is over
        Code::UnreleasedInstanceId => Fenced,   // KIP-848: another member holds the instance id
        Code::UnsupportedAssignor => Fatal,     // KIP-848 configuration
        Code::StaleMemberEpoch => Rejoin,       // KIP-848: out of date
        Code::MismatchedEndpointType => Fatal,  // a controller's address was given as a broker's
        Code::UnsupportedEndpointType => Fatal, // as above
        Code::UnknownControllerId => Retry,     // it moved: refresh
        Code::UnknownSubscriptionId => Fatal,   // of telemetry; never asked here
        Code::TelemetryTooLarge => Fatal,       // of telemetry; never asked here
        Code::InvalidRegistration => Fatal,     // of brokers; never asked here
        Code::TransactionAbortable => Retry,    // the transaction must be aborted, then begun again
        Code::InvalidRecordState => Fatal,      // of share groups; never asked here
        Code::ShareSessionNotFound => Fatal,    // as above
        Code::InvalidShareSessionEpoch => Fatal, // as above
        Code::FencedStateEpoch => Fatal,        // as above
        Code::InvalidVoterKey => Fatal,         // of controllers; never asked here
        Code::DuplicateVoter => Fatal,          // as above
        Code::VoterNotFound => Fatal,           // as above
        Code::InvalidRegularExpression => Fatal, // the pattern is wrong
        Code::RebootstrapRequired => Retry,     // begin again with the bootstrap servers (KIP-1102)
        Code::StreamsInvalidTopology => Fatal,  // of Streams groups; never asked here
        Code::StreamsInvalidTopologyEpoch => Fatal, // as above
        Code::StreamsTopologyFenced => Fatal,   // as above
        Code::ShareSessionLimitReached => Fatal, // of share groups; never asked here
    }
}

/// Whether a call waits for the condition to pass by itself. Some that a retry may heal are answers that
/// the caller must hear at once: it may know better (a topic just created, an orphaned transaction).
pub(crate) const fn waits(code: Code) -> bool {
    matches!(class_of(code), Class::Retry)
        && !matches!(
            code,
            Code::UnstableOffsetCommit
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopicId
                | Code::InconsistentTopicId
                | Code::ThrottlingQuotaExceeded
                | Code::UnknownServerError
                | Code::TransactionAbortable
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_kafka_is_sorted() {
        let rejoin = [22, 25, 27, 79, 110, 113];
        let fenced = [47, 82, 90, 111];
        for number in (-1..=133).filter(|number| *number != 0) {
            let code = Code::try_from_code(number).unwrap();
            assert_ne!(code, Code::Unknown(number), "not known to the crate");
            let class = class_of(code);
            assert_eq!(class == Class::Rejoin, rejoin.contains(&number), "{code}");
            assert_eq!(class == Class::Fenced, fenced.contains(&number), "{code}");
            // What Kafka calls retriable we retry too; the exceptions are answers or never asked for.
            let answers = [84, 122, 123, 133];
            if code.is_retriable() && !answers.contains(&number) {
                assert_eq!(class, Class::Retry, "{code}");
            }
            assert!(!waits(code) || class == Class::Retry, "{code}");
        }
        assert_eq!(class_of(Code::Unknown(134)), Class::Fatal);
        assert_eq!(
            Code::try_from_code(134),
            Some(Code::Unknown(134)),
            "a newer code: sort it above"
        );
    }

    #[test]
    fn authorization_is_never_retried() {
        for code in [29, 30, 31, 53, 58, 65] {
            assert_eq!(
                class_of(Code::try_from_code(code).unwrap()),
                Class::Fatal,
                "{code}"
            );
        }
    }

    #[test]
    fn calls_wait_for_what_passes_and_not_for_answers() {
        for code in [
            Code::NotCoordinator,
            Code::CoordinatorLoadInProgress,
            Code::NotController,
            Code::ConcurrentTransactions,
        ] {
            assert!(waits(code), "{code}");
        }
        for code in [
            Code::UnstableOffsetCommit,
            Code::UnknownTopicOrPartition,
            Code::RebalanceInProgress,
        ] {
            assert!(!waits(code), "{code}");
        }
    }
}
