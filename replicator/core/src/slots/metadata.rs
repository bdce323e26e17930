//! What members say when they join and what the leader answers, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{MAX_SLOT_COUNT, Slot};

/// The version of [`Subscription`] and [`Assignment`]. Fields are added without raising it.
const VERSION: u32 = 1;

/// Bytes of a member's name: flow and instance have 249 characters at most. A table may name one 12,288 times.
const NAME_MAX: usize = 1_000;

/// Bytes that are not a [`Subscription`] or [`Assignment`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// Not the JSON that was expected.
    #[error("{what} of a group member cannot be read: {why}; do all members run Kuroshio?")]
    Json {
        /// Subscription or assignment.
        what: &'static str,
        /// serde's words.
        why: String,
    },
    /// Of a later Kuroshio.
    #[error("{what} has version {version}, this Kuroshio knows {VERSION}: update it")]
    Version {
        /// Subscription or assignment.
        what: &'static str,
        /// Its version.
        version: u32,
    },
    /// A number or table out of its range.
    #[error("{what} of a group member is not valid: {why}")]
    Range {
        /// Subscription or assignment.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

/// Slots that a member holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The generation in which they were held; never negative.
    pub generation: i32,
    /// Into how many slots the partitions are divided.
    pub slot_count: u16,
    /// The slots.
    pub slots: BTreeSet<Slot>,
}

/// What a member says when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `kuroshio.<flow>.<instance>.<pump>`: its `group.instance.id` and transactional id.
    pub transactional_id: String,
    /// The slots it holds; `None` for a new member and for one that lost its membership.
    pub claims: Option<Claims>,
    /// Of its routing rules: members that differ must not share partitions.
    pub fingerprint: u64,
    /// Drawn at random when the process starts: what was said to the process of before is not said to this one.
    pub incarnation: u64,
}

#[derive(Serialize, Deserialize)]
struct SubscriptionJson {
    version: u32,
    transactional_id: String,
    #[serde(default)]
    claims: Option<Claims>,
    /// Hexadecimal: numbers in JSON are exact up to 53 bits only.
    fingerprint: String,
    #[serde(default)]
    incarnation: u64,
}

impl Subscription {
    /// The member's metadata in JoinGroup.
    ///
    /// # Errors
    /// [`SlotsError::Json`] if it cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, SlotsError> {
        let json = SubscriptionJson {
            version: VERSION,
            transactional_id: self.transactional_id.clone(),
            claims: self.claims.clone(),
            fingerprint: format!("{:016x}", self.fingerprint),
            incarnation: self.incarnation,
        };
        to_json(SUBSCRIPTION, &json)
    }

    /// Reads a member's metadata. Fields that are not known are passed over.
    ///
    /// # Errors
    /// [`SlotsError`] if it is not valid to the letter.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotsError> {
        let json: SubscriptionJson = from_json(SUBSCRIPTION, bytes)?;
        let range = |why| SlotsError::Range {
            what: SUBSCRIPTION,
            why,
        };
        if !is_name(&json.transactional_id) {
            return Err(range("the transactional id is empty or too long"));
        }
        if let Some(claims) = &json.claims {
            check_slot_count(SUBSCRIPTION, claims.slot_count)?;
            if claims.generation < 0 {
                return Err(range("claims of a negative generation"));
            }
            if claims
                .slots
                .last()
                .is_some_and(|slot| slot.0 >= claims.slot_count)
            {
                return Err(range("a claim beyond the number of slots"));
            }
        }
        let hex = json.fingerprint.as_bytes();
        let lower = hex.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let fingerprint = u64::from_str_radix(&json.fingerprint, 16)
            .ok()
            .filter(|_| lower && hex.len() == 16);
        Ok(Self {
            transactional_id: json.transactional_id,
            claims: json.claims,
            incarnation: json.incarnation,
            fingerprint: fingerprint.ok_or_else(|| range("the fingerprint is not 16 hexadecimal digits"))?,
        })
    }
}

const SUBSCRIPTION: &str = "subscription";
const ASSIGNMENT: &str = "assignment";

/// One slot in an [`Assignment`]; members are named by their transactional id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Who holds the slot in this generation.
    pub owner: Option<String>,
    /// Who will, once its holder has given it up.
    pub promised: Option<String>,
    /// Who held it last before this generation, as far as is known: an open transaction that blocks the new
    /// owner is this one's.
    pub last: Option<String>,
}

/// What the leader answers; all members get the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The incarnations of the members for which this is the flow's first start: it had no position at all
    /// when this generation was made. A restarted static member gets this same assignment without a
    /// rebalance, long after; it is not among them.
    pub fresh: BTreeSet<u64>,
    /// By slot; their number is the number of slots, 1 to [`MAX_SLOT_COUNT`].
    pub slots: Vec<Share>,
    /// Transactional ids of members that get nothing, because their routing is not the leader's or because
    /// another member has the same id.
    pub mismatched: BTreeSet<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct AssignmentJson {
    version: u32,
    fresh: BTreeSet<u64>,
    slot_count: u16,
    /// Transactional ids, in order; the tables hold places in this list.
    members: Vec<String>,
    owners: Vec<Option<u32>>,
    promised: Vec<Option<u32>>,
    last: Vec<Option<u32>>,
    mismatched: BTreeSet<String>,
}

impl Assignment {
    /// Number of slots.
    #[must_use]
    pub fn slot_count(&self) -> u16 {
        u16::try_from(self.slots.len()).unwrap_or(u16::MAX)
    }

    /// The slots of the member with this transactional id, in this generation.
    #[must_use]
    pub fn slots_of(&self, transactional_id: &str) -> BTreeSet<Slot> {
        let owned = self
            .each()
            .filter(|(_, share)| share.owner.as_deref() == Some(transactional_id));
        owned.map(|(slot, _)| slot).collect()
    }

    /// Whether a slot is promised to somebody as soon as this member joins without it. A member that was
    /// restarted between its join and its sync holds nothing that it could give up, and nobody else would
    /// begin the second generation.
    #[must_use]
    pub fn awaits(&self, transactional_id: &str) -> bool {
        self.slots
            .iter()
            .any(|share| share.promised.is_some() && share.last.as_deref() == Some(transactional_id))
    }

    /// Slots that are taken from this member in this generation and nobody's yet: what it moved of them is still its own to end.
    #[must_use]
    pub fn given_up_by(&self, transactional_id: &str) -> BTreeSet<Slot> {
        let given_up = self
            .each()
            .filter(|(_, share)| share.owner.is_none() && share.last.as_deref() == Some(transactional_id));
        given_up.map(|(slot, _)| slot).collect()
    }

    /// Slots and shares.
    pub fn each(&self) -> impl Iterator<Item = (Slot, &Share)> {
        (0..u16::MAX).map(Slot).zip(&self.slots)
    }

    /// The assignment in SyncGroup, the same bytes for every member.
    ///
    /// # Errors
    /// [`SlotsError::Json`] if it cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, SlotsError> {
        let named = |share: &Share| [share.owner.clone(), share.promised.clone(), share.last.clone()];
        let names: BTreeSet<String> = self.slots.iter().flat_map(named).flatten().collect();
        let places: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let table = |of: fn(&Share) -> &Option<String>| {
            let place = |share| of(share).as_deref().and_then(|name| places.get(name).copied());
            self.slots.iter().map(place).collect()
        };
        let json = AssignmentJson {
            version: VERSION,
            fresh: self.fresh.clone(),
            slot_count: self.slot_count(),
            owners: table(|share| &share.owner),
            promised: table(|share| &share.promised),
            last: table(|share| &share.last),
            members: names.iter().cloned().collect(),
            mismatched: self.mismatched.clone(),
        };
        to_json(ASSIGNMENT, &json)
    }

    /// Reads an assignment. Fields that are not known are passed over.
    ///
    /// # Errors
    /// [`SlotsError`] if it is not valid to the letter.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotsError> {
        let json: AssignmentJson = from_json(ASSIGNMENT, bytes)?;
        let range = |why| SlotsError::Range {
            what: ASSIGNMENT,
            why,
        };
        check_slot_count(ASSIGNMENT, json.slot_count)?;
        let count = usize::from(json.slot_count);
        if [&json.owners, &json.promised, &json.last]
            .iter()
            .any(|table| table.len() != count)
        {
            return Err(range("a table is not as long as the number of slots"));
        }
        let name = |place: Option<u32>| match place.map(|place| json.members.get(place as usize)) {
            None => Ok(None),
            Some(Some(name)) if is_name(name) => Ok(Some(name.clone())),
            Some(Some(_)) => Err(range("the name of a member is empty or too long")),
            Some(None) => Err(range("a table names a member that is not in the list")),
        };
        let mut slots = Vec::with_capacity(count);
        for ((owner, promised), last) in json.owners.iter().zip(&json.promised).zip(&json.last) {
            if owner.is_some() && promised.is_some() {
                return Err(range("a slot is held and promised at once"));
            }
            slots.push(Share {
                owner: name(*owner)?,
                promised: name(*promised)?,
                last: name(*last)?,
            });
        }
        Ok(Self {
            fresh: json.fresh,
            slots,
            mismatched: json.mismatched,
        })
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
}

fn check_slot_count(what: &'static str, slot_count: u16) -> Result<(), SlotsError> {
    if (1..=MAX_SLOT_COUNT).contains(&slot_count) {
        return Ok(());
    }
    Err(SlotsError::Range {
        what,
        why: "the number of slots is not within 1..=4096",
    })
}

fn to_json(what: &'static str, json: &impl Serialize) -> Result<Vec<u8>, SlotsError> {
    serde_json::to_vec(json).map_err(|error| SlotsError::Json {
        what,
        why: error.to_string(),
    })
}

/// The version first: a later one may mean anything by its fields.
fn from_json<T: for<'de> Deserialize<'de>>(what: &'static str, bytes: &[u8]) -> Result<T, SlotsError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let json = |error: serde_json::Error| SlotsError::Json {
        what,
        why: error.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(json)?;
    if version != VERSION {
        return Err(SlotsError::Version { what, version });
    }
    serde_json::from_slice(bytes).map_err(json)
}
