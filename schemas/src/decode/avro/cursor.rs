//! The bytes of an Avro value, read from front to back.
//!
//! Invariant: nothing is read beyond the end, and a number that Avro cannot have written is an error.

use super::super::columns::ValueError;

const ENDS: ValueError = ValueError::Borrowed("the message ends too early");
const LONG_NUMBER: ValueError = ValueError::Borrowed("a number has more than 64 bits");
const NO_INT: ValueError = ValueError::Borrowed("a number that is declared as int has more than 32 bits");
const NO_LENGTH: ValueError = ValueError::Borrowed("a length is negative");

/// The number of items in one message that may take no bytes, as nulls do.
const FREE_ITEMS: u64 = 64;
/// The number of values in one message that may take no bytes: nulls, and records of nulls. A schema can hold so many
/// of them in no bytes that nobody would see the end.
const FREE_VALUES: u64 = 10_000;
/// The further ones for each byte of the message.
const FREE_VALUES_A_BYTE: u64 = 16;

/// The bytes of a message that were not read yet.
#[derive(Debug)]
pub(super) struct AvroBytes<'a> {
    pub(super) rest: &'a [u8],
    /// The items of arrays and maps that may still come. An item takes a byte at least, unless it is free.
    items: u64,
    /// The values without bytes that may still come.
    free: u64,
}

impl<'a> AvroBytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let length = bytes.len() as u64;
        Self { rest: bytes, items: length + FREE_ITEMS, free: length * FREE_VALUES_A_BYTE + FREE_VALUES }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ValueError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ENDS)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Counts a value that may take no bytes.
    pub(super) fn free(&mut self) -> Result<(), ValueError> {
        self.free = self.free.checked_sub(1).ok_or(ValueError::Borrowed("it has too many values without bytes"))?;
        Ok(())
    }

    /// A `boolean`.
    pub(super) fn boolean(&mut self) -> Result<bool, ValueError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("a boolean is 0 or 1, not {other}").into()),
        }
    }

    /// A `long`: a zigzag number of at most ten bytes, the lowest seven bits first.
    pub(super) fn long(&mut self) -> Result<i64, ValueError> {
        let mut number: u64 = 0;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if at == 9 && bits > 1 {
                return Err(LONG_NUMBER);
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()));
            }
        }
        Err(if self.rest.len() < 10 { ENDS } else { LONG_NUMBER })
    }

    /// An `int`.
    pub(super) fn int(&mut self) -> Result<i32, ValueError> {
        i32::try_from(self.long()?).map_err(|_| NO_INT)
    }

    fn length(&mut self) -> Result<usize, ValueError> {
        usize::try_from(self.long()?).map_err(|_| NO_LENGTH)
    }

    /// A `bytes` or `string`, without its length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ValueError> {
        let length = self.length()?;
        self.take(length)
    }

    /// A `string`.
    pub(super) fn text(&mut self) -> Result<&'a str, ValueError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "the text is not UTF-8".into())
    }

    /// The next block of an array or map: the number of its items and, if the writer says so, of its bytes; `None` at
    /// the end.
    pub(super) fn block(&mut self) -> Result<Option<(u64, Option<usize>)>, ValueError> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.length()?) } else { None };
        let items = count.unsigned_abs();
        self.items = self.items.checked_sub(items).ok_or_else(|| -> ValueError {
            format!("an array or map claims {items} items, more than the message holds").into()
        })?;
        Ok((items > 0).then_some((items, size)))
    }

    /// The branch of a union of so many.
    pub(super) fn branch(&mut self, of: usize) -> Result<usize, ValueError> {
        let branch = self.long()?;
        let known = usize::try_from(branch).ok().filter(|branch| *branch < of);
        known.ok_or_else(|| format!("a union of {of} branches has no branch {branch}").into())
    }
}

/// Reads the items of an array or map, until one is refused.
pub(super) fn each_item(
    bytes: &mut AvroBytes<'_>,
    mut item: impl FnMut(&mut AvroBytes<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    while let Some((count, size)) = bytes.block()? {
        let before = bytes.rest.len();
        (0..count).try_for_each(|_| item(bytes))?;
        if size.is_some_and(|size| size != before - bytes.rest.len()) {
            return Err("a block of an array or map has another size than it says".into());
        }
    }
    Ok(())
}
