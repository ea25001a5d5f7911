//! Sequences of idempotent producers in a partition, so that a repeated batch is not stored twice.
//!
//! The log remembers the last batches of each producer, as many as Kafka allows in flight. The headers in the log
//! contain all of this state, so opening the log rebuilds it.
//!
//! Invariant: a batch is stored only if it follows the last batch of its producer, or if its producer is unknown.

use std::collections::{HashMap, VecDeque};

use super::batch::{Header, add_to_sequence};

/// Batches that Kafka allows an idempotent producer to have in flight.
const REMEMBERED: usize = 5;
/// Largest number of producers in a partition; the one with the oldest last batch is forgotten first.
const PRODUCERS: usize = 1000;

/// The reason why a batch is not the next one of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfLine {
    #[error("producer {producer} sent the sequence {found} where {expected} is next")]
    Sequence { producer: i64, expected: i32, found: i32 },
    #[error("producer {producer} sent the sequence {found} again, which is too long ago to say where it is")]
    Old { producer: i64, found: i32 },
    #[error("producer {producer} is at the epoch {current} and sent one of {found}")]
    Epoch { producer: i64, current: i16, found: i16 },
}

/// The decision about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Store,
    /// The batch is already stored at this offset.
    Stored(i64),
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The newest batch is last; never empty.
    batches: VecDeque<Sent>,
    newest: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Sequences(HashMap<i64, Producer>);

impl Sequences {
    pub(crate) fn weigh(&self, header: &Header) -> Result<Verdict, OutOfLine> {
        let (producer, found) = (header.producer_id, header.base_sequence);
        let known = match self.0.get(&producer) {
            Some(known) if producer >= 0 => known,
            _ => return Ok(Verdict::Store),
        };
        if header.producer_epoch < known.epoch {
            return Err(OutOfLine::Epoch { producer, current: known.epoch, found: header.producer_epoch });
        }
        if header.producer_epoch > known.epoch {
            return match found {
                0 => Ok(Verdict::Store),
                found => Err(OutOfLine::Sequence { producer, expected: 0, found }),
            };
        }
        let same = |batch: &&Sent| batch.first == found && batch.last == header.last_sequence();
        if let Some(batch) = known.batches.iter().find(same) {
            return Ok(Verdict::Stored(batch.base_offset));
        }
        let last = known.batches.back().map_or(-1, |batch| batch.last);
        let expected = add_to_sequence(last, 1);
        match found {
            found if found == expected => Ok(Verdict::Store),
            found if found <= last => Err(OutOfLine::Old { producer, found }),
            found => Err(OutOfLine::Sequence { producer, expected, found }),
        }
    }

    /// Remembers a stored batch.
    pub(crate) fn note(&mut self, header: &Header) {
        if header.producer_id < 0 {
            return;
        }
        if self.0.len() >= PRODUCERS && !self.0.contains_key(&header.producer_id) {
            let silent = self.0.iter().min_by_key(|(_, producer)| producer.newest);
            if let Some(silent) = silent.map(|(id, _)| *id) {
                self.0.remove(&silent);
            }
        }
        let fresh = || Producer { epoch: header.producer_epoch, batches: VecDeque::new(), newest: header.base_offset };
        let producer = self.0.entry(header.producer_id).or_insert_with(fresh);
        if producer.epoch != header.producer_epoch {
            *producer = fresh();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.newest = header.base_offset;
        producer.batches.push_back(Sent {
            first: header.base_sequence,
            last: header.last_sequence(),
            base_offset: header.base_offset,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::batch;
    use super::*;

    fn header(epoch: i16, sequence: i32, count: usize) -> Header {
        Header::check(&batch((7, epoch, sequence), 0, &vec![(0, "v"); count])).unwrap()
    }

    #[test]
    fn only_the_next_batch_is_stored() {
        let mut known = Sequences::default();
        // An unknown producer may start at any sequence.
        assert_eq!(known.weigh(&header(0, 40, 2)), Ok(Verdict::Store));
        for (index, sequence) in [0, 2, 4, 6, 8, 10].into_iter().enumerate() {
            let header = header(0, sequence, 2).at(100 + index as i64);
            assert_eq!(known.weigh(&header), Ok(Verdict::Store), "{sequence}");
            known.note(&header);
        }
        let sequence = |expected, found| Err(OutOfLine::Sequence { producer: 7, expected, found });
        let old = |found| Err(OutOfLine::Old { producer: 7, found });
        for (epoch, found, count, expect) in [
            (0, 12, 1, Ok(Verdict::Store)),
            (0, 10, 2, Ok(Verdict::Stored(105))),
            (0, 2, 2, Ok(Verdict::Stored(101))),
            (0, 0, 2, old(0)),
            (0, 10, 1, old(10)),
            (0, 14, 1, sequence(12, 14)),
            (1, 0, 1, Ok(Verdict::Store)),
            (1, 5, 1, sequence(0, 5)),
        ] {
            assert_eq!(known.weigh(&header(epoch, found, count)), expect, "{epoch} {found} {count}");
        }
        known.note(&header(1, 0, 1).at(200));
        let fenced = OutOfLine::Epoch { producer: 7, current: 1, found: 0 };
        assert_eq!(known.weigh(&header(0, 12, 1)), Err(fenced));
        assert_eq!(known.weigh(&header(1, 1, 1)), Ok(Verdict::Store));
    }

    #[test]
    fn after_the_largest_sequence_comes_zero() {
        let mut known = Sequences::default();
        known.note(&header(0, i32::MAX - 1, 2));
        assert_eq!(known.weigh(&header(0, 0, 1)), Ok(Verdict::Store));
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut known = Sequences::default();
        for id in 0..2 * PRODUCERS as i64 {
            let one = Header::check(&batch((id, 0, 0), 0, &[(0, "v")])).unwrap();
            known.note(&one.at(id));
        }
        assert_eq!(known.0.len(), PRODUCERS);
        assert!(known.0.keys().all(|id| *id >= PRODUCERS as i64));
    }
}
