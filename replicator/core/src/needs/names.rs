//! How permissions are called: by Kafka's tools, and by IAM on MSK.

use std::fmt;

use super::{Kind, Permission};
use crate::acls::Operation;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional id",
        })
    }
}

impl fmt::Display for Permission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Cluster => write!(f, "{} on the cluster", self.operation),
            kind => write!(f, "{} on {kind} {}", self.operation, self.name),
        }
    }
}

impl Permission<'_> {
    /// What IAM calls it on MSK: `kafka-cluster:WriteData on topic/orders`. `None`: there is no such action.
    #[must_use]
    pub fn iam(&self) -> Option<String> {
        let (action, name) = (self.kind.action(self.operation)?, self.name);
        Some(match self.kind {
            Kind::Cluster => format!("{action} on the cluster"),
            kind => format!("{action} on {}/{name}", kind.in_arn()),
        })
    }
}

impl Kind {
    /// How a resource of this kind begins in an ARN of MSK, behind the account.
    #[must_use]
    pub fn in_arn(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional-id",
        }
    }

    /// The action of IAM that an operation on such a thing is on MSK; `None`: there is none.
    #[must_use]
    pub fn action(self, operation: Operation) -> Option<&'static str> {
        use Operation as O;
        let action = match (self, operation) {
            (Self::Cluster, O::DESCRIBE) => "kafka-cluster:DescribeCluster",
            (Self::Cluster, O::ALTER) => "kafka-cluster:AlterCluster",
            (Self::Cluster, O::IDEMPOTENT_WRITE) => "kafka-cluster:WriteDataIdempotently",
            (Self::Topic, O::DESCRIBE) => "kafka-cluster:DescribeTopic",
            (Self::Topic, O::READ) => "kafka-cluster:ReadData",
            (Self::Topic, O::WRITE) => "kafka-cluster:WriteData",
            (Self::Topic, O::CREATE) => "kafka-cluster:CreateTopic",
            (Self::Topic, O::DELETE) => "kafka-cluster:DeleteTopic",
            (Self::Topic, O::ALTER) => "kafka-cluster:AlterTopic",
            (Self::Topic, O::DESCRIBE_CONFIGS) => "kafka-cluster:DescribeTopicDynamicConfiguration",
            (Self::Topic, O::ALTER_CONFIGS) => "kafka-cluster:AlterTopicDynamicConfiguration",
            (Self::Group, O::DESCRIBE) => "kafka-cluster:DescribeGroup",
            (Self::Group, O::READ) => "kafka-cluster:AlterGroup",
            (Self::TransactionalId, O::DESCRIBE) => "kafka-cluster:DescribeTransactionalId",
            (Self::TransactionalId, O::WRITE) => "kafka-cluster:AlterTransactionalId",
            _ => return None,
        };
        Some(action)
    }
}
