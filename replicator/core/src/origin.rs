//! The origin tag: what it says, when it counts, how it is written (INTERFACE "The origin tag").
//!
//! `tw/orders/3/8814>jp/orders/3/90210#q8Jx0w`: hops, the first being where the record was born, then a
//! check of key and value. A tag that names only a cluster loses data, because applications copy headers
//! into derived topics; so a tag counts only where it *explains* the record: it names the very topic and
//! partition where the record lies and fits its bytes. No configuration is consulted to judge it.

mod headers;
mod read;

use std::sync::Arc;

use crate::types::SourceOffset;

pub use headers::{Tags, tags};
pub use read::{tag_values, untagged};

/// Key of the record header that holds the tag.
pub const HEADER: &str = "kuroshio-origin";

/// The most hops that a tag may have.
pub const MAX_HOPS: usize = 8;

/// Characters of the check in a tag: 4 bytes in base64url without padding.
const CHECK_CHARS: usize = 6;

/// The alphabet of base64url (RFC 4648, section 5).
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// CRC-32C over the bytes of a record's key, then its value. Null counts as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Check(pub u32);

/// The check of a record with this key and value.
#[must_use]
pub fn check(key: Option<&[u8]>, value: Option<&[u8]>) -> Check {
    Check(crc32c::crc32c_append(
        crc32c::crc32c(key.unwrap_or_default()),
        value.unwrap_or_default(),
    ))
}

impl Check {
    /// The 6 characters that stand in a tag.
    #[must_use]
    pub fn text(self) -> [u8; CHECK_CHARS] {
        // 32 bits, filled with 4 zero bits to 6 characters of 6 bits.
        let bits = u64::from(self.0) << 4;
        std::array::from_fn(|at| BASE64URL[((bits >> (30 - 6 * at)) & 63) as usize])
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != CHECK_CHARS {
            return None;
        }
        let mut bits: u64 = 0;
        for &c in text {
            bits = bits << 6 | u64::from(sextet(c)?);
        }
        // One check has one text: the 4 bits of filling are zero.
        if bits & 0xf != 0 {
            return None;
        }
        u32::try_from(bits >> 4).ok().map(Self)
    }
}

fn sextet(c: u8) -> Option<u8> {
    Some(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

/// One station of a record's way: `cluster/topic/partition/offset`, and `=name` if the topic on the next
/// cluster has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop<'a> {
    /// Alias of the cluster that the record was read from.
    pub cluster: &'a str,
    /// Topic there.
    pub topic: &'a str,
    /// Partition there, and on the next cluster too; from 0.
    pub partition: i32,
    /// Offset there.
    pub offset: SourceOffset,
    /// The topic's name on the next cluster, if it is another one.
    pub name: Option<&'a str>,
}

impl<'a> Hop<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(4, '/');
        let cluster = parts.next().filter(|name| is_name(name))?;
        let topic = parts.next().filter(|name| is_name(name))?;
        let partition = i32::try_from(decimal(parts.next()?)?).ok()?;
        let last = parts.next()?;
        let (offset, name) = match last.split_once('=') {
            // A name equal to the topic's is never written, so that one hop has one text.
            Some((_, name)) if !is_name(name) || name == topic => return None,
            Some((offset, name)) => (offset, Some(name)),
            None => (last, None),
        };
        Some(Self {
            cluster,
            topic,
            partition,
            offset: SourceOffset(decimal(offset)?),
            name,
        })
    }

    /// The topic's name on the next cluster.
    #[must_use]
    pub fn lands_in(&self) -> &'a str {
        self.name.unwrap_or(self.topic)
    }
}

/// Whether this can be an alias or topic in a tag: `[A-Za-z0-9._-]+`.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

/// A canonical decimal: no sign, no leading zeros, within `i64`.
fn decimal(text: &str) -> Option<i64> {
    let digits = text.as_bytes();
    let canonical = digits.first().is_some_and(|c| *c != b'0' || digits.len() == 1);
    if !canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.parse().ok()
}

/// A well-formed tag. It borrows the header's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    hops: &'a str,
    count: usize,
    last: Hop<'a>,
    check: Check,
}

impl<'a> Tag<'a> {
    /// Reads a header value; anything that is not well formed to the letter is no tag. Allocates nothing.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (hops, check) = text.rsplit_once('#')?;
        let check = Check::parse(check.as_bytes())?;
        let mut count = 0;
        let mut last = None;
        for hop in hops.split('>') {
            count += 1;
            if count > MAX_HOPS {
                return None;
            }
            last = Some(Hop::parse(hop)?);
        }
        Some(Self {
            hops,
            count,
            last: last?,
            check,
        })
    }

    /// The hops in the order of the record's way; the first is where it was born. At least 1, at most
    /// [`MAX_HOPS`].
    pub fn hops(&self) -> impl Iterator<Item = Hop<'a>> + use<'a> {
        self.hops.split('>').filter_map(Hop::parse)
    }

    /// Where the record was born.
    #[must_use]
    pub fn birth(&self) -> Hop<'a> {
        self.hops().next().unwrap_or(self.last)
    }

    /// The cluster, topic, partition and offset that the record was copied from to where it lies.
    #[must_use]
    pub fn last(&self) -> Hop<'a> {
        self.last
    }

    /// Check of key and value of the record that the tag was written for.
    #[must_use]
    pub fn check(&self) -> Check {
        self.check
    }

    /// Whether the record at `topic`, `partition` with this check is the one that the tag was written for.
    #[must_use]
    pub fn explains(&self, topic: &str, partition: i32, check: Check) -> bool {
        self.last.partition == partition && self.last.lands_in() == topic && self.check == check
    }
}

/// Whether `tag` explains the record at `topic`, `partition` whose key and value have this check.
#[must_use]
pub fn explains(tag: &[u8], topic: &str, partition: i32, check: Check) -> bool {
    Tag::parse(tag).is_some_and(|tag| tag.explains(topic, partition, check))
}

/// Writes the tag of these hops. The caller vouches for names, numbers and 1 to [`MAX_HOPS`] hops.
pub fn write(hops: &[Hop<'_>], check: Check, out: &mut Vec<u8>) {
    for (at, hop) in hops.iter().enumerate() {
        if at > 0 {
            out.push(b'>');
        }
        write_place(hop.cluster, hop.topic, hop.partition, out);
        write_decimal(hop.offset.0, out);
        if let Some(name) = hop.name {
            out.push(b'=');
            out.extend_from_slice(name.as_bytes());
        }
    }
    out.push(b'#');
    out.extend_from_slice(&check.text());
}

fn write_place(cluster: &str, topic: &str, partition: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(cluster.as_bytes());
    out.push(b'/');
    out.extend_from_slice(topic.as_bytes());
    out.push(b'/');
    write_decimal(i64::from(partition), out);
    out.push(b'/');
}

/// Without `fmt`, which costs more than the rest of the tag. Offsets of records are never negative.
fn write_decimal(number: i64, out: &mut Vec<u8>) {
    let mut rest = number.unsigned_abs();
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Which records a flow forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Only records born in the source: pairs, full mesh.
    Local,
    /// Also records passing through, but never to a cluster in their path: chain, ring, hub.
    Relay,
}

/// Why a record is not forwarded; the names are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SkipReason {
    /// Under `local`: its tag explains it, so it was copied here.
    Replicated,
    /// Under `relay`: the target is already among its hops.
    Loop,
    /// Under `relay`: its tag has [`MAX_HOPS`] hops already.
    TooManyHops,
}

impl SkipReason {
    /// The value of the metric label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Loop => "loop",
            Self::TooManyHops => "too_many_hops",
        }
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It stays where it is.
    Skip(SkipReason),
    /// It goes to the target with a tag of [`Guard::write`].
    Forward {
        /// Text of the hops it has made so far, to be put before ours; `None`: born in the source.
        earlier: Option<&'a [u8]>,
        /// Of its key and value.
        check: Check,
    },
}

/// A guard cannot be made of these names: their tags could not be read back, and the copies would
/// return to their origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// An alias or topic that cannot stand in a tag.
    #[error("{what} {name:?} cannot be written in an origin tag: use letters, digits, '.', '_' and '-'")]
    Name {
        /// Which of the names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A partition below 0.
    #[error("topic {topic} has no partition {partition}: partitions count from 0")]
    Partition {
        /// The topic.
        topic: String,
        /// The number.
        partition: i32,
    },
}

/// Judges the records of one lane and writes their tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    topic: Arc<str>,
    partition: i32,
    target: Arc<str>,
    forward: Forward,
    /// `alias/topic/partition/`.
    before: Box<[u8]>,
    /// `=name`, or nothing.
    after: Box<[u8]>,
}

impl Guard {
    /// The guard of the lane from `source`'s `topic` and `partition` to `target`'s `target_topic`.
    ///
    /// # Errors
    /// [`GuardError`] if a tag of these names could not be read back.
    pub fn new(
        source: &str,
        topic: &str,
        partition: i32,
        target: &str,
        target_topic: &str,
        forward: Forward,
    ) -> Result<Self, GuardError> {
        let names = [
            ("source alias", source),
            ("source topic", topic),
            ("target alias", target),
            ("target topic", target_topic),
        ];
        if let Some((what, name)) = names.into_iter().find(|(_, name)| !is_name(name)) {
            return Err(GuardError::Name {
                what,
                name: name.to_owned(),
            });
        }
        if partition < 0 {
            return Err(GuardError::Partition {
                topic: topic.to_owned(),
                partition,
            });
        }
        let mut before = Vec::new();
        write_place(source, topic, partition, &mut before);
        let after = if target_topic == topic {
            String::new()
        } else {
            format!("={target_topic}")
        };
        Ok(Self {
            topic: topic.into(),
            partition,
            target: target.into(),
            forward,
            before: before.into(),
            after: after.into_bytes().into(),
        })
    }

    /// Judges a record of the lane's source partition. `tags` are the values of all its headers named
    /// [`HEADER`]: others may have added one, so each is considered. Allocates nothing.
    pub fn judge<'a>(
        &self,
        tags: impl IntoIterator<Item = &'a [u8]>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Verdict<'a> {
        let check = check(key, value);
        let mut earlier: Option<Tag<'a>> = None;
        for tag in tags.into_iter().filter_map(Tag::parse) {
            if !tag.explains(&self.topic, self.partition, check) {
                continue;
            }
            if self.forward == Forward::Local {
                return Verdict::Skip(SkipReason::Replicated);
            }
            if tag.hops().any(|hop| hop.cluster == &*self.target) {
                return Verdict::Skip(SkipReason::Loop);
            }
            // If several explain it, the longest way is the one that cannot end in a loop.
            if earlier.is_none_or(|longest| tag.count > longest.count) {
                earlier = Some(tag);
            }
        }
        if earlier.is_some_and(|tag| tag.count >= MAX_HOPS) {
            return Verdict::Skip(SkipReason::TooManyHops);
        }
        Verdict::Forward {
            earlier: earlier.map(|tag| tag.hops.as_bytes()),
            check,
        }
    }

    /// Appends to `out` the tag of a forwarded record; `earlier` and `check` are those of its verdict.
    pub fn write(&self, out: &mut Vec<u8>, earlier: Option<&[u8]>, offset: SourceOffset, check: Check) {
        if let Some(hops) = earlier {
            out.extend_from_slice(hops);
            out.push(b'>');
        }
        out.extend_from_slice(&self.before);
        write_decimal(offset.0, out);
        out.extend_from_slice(&self.after);
        out.push(b'#');
        out.extend_from_slice(&check.text());
    }
}

#[cfg(test)]
mod tests;
