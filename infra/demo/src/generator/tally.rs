//! Counts of sent messages.
//!
//! Invariant: messages = rows + malformed. Late messages and duplicates are counted among the messages too.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::streams::{DemoStream, Fate, Message};

/// One stream's acknowledged messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    #[serde(skip)]
    stream: DemoStream,
    /// Position of the first message.
    pub first: u64,
    pub messages: u64,
    /// Messages that can be decoded.
    pub rows: u64,
    pub malformed: u64,
    pub late: u64,
    pub duplicates: u64,
    /// For every partition, the offset after the last acknowledged message.
    pub ends: BTreeMap<i32, i64>,
}

impl Tally {
    pub(super) fn new(stream: DemoStream, first: u64) -> Self {
        Self { stream, first, messages: 0, rows: 0, malformed: 0, late: 0, duplicates: 0, ends: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, message: &Message, partition: i32, offset: i64) {
        self.messages += 1;
        if message.is_row {
            self.rows += 1;
        } else {
            self.malformed += 1;
        }
        match message.fate {
            Fate::Late => self.late += 1,
            Fate::Duplicate { .. } => self.duplicates += 1,
            Fate::Usual | Fate::Malformed => {}
        }
        let end = self.ends.entry(partition).or_default();
        *end = (*end).max(offset + 1);
    }
}

/// The messages of one run of the generator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub seed: u64,
    pub streams: BTreeMap<&'static str, Tally>,
}

impl Summary {
    pub(super) fn new(seed: u64, tallies: Vec<Tally>) -> Self {
        Self { seed, streams: tallies.into_iter().map(|t| (t.stream.name(), t)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once() {
        let mut tally = Tally::new(DemoStream::SensorData, 5);
        let mut add = |fate, is_row, partition, offset| {
            let message = Message { fate, is_row, key: String::new(), payload: Vec::new() };
            tally.add(&message, partition, offset);
        };
        add(Fate::Usual, true, 0, 0);
        add(Fate::Late, true, 0, 1);
        add(Fate::Duplicate { of: 1 }, false, 1, 7);
        add(Fate::Malformed, false, 0, 2);
        let counts = (tally.messages, tally.rows, tally.malformed);
        assert_eq!(counts, (4, 2, 2));
        assert_eq!((tally.late, tally.duplicates), (1, 1));
        assert_eq!(tally.ends, BTreeMap::from([(0, 3), (1, 8)]));
    }
}
