//! Tags in a record's headers as they lie in its batch (format v2), found without unpacking the headers.

use super::HEADER;
use crate::varint;

/// The values of the headers named [`HEADER`], in order; null counts as empty. `headers` are the bytes of a record
/// behind its value: a number of headers, then each with its key and value behind their lengths. Ends where the
/// bytes cannot be read; whoever forwards the record unpacks them all and finds out.
pub fn tags(headers: &[u8]) -> Tags<'_> {
    let mut rest = headers;
    let left = varint::take(&mut rest).unwrap_or(0);
    Tags { rest, left }
}

/// See [`tags`].
#[derive(Clone, Debug)]
pub struct Tags<'a> {
    rest: &'a [u8],
    left: i64,
}

impl<'a> Tags<'a> {
    /// Bytes behind their length; `Some(None)`: null.
    fn part(&mut self) -> Option<Option<&'a [u8]>> {
        let length = varint::take(&mut self.rest).ok()?;
        if length == -1 {
            return Some(None);
        }
        let (part, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Some(part))
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.left > 0 {
            self.left -= 1;
            let (key, value) = (self.part()??, self.part()?);
            if key == HEADER.as_bytes() {
                return Some(value.unwrap_or_default());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::varint::put;

    fn written(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut out = Vec::new();
        put::number(&mut out, headers.len() as i64);
        for (key, value) in headers {
            put::bytes(&mut out, Some(key));
            put::bytes(&mut out, value.as_deref());
        }
        out
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![Just(HEADER.as_bytes().to_vec()), vec(any::<u8>(), 0..20)]
    }

    proptest! {
        #[test]
        fn tags_are_found_among_others(headers in vec((key(), option::of(vec(any::<u8>(), 0..200))), 0..80)) {
            let wanted: Vec<&[u8]> = headers
                .iter()
                .filter(|(key, _)| key == HEADER.as_bytes())
                .map(|(_, value)| value.as_deref().unwrap_or_default())
                .collect();
            let bytes = written(&headers);
            prop_assert_eq!(tags(&bytes).collect::<Vec<_>>(), wanted);
        }

        #[test]
        fn any_bytes_are_read_within_their_bounds(bytes in vec(any::<u8>(), 0..60)) {
            prop_assert!(tags(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_search() {
        let tag = [HEADER.as_bytes().to_vec()];
        let whole = written(&[
            (tag[0].clone(), Some(b"a".to_vec())),
            (tag[0].clone(), Some(b"b".to_vec())),
        ]);
        for cut in 0..whole.len() {
            assert!(tags(&whole[..cut]).count() < 2, "{cut}");
        }
        let mut null_key = Vec::new();
        put::number(&mut null_key, 2);
        put::bytes(&mut null_key, None);
        put::bytes(&mut null_key, Some(b""));
        put::bytes(&mut null_key, Some(HEADER.as_bytes()));
        put::bytes(&mut null_key, Some(b"a"));
        assert_eq!(tags(&null_key).count(), 0, "the key of a header is never null");
    }
}
