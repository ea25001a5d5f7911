//! Rows in memory, epoch by epoch: the open one, the one on its way to the archive, and those that landed.
//!
//! Invariant: epochs follow each other without gaps, chunks never cross an epoch's end, and an epoch leaves memory
//! only after it has landed. Frontiers name the partitions that were read at the time, and rows are of no others.

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

/// Chunks are not made larger than this by copying.
const CHUNK_ROWS: usize = 65_536;
const CHUNK_BYTES: usize = 32 << 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Open,
    OnItsWay,
    /// Since when.
    Landed(Duration),
}

/// A chunk, and how many merges of neighbours made it: 0 is one micro-batch.
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
    /// When its first chunk came.
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

    /// Its batches in the order of reading.
    pub(crate) fn batches(&self) -> Vec<RecordBatch> {
        self.chunks().flat_map(|chunk| chunk.batches.iter().cloned()).collect()
    }

    fn bytes(&self) -> usize {
        self.chunks().map(|chunk| chunk.bytes).sum()
    }
}

/// What the archive is to be given.
#[derive(Debug)]
pub(crate) struct CutEpoch {
    pub(crate) from: Frontier,
    pub(crate) to: Frontier,
    pub(crate) rows: Vec<RecordBatch>,
    pub(crate) last: HashMap<Partition, LastMessage>,
}

/// All rows in memory. The last epoch is the open one.
#[derive(Debug)]
pub(crate) struct Epochs {
    schema: SchemaRef,
    list: VecDeque<EpochRows>,
    chunk_bytes: usize,
}

impl Epochs {
    /// Nothing in memory; the first epoch starts at `from`.
    pub(crate) fn new(schema: SchemaRef, from: Frontier) -> Self {
        Self { schema, list: VecDeque::from([EpochRows::open(from)]), chunk_bytes: CHUNK_BYTES }
    }

    /// Copies no more than `bytes` at once, because a copy is there twice while it is made.
    pub(crate) fn limit_chunks(&mut self, bytes: usize) {
        self.chunk_bytes = bytes.min(CHUNK_BYTES);
    }

    fn last(&mut self) -> &mut EpochRows {
        self.list.back_mut().expect("there is always an open epoch")
    }

    /// Where reading stands.
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.list.back().expect("there is always an open epoch").to
    }

    /// Adds what was read between the frontier and `to`.
    pub(crate) fn push(
        &mut self,
        now: Duration,
        to: Frontier,
        rows: RecordBatch,
        last: HashMap<Partition, LastMessage>,
    ) -> Result<()> {
        let (schema, chunk_bytes) = (Arc::clone(&self.schema), self.chunk_bytes);
        let open = self.last();
        let count = rows.num_rows();
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

    /// Names partitions that came later, so that the next chunks start where they do.
    pub(crate) fn assign(&mut self, assigned: &Frontier) {
        let open = self.last();
        for (partition, offset) in assigned.iter() {
            open.from.advance(partition, offset);
            open.to.advance(partition, offset);
        }
    }

    /// Forgets partitions and their rows. What is on its way to the archive must not be theirs.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) -> Result<()> {
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

    /// Bytes of the open epoch, and since when it has something; `None` while nothing has advanced.
    pub(crate) fn open(&self) -> Option<(usize, Duration)> {
        let open = self.list.back()?;
        open.since.map(|since| (open.bytes(), since))
    }

    /// Ends the open epoch and opens the next. `None` if nothing has advanced.
    pub(crate) fn cut(&mut self) -> Option<CutEpoch> {
        let open = self.last();
        open.since?;
        open.stage = Stage::OnItsWay;
        let cut =
            CutEpoch { from: open.from.clone(), to: open.to.clone(), rows: open.batches(), last: open.last.clone() };
        self.list.push_back(EpochRows::open(cut.to.clone()));
        Some(cut)
    }

    /// The epoch on its way has landed.
    pub(crate) fn land(&mut self, now: Duration) {
        for epoch in &mut self.list {
            if epoch.stage == Stage::OnItsWay {
                epoch.stage = Stage::Landed(now);
            }
        }
    }

    /// Drops the oldest epochs that landed longer than `grace` ago and that no one of `holds` reads from there on. True
    /// if something went.
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

    /// Epochs that reach above `from`, oldest first.
    pub(crate) fn above<'a>(&'a self, from: &'a Frontier) -> impl Iterator<Item = &'a EpochRows> {
        self.list.iter().filter(|epoch| !from.covers(&epoch.to))
    }

    pub(crate) fn chunks(&self) -> Vec<Arc<RowsChunk>> {
        self.list.iter().flat_map(|epoch| epoch.chunks().cloned()).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.iter().map(EpochRows::bytes).sum()
    }
}

/// Where the newest chunks of one level start, if they are as many as become one, and small enough to be copied.
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
            // A partition that came in the midst of the run starts where it came.
            from: run.iter().rev().fold(Frontier::new(), |later, entry| entry.chunk.from.or(&later)),
            to: run[run.len() - 1].chunk.to.clone(),
            bytes: if count == 0 { 0 } else { rows.get_array_memory_size() },
            batches: if count == 0 { vec![] } else { vec![rows] },
        }),
    })
}

#[cfg(test)]
mod tests;
