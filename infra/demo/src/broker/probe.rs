//! A trial decoding of a request, which refuses every count that the rest of the frame has no room for.
//!
//! A list starts with its number of items, as a 32-bit integer or as a varint, and the decoder allocates memory for
//! all items at once. Every varint of a request is a length, a count or a small tag, so a varint that exceeds the
//! rest of the frame is an error. A 32-bit integer may also be something else, such as a timeout. So the probe lowers
//! it to at most the length of the rest plus one; a list of that many items then runs out of bytes.
//!
//! Invariant: in an accepted request, every list has all of its items.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// Largest number of bytes in a varint.
const LONGEST: usize = 5;

pub(crate) struct Probe {
    rest: Bytes,
    /// The latest bytes that continue a varint.
    open: Vec<u8>,
}

impl Probe {
    pub(crate) fn new(rest: Bytes) -> Self {
        Self { rest, open: Vec::new() }
    }

    /// The largest varint that ends with the last byte of `open`. A malformed request hides where the varint starts,
    /// because a boolean is a byte too.
    fn largest(&self) -> usize {
        let begins = self.open.len().saturating_sub(LONGEST);
        let sum = |value: u32, (index, byte): (usize, &u8)| value | u32::from(byte & 0x7f) << (7 * index);
        (begins..self.open.len())
            .map(|begin| self.open[begin..].iter().enumerate().fold(0, sum) as usize)
            .max()
            .unwrap_or(0)
    }
}

impl Buf for Probe {
    fn remaining(&self) -> usize {
        self.rest.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.rest.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.open.clear();
        self.rest.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.rest.try_get_u8()?;
        self.open.push(byte);
        let goes_on = byte >= 0x80;
        if !goes_on || self.open.len() >= LONGEST {
            // The encoded length is one more than the length.
            let (requested, available) = (self.largest(), self.rest.len() + 1);
            if requested > available {
                return Err(TryGetError { requested, available });
            }
        }
        if goes_on {
            let known = self.open.len().saturating_sub(LONGEST - 1);
            self.open.drain(..known);
        } else {
            self.open.clear();
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.open.clear();
        let number = self.rest.try_get_i32()?;
        Ok(number.min(i32::try_from(self.rest.len() + 1).unwrap_or(i32::MAX)))
    }
}

impl ByteBuf for Probe {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.open.clear();
        self.rest.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(bytes: &[u8]) -> Probe {
        Probe::new(Bytes::copy_from_slice(bytes))
    }

    /// Reads bytes until the probe refuses one. Returns the number of accepted bytes.
    fn passed(bytes: &[u8]) -> usize {
        let mut probe = probe(bytes);
        std::iter::from_fn(|| probe.try_get_u8().ok()).count()
    }

    #[test]
    fn varints_are_limited_by_the_rest_of_the_frame() {
        assert_eq!(passed(&[3, 0, 0]), 3);
        assert_eq!(passed(&[4, 0, 0]), 0);
        // 128 as a varint of two bytes, followed by 127 bytes.
        let mut bytes = vec![0x80, 1];
        bytes.resize(2 + 127, 0);
        assert_eq!(passed(&bytes), 2 + 127);
        bytes.pop();
        assert_eq!(passed(&bytes), 1);
        // The fifth byte ends a varint, whatever its value.
        assert_eq!(passed(&[0xff; 9]), 4);
        assert_eq!(passed(&[0x80, 0x80, 0x80, 0x80, 0x0f, 0]), 4);
        // Booleans with the continuation bit hide no large count.
        assert_eq!(passed(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x0f, 0]), 5);
    }

    #[test]
    fn integers_are_limited_by_the_rest_of_the_frame() {
        let read = |number: i32, rest: usize| {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.resize(4 + rest, 0);
            probe(&bytes).try_get_i32().unwrap()
        };
        assert_eq!(read(-1, 5), -1);
        assert_eq!(read(5, 5), 5);
        assert_eq!(read(i32::MAX, 5), 6);
        assert!(probe(&[0, 0]).try_get_i32().is_err());
    }
}
