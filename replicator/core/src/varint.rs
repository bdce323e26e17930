//! Numbers as records carry them: zigzag, seven bits in a byte, the lowest first.

/// Takes a number of at most 64 bits off the front of `bytes`.
///
/// # Errors
/// Why there is none: the bytes end within it, or it is longer.
pub fn take(bytes: &mut &[u8]) -> Result<i64, &'static str> {
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

/// Writing them, for tests.
#[cfg(test)]
pub(crate) mod put {
    /// Appends a number.
    pub(crate) fn number(out: &mut Vec<u8>, number: i64) {
        let mut bits = ((number << 1) ^ (number >> 63)) as u64;
        while bits > 0x7f {
            out.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        out.push(bits as u8);
    }

    /// Appends bytes behind their length; `None`: null.
    pub(crate) fn bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        number(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
        out.extend_from_slice(bytes.unwrap_or_default());
    }
}
