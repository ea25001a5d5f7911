//! The check that a topic is still the archived one, by its watermarks and the last archived message.
//!
//! Invariant: positions are never reset. A log that does not continue the archive is an error that states the reason.

use std::collections::BTreeMap;

use thalweg_schemas::warehouse::versions::LastMessage;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::{Error, Result};

/// The first and the next offset of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: Offset,
    pub(crate) high: Offset,
}

/// The hash that identifies a message: blake3 over key and payload, 16 hexadecimal digits.
fn fingerprint(key: Option<&[u8]>, payload: Option<&[u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [key, payload] {
        // An absent part must differ from an empty one.
        hasher.update(&part.map_or(-1, |p| p.len() as i64).to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The values that identify a message.
pub(crate) fn last_message(
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> LastMessage {
    LastMessage { offset: Offset(offset), timestamp_ms: timestamp_ms.unwrap_or(-1), hash: fingerprint(key, payload) }
}

/// Checks that the log of every partition continues at `next`.
///
/// Errors: [`Error::PartitionGone`], [`Error::Expired`], [`Error::Truncated`].
pub(crate) fn check_watermarks(topic: &str, log: &BTreeMap<Partition, Watermarks>, next: &Frontier) -> Result<()> {
    for (partition, next) in next.iter() {
        let topic = topic.to_owned();
        let Some(Watermarks { low, high }) = log.get(&partition).copied() else {
            return Err(Error::PartitionGone { topic, partition, archived: next });
        };
        // Check for truncation first: a recreated topic has an empty log, which may start at any offset.
        if high < next {
            return Err(Error::Truncated { topic, partition, next, high });
        }
        if low > next {
            return Err(Error::Expired { topic, partition, next, low });
        }
    }
    Ok(())
}

/// Compares a message with the message that was archived at its offset.
///
/// Errors: [`Error::Recreated`].
pub(crate) fn check_message(
    topic: &str,
    partition: Partition,
    archived: &LastMessage,
    found: &LastMessage,
) -> Result<()> {
    // Compaction may have removed the message, or an aborted transaction; a later message proves nothing.
    if found.offset != archived.offset || found == archived {
        return Ok(());
    }
    Err(Error::Recreated { topic: topic.to_owned(), partition, offset: archived.offset })
}

/// The origins of partitions that `origin` does not name yet. When the stream is seen for the first time, they are
/// the starts of the logs. For partitions that appear later they are 0, so that nothing written before the discovery
/// is missed.
pub(crate) fn new_origins(origin: &Frontier, log: &BTreeMap<Partition, Watermarks>) -> Frontier {
    log.iter()
        .filter(|(p, _)| origin.named(**p).is_none())
        .map(|(p, marks)| {
            let start = if origin.is_empty() { marks.low } else { Offset(0) };
            (*p, start)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;

    use super::*;

    fn log(pairs: &[(i32, i64, i64)]) -> BTreeMap<Partition, Watermarks> {
        pairs
            .iter()
            .map(|(p, low, high)| {
                let marks = Watermarks { low: Offset(*low), high: Offset(*high) };
                (Partition(*p), marks)
            })
            .collect()
    }

    #[test]
    fn a_log_must_continue_the_archive() {
        let check = |marks: &[(i32, i64, i64)], next: &[(i32, i64)], expect: &str| {
            let got = match check_watermarks("t", &log(marks), &at(next)) {
                Ok(()) => "continues",
                Err(Error::PartitionGone { .. }) => "gone",
                Err(Error::Expired { .. }) => "expired",
                Err(Error::Truncated { .. }) => "truncated",
                Err(other) => panic!("{other}"),
            };
            assert_eq!(got, expect, "{marks:?} {next:?}");
        };
        check(&[(0, 0, 10)], &[(0, 10)], "continues");
        check(&[(0, 10, 10)], &[(0, 10)], "continues");
        check(&[(0, 0, 10), (1, 0, 3)], &[(0, 4), (1, 0)], "continues");
        check(&[(0, 11, 20)], &[(0, 10)], "expired");
        check(&[(0, 0, 9)], &[(0, 10)], "truncated");
        check(&[(0, 0, 0)], &[(0, 10)], "truncated");
        check(&[(0, 0, 10)], &[(0, 10), (1, 5)], "gone");
    }

    #[test]
    fn origins_are_the_start_at_first_sight_and_zero_later() {
        let check = |origin: &[(i32, i64)], marks: &[(i32, i64, i64)], expect: &[(i32, i64)]| {
            assert_eq!(new_origins(&at(origin), &log(marks)), at(expect));
        };
        check(&[], &[(0, 5, 9), (1, 0, 0)], &[(0, 5), (1, 0)]);
        check(&[(0, 5)], &[(0, 7, 9), (1, 3, 4)], &[(1, 0)]);
        check(&[(0, 5)], &[(0, 7, 9)], &[]);
    }

    #[test]
    fn a_message_is_recognised_by_offset_time_and_content() {
        let message = |offset, timestamp_ms, payload: &[u8]| LastMessage {
            offset: Offset(offset),
            timestamp_ms,
            hash: fingerprint(None, Some(payload)),
        };
        let archived = message(7, 100, b"a");
        let check = |found: LastMessage, expect: bool| {
            let got = check_message("t", Partition(0), &archived, &found).is_ok();
            assert_eq!(got, expect, "{found:?}");
        };
        check(message(7, 100, b"a"), true);
        check(message(7, 100, b"b"), false);
        check(message(7, 101, b"a"), false);
        check(message(8, 500, b"z"), true);
        assert_ne!(fingerprint(None, Some(b"")), fingerprint(Some(b""), None));
        assert_ne!(fingerprint(None, None), fingerprint(None, Some(b"")));
    }
}
