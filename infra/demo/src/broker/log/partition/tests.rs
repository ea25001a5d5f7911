//! A partition's log: reads, restarts, incomplete ends, and repeated batches.

use std::path::Path;

use super::*;
use crate::broker::log::batch::tests::{Sender, batch, plain};
use crate::broker::log::read::ReadError;

const ALL: usize = 1 << 20;

fn open_with(folder: &Path, segment: u64) -> PartitionLog {
    PartitionLog::open_with(folder.to_owned(), Arc::default(), segment).unwrap()
}

fn open(folder: &Path) -> PartitionLog {
    open_with(folder, SEGMENT)
}

fn append(partition: &PartitionLog, batch: Vec<u8>) -> i64 {
    partition.append(&Bytes::from(batch)).unwrap().base_offset
}

/// First and last offsets of the batches that one read returns.
fn read(partition: &PartitionLog, offset: i64, max_bytes: usize) -> Vec<(i64, i64)> {
    let bytes = partition.read(offset, max_bytes).unwrap().batches;
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = Header::check(rest).unwrap();
        found.push((header.base_offset, header.last_offset()));
        rest = &rest[header.bytes..];
    }
    found
}

#[test]
fn batches_are_read_whole_from_any_offset() {
    let root = tempfile::tempdir().unwrap();
    // A batch has about 90 bytes, so a segment is full after five.
    let partition = open_with(root.path(), 500);
    for index in 0..20 {
        assert_eq!(append(&partition, plain(&["aaa", "bbb", "ccc"])), index * 3);
    }
    let size = plain(&["aaa", "bbb", "ccc"]).len();
    let check = |partition: &PartitionLog| {
        assert_eq!(partition.bounds(), (0, 60));
        for offset in 0..60 {
            let first = offset / 3 * 3;
            assert_eq!(read(partition, offset, 0), [(first, first + 2)]);
            assert_eq!(read(partition, offset, ALL)[0], (first, first + 2));
        }
        assert_eq!(read(partition, 1, 2 * size - 1), [(0, 2)]);
        assert_eq!(read(partition, 1, 2 * size), [(0, 2), (3, 5)]);
        assert_eq!(read(partition, 60, ALL), []);
        for offset in [-1, 61, i64::MAX] {
            assert!(matches!(partition.read(offset, ALL), Err(ReadError::OutOfRange)));
        }
    };
    check(&partition);
    let segments = partition.held.read().segments.len();
    assert!(segments > 3);
    check(&open_with(root.path(), 500));
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin");
    let partition = open(&origin);
    append(&partition, plain(&["a", "b"]));
    append(&partition, plain(&["c"]));
    let file = path(&origin, 0);
    let kept = std::fs::metadata(&file).unwrap().len();
    let last = batch((7, 0, 0), 2000, &[(2000, "d"), (2001, "e")]);
    append(&partition, last.clone());
    let whole = std::fs::read(&file).unwrap();
    for length in kept as usize..=whole.len() {
        let folder = root.path().join(length.to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(path(&folder, 0), &whole[..length]).unwrap();
        let total = Arc::new(AtomicU64::new(0));
        let partition = PartitionLog::open(folder.clone(), Arc::clone(&total)).unwrap();
        let is_whole = length == whole.len();
        assert_eq!(partition.bounds(), (0, if is_whole { 5 } else { 3 }), "{length}");
        let size = if is_whole { whole.len() as u64 } else { kept };
        assert_eq!((std::fs::metadata(path(&folder, 0)).unwrap().len(), total.load(Ordering::Relaxed)), (size, size));
        // The repeated batch is stored once.
        assert_eq!(append(&partition, last.clone()), 3);
        assert_eq!(partition.bounds(), (0, 5));
        assert_eq!(std::fs::read(path(&folder, 0)).unwrap(), whole);
    }
}

#[test]
fn a_damaged_tail_is_cut_and_a_damaged_middle_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let partition = open_with(root.path(), 250);
    for _ in 0..4 {
        append(&partition, plain(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]));
    }
    let bases: Vec<i64> = partition.held.read().segments.iter().map(|segment| segment.base).collect();
    assert_eq!(bases, [0, 2]);
    drop(partition);
    let damage = |base: i64, at: usize| {
        let mut bytes = std::fs::read(path(root.path(), base)).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path(root.path(), base), bytes).unwrap();
    };
    damage(2, 70);
    assert_eq!(open_with(root.path(), 250).bounds(), (0, 2));
    damage(0, 16);
    let error = recover(root.path()).unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.log: damaged at byte 0"), "{error}");
    damage(0, 16);
    std::fs::remove_file(path(root.path(), 2)).unwrap();
    File::create(path(root.path(), 9)).unwrap();
    let error = recover(root.path()).unwrap_err().to_string();
    assert!(error.contains("no segment begins at the offset 2"), "{error}");
}

#[test]
fn a_repeated_batch_is_stored_once_also_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let sent = |sender: Sender| batch(sender, 5, &[(5, "x"), (6, "y")]);
    let mut partition = open(root.path());
    for restart in [false, true, false, true] {
        if restart {
            partition = open(root.path());
        }
        assert_eq!(append(&partition, sent((7, 0, 0))), 0);
        assert_eq!(append(&partition, sent((7, 0, 2))), 2);
        assert_eq!(append(&partition, sent((8, 0, 0))), 4);
        assert_eq!(partition.bounds(), (0, 6));
        let refused = |sender| partition.append(&Bytes::from(sent(sender))).unwrap_err().code();
        assert_eq!(refused((7, 0, 6)), ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(refused((8, 0, 4)), ResponseError::OutOfOrderSequenceNumber);
    }
    // A batch without a producer id is stored twice.
    assert_eq!(append(&partition, plain(&["x"])), 6);
    assert_eq!(append(&partition, plain(&["x"])), 7);
}

#[test]
fn times_are_found() {
    let root = tempfile::tempdir().unwrap();
    let at = |times: &[i64]| {
        let padding = "x".repeat(3000);
        batch((-1, -1, -1), 100, &times.iter().map(|t| (*t, padding.as_str())).collect::<Vec<_>>())
    };
    let partition = open_with(root.path(), 40_000);
    assert_eq!((partition.since(0).unwrap(), partition.latest().unwrap()), (None, None));
    let mut times = Vec::new();
    for round in 0..20 {
        let batch: Vec<i64> = [3, 9, 1].iter().map(|t| 100 + round * 10 + t).collect();
        append(&partition, at(&batch));
        times.extend(batch);
    }
    let expect = |start: usize, timestamp: i64| {
        let found = times.iter().enumerate().skip(start).find(|(_, t)| **t >= timestamp);
        found.map(|(offset, t)| (offset as i64, *t))
    };
    let check = |partition: &PartitionLog, start: usize| {
        for timestamp in 90..310 {
            assert_eq!(partition.since(timestamp).unwrap(), expect(start, timestamp), "{start} {timestamp}");
        }
        let latest = times[start..].iter().max().and_then(|max| expect(start, *max));
        assert_eq!(partition.latest().unwrap(), latest, "{start}");
    };
    check(&partition, 0);
    check(&open(root.path()), 0);
    for start in [1, 5, 31, 58, 59, 60] {
        assert_eq!(partition.delete_before(start as i64).unwrap(), Some(start as i64));
        check(&partition, start);
    }
}

#[test]
fn records_are_deleted_for_good() {
    let root = tempfile::tempdir().unwrap();
    let total = Arc::new(AtomicU64::new(0));
    let partition = PartitionLog::open_with(root.path().to_owned(), Arc::clone(&total), 250).unwrap();
    for _ in 0..10 {
        append(&partition, plain(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]));
    }
    let before = total.load(Ordering::Relaxed);
    for (asked, left) in [(5, Some(5)), (3, Some(5)), (11, None), (-2, None), (5, Some(5))] {
        assert_eq!(partition.delete_before(asked).unwrap(), left, "{asked}");
    }
    assert_eq!(total.load(Ordering::Relaxed), before * 6 / 10);
    assert_eq!(partition.bounds(), (5, 10));
    assert!(matches!(partition.read(4, ALL), Err(ReadError::OutOfRange)));
    assert_eq!(read(&partition, 5, 0), [(5, 5)]);
    let again = open(root.path());
    assert_eq!(again.bounds(), (5, 10));
    assert_eq!(again.delete_before(-1).unwrap(), Some(10));
    assert_eq!(read(&again, 10, ALL), []);
    let again = open(root.path());
    assert_eq!((again.bounds(), append(&again, plain(&["b"]))), ((10, 10), 10));

    // The machine lost the records before the recorded start.
    for segment in 0..20 {
        let _ = std::fs::remove_file(path(root.path(), segment));
    }
    files::replace(&root.path().join(START), b"15").unwrap();
    File::create(path(root.path(), 8)).unwrap();
    let again = open(root.path());
    assert_eq!((again.bounds(), append(&again, plain(&["b"]))), ((15, 15), 15));
}

#[test]
fn invalid_batches_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let partition = open(root.path());
    let good = plain(&["a", "b"]);
    let refused = |bytes: Vec<u8>| partition.append(&Bytes::from(bytes)).unwrap_err().code();
    for length in 0..good.len() {
        assert_eq!(refused(good[..length].to_vec()), ResponseError::CorruptMessage, "{length}");
    }
    assert_eq!(refused([good.clone(), good.clone()].concat()), ResponseError::InvalidRecord);
    for byte in 8..good.len() {
        // The broker sets the leader epoch, so its bytes may differ.
        if !(12..16).contains(&byte) {
            let mut bytes = good.clone();
            bytes[byte] ^= 0x55;
            refused(bytes);
        }
    }
    assert_eq!(partition.bounds(), (0, 0));
}

#[test]
fn simultaneous_appends_get_distinct_offsets() {
    let root = tempfile::tempdir().unwrap();
    let partition = open_with(root.path(), 10_000);
    let mut given: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..200).map(|_| append(&partition, plain(&["a", "b"]))).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    given.sort_unstable();
    assert_eq!(given, (0..800).map(|index| index * 2).collect::<Vec<_>>());
    assert_eq!(open(root.path()).bounds(), (0, 1600));
}
