//! Hand-made batches, for these tests and others: valid ones and invalid ones.

use super::*;

/// The sender of a batch: producer id, epoch, first sequence.
pub(crate) type Sender = (i64, i16, i32);

/// A batch of records without keys, like a producer's.
pub(crate) fn batch(sender: Sender, base_timestamp: i64, records: &[(i64, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (delta, (timestamp, value)) in records.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, timestamp - base_timestamp);
        put_varint(&mut record, delta as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, value.len() as i64);
        record.extend_from_slice(value.as_bytes());
        put_varint(&mut record, 0);
        put_varint(&mut body, record.len() as i64);
        body.extend(record);
    }
    let max = records.iter().map(|(timestamp, _)| *timestamp).max().unwrap_or(-1);
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes());
    checked.extend((records.len() as i32 - 1).to_be_bytes());
    checked.extend(base_timestamp.to_be_bytes());
    checked.extend(max.to_be_bytes());
    checked.extend(sender.0.to_be_bytes());
    checked.extend(sender.1.to_be_bytes());
    checked.extend(sender.2.to_be_bytes());
    checked.extend((records.len() as i32).to_be_bytes());
    checked.extend(body);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    batch.extend((checked.len() as i32 + 9).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A batch of a producer that is not idempotent, with one record per value and a millisecond between records.
pub(crate) fn plain(values: &[&str]) -> Vec<u8> {
    let records: Vec<_> = values.iter().enumerate().map(|(i, value)| (1000 + i as i64, *value)).collect();
    batch((-1, -1, -1), 1000, &records)
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// The batch with a corrected checksum.
pub(crate) fn resigned(mut batch: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&batch[UNCHECKED..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
    batch
}

#[test]
fn a_header_is_read_and_placed() {
    let mut bytes = batch((7, 1, 5), 1000, &[(1000, "a"), (1005, "b"), (1002, "")]);
    place(&mut bytes, 42);
    let header = Header::check_produced(&bytes).unwrap();
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (42, 44, 45));
    assert_eq!((header.producer_id, header.producer_epoch), (7, 1));
    assert_eq!((header.base_sequence, header.last_sequence()), (5, 7));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1005));
    assert!(!header.is_compressed());
}

#[test]
fn invalid_batches_are_recognised() {
    let good = plain(&["a", "b"]);
    let check = |change: &dyn Fn(&mut Vec<u8>), expect: Flaw| {
        let mut bytes = good.clone();
        change(&mut bytes);
        assert_eq!(Header::check_produced(&bytes), Err(expect));
    };
    check(&|b| b.clear(), Flaw::Short);
    check(&|b| b.truncate(good.len() - 1), Flaw::Short);
    check(&|b| b.push(0), Flaw::Followed(1));
    check(&|b| b[16] = 1, Flaw::Magic(1));
    check(&|b| b[8] = 0x80, Flaw::Length(i32::MIN + good.len() as i32 - 12));
    check(&|b| b[8..12].fill(0), Flaw::Length(0));
    check(&|b| *b.last_mut().unwrap() ^= 1, Flaw::Checksum);
    check(&|b| b[60] = 3, Flaw::Count { records: 3, delta: 1 });
    let signed = |at: usize, byte: u8, expect| {
        check(
            &|b| {
                b[at] = byte;
                *b = resigned(b.clone());
            },
            expect,
        );
    };
    signed(22, 0x10, Flaw::Attributes(0x10));
    signed(22, 0x20, Flaw::Attributes(0x20));
    signed(22, 5, Flaw::Attributes(5));
    signed(43, 0, Flaw::Sequence(-1));
}

#[test]
fn sequences_wrap_around() {
    assert_eq!(add_to_sequence(5, 3), 8);
    assert_eq!(add_to_sequence(i32::MAX, 1), 0);
    assert_eq!(add_to_sequence(i32::MAX - 1, 3), 1);
}
