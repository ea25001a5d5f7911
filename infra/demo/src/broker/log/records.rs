//! Timestamps of the records in a batch, for queries by timestamp.
//!
//! Nothing is decompressed: a compressed batch counts as one record, with its first offset and its largest timestamp.
//! So an answer may be up to one batch before the right record, and is never after it.
//!
//! Invariant: the list ends at the first unreadable record. Consumers report such records, not the broker.

use bytes::Buf;

use super::batch::{HEADER, Header};

/// Offset and timestamp of each record of a complete batch.
pub(crate) fn timestamps(header: &Header, batch: &[u8]) -> Vec<(i64, i64)> {
    if header.is_compressed() {
        return vec![(header.base_offset, header.max_timestamp)];
    }
    let mut rest = batch.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(|| next(header, &mut rest)).collect()
}

fn next(header: &Header, rest: &mut &[u8]) -> Option<(i64, i64)> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let mut record = rest.get(..length)?;
    rest.advance(length);
    let _attributes = record.try_get_u8().ok()?;
    let timestamp = header.base_timestamp.checked_add(varint(&mut record)?)?;
    let offset = header.base_offset.checked_add(varint(&mut record)?)?;
    (offset <= header.last_offset()).then_some((offset, timestamp))
}

/// A signed varint in zigzag encoding, with seven bits per byte.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = rest.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::batch::place;
    use super::super::batch::tests::{batch, resigned};
    use super::*;

    #[test]
    fn each_record_has_its_timestamp() {
        let mut bytes = batch(
            (-1, -1, -1),
            1_700_000_000_000,
            &[(1_700_000_000_000, "a"), (1_699_999_999_999, "b"), (1_700_000_009_000, "")],
        );
        place(&mut bytes, 10);
        let header = Header::check(&bytes).unwrap();
        let expect = [(10, 1_700_000_000_000), (11, 1_699_999_999_999), (12, 1_700_000_009_000)];
        assert_eq!(timestamps(&header, &bytes), expect);
    }

    #[test]
    fn a_compressed_batch_is_one() {
        let mut bytes = batch((-1, -1, -1), 5, &[(5, "a"), (9, "b")]);
        bytes[22] = 4;
        let bytes = resigned(bytes);
        assert_eq!(timestamps(&Header::check(&bytes).unwrap(), &bytes), [(0, 9)]);
    }

    #[test]
    fn an_unreadable_record_ends_the_list() {
        let bytes = batch((-1, -1, -1), 5, &[(5, "a"), (9, "b")]);
        let header = Header::check(&bytes).unwrap();
        for cut in 0..bytes.len() {
            let found = timestamps(&header, &bytes[..cut]);
            assert!(found.len() < 2, "{cut}");
        }
        for byte in HEADER..bytes.len() {
            let mut broken = bytes.clone();
            broken[byte] = 0xff;
            assert!(timestamps(&header, &broken).len() <= 2);
        }
    }
}
