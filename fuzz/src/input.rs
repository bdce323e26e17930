//! Bytes cut into what a target needs. Every input can be cut: what is missing is empty, or 0.

/// Bytes that are taken from the front.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Eight bytes, big-endian.
    pub(crate) fn number(&mut self) -> i64 {
        let (first, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        let mut bytes = [0; 8];
        bytes[8 - first.len()..].copy_from_slice(first);
        i64::from_be_bytes(bytes)
    }

    /// A byte with a length, and so many bytes.
    pub(crate) fn part(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        let (part, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        part
    }
}
