//! Rows in memory, epoch by epoch: the open epoch, the epoch in flight to the archive, and the epochs that landed.
//!
//! Amendments are never in memory: only the frontier of all names them.
//!
//! Invariant: epochs follow each other without gaps, no chunk crosses the end of an epoch, and an epoch leaves memory
//! only after it has landed. The frontier of an epoch or a chunk names the partitions of the topic that were read at
//! the time, and all rows belong to these partitions.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use thalweg_schemas::realtime::snapshot::RowsChunk;
use thalweg_schemas::warehouse::versions::LastMessage;
use thalweg_schemas::{Frontier, Partition};

use crate::Result;
use crate::state::compaction::{FAN_IN, tail_of_one_level};
use crate::state::select::rows_of;

/// The most rows and bytes of a chunk that is made by copying smaller chunks.
const CHUNK_ROWS: usize = 65_536;
const CHUNK_BYTES: usize = 32 << 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Open,
    OnItsWay,
    /// The time of landing.
    Landed(Duration),
}

/// A chunk and its level: the number of merges that made it. A micro-batch has level 0.
#[derive(Debug, Clone)]
struct ChunkEntry {
    level: u8,
    rows: usize,
    chunk: Arc<RowsChunk>,
}

impl ChunkEntry {
    fn without(&self, revoked: &BTreeSet<Partition>) -> Result<Self> {
        let (mut from, mut to) = (self.chunk.from.clone(), self.chunk.to.clone());
        from.remove(revoked);
        to.remove(revoked);
        let mut batches = Vec::with_capacity(self.chunk.batches.len());
        for batch in &self.chunk.batches {
            let kept = rows_of(batch, |p| !revoked.contains(&p))?;
            if kept.num_rows() > 0 {
                batches.push(kept);
            }
        }
        Ok(Self {
            level: self.level,
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
            chunk: Arc::new(RowsChunk {
                from,
                to,
                bytes: batches.iter().map(RecordBatch::get_array_memory_size).sum(),
                batches,
            }),
        })
    }
}

/// The rows of one epoch.
#[derive(Debug)]
pub(crate) struct EpochRows {
    pub(crate) from: Frontier,
    pub(crate) to: Frontier,
    chunks: Vec<ChunkEntry>,
    stage: Stage,
    /// When the first chunk arrived.
    since: Option<Duration>,
    last: HashMap<Partition, LastMessage>,
}

impl EpochRows {
    fn open(from: Frontier) -> Self {
        Self { to: from.clone(), from, chunks: Vec::new(), stage: Stage::Open, since: None, last: HashMap::new() }
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Arc<RowsChunk>> {
        self.chunks.iter().map(|entry| &entry.chunk)
    }

    /// The batches of the epoch, in the order of reading.
    pub(crate) fn batches(&self) -> Vec<RecordBatch> {
        self.chunks().flat_map(|chunk| chunk.batches.iter().cloned()).collect()
    }

    fn bytes(&self) -> usize {
        self.chunks().map(|chunk| chunk.bytes).sum()
    }
}

/// An ended epoch, as the archive receives it.
#[derive(Debug)]
pub(crate) struct CutEpoch {
    pub(crate) from: Frontier,
    pub(crate) to: Frontier,
    pub(crate) rows: Vec<RecordBatch>,
    pub(crate) last: HashMap<Partition, LastMessage>,
}

/// All rows in memory. The last epoch in the list is the open one.
#[derive(Debug)]
pub(crate) struct Epochs {
    schema: SchemaRef,
    /// The end of the open epoch, and how far amendments have been taken.
    frontier: Frontier,
    list: VecDeque<EpochRows>,
    chunk_bytes: usize,
}

impl Epochs {
    /// An empty list; the first epoch starts at `from`.
    pub(crate) fn new(schema: SchemaRef, from: Frontier) -> Self {
        let list = VecDeque::from([EpochRows::open(from.of_topic())]);
        Self { schema, frontier: from, list, chunk_bytes: CHUNK_BYTES }
    }

    /// Limits the size of copied chunks, because the rows exist twice while a copy is made.
    pub(crate) fn limit_chunks(&mut self, bytes: usize) {
        self.chunk_bytes = bytes.min(CHUNK_BYTES);
    }

    fn last(&mut self) -> &mut EpochRows {
        self.list.back_mut().expect("there is always an open epoch")
    }

    /// The frontier up to which Kafka has been read and amendments have been taken.
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Records that the amendments below `to` have been taken.
    pub(crate) fn amend(&mut self, to: &Frontier) {
        self.frontier = to.or(&self.frontier);
    }

    /// Adds the rows that were read between the frontier and `to`.
    pub(crate) fn push(
        &mut self,
        now: Duration,
        to: Frontier,
        rows: RecordBatch,
        last: HashMap<Partition, LastMessage>,
    ) -> Result<()> {
        let (schema, chunk_bytes) = (Arc::clone(&self.schema), self.chunk_bytes);
        let topic = to.of_topic();
        self.frontier = to;
        let open = self.last();
        let (count, to) = (rows.num_rows(), topic);
        let chunk = RowsChunk {
            from: std::mem::replace(&mut open.to, to.clone()),
            to,
            bytes: if count == 0 { 0 } else { rows.get_array_memory_size() },
            batches: if count == 0 { vec![] } else { vec![rows] },
        };
        open.since.get_or_insert(now);
        open.last.extend(last);
        open.chunks.push(ChunkEntry { level: 0, rows: count, chunk: Arc::new(chunk) });
        while let Some(at) = mergeable(&open.chunks, chunk_bytes) {
            let run: Vec<ChunkEntry> = open.chunks.split_off(at);
            open.chunks.push(merge(&schema, run)?);
        }
        Ok(())
    }

    /// Adds newly assigned partitions to the frontiers of the open epoch, so that the next chunks start at their
    /// offsets.
    pub(crate) fn assign(&mut self, assigned: &Frontier) {
        for (partition, offset) in assigned.iter() {
            self.frontier.advance(partition, offset);
        }
        let open = self.last();
        for (partition, offset) in assigned.of_topic().iter() {
            open.from.advance(partition, offset);
            open.to.advance(partition, offset);
        }
    }

    /// Drops partitions and their rows. An epoch in flight must not contain rows of these partitions.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) -> Result<()> {
        self.frontier.remove(revoked);
        for epoch in &mut self.list {
            epoch.from.remove(revoked);
            epoch.to.remove(revoked);
            epoch.last.retain(|p, _| !revoked.contains(p));
            for entry in &mut epoch.chunks {
                if entry.chunk.to.partitions().any(|p| revoked.contains(&p)) {
                    *entry = entry.without(revoked)?;
                }
            }
            epoch.chunks.retain(|entry| entry.chunk.from != entry.chunk.to);
            if epoch.stage == Stage::Open && epoch.chunks.is_empty() {
                epoch.since = None;
            }
        }
        Ok(())
    }

    /// The size of the open epoch in bytes, and when its first chunk arrived; `None` while nothing has advanced.
    pub(crate) fn open(&self) -> Option<(usize, Duration)> {
        let open = self.list.back()?;
        open.since.map(|since| (open.bytes(), since))
    }

    /// Ends the open epoch and opens the next. Returns `None` if nothing has advanced.
    pub(crate) fn cut(&mut self) -> Option<CutEpoch> {
        let open = self.last();
        open.since?;
        open.stage = Stage::OnItsWay;
        let cut =
            CutEpoch { from: open.from.clone(), to: open.to.clone(), rows: open.batches(), last: open.last.clone() };
        self.list.push_back(EpochRows::open(cut.to.clone()));
        Some(cut)
    }

    /// Marks the epoch in flight as landed.
    pub(crate) fn land(&mut self, now: Duration) {
        for epoch in &mut self.list {
            if epoch.stage == Stage::OnItsWay {
                epoch.stage = Stage::Landed(now);
            }
        }
    }

    /// Drops the oldest epochs that landed longer than `grace` ago, up to the first epoch that ends above a frontier
    /// of `holds`. Returns true if an epoch was dropped.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration, holds: &[&Frontier]) -> bool {
        let before = self.list.len();
        while let Some(EpochRows { stage: Stage::Landed(at), to, .. }) = self.list.front() {
            let needed = holds.iter().any(|hold| !hold.covers(to));
            if needed || *at + grace > now {
                break;
            }
            self.list.pop_front();
        }
        before != self.list.len()
    }

    /// Epochs that end above `from`, oldest first.
    pub(crate) fn above<'a>(&'a self, from: &'a Frontier) -> impl Iterator<Item = &'a EpochRows> {
        self.list.iter().filter(|epoch| !from.covers(&epoch.to))
    }

    /// The chunks with rows of `[from, to)` that are not below `archived`.
    pub(crate) fn unarchived(&self, archived: &Frontier, from: &Frontier, to: &Frontier) -> Vec<Arc<RowsChunk>> {
        let touches = |chunk: &RowsChunk| {
            to.iter().any(|(p, end)| {
                let start = from.get(p).max(archived.named(p).unwrap_or(end));
                start < end && chunk.from.get(p) < end && start < chunk.to.get(p)
            })
        };
        let chunks = self.list.iter().flat_map(EpochRows::chunks);
        chunks.filter(|chunk| touches(chunk)).cloned().collect()
    }

    pub(crate) fn chunks(&self) -> Vec<Arc<RowsChunk>> {
        self.list.iter().flat_map(|epoch| epoch.chunks().cloned()).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.iter().map(EpochRows::bytes).sum()
    }
}

/// The index of the first of the newest [`FAN_IN`] chunks, if all of them have one level and are small enough to be
/// copied.
fn mergeable(chunks: &[ChunkEntry], chunk_bytes: usize) -> Option<usize> {
    if tail_of_one_level(chunks.iter().map(|entry| entry.level)) < FAN_IN {
        return None;
    }
    let at = chunks.len() - FAN_IN;
    let run = &chunks[at..];
    let rows: usize = run.iter().map(|entry| entry.rows).sum();
    let bytes: usize = run.iter().map(|entry| entry.chunk.bytes).sum();
    (rows <= CHUNK_ROWS && bytes <= chunk_bytes).then_some(at)
}

fn merge(schema: &SchemaRef, run: Vec<ChunkEntry>) -> Result<ChunkEntry> {
    let batches: Vec<&RecordBatch> = run.iter().flat_map(|entry| &entry.chunk.batches).collect();
    let rows = concat_batches(schema, batches)?;
    let count = rows.num_rows();
    Ok(ChunkEntry {
        level: run[0].level + 1,
        rows: count,
        chunk: Arc::new(RowsChunk {
            // A partition that was assigned within the run starts at its own offset.
            from: run.iter().rev().fold(Frontier::new(), |later, entry| entry.chunk.from.or(&later)),
            to: run[run.len() - 1].chunk.to.clone(),
            bytes: if count == 0 { 0 } else { rows.get_array_memory_size() },
            batches: if count == 0 { vec![] } else { vec![rows] },
        }),
    })
}

#[cfg(test)]
mod tests;
