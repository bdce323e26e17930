//! What errors mean, in one place.

use kuroshio_core::engine::{EngineError, Refusal, RefusalKind};

use crate::native::{Code, Failure};

/// What an error in a record's place in the consumer's queue means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The partition's end was reached; no error.
    End,
    /// The offset does not exist.
    OutOfRange,
    /// librdkafka tries again by itself, at the same place.
    Passing,
    /// The partition cannot be read, or librdkafka would go on *behind* what it could not read (a batch with a
    /// wrong checksum, say), which would lose records silently: the lane ends here.
    Unreadable,
}

pub(crate) fn reading(code: Code) -> Reading {
    match code {
        Code::PARTITION_EOF => Reading::End,
        Code::AUTO_OFFSET_RESET | Code::LOG_TRUNCATION => Reading::OutOfRange,
        Code::TRANSPORT
        | Code::RESOLVE
        | Code::ALL_BROKERS_DOWN
        | Code::LOCAL_TIMED_OUT
        | Code::REQUEST_TIMED_OUT
        | Code::GROUP_AUTHORIZATION_FAILED
        | Code::UNKNOWN => Reading::Passing,
        _ => Reading::Unreadable,
    }
}

/// What a failed delivery means for the record.
pub(crate) enum Delivering {
    /// The target will not take this record.
    Refused(Refusal),
    /// It was not written for a reason that lies elsewhere.
    Dropped,
}

pub(crate) fn delivering(code: Code) -> Delivering {
    let kind = match code {
        Code::PURGE_QUEUE
        | Code::PURGE_INFLIGHT
        | Code::LOCAL_FATAL
        | Code::LOCAL_FENCED
        | Code::LOCAL_STATE
        | Code::DESTROY
        | Code::GAPLESS_GUARANTEE
        // The target could not be reached within the transaction's time.
        | Code::MSG_TIMED_OUT
        | Code::PRODUCER_FENCED
        | Code::INVALID_PRODUCER_EPOCH
        // A batch behind one that was refused.
        | Code::OUT_OF_ORDER_SEQUENCE => return Delivering::Dropped,
        Code::MSG_SIZE_TOO_LARGE | Code::RECORD_LIST_TOO_LARGE => RefusalKind::TooLarge,
        Code::INVALID_TIMESTAMP => RefusalKind::Timestamp,
        Code::TOPIC_AUTHORIZATION_FAILED => RefusalKind::NotAuthorized,
        Code::INVALID_RECORD | Code::POLICY_VIOLATION => RefusalKind::Invalid,
        Code::UNKNOWN_TOPIC | Code::UNKNOWN_PARTITION | Code::UNKNOWN_TOPIC_OR_PART => RefusalKind::TargetMissing,
        _ => RefusalKind::Other,
    };
    Delivering::Refused(Refusal {
        kind,
        text: code.to_string(),
    })
}

/// Whether the group coordinator refused our membership.
pub(crate) fn rejoin(code: Code) -> bool {
    matches!(
        code,
        Code::ILLEGAL_GENERATION | Code::UNKNOWN_MEMBER_ID | Code::FENCED_INSTANCE_ID
    )
}

/// What an error that ends the producer means. `doing`: what failed, with the cluster's alias.
pub(crate) fn fatal(failure: &Failure, doing: &str) -> EngineError {
    let text = format!("{doing}: {}", failure.text);
    match failure.code {
        Code::LOCAL_FENCED | Code::PRODUCER_FENCED | Code::INVALID_PRODUCER_EPOCH => {
            EngineError::Fenced(text)
        }
        Code::TXN_ID_AUTHORIZATION_FAILED => EngineError::Fatal(format!(
            "{text}; allow Write and Describe on the transactional id (prefix kuroshio.) on this cluster"
        )),
        Code::CLUSTER_AUTHORIZATION_FAILED => {
            EngineError::Fatal(format!("{text}; allow IdempotentWrite on this cluster"))
        }
        Code::INVALID_TRANSACTION_TIMEOUT => EngineError::Fatal(format!(
            "{text}; the broker's transaction.max.timeout.ms is below the transaction timeout of the flow"
        )),
        _ => EngineError::Rebuild(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_errors_on_the_way_in_end_the_lane() {
        assert_eq!(reading(Code(9999)), Reading::Unreadable);
        assert_eq!(reading(Code::PARTITION_EOF), Reading::End);
        assert_eq!(reading(Code::TRANSPORT), Reading::Passing);
    }

    #[test]
    fn unknown_errors_on_the_way_out_are_refusals() {
        assert!(matches!(delivering(Code(9999)), Delivering::Refused(r) if r.kind == RefusalKind::Other));
        assert!(matches!(delivering(Code::PURGE_QUEUE), Delivering::Dropped));
    }

    #[test]
    fn only_a_membership_refused_asks_to_join_again() {
        let all = [
            Code::ILLEGAL_GENERATION,
            Code::UNKNOWN_MEMBER_ID,
            Code::FENCED_INSTANCE_ID,
        ];
        assert!(all.into_iter().all(rejoin));
        assert!(!rejoin(Code::MSG_SIZE_TOO_LARGE));
    }

    #[test]
    fn fatal_errors_are_sorted() {
        let failure = |code| Failure {
            code,
            fatal: true,
            retriable: false,
            abort: false,
            text: "x".to_owned(),
        };
        assert!(matches!(
            fatal(&failure(Code::LOCAL_FENCED), ""),
            EngineError::Fenced(_)
        ));
        assert!(matches!(
            fatal(&failure(Code::TXN_ID_AUTHORIZATION_FAILED), ""),
            EngineError::Fatal(_)
        ));
        assert!(matches!(
            fatal(&failure(Code::GAPLESS_GUARANTEE), ""),
            EngineError::Rebuild(_)
        ));
    }
}
