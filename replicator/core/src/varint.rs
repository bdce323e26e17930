//! Numbers as records carry them: zigzag, seven bits in a byte, the lowest first.

/// Takes a number of at most 64 bits off the front of `bytes`; `Err`: why there is none.
pub(crate) fn take(bytes: &mut &[u8]) -> Result<i64, &'static str> {
    let mut bits = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err("a number goes beyond the end");
        };
        *bytes = rest;
        // Of the tenth byte one bit is left.
        if shift == 63 && byte > 1 {
            break;
        }
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    Err("a number has more than 64 bits")
}
