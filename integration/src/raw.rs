//! A producer that writes what it is told, byte for byte: no client library could write some of what lies in real logs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut};

use crate::cluster::{Cluster, REQUEST};
use crate::wait::until;

/// A record in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// `None`: null.
    pub key: Option<Vec<u8>>,
    /// `None`: null.
    pub value: Option<Vec<u8>>,
    /// Key and value, which may be null, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; -1: none.
    pub timestamp: i64,
}

/// Appends records to a partition in one uncompressed batch (magic 2, KIP-98), to a cluster of one node.
///
/// # Errors
/// When the broker refuses, with Kafka's error code.
pub async fn append(cluster: &Cluster, topic: &str, partition: i32, records: &[RawRecord]) -> Result<()> {
    // What a broker says of a partition that others know already: it does not lead it yet, or has never heard of it.
    const NOT_YET: [i16; 2] = [6, 3];
    let request: Arc<[u8]> = request(topic, partition, &batch(records)?)?.into();
    let what = format!("{topic}-{partition} to be led");
    let sent = until(REQUEST, &what, || async {
        let (broker, request) = (cluster.bootstrap().to_owned(), Arc::clone(&request));
        let sent = tokio::task::spawn_blocking(move || send(&broker, &request)).await;
        match sent.map_err(anyhow::Error::from).flatten() {
            Ok(code) if NOT_YET.contains(&code) => Err(format!("Kafka error {code}")),
            sent => Ok(sent),
        }
    });
    let code = sent.await??;
    ensure!(
        code == 0,
        "{topic}-{partition} was not written: Kafka error {code}"
    );
    Ok(())
}

/// Sends a Produce request and gives the error code of its one partition.
fn send(broker: &str, request: &[u8]) -> Result<i16> {
    let mut connection = TcpStream::connect(broker).context("connecting")?;
    connection.set_read_timeout(Some(REQUEST))?;
    connection.write_all(request)?;
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    connection.read_exact(&mut answer)?;
    let mut answer = answer.as_slice();
    let short = "the answer is cut";
    // Correlation id, one topic with its name, one partition with its index.
    answer = answer.get(8..).context(short)?;
    let name = usize::try_from(answer.try_get_i16().context(short)?)?;
    answer = answer.get(name + 8..).context(short)?;
    answer.try_get_i16().context(short)
}

/// Produce v3, which Kafka has known from 0.11 to 4.
fn request(topic: &str, partition: i32, batch: &[u8]) -> Result<Vec<u8>> {
    const PRODUCE: (i16, i16) = (0, 3);
    let mut body = Vec::with_capacity(batch.len() + 100);
    body.put_i16(PRODUCE.0);
    body.put_i16(PRODUCE.1);
    body.put_i32(1); // correlation id
    body.put_i16(-1); // no client id
    body.put_i16(-1); // no transactional id
    body.put_i16(-1); // all replicas
    body.put_i32(i32::try_from(REQUEST.as_millis())?);
    body.put_i32(1);
    body.put_i16(i16::try_from(topic.len())?);
    body.extend_from_slice(topic.as_bytes());
    body.put_i32(1);
    body.put_i32(partition);
    body.put_i32(i32::try_from(batch.len())?);
    body.extend_from_slice(batch);
    let mut request = Vec::with_capacity(body.len() + 4);
    request.put_i32(i32::try_from(body.len())?);
    request.extend(body);
    Ok(request)
}

fn batch(records: &[RawRecord]) -> Result<Vec<u8>> {
    let base = records.first().context("no records")?.timestamp;
    let newest = records
        .iter()
        .map(|record| record.timestamp)
        .max()
        .unwrap_or(base);
    let last = i32::try_from(records.len())? - 1;
    let mut checked = Vec::new();
    checked.put_i16(0); // no compression
    checked.put_i32(last);
    checked.put_i64(base);
    checked.put_i64(newest);
    checked.put_i64(-1); // no producer id
    checked.put_i16(-1);
    checked.put_i32(-1);
    checked.put_i32(last + 1);
    for (offset, record) in (0..).zip(records) {
        let mut body = vec![0];
        number(&mut body, record.timestamp.wrapping_sub(base));
        number(&mut body, offset);
        field(&mut body, record.key.as_deref());
        field(&mut body, record.value.as_deref());
        number(&mut body, i64::try_from(record.headers.len())?);
        for (key, value) in &record.headers {
            field(&mut body, Some(key));
            field(&mut body, value.as_deref());
        }
        number(&mut checked, i64::try_from(body.len())?);
        checked.extend(body);
    }
    let mut batch = Vec::with_capacity(checked.len() + 21);
    batch.put_i64(0);
    batch.put_i32(i32::try_from(checked.len())? + 9);
    batch.put_i32(-1); // leader epoch
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.extend(checked);
    Ok(batch)
}

/// A length, -1 for null, and the bytes.
fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    number(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A number in zigzag, seven bits in a byte, the lowest first.
fn number(out: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while left > 0x7f {
        out.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}
