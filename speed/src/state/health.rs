//! Reading compared with Kafka's log, computed from batches and positions: the lag, the partitions that have caught
//! up, and whether the brokers answer.
//!
//! Invariant: a partition at the end of its log has no lag, whatever transaction markers lie between its last message
//! and the high watermark.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, Int32Array, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use thalweg_schemas::definition::stream::{PARTITION, REJECT, StreamDefinition, TIMESTAMP};
use thalweg_schemas::realtime::snapshot::PartitionHealth;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::kafka::channel::BrokerStatus;

/// The health of every partition since the process started.
#[derive(Debug)]
struct Health {
    /// The column with the time of an event.
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
        // Messages of one partition arrive in runs.
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

    /// Updates the health: reading has reached `frontier`; `high` and `ends` are the known ends of the log.
    fn update(&mut self, frontier: &Frontier, high: &Frontier, ends: &BTreeSet<Partition>) {
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

/// The partitions that have been read up to the high watermark of their assignment.
#[derive(Debug)]
struct CatchUp {
    /// High watermarks at assignment. The watermark of a partition that is not named is not known yet.
    target: Frontier,
    /// A frontier that readers have seen; no query may be answered below it.
    floor: Frontier,
    /// Partitions that reached the end of their log. While a transaction is open, reading cannot reach the high
    /// watermark.
    ended: BTreeSet<Partition>,
    done: BTreeSet<Partition>,
}

impl CatchUp {
    fn new(floor: Frontier) -> Self {
        Self { target: Frontier::new(), floor, ended: BTreeSet::new(), done: BTreeSet::new() }
    }

    /// Sets the high watermarks up to which the assigned partitions have to be read.
    fn set_target(&mut self, target: &Frontier) {
        self.target = target.or(&self.target);
        self.done.clear();
    }

    /// Adds partitions that are read from `at` on, with their high watermarks in `target`.
    fn assign(&mut self, at: &Frontier, target: &Frontier) {
        // A partition without a watermark in `target` is new in the topic, so readers cannot have seen any of it.
        self.target = target.or(&self.target).or(at);
    }

    /// Removes revoked partitions. `frontier` is the newest frontier that readers saw.
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
            // Nothing of amendments is given out before the archive has it, so their end at a start is known.
            let end = p.is_amended() || target.is_some_and(|high| at >= high || self.ended.contains(&p));
            end && at >= self.floor.get(p)
        };
        let reached = frontier.iter().filter(|(p, at)| reached(*p, *at));
        self.done.extend(reached.map(|(p, _)| p));
    }

    /// True if all partitions have caught up: the partitions of `frontier`, and the partitions of the target, which
    /// may still have to be assigned.
    fn is_done(&self, frontier: &Frontier) -> bool {
        let mut all = frontier.partitions().chain(self.target.partitions());
        all.all(|p| self.done.contains(&p))
    }

    fn partitions(&self) -> &BTreeSet<Partition> {
        &self.done
    }
}

/// The ends of a stream's log as far as they are known, and the health of every partition that follows from them.
#[derive(Debug)]
pub(crate) struct LogStatus {
    health: Health,
    catch_up: CatchUp,
    /// The latest known high watermarks.
    high: Frontier,
    /// Partitions that stand at the end of their log.
    ends: BTreeSet<Partition>,
    /// Why the brokers do not answer; `None` while they answer.
    away: Option<String>,
}

impl LogStatus {
    /// A status in which nothing is known yet. No query may be answered below `floor`, because readers have seen that
    /// frontier.
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

    /// Records that the brokers have answered, or that they no longer answer.
    pub(crate) fn connect(&mut self, brokers: BrokerStatus, frontier: &Frontier) {
        self.away = brokers.away;
        if let Some(high) = brokers.high {
            self.catch_up.set_target(&high);
            self.observe(frontier, &high, self.ends.clone());
        }
    }

    /// Updates the health: reading has reached `frontier`; `high` and `ends` are the known ends of the log.
    pub(crate) fn observe(&mut self, frontier: &Frontier, high: &Frontier, ends: BTreeSet<Partition>) {
        self.high = self.high.max(high);
        self.ends = ends;
        self.health.update(frontier, &self.high, &self.ends);
        self.catch_up.observe(frontier, &self.ends);
    }

    /// Records why a partition waits for a schema. If no process can have read further, `is_end`, the partition has
    /// caught up at `frontier`.
    pub(crate) fn wait(&mut self, partition: Partition, reason: String, is_end: bool, frontier: &Frontier) {
        self.health.partitions.entry(partition).or_default().waiting = Some(reason);
        if is_end {
            self.catch_up.observe(frontier, &BTreeSet::from([partition]));
        }
    }

    /// Records that a partition does not wait any more.
    pub(crate) fn go_on(&mut self, partition: Partition) {
        self.health.partitions.entry(partition).or_default().waiting = None;
    }

    /// Adds partitions that are read from `at` on, with their high watermarks in `high`. `frontier` names them
    /// already.
    pub(crate) fn assign(&mut self, at: &Frontier, high: &Frontier, frontier: &Frontier) {
        self.high = high.or(&self.high);
        self.catch_up.assign(at, high);
        self.observe(frontier, &Frontier::new(), self.ends.clone());
    }

    /// Removes revoked partitions. `frontier` is the newest frontier that readers saw.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>, frontier: &Frontier) {
        self.catch_up.revoke(revoked, frontier);
        self.health.revoke(revoked);
        self.high.remove(revoked);
        self.ends.retain(|p| !revoked.contains(p));
    }

    /// Counts amendments that were taken. They are rows, and their offsets are dense.
    pub(crate) fn count_amendments(&mut self, from: &Frontier, to: &Frontier) {
        for (partition, end) in to.iter() {
            if let Some(health) = self.health.partitions.get_mut(&partition) {
                health.rows += u64::try_from(end.0 - from.get(partition).0).unwrap_or_default();
            }
        }
    }

    /// Records how far amendments have been taken, and how far the archive has them. Before Kafka was reached nothing
    /// is shown of any partition.
    pub(crate) fn amend(&mut self, frontier: &Frontier, archived: &Frontier) {
        self.high = self.high.max(archived);
        if !self.health.partitions.is_empty() {
            self.health.update(frontier, &self.high, &self.ends);
            self.catch_up.observe(frontier, &self.ends);
        }
    }

    pub(crate) fn partitions(&self) -> &BTreeMap<Partition, PartitionHealth> {
        self.health.partitions()
    }

    pub(crate) fn is_caught_up(&self, frontier: &Frontier) -> bool {
        self.catch_up.is_done(frontier)
    }

    /// The partitions that have caught up, each taken by itself.
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
        health.update(&at(&[(0, 5), (1, 0)]), &at(&[(0, 9)]), &BTreeSet::new());
        assert_eq!(lags(&health), [4, 0]);
        // The transaction marker at offset 8 is not a message.
        let ends = BTreeSet::from([Partition(0)]);
        health.update(&at(&[(0, 8), (1, 3)]), &at(&[(0, 9), (1, 9)]), &ends);
        assert_eq!(lags(&health), [0, 6]);
        health.update(&at(&[(0, 12), (1, 3)]), &at(&[(0, 9), (1, 9)]), &BTreeSet::new());
        assert_eq!(lags(&health), [0, 6]);
    }

    #[test]
    fn caught_up_is_every_partition_at_its_end_and_above_what_was_shown() {
        let mut catch_up = CatchUp::new(at(&[(0, 6)]));
        catch_up.observe(&at(&[(0, 9), (1, 9)]), &BTreeSet::new());
        assert!(catch_up.partitions().is_empty(), "nobody knows how much there is");
        catch_up.set_target(&at(&[(0, 5), (1, 7)]));
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
        catch_up.set_target(&at(&[(0, 5), (1, 7)]));
        catch_up.observe(&at(&[(0, 5), (1, 9)]), &zero);
        catch_up.revoke(&lost, &at(&[(0, 5), (1, 9)]));
        assert!(catch_up.is_done(&at(&[(0, 5)])));
        assert!(!catch_up.is_done(&at(&[(0, 5), (1, 5)])), "it is read again");
        catch_up.assign(&at(&[(1, 5)]), &at(&[(1, 8)]));
        // The end of its log is below the offset that readers saw.
        catch_up.observe(&at(&[(0, 5), (1, 8)]), &lost);
        assert!(!catch_up.is_done(&at(&[(0, 5), (1, 8)])));
        catch_up.observe(&at(&[(0, 5), (1, 9)]), &zero);
        assert!(catch_up.is_done(&at(&[(0, 5), (1, 9)])));
    }
}
