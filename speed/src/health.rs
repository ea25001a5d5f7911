//! How the partitions are doing, folded from batches and positions.
//!
//! Invariant: a partition at the end of its log has no lag, whatever markers lie between its last message and the
//! high watermark.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, Int32Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use thalweg_schemas::snapshot::PartitionHealth;
use thalweg_schemas::stream::{PARTITION, REJECT, StreamDefinition, TIMESTAMP};
use thalweg_schemas::{Frontier, Partition};

/// Health of every partition since the process started.
#[derive(Debug)]
pub(crate) struct Health {
    /// The column that says when an event happened.
    time_column: String,
    partitions: BTreeMap<Partition, PartitionHealth>,
}

impl Health {
    pub(crate) fn new(stream: &StreamDefinition) -> Self {
        Self {
            time_column: stream
                .event_time
                .clone()
                .unwrap_or_else(|| TIMESTAMP.to_owned()),
            partitions: BTreeMap::new(),
        }
    }

    /// Counts the rows and rejects of a decoded batch.
    pub(crate) fn count(&mut self, rows: &RecordBatch) {
        let column = |name: &str| rows.column_by_name(name);
        let partitions = column(PARTITION).and_then(|a| a.as_any().downcast_ref::<Int32Array>());
        let (Some(partitions), Some(rejects)) = (partitions, column(REJECT)) else {
            return;
        };
        let times = column(&self.time_column)
            .and_then(|a| a.as_any().downcast_ref::<TimestampMicrosecondArray>());
        // Messages of one partition come in runs.
        let mut start = 0;
        while start < rows.num_rows() {
            let partition = partitions.value(start);
            let end = (start..rows.num_rows())
                .find(|row| partitions.value(*row) != partition)
                .unwrap_or(rows.num_rows());
            let health = self.partitions.entry(Partition(partition)).or_default();
            let reasons = rejects.slice(start, end - start);
            let rejected = reasons.len() - reasons.null_count();
            health.rejects += rejected as u64;
            health.rows += (reasons.len() - rejected) as u64;
            let latest = times
                .map(|t| t.slice(start, end - start))
                .and_then(|t| arrow::compute::max(&t));
            health.latest_event_us = health.latest_event_us.max(latest);
            start = end;
        }
    }

    /// Takes over where reading stands and what is known of the log's end.
    pub(crate) fn place(
        &mut self,
        frontier: &Frontier,
        high: &Frontier,
        ends: &BTreeSet<Partition>,
    ) {
        for (partition, at) in frontier.iter() {
            let health = self.partitions.entry(partition).or_default();
            let known = high.named(partition).max(health.high_watermark);
            health.high_watermark = known.map(|high| high.max(at));
            health.lag = match health.high_watermark {
                Some(high) if !ends.contains(&partition) => high.0 - at.0,
                _ => 0,
            };
        }
    }

    pub(crate) fn partitions(&self) -> &BTreeMap<Partition, PartitionHealth> {
        &self.partitions
    }
}

/// Whether reading has reached what the log held when its partitions were assigned.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// High watermarks at assignment; unknown until then.
    target: Option<Frontier>,
    /// A frontier that was shown to readers before; nothing may be answered below it.
    floor: Frontier,
    /// Partitions whose end was met: with an open transaction, the high watermark is out of reach.
    ended: BTreeSet<Partition>,
    done: bool,
}

impl CatchUp {
    pub(crate) fn new(floor: Frontier) -> Self {
        Self {
            target: None,
            floor,
            ended: BTreeSet::new(),
            done: false,
        }
    }

    /// The partitions were assigned; `target` is what is to be read.
    pub(crate) fn aim(&mut self, target: Frontier) {
        self.target = Some(target);
    }

    pub(crate) fn observe(&mut self, frontier: &Frontier, ends: &BTreeSet<Partition>) {
        self.ended.extend(ends);
        let Some(target) = &self.target else {
            return;
        };
        self.done |= frontier.covers(&self.floor)
            && target
                .iter()
                .all(|(p, high)| frontier.get(p) >= high || self.ended.contains(&p));
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::Schema;
    use thalweg_schemas::stream::Format;
    use thalweg_schemas::{Offset, StreamName};

    fn health() -> Health {
        Health::new(&StreamDefinition {
            name: StreamName::new("s").unwrap(),
            topic: "s".into(),
            columns: Arc::new(Schema::empty()),
            format: Format::Json,
            event_time: None,
            kafka: BTreeMap::new(),
            sql: String::new(),
        })
    }

    fn at(pairs: &[(i32, i64)]) -> Frontier {
        pairs
            .iter()
            .map(|(p, o)| (Partition(*p), Offset(*o)))
            .collect()
    }

    #[test]
    fn rows_rejects_and_latest_time_are_told_apart_by_partition() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            (
                PARTITION,
                Arc::new(Int32Array::from(vec![0, 0, 1, 0])) as ArrayRef,
                false,
            ),
            (
                TIMESTAMP,
                Arc::new(TimestampMicrosecondArray::from(vec![
                    Some(5),
                    None,
                    Some(7),
                    Some(3),
                ])),
                true,
            ),
            (
                REJECT,
                Arc::new(StringArray::from(vec![None, Some("bad"), None, None])),
                true,
            ),
        ])
        .unwrap();
        let mut health = health();
        health.count(&rows);
        let got: Vec<_> = health
            .partitions()
            .iter()
            .map(|(p, h)| (p.0, h.rows, h.rejects, h.latest_event_us))
            .collect();
        assert_eq!(got, [(0, 2, 1, Some(5)), (1, 1, 0, Some(7))]);
    }

    #[test]
    fn lag_ends_where_the_log_ends() {
        let mut health = health();
        let lags =
            |health: &Health| -> Vec<i64> { health.partitions().values().map(|h| h.lag).collect() };
        health.place(&at(&[(0, 5), (1, 0)]), &at(&[(0, 9)]), &BTreeSet::new());
        assert_eq!(lags(&health), [4, 0]);
        // A transaction marker at 8 is no message.
        let ends = BTreeSet::from([Partition(0)]);
        health.place(&at(&[(0, 8), (1, 3)]), &at(&[(0, 9), (1, 9)]), &ends);
        assert_eq!(lags(&health), [0, 6]);
        health.place(
            &at(&[(0, 12), (1, 3)]),
            &at(&[(0, 9), (1, 9)]),
            &BTreeSet::new(),
        );
        assert_eq!(lags(&health), [0, 6]);
    }

    #[test]
    fn caught_up_is_every_partition_at_its_end_and_above_what_was_shown() {
        let mut catch_up = CatchUp::new(at(&[(0, 6)]));
        catch_up.observe(&at(&[(0, 9), (1, 9)]), &BTreeSet::new());
        assert!(!catch_up.is_done(), "nobody knows yet how much there is");
        catch_up.aim(at(&[(0, 5), (1, 7)]));
        let mut check = |frontier: &[(i32, i64)], ends: &[i32], done| {
            let ends = ends.iter().map(|p| Partition(*p)).collect();
            catch_up.observe(&at(frontier), &ends);
            assert_eq!(catch_up.is_done(), done, "{frontier:?}");
        };
        check(&[(0, 5), (1, 0)], &[], false);
        check(&[(0, 5), (1, 4)], &[1], false);
        check(&[(0, 6), (1, 4)], &[], true);
        check(&[(0, 6), (1, 4)], &[], true);
    }
}
