//! The bytes of a Protobuf message, read from front to back.
//!
//! Invariant: nothing is read beyond the end, and a number or key that Protobuf cannot have written is an error.

use super::super::columns::ValueError;

/// The deepest message or group within others that is read, as in every Protobuf reader.
pub(super) const DEEPEST: usize = 100;

const LONG_NUMBER: ValueError = ValueError::Borrowed("a number has more than 64 bits");
const NUMBER_ENDS: ValueError = ValueError::Borrowed("the message ends within a number");
const DEEP: ValueError = ValueError::Borrowed("messages are nested more than 100 deep");
const WILD_END: ValueError = ValueError::Borrowed("a group ends that did not begin");

/// The largest number of a field.
const LARGEST_NUMBER: u64 = (1 << 29) - 1;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    /// A length and as many bytes.
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

impl WireType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Varint => "varint",
            Self::Fixed64 => "64 bits",
            Self::Bytes => "bytes with a length",
            Self::GroupStart | Self::GroupEnd => "group",
            Self::Fixed32 => "32 bits",
        }
    }
}

/// What is before a value: the number of its field, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WireKey {
    pub(super) number: u32,
    pub(super) wire: WireType,
}

/// A value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RawValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A text, bytes, a packed list, or a message; of a group, what is inside.
    Bytes(&'a [u8]),
}

/// The bytes that were not read yet.
#[derive(Debug)]
pub(super) struct WireBytes<'a> {
    rest: &'a [u8],
}

impl<'a> WireBytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What follows.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A number of at most ten bytes, the lowest seven bits first.
    pub(super) fn varint(&mut self) -> Result<u64, ValueError> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        let mut number = 0;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if at == 9 && *byte > 1 {
                return Err(LONG_NUMBER);
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(NUMBER_ENDS)
    }

    /// A number of Confluent's message indexes.
    pub(super) fn zigzag(&mut self) -> Result<i64, ValueError> {
        self.varint().map(unzigzag)
    }

    /// The key of the next value; `None` at the end.
    pub(super) fn key(&mut self) -> Result<Option<WireKey>, ValueError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if !(1..=LARGEST_NUMBER).contains(&number) {
            return Err(format!("no field has the number {number}").into());
        }
        let wire = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            other => return Err(format!("no value is written as wire type {other} (field {number})").into()),
        };
        Ok(Some(WireKey { number: number as u32, wire }))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(NUMBER_ENDS)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], ValueError> {
        let length = self.varint()?;
        let taken = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(|| -> ValueError {
            format!("it claims {length} bytes, and {} are left", self.rest.len()).into()
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn fixed32(&mut self) -> Result<u32, ValueError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, ValueError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The value behind a key.
    pub(super) fn value(&mut self, key: WireKey) -> Result<RawValue<'a>, ValueError> {
        Ok(match key.wire {
            WireType::Varint => RawValue::Varint(self.varint()?),
            WireType::Fixed64 => RawValue::Fixed64(self.fixed64()?),
            WireType::Fixed32 => RawValue::Fixed32(self.fixed32()?),
            WireType::Bytes => RawValue::Bytes(self.bytes()?),
            WireType::GroupStart => RawValue::Bytes(self.group(key.number)?),
            WireType::GroupEnd => return Err(WILD_END),
        })
    }

    /// What is inside a group whose start was read. Its end is read, too.
    fn group(&mut self, number: u32) -> Result<&'a [u8], ValueError> {
        let start = self.rest;
        let mut open = vec![number];
        loop {
            let before = self.rest.len();
            let Some(key) = self.key()? else {
                return Err(format!("the group {} does not end", open[open.len() - 1]).into());
            };
            match key.wire {
                WireType::GroupEnd if open.last() != Some(&key.number) => return Err(WILD_END),
                WireType::GroupEnd => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(&start[..start.len() - before]);
                    }
                }
                WireType::GroupStart if open.len() >= DEEPEST => return Err(DEEP),
                WireType::GroupStart => open.push(key.number),
                _ => drop(self.value(key)?),
            }
        }
    }
}

/// A signed number from its zigzag form.
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Errors: this is deeper than messages are read.
pub(super) fn check_depth(depth: usize) -> Result<(), ValueError> {
    if depth > DEEPEST { Err(DEEP) } else { Ok(()) }
}
