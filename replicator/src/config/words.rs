//! Keys whose value is one of a few words.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// Makes each set an enum that serde, the schema and metrics spell alike.
macro_rules! words {
    ($($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
            $vis enum $name {
                $($(#[$word_doc])* #[serde(rename = $word)] $variant),*
            }

            impl $name {
                /// As it is written in the file.
                #[must_use]
                #[allow(dead_code, reason = "not every set is shown")]
                $vis const fn as_str(self) -> &'static str {
                    match self { $(Self::$variant => $word),* }
                }
            }

            impl JsonSchema for $name {
                fn inline_schema() -> bool { true }
                fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
                }
            }
        )*
    };
}

words! {
    /// Names of topics on the target.
    pub(crate) Naming {
        /// As on the source.
        Identity = "identity",
        /// `<source alias><separator><topic>`.
        Prefix = "prefix",
    }
    /// Which records a flow forwards.
    pub Forward {
        /// Only those born in the source.
        Local = "local",
        /// Also those passing through, never to a cluster in their path.
        Relay = "relay",
    }
    /// How often a record may arrive.
    pub Delivery {
        /// Once for readers with `read_committed`, in transactions.
        ExactlyOnce = "exactly_once",
        /// Once or, after a fault, again.
        AtLeastOnce = "at_least_once",
    }
    /// When records are gone before they were copied.
    pub OnDataLoss {
        /// Count them, say so, go on behind the gap.
        Continue = "continue",
        /// Quarantine the partition.
        Halt = "halt",
    }
    /// When a source topic is deleted.
    pub OnTopicDelete {
        /// The target keeps its topic.
        Keep = "keep",
        /// The target's topic is deleted too.
        Delete = "delete",
    }
    /// Whether the target's topics grow with the source's.
    pub Partitions {
        /// They grow.
        Sync = "sync",
        /// They are left alone; records of partitions that the target lacks wait.
        None = "none",
    }
    /// Compression on the target.
    pub Compression {
        /// As the target topic's config says.
        Source = "source",
        /// Uncompressed.
        None = "none",
        /// lz4.
        Lz4 = "lz4",
        /// zstd.
        Zstd = "zstd",
        /// snappy.
        Snappy = "snappy",
        /// gzip.
        Gzip = "gzip",
    }
    /// What moves the records.
    pub(crate) EngineName {
        /// librdkafka.
        Librdkafka = "librdkafka",
    }
    /// SASL mechanisms.
    pub(crate) Mechanism {
        /// PLAIN.
        Plain = "plain",
        /// SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
        /// SCRAM-SHA-512.
        ScramSha512 = "scram-sha-512",
        /// OAUTHBEARER with client credentials.
        Oauthbearer = "oauthbearer",
        /// AWS_MSK_IAM.
        AwsMskIam = "aws-msk-iam",
    }
    /// How logs are written.
    pub LogFormat {
        /// One JSON object per line.
        Json = "json",
        /// Text for people.
        Text = "text",
    }
    /// How much is logged.
    pub LogLevel {
        /// Faults.
        Error = "error",
        /// And what needs attention.
        Warn = "warn",
        /// And what changes.
        Info = "info",
        /// And decisions.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl From<Forward> for kuroshio_core::origin::Forward {
    fn from(word: Forward) -> Self {
        match word {
            Forward::Local => Self::Local,
            Forward::Relay => Self::Relay,
        }
    }
}
