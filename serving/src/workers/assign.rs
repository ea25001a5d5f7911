//! Chooses the worker from which each partition is read, by the workers' answers. No I/O and no waiting.
//!
//! ```text
//!  of the workers that name a partition:  caught up,  F not below the floor,  ranges that tile [S, F) for every view
//!  and for the rows  ─▶  the highest F
//! ```
//!
//! Invariant: no answer of a worker is trusted unchecked: its ranges must tile from the requested S up to the F that
//! it names. A stale or wrong answer excludes the worker from that partition and never makes the query's answer
//! wrong.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_schemas::realtime::protocol::{Coverage, PinAnswer, PinnedPartition};
use thalweg_schemas::{Frontier, Offset, Partition, ViewId};

use crate::options::ALLOW_STALE;

/// The lowest frontier that an answer may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LowestFrontier {
    /// The highest frontier of any earlier answer of this process.
    pub(crate) given: Frontier,
    /// The frontier that the request asks for.
    pub(crate) asked: Frontier,
}

/// The data that a query needs of every partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    /// All partitions known to the catalog.
    pub(crate) origin: Frontier,
    /// S of every view.
    pub(crate) views: BTreeMap<ViewId, Frontier>,
    /// The archive's frontier, if rows are read.
    pub(crate) rows: Option<Frontier>,
    pub(crate) lowest: LowestFrontier,
    /// True if the client takes partitions that have not caught up or lie below earlier answers.
    pub(crate) allow_stale: bool,
}

/// The chosen workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkerChoice {
    /// F of the held partitions.
    pub(crate) frontier: Frontier,
    /// Partitions of each chosen worker, at F; the key is the worker's index among the answers.
    pub(crate) shares: BTreeMap<usize, Frontier>,
    /// Partitions that no worker holds, with the reason.
    pub(crate) unheld: BTreeMap<Partition, String>,
    /// True if a held partition has not caught up or lies below earlier answers.
    pub(crate) stale: bool,
}

impl LowestFrontier {
    /// Errors: why `offset` is too low.
    fn check(&self, partition: Partition, offset: Offset, allow_stale: bool) -> Result<(), String> {
        let asked = self.asked.get(partition);
        if offset < asked {
            return Err(format!("stands at {offset}, below {asked} which the request asks for"));
        }
        let given = self.given.get(partition);
        if offset < given && !allow_stale {
            return Err(format!("stands at {offset}, below {given} which was already answered"));
        }
        Ok(())
    }
}

impl Requirements {
    /// Returns every S of a partition.
    fn starts(&self, partition: Partition) -> BTreeSet<Offset> {
        let all = self.views.values().chain(&self.rows);
        all.map(|from| from.get(partition)).collect()
    }

    fn partitions<'a>(&self, answers: impl Iterator<Item = &'a PinAnswer>) -> BTreeSet<Partition> {
        let starts = self.views.values().chain(&self.rows);
        let floors = self.lowest.given.iter().chain(self.lowest.asked.iter());
        let above = floors.filter(|(_, offset)| offset.0 > 0).map(|(p, _)| p);
        self.origin
            .partitions()
            .chain(starts.flat_map(Frontier::partitions))
            .chain(above)
            .chain(answers.flat_map(|answer| answer.partitions.keys().copied()))
            .collect()
    }

    /// Errors: why the partition cannot be read from this worker.
    fn usable(&self, partition: Partition, pinned: &PinnedPartition) -> Result<(), String> {
        let to = pinned.frontier;
        if !pinned.caught_up && !self.allow_stale {
            return Err(match &pinned.waiting {
                Some(why) => format!("waits for Kafka ({why}); {ALLOW_STALE}"),
                None => format!("is catching up with Kafka, {} messages are left", pinned.lag),
            });
        }
        self.lowest.check(partition, to, self.allow_stale)?;
        let nothing = Coverage::NotHeld("it says nothing of it".into());
        for (view, from) in &self.views {
            let held = pinned.views.get(view).unwrap_or(&nothing);
            check(held, from.get(partition), to).map_err(|reason| format!("does not hold view {view}: {reason}"))?;
        }
        if let Some(from) = self.rows.as_ref().filter(|from| !partition.is_amended() || from.get(partition) < to) {
            let held = pinned.rows.as_ref().unwrap_or(&nothing);
            check(held, from.get(partition), to).map_err(|reason| format!("does not hold the rows: {reason}"))?;
        }
        Ok(())
    }
}

fn check(held: &Coverage, from: Offset, to: Offset) -> Result<(), String> {
    match held {
        Coverage::NotHeld(reason) => Err(reason.clone()),
        held if held.tiles(from, to) => Ok(()),
        Coverage::Ranges(_) => Err(format!("what it names does not tile {from}..{to}")),
    }
}

/// Chooses a worker for every partition. `answers` are in the order of the workers' list, each with the name that
/// messages show, and with the reason if the worker did not answer.
pub(crate) fn choose_workers(needs: &Requirements, answers: &[(&str, Result<&PinAnswer, &str>)]) -> WorkerChoice {
    let mut chosen = WorkerChoice::default();
    let answered = answers.iter().filter_map(|(_, answer)| answer.ok());
    for partition in needs.partitions(answered) {
        let mut best: Option<(Offset, usize, bool)> = None;
        let mut reasons = Vec::new();
        for (i, (name, answer)) in answers.iter().enumerate() {
            let Some(pinned) = answer.ok().and_then(|a| a.partitions.get(&partition)) else {
                continue;
            };
            match needs.usable(partition, pinned) {
                Ok(()) if best.is_none_or(|(offset, ..)| pinned.frontier > offset) => {
                    let below = pinned.frontier < needs.lowest.given.get(partition);
                    best = Some((pinned.frontier, i, below || !pinned.caught_up));
                }
                Ok(()) => {}
                Err(reason) => reasons.push(format!("worker {name} {reason}")),
            }
        }
        match best {
            Some((offset, i, stale)) => {
                chosen.stale |= stale;
                chosen.frontier.set(partition, offset);
                let share = chosen.shares.entry(i).or_default();
                share.set(partition, offset);
            }
            None if reasons.is_empty() => {
                chosen.unheld.insert(partition, explain_unread(answers));
            }
            None => {
                chosen.unheld.insert(partition, reasons.join(", "));
            }
        }
    }
    chosen
}

/// Returns why no worker names a partition: the workers that did not answer may be its readers.
fn explain_unread(answers: &[(&str, Result<&PinAnswer, &str>)]) -> String {
    let silent = answers.iter().filter_map(|(name, answer)| match answer {
        Err(reason) => Some(format!("worker {name} {reason}")),
        Ok(answer) => {
            let reason = answer.reason.as_ref()?;
            Some(format!("worker {name}: {reason}"))
        }
    });
    let silent: Vec<String> = silent.collect();
    match (answers.is_empty(), silent.is_empty()) {
        (true, _) => "no worker is known".into(),
        (_, true) => "no worker reads it".into(),
        _ => format!("no worker reads it; {}", silent.join(", ")),
    }
}

/// Returns the frontier of partitions that no worker holds: their one S.
///
/// Errors: the query's tables have several S, or S is below the frontier that the request asks for.
pub(crate) fn partial_frontier(needs: &Requirements, chosen: &WorkerChoice) -> Result<Frontier, String> {
    let at = |partition: &Partition| {
        let starts = needs.starts(*partition);
        let mut starts = starts.into_iter();
        let start = starts.next().unwrap_or_default();
        if let Some(other) = starts.next() {
            return Err(format!(
                "a partial answer is not possible: in partition {partition} the tables of the query stand at {start} and \
                 {other}, not at one frontier; query them apart"
            ));
        }
        let asked = needs.lowest.asked.get(*partition);
        if start < asked {
            return Err(format!(
                "a partial answer is not possible: in partition {partition} it stands at {start}, below {asked} which the \
                 request asks for"
            ));
        }
        Ok((*partition, start))
    };
    chosen.unheld.keys().map(at).collect()
}

/// Describes partitions and their reasons in one sentence; only the first few if there are many.
pub(crate) fn describe_unheld(unheld: &BTreeMap<Partition, String>) -> String {
    const SHOWN: usize = 4;
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (partition, reason) in unheld {
        by_reason.entry(reason).or_default().push(partition.to_string());
    }
    let parts = by_reason.iter().take(SHOWN).map(|(reason, partitions)| {
        let plural = if partitions.len() == 1 { "" } else { "s" };
        format!("partition{plural} {}: {reason}", partitions.join(", "))
    });
    let mut text = parts.collect::<Vec<_>>().join("; ");
    if by_reason.len() > SHOWN {
        text.push_str(&format!("; and {} more reasons", by_reason.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests;
