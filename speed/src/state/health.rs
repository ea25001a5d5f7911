//! How reading stands against Kafka's log, folded from batches and positions: lag, what is still to be caught up with,
//! and whether the brokers answer.
//!
//! Invariant: a partition at the end of its log has no lag, whatever markers lie between its last message and the
//! high watermark.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, Int32Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use thalweg_schemas::definition::stream::{PARTITION, REJECT, StreamDefinition, TIMESTAMP};
use thalweg_schemas::realtime::snapshot::PartitionHealth;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::kafka::channel::BrokerStatus;

/// Health of every partition since the process started.
#[derive(Debug)]
struct Health {
    /// The column that says when an event happened.
    time_column: String,
    partitions: BTreeMap<Partition, PartitionHealth>,
}

impl Health {
    fn new(stream: &StreamDefinition) -> Self {
        Self {
            time_column: stream.event_time.clone().unwrap_or_else(|| TIMESTAMP.to_owned()),
            partitions: BTreeMap::new(),
        }
    }

    /// Counts the rows and rejects of a decoded batch.
    fn count(&mut self, rows: &RecordBatch) {
        let column = |name: &str| rows.column_by_name(name);
        let partitions = column(PARTITION).and_then(|a| a.as_any().downcast_ref::<Int32Array>());
        let (Some(partitions), Some(rejects)) = (partitions, column(REJECT)) else {
            return;
        };
        let times = column(&self.time_column).and_then(|a| a.as_any().downcast_ref::<TimestampMicrosecondArray>());
        // Messages of one partition come in runs.
        let mut start = 0;
        while start < rows.num_rows() {
            let partition = partitions.value(start);
            let end =
                (start..rows.num_rows()).find(|row| partitions.value(*row) != partition).unwrap_or(rows.num_rows());
            let health = self.partitions.entry(Partition(partition)).or_default();
            let reasons = rejects.slice(start, end - start);
            let rejected = reasons.len() - reasons.null_count();
            health.rejects += rejected as u64;
            health.rows += (reasons.len() - rejected) as u64;
            let latest = times.map(|t| t.slice(start, end - start)).and_then(|t| arrow::compute::max(&t));
            health.latest_event_us = health.latest_event_us.max(latest);
            start = end;
        }
    }

    /// Reading stands at `frontier`, and this is known of the log's end.
    fn place(&mut self, frontier: &Frontier, high: &Frontier, ends: &BTreeSet<Partition>) {
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

    fn revoke(&mut self, revoked: &BTreeSet<Partition>) {
        self.partitions.retain(|p, _| !revoked.contains(p));
    }

    fn partitions(&self) -> &BTreeMap<Partition, PartitionHealth> {
        &self.partitions
    }
}

/// Which partitions have reached what their logs held when they were assigned.
#[derive(Debug)]
struct CatchUp {
    /// High watermarks at assignment; of a partition that it does not name, it is not known yet.
    target: Frontier,
    /// A frontier that was shown to readers before; nothing may be answered below it.
    floor: Frontier,
    /// Partitions whose end was met: with an open transaction, the high watermark is out of reach.
    ended: BTreeSet<Partition>,
    done: BTreeSet<Partition>,
}

impl CatchUp {
    fn new(floor: Frontier) -> Self {
        Self { target: Frontier::new(), floor, ended: BTreeSet::new(), done: BTreeSet::new() }
    }

    /// Partitions were assigned; `target` is what is to be read of them.
    fn aim(&mut self, target: &Frontier) {
        self.target = target.or(&self.target);
        self.done.clear();
    }

    /// More partitions are read, from `at` on.
    fn assign(&mut self, at: &Frontier, target: &Frontier) {
        // Of one that the topic has just been given, nothing can have been shown before.
        self.target = target.or(&self.target).or(at);
    }

    /// Partitions have gone, which were shown at `frontier`.
    fn revoke(&mut self, revoked: &BTreeSet<Partition>, frontier: &Frontier) {
        self.floor = self.floor.max(&frontier.within(revoked.iter().copied()));
        self.target.remove(revoked);
        self.ended.retain(|p| !revoked.contains(p));
        self.done.retain(|p| !revoked.contains(p));
    }

    fn observe(&mut self, frontier: &Frontier, ends: &BTreeSet<Partition>) {
        self.ended.extend(ends);
        let reached = |p: Partition, at: Offset| {
            let target = self.target.named(p);
            let end = target.is_some_and(|high| at >= high || self.ended.contains(&p));
            end && at >= self.floor.get(p)
        };
        let reached = frontier.iter().filter(|(p, at)| reached(*p, *at));
        self.done.extend(reached.map(|(p, _)| p));
    }

    /// True if all have that are read or were found: those of `frontier`, and those of the target that are to come.
    fn is_done(&self, frontier: &Frontier) -> bool {
        let mut all = frontier.partitions().chain(self.target.partitions());
        all.all(|p| self.done.contains(&p))
    }

    fn partitions(&self) -> &BTreeSet<Partition> {
        &self.done
    }
}

/// Where a stream's log ends, as far as it is known, and what follows for every partition.
#[derive(Debug)]
pub(crate) struct LogStatus {
    health: Health,
    catch_up: CatchUp,
    /// High watermarks as last heard of.
    high: Frontier,
    /// Partitions that stand at the end of their log.
    ends: BTreeSet<Partition>,
    /// Why the brokers do not answer, while they do not.
    away: Option<String>,
}

impl LogStatus {
    /// Nothing is known yet. Nothing may be answered below `floor`, because readers have seen it.
    pub(crate) fn new(stream: &StreamDefinition, floor: Frontier) -> Self {
        Self {
            health: Health::new(stream),
            catch_up: CatchUp::new(floor),
            high: Frontier::new(),
            ends: BTreeSet::new(),
            away: None,
        }
    }

    /// Counts the rows and rejects of a decoded batch.
    pub(crate) fn count(&mut self, rows: &RecordBatch) {
        self.health.count(rows);
    }

    /// The brokers have been reached, or are away.
    pub(crate) fn connect(&mut self, brokers: BrokerStatus, frontier: &Frontier) {
        self.away = brokers.away;
        if let Some(high) = brokers.high {
            self.catch_up.aim(&high);
            self.observe(frontier, &high, self.ends.clone());
        }
    }

    /// Reading stands at `frontier`, and this is known of the log's end.
    pub(crate) fn observe(&mut self, frontier: &Frontier, high: &Frontier, ends: BTreeSet<Partition>) {
        self.high = self.high.max(high);
        self.ends = ends;
        self.health.place(frontier, &self.high, &self.ends);
        self.catch_up.observe(frontier, &self.ends);
    }

    /// More partitions are read, from `at` on; `high` is what is to be read of them. `frontier` names them already.
    pub(crate) fn assign(&mut self, at: &Frontier, high: &Frontier, frontier: &Frontier) {
        self.high = high.or(&self.high);
        self.catch_up.assign(at, high);
        self.observe(frontier, &Frontier::new(), self.ends.clone());
    }

    /// Partitions have gone, which were shown at `frontier`.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>, frontier: &Frontier) {
        self.catch_up.revoke(revoked, frontier);
        self.health.revoke(revoked);
        self.high.remove(revoked);
        self.ends.retain(|p| !revoked.contains(p));
    }

    pub(crate) fn partitions(&self) -> &BTreeMap<Partition, PartitionHealth> {
        self.health.partitions()
    }

    pub(crate) fn is_caught_up(&self, frontier: &Frontier) -> bool {
        self.catch_up.is_done(frontier)
    }

    /// The partitions that have caught up by themselves.
    pub(crate) fn caught_up_partitions(&self) -> &BTreeSet<Partition> {
        self.catch_up.partitions()
    }

    pub(crate) fn away(&self) -> Option<&str> {
        self.away.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use thalweg_kit::definitions::stream;
    use thalweg_kit::positions::at;

    fn health() -> Health {
        Health::new(&stream("s", &[]))
    }

    #[test]
    fn rows_rejects_and_latest_time_are_told_apart_by_partition() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            (PARTITION, Arc::new(Int32Array::from(vec![0, 0, 1, 0])) as ArrayRef, false),
            (TIMESTAMP, Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None, Some(7), Some(3)])), true),
            (REJECT, Arc::new(StringArray::from(vec![None, Some("bad"), None, None])), true),
        ])
        .unwrap();
        let mut health = health();
        health.count(&rows);
        let got: Vec<_> =
            health.partitions().iter().map(|(p, h)| (p.0, h.rows, h.rejects, h.latest_event_us)).collect();
        assert_eq!(got, [(0, 2, 1, Some(5)), (1, 1, 0, Some(7))]);
    }

    #[test]
    fn lag_ends_where_the_log_ends() {
        let mut health = health();
        let lags = |health: &Health| -> Vec<i64> { health.partitions().values().map(|h| h.lag).collect() };
        health.place(&at(&[(0, 5), (1, 0)]), &at(&[(0, 9)]), &BTreeSet::new());
        assert_eq!(lags(&health), [4, 0]);
        // A transaction marker at 8 is no message.
        let ends = BTreeSet::from([Partition(0)]);
        health.place(&at(&[(0, 8), (1, 3)]), &at(&[(0, 9), (1, 9)]), &ends);
        assert_eq!(lags(&health), [0, 6]);
        health.place(&at(&[(0, 12), (1, 3)]), &at(&[(0, 9), (1, 9)]), &BTreeSet::new());
        assert_eq!(lags(&health), [0, 6]);
    }

    #[test]
    fn caught_up_is_every_partition_at_its_end_and_above_what_was_shown() {
        let mut catch_up = CatchUp::new(at(&[(0, 6)]));
        catch_up.observe(&at(&[(0, 9), (1, 9)]), &BTreeSet::new());
        assert!(catch_up.partitions().is_empty(), "nobody knows how much there is");
        catch_up.aim(&at(&[(0, 5), (1, 7)]));
        let mut check = |frontier: &[(i32, i64)], ends: &[i32], done: &[i32]| {
            let (frontier, ends) = (at(frontier), ends.iter().map(|p| Partition(*p)).collect());
            catch_up.observe(&frontier, &ends);
            let got: Vec<i32> = catch_up.partitions().iter().map(|p| p.0).collect();
            assert_eq!(got, done, "{frontier}");
            assert_eq!(catch_up.is_done(&frontier), done.len() == 2, "{frontier}");
        };
        check(&[(0, 5), (1, 0)], &[], &[]);
        check(&[(0, 5), (1, 4)], &[1], &[1]);
        check(&[(0, 6), (1, 4)], &[], &[0, 1]);
        check(&[(0, 6), (1, 4)], &[], &[0, 1]);
    }

    #[test]
    fn a_partition_that_comes_back_catches_up_again() {
        let (lost, zero) = (BTreeSet::from([Partition(1)]), BTreeSet::new());
        let mut catch_up = CatchUp::new(Frontier::new());
        catch_up.aim(&at(&[(0, 5), (1, 7)]));
        catch_up.observe(&at(&[(0, 5), (1, 9)]), &zero);
        catch_up.revoke(&lost, &at(&[(0, 5), (1, 9)]));
        assert!(catch_up.is_done(&at(&[(0, 5)])));
        assert!(!catch_up.is_done(&at(&[(0, 5), (1, 5)])), "it is read again");
        catch_up.assign(&at(&[(1, 5)]), &at(&[(1, 8)]));
        // Its end is below what was shown of it.
        catch_up.observe(&at(&[(0, 5), (1, 8)]), &lost);
        assert!(!catch_up.is_done(&at(&[(0, 5), (1, 8)])));
        catch_up.observe(&at(&[(0, 5), (1, 9)]), &zero);
        assert!(catch_up.is_done(&at(&[(0, 5), (1, 9)])));
    }
}
