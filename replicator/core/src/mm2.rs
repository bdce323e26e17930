//! Records of MirrorMaker 2's internal topics, as its own classes write and read them (`Checkpoint`, `Heartbeat` of
//! connect-mirror-client): Kafka's `Struct`, numbers big-endian, strings behind two bytes of length.

/// Version of the values; there is no other.
const VERSION: i16 = 0;

/// The topic of heartbeats, on the target and, copied on, everywhere.
pub const HEARTBEATS: &str = "heartbeats";

/// The topic of checkpoints on the target of a flow from `source`; `separator` is the naming's.
#[must_use]
pub fn checkpoints_topic(source: &str, separator: &str) -> String {
    format!("{source}{separator}checkpoints{separator}internal")
}

/// Where a group goes on in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The group.
    pub group: String,
    /// The topic, as it is called on the target.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The group's offset on the source.
    pub upstream: i64,
    /// Its translation.
    pub downstream: i64,
    /// The group's own note.
    pub metadata: String,
}

impl Checkpoint {
    /// The record's key; `None`: a name is too long for the format.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        put(&mut key, &self.group)?;
        put(&mut key, &self.topic)?;
        key.extend(self.partition.to_be_bytes());
        Some(key)
    }

    /// The record's value; `None`: the note is too long for the format.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        let mut value = VERSION.to_be_bytes().to_vec();
        value.extend(self.upstream.to_be_bytes());
        value.extend(self.downstream.to_be_bytes());
        put(&mut value, &self.metadata)?;
        Some(value)
    }

    /// `None`: these are no key and value of a checkpoint.
    #[must_use]
    pub fn parse(mut key: &[u8], mut value: &[u8]) -> Option<Self> {
        let (group, topic) = (take(&mut key)?, take(&mut key)?);
        let partition = i32::from_be_bytes(bytes(&mut key)?);
        let version = i16::from_be_bytes(bytes(&mut value)?);
        let checkpoint = Self {
            group,
            topic,
            partition,
            upstream: i64::from_be_bytes(bytes(&mut value)?),
            downstream: i64::from_be_bytes(bytes(&mut value)?),
            metadata: take(&mut value)?,
        };
        (version == VERSION && key.is_empty() && value.is_empty()).then_some(checkpoint)
    }
}

/// That a flow lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Alias of the flow's source.
    pub source: String,
    /// Alias of its target.
    pub target: String,
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
}

impl Heartbeat {
    /// The record's key; `None`: an alias is too long for the format.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        put(&mut key, &self.source)?;
        put(&mut key, &self.target)?;
        Some(key)
    }

    /// The record's value.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_be_bytes().to_vec();
        value.extend(self.timestamp.to_be_bytes());
        value
    }

    /// `None`: these are no key and value of a heartbeat.
    #[must_use]
    pub fn parse(mut key: &[u8], mut value: &[u8]) -> Option<Self> {
        let (source, target) = (take(&mut key)?, take(&mut key)?);
        let version = i16::from_be_bytes(bytes(&mut value)?);
        let timestamp = i64::from_be_bytes(bytes(&mut value)?);
        let heartbeat = Self {
            source,
            target,
            timestamp,
        };
        (version == VERSION && key.is_empty() && value.is_empty()).then_some(heartbeat)
    }
}

fn put(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let length = i16::try_from(text.len()).ok()?;
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
    Some(())
}

fn bytes<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*first)
}

fn take(from: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(i16::from_be_bytes(bytes(from)?)).ok()?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_mirror_maker() {
        let checkpoint = Checkpoint {
            group: "g".to_owned(),
            topic: "tw.t".to_owned(),
            partition: 3,
            upstream: 258,
            downstream: 7,
            metadata: String::new(),
        };
        let key = [0, 1, b'g', 0, 4, b't', b'w', b'.', b't', 0, 0, 0, 3];
        assert_eq!(checkpoint.key().unwrap(), key);
        let value = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0];
        assert_eq!(checkpoint.value().unwrap(), value);
        let heartbeat = Heartbeat {
            source: "tw".to_owned(),
            target: "jp".to_owned(),
            timestamp: 1,
        };
        assert_eq!(heartbeat.key().unwrap(), *b"\0\x02tw\0\x02jp");
        assert_eq!(heartbeat.value(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(checkpoints_topic("tw", "."), "tw.checkpoints.internal");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let long = "x".repeat(40_000);
        let heartbeat = Heartbeat {
            source: long.clone(),
            target: String::new(),
            timestamp: 0,
        };
        assert_eq!(heartbeat.key(), None);
        let checkpoint = Checkpoint {
            group: String::new(),
            topic: String::new(),
            partition: 0,
            upstream: 0,
            downstream: 0,
            metadata: long,
        };
        assert!(checkpoint.key().is_some() && checkpoint.value().is_none());
    }

    proptest! {
        #[test]
        fn checkpoints_round_trip(
            group: String, topic: String, partition: i32, upstream: i64, downstream: i64, metadata: String,
        ) {
            let checkpoint = Checkpoint { group, topic, partition, upstream, downstream, metadata };
            let (key, value) = (checkpoint.key().unwrap(), checkpoint.value().unwrap());
            prop_assert_eq!(Checkpoint::parse(&key, &value), Some(checkpoint));
            for cut in 0..key.len() {
                prop_assert_eq!(Checkpoint::parse(&key[..cut], &value), None);
            }
            for cut in 0..value.len() {
                prop_assert_eq!(Checkpoint::parse(&key, &value[..cut]), None);
            }
        }

        #[test]
        fn heartbeats_round_trip(source: String, target: String, timestamp: i64) {
            let heartbeat = Heartbeat { source, target, timestamp };
            prop_assert_eq!(Heartbeat::parse(&heartbeat.key().unwrap(), &heartbeat.value()), Some(heartbeat));
        }

        #[test]
        fn arbitrary_bytes_are_no_panic(key: Vec<u8>, value: Vec<u8>) {
            if let Some(checkpoint) = Checkpoint::parse(&key, &value) {
                prop_assert_eq!(checkpoint.key().unwrap(), key.clone());
                prop_assert_eq!(checkpoint.value().unwrap(), value.clone());
            }
            if let Some(heartbeat) = Heartbeat::parse(&key, &value) {
                prop_assert_eq!(heartbeat.key().unwrap(), key);
                prop_assert_eq!(heartbeat.value(), value);
            }
        }
    }
}
