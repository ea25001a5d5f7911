//! The messages that the scripted consumer drains, step by step, and the expected answers over them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::{Frontier, Offset, Partition};
use thalweg_speed::Drained;

use super::site::Site;

/// The answer of a query of the view: number of events and sum, by device.
pub(crate) type Answer = BTreeMap<String, (i64, i64)>;

/// The produced messages, step by step: some messages in some partitions, gaps in offsets, steps without any message.
pub(crate) struct Script {
    positions: Frontier,
    /// Offset and value of each event, by partition.
    events: BTreeMap<Partition, Vec<(i64, i64)>>,
    /// The number of changes of the assignment.
    assignment: u64,
}

fn device(value: i64) -> String {
    format!("d{}", value % 11)
}

impl Script {
    pub(crate) fn new(site: &Site) -> Self {
        Self { positions: site.world.origin.clone(), events: BTreeMap::new(), assignment: 0 }
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.positions.clone()
    }

    /// Returns the offset of the first event with this value.
    pub(crate) fn offset_of(&self, partition: i32, value: i64) -> Offset {
        let found = self.events[&Partition(partition)].iter().find(|(_, v)| *v == value);
        Offset(found.unwrap().0)
    }

    /// Adds a partition to the topic.
    pub(crate) fn grow(&mut self, partition: i32) {
        self.positions.set(Partition(partition), Offset(0));
        self.assignment += 1;
    }

    pub(crate) fn step(&mut self, step: i64) -> Drained {
        // Every seventh step is a transaction marker: positions advance, but there is no message.
        let count = if step % 7 == 6 { 0 } else { 1 + step % 5 };
        self.produce(step, count, 0)
    }

    pub(crate) fn large_step(&mut self, step: i64) -> Drained {
        self.produce(step, 200, 200)
    }

    fn produce(&mut self, step: i64, count: i64, padding: usize) -> Drained {
        let mut messages = Messages::new();
        for (partition, position) in self.positions.clone().iter() {
            // One partition gets no messages in every other step.
            if partition.0 == 1 && step % 2 == 0 {
                continue;
            }
            let events = self.events.entry(partition).or_default();
            let mut offset = position.0;
            for i in 0..count {
                offset += (step + i) % 3;
                let value = step * 1000 + i;
                let padding = "x".repeat(padding);
                let text = format!(r#"{{"device": "{}", "value": {value}, "padding": "{padding}"}}"#, device(value));
                let (at, time) = (Offset(offset), Some(1000 + step));
                messages.push(partition, at, time, Some(text.as_bytes()));
                events.push((offset, value));
                offset += 1;
            }
            self.positions.set(partition, Offset(offset + step % 2));
        }
        Drained {
            messages,
            positions: self.positions.clone(),
            last: HashMap::new(),
            ends: BTreeSet::new(),
            high: self.positions.clone(),
            assignment: self.assignment,
        }
    }

    /// Returns the batch that a consumer of the partitions of `to` drains between two positions.
    pub(crate) fn drained(&self, from: &Frontier, to: &Frontier, assignment: u64) -> Drained {
        let mut messages = Messages::new();
        for (partition, end) in to.iter() {
            let events = self.events.get(&partition).map_or(&[][..], Vec::as_slice);
            let inside = from.get(partition).0..end.0;
            for (offset, value) in events.iter().filter(|(o, _)| inside.contains(o)) {
                let text = format!(r#"{{"device": "{}", "value": {value}}}"#, device(*value));
                messages.push(partition, Offset(*offset), Some(1000), Some(text.as_bytes()));
            }
        }
        Drained {
            messages,
            positions: to.clone(),
            last: HashMap::new(),
            ends: BTreeSet::new(),
            high: self.positions.clone(),
            assignment,
        }
    }

    /// Adds amendments behind those that there are: the commit of another process.
    pub(crate) async fn amend(&mut self, site: &Site, partition: Partition, count: i64) {
        let mut archive = site.archive().await;
        let from = archive.latest().await.unwrap().frontier.get(partition);
        let events = self.events.entry(partition).or_default();
        let mut messages = Messages::new();
        for offset in from.0..from.0 + count {
            let value = 7_000_000 + offset;
            let text = format!(r#"{{"device": "{}", "value": {value}}}"#, device(value));
            messages.push(partition, Offset(offset), Some(1000), Some(text.as_bytes()));
            events.push((offset, value));
        }
        let definition = site.world.definition();
        let rows = Decoder::new(&definition).unwrap().decode(&messages).unwrap().rows;
        let at = |offset| [(partition, offset)].into_iter().collect::<Frontier>();
        let to = Offset(from.0 + count);
        let epoch = Epoch {
            stream: definition.name,
            from: at(from),
            to: at(to),
            rows: vec![rows],
            mark: true,
            last: HashMap::new(),
        };
        let outcome = archive.commit(&epoch).await.unwrap();
        assert!(matches!(outcome, EpochOutcome::Landed(_)), "{outcome:?}");
    }

    /// The end of the amendments of a partition.
    pub(crate) fn amended(&self, partition: Partition) -> Offset {
        let last = self.events.get(&partition).and_then(|events| events.last());
        Offset(last.map_or(0, |(offset, _)| offset + 1))
    }

    fn between(&self, from: &Frontier, to: &Frontier) -> impl Iterator<Item = i64> {
        self.events.iter().flat_map(move |(partition, events)| {
            let (from, to) = (from.get(*partition).0, to.get(*partition).0);
            let inside = events.iter().filter(move |(o, _)| from <= *o && *o < to);
            inside.map(|(_, value)| *value)
        })
    }

    pub(crate) fn events(&self, from: &Frontier, to: &Frontier) -> usize {
        self.between(from, to).count()
    }

    pub(crate) fn answer(&self, from: &Frontier, to: &Frontier) -> Answer {
        let mut answer = Answer::new();
        for value in self.between(from, to) {
            let (n, total) = answer.entry(device(value)).or_default();
            *n += 1;
            *total += value;
        }
        answer
    }
}
