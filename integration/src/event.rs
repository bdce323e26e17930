//! The events that tests produce: orders as JSON, with the odd shapes that real topics have.

use std::fmt::Write as _;

use fastrand::Rng;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use twox_hash::XxHash3_128;

/// Headers in order; a value may be null.
pub(crate) type EventHeaders = Vec<(&'static str, Option<Vec<u8>>)>;

/// One record as it is produced.
pub(crate) struct Event {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: EventHeaders,
    pub(crate) timestamp: i64,
}

/// The header that names an event whose value cannot (tombstones, empty values).
const NAME_HEADER: &str = "event";
/// How the value of every other event begins, before its name.
const NAME_PREFIX: &[u8] = b"{\"event\":\"";
/// Kuroshio's own header: not part of what was produced.
const ORIGIN_HEADER: &str = "kuroshio-origin";

const CITIES: [&str; 8] = [
    "臺北市",
    "高雄市",
    "東京都",
    "大阪府",
    "札幌市",
    "Zürich",
    "Kraków",
    "Hsinchu",
];
const GOODS: [&str; 8] = [
    "oolong",
    "green tea",
    "matcha",
    "mochi",
    "mango",
    "rice",
    "soba",
    "miso",
];

/// Makes the event `name`, the same for the same state of `rng`.
pub(crate) fn make(rng: &mut Rng, name: &str, timestamp: i64) -> Event {
    let customer = rng.u32(..50_000);
    let shape = rng.u8(..100);
    let mut headers = make_headers(rng);
    let value = match shape {
        0..2 => None,
        2..3 => Some(Vec::new()),
        _ => Some(order(rng, name, customer).into_bytes()),
    };
    if value.as_ref().is_none_or(Vec::is_empty) {
        headers.push((NAME_HEADER, Some(name.as_bytes().to_vec())));
    }
    // A tombstone without a key would mean nothing; other events may have a null or an empty key.
    let key = match shape {
        3..8 => None,
        8..9 => Some(Vec::new()),
        _ => Some(format!("customer-{customer}").into_bytes()),
    };
    Event {
        key,
        value,
        headers,
        timestamp,
    }
}

/// No headers, plain ones, bytes that are no text, one key several times, empty and null values.
fn make_headers(rng: &mut Rng) -> EventHeaders {
    let mut headers = EventHeaders::new();
    let shape = rng.u8(..8);
    if shape >= 3 {
        headers.push(("content-type", Some(b"application/json".to_vec())));
        headers.push(("trace", Some(rng.u128(..).to_be_bytes().to_vec())));
    }
    if shape >= 6 {
        headers.push(("retry", Some(b"1".to_vec())));
        headers.push(("empty", Some(Vec::new())));
        headers.push(("retry", Some(vec![0xff, 0xfe, 0x00, rng.u8(..)])));
    }
    if shape == 7 {
        headers.push(("null", None));
    }
    headers
}

fn order(rng: &mut Rng, name: &str, customer: u32) -> String {
    let mut text = String::with_capacity(420);
    let city = CITIES[rng.usize(..CITIES.len())];
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{{\"event\":\"{name}\",\"order\":\"{:016x}\",\"customer\":{customer},\"city\":\"{city}\",\"items\":[",
        rng.u64(..)
    );
    for i in 0..rng.usize(1..5) {
        let comma = if i == 0 { "" } else { "," };
        let good = GOODS[rng.usize(..GOODS.len())];
        let _ = write!(
            text,
            "{comma}{{\"sku\":\"{:06}\",\"name\":\"{good}\",\"quantity\":{},\"price\":{}.{:02}}}",
            rng.u32(..1_000_000),
            rng.u8(1..9),
            rng.u16(1..500),
            rng.u8(..100)
        );
    }
    let _ = write!(
        text,
        "],\"currency\":\"TWD\",\"paid\":{},\"note\":\"{:032x}\"}}",
        rng.bool(),
        rng.u128(..)
    );
    text
}

/// The name of the event that a record is, where it has one.
pub(crate) fn name_of<'m>(record: &'m BorrowedMessage<'_>) -> Option<&'m str> {
    let named = match record.payload() {
        Some(value) if !value.is_empty() => {
            let rest = value.strip_prefix(NAME_PREFIX)?;
            rest.get(..rest.iter().position(|&byte| byte == b'"')?)?
        }
        _ => {
            record
                .headers()?
                .iter()
                .find(|header| header.key == NAME_HEADER)?
                .value?
        }
    };
    std::str::from_utf8(named).ok()
}

/// Whether a record carries Kuroshio's tag.
pub(crate) fn is_tagged(record: &BorrowedMessage<'_>) -> bool {
    record
        .headers()
        .is_some_and(|headers| headers.iter().any(|header| header.key == ORIGIN_HEADER))
}

/// Digests records: all of a record counts, except Kuroshio's own header.
#[derive(Default)]
pub(crate) struct Digester {
    bytes: Vec<u8>,
}

impl Digester {
    pub(crate) fn produced(&mut self, event: &Event) -> u128 {
        self.start(
            event.key.as_deref(),
            event.value.as_deref(),
            Some(event.timestamp),
        );
        for (key, value) in &event.headers {
            self.add_header(key, value.as_deref());
        }
        XxHash3_128::oneshot(&self.bytes)
    }

    pub(crate) fn read(&mut self, record: &BorrowedMessage<'_>) -> u128 {
        self.start(record.key(), record.payload(), record.timestamp().to_millis());
        for header in record.headers().into_iter().flat_map(Headers::iter) {
            if header.key != ORIGIN_HEADER {
                self.add_header(header.key, header.value);
            }
        }
        XxHash3_128::oneshot(&self.bytes)
    }

    fn start(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: Option<i64>) {
        self.bytes.clear();
        self.add(key);
        self.add(value);
        self.bytes
            .extend_from_slice(&timestamp.unwrap_or(i64::MIN).to_be_bytes());
    }

    fn add_header(&mut self, key: &str, value: Option<&[u8]>) {
        self.add(Some(key.as_bytes()));
        self.add(value);
    }

    /// Null and empty differ, and no two sequences of fields give the same bytes.
    fn add(&mut self, field: Option<&[u8]>) {
        let len = field.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(field.unwrap_or_default());
    }
}
