//! The tags among the headers of a record that was read.

use bytes::Bytes;

use super::HEADER;

/// Key and value of a header.
type Header = (Bytes, Option<Bytes>);

/// The values of headers named [`HEADER`], tags or not.
pub fn tag_values(headers: &[Header]) -> impl Iterator<Item = &[u8]> {
    let ours = headers.iter().filter(|(key, _)| key == HEADER.as_bytes());
    ours.filter_map(|(_, value)| value.as_deref())
}

/// The other headers.
pub fn untagged(headers: &[Header]) -> impl Iterator<Item = &Header> {
    headers.iter().filter(|(key, _)| key != HEADER.as_bytes())
}
