//! Tiling: chooses the segments that cover `[from, to)` of every partition without gap or overlap.
//!
//! Invariant: the result of [`tile`] covers exactly the requested range, each offset once; any other case is
//! [`Error::NotHeld`]. A stale, forged or missing segment can make an answer late, never wrong.

use std::sync::Arc;

use crate::realtime::segment::{Segment, ViewSegments};
use crate::realtime::snapshot::RowsChunk;
use crate::{Error, Frontier, Offset, Partition, Result, ViewId};

/// Returns the segments of `view` that tile `[from, to)` in every partition that either frontier names.
///
/// Errors: [`Error::NotHeld`], which names the first partition that cannot be tiled.
pub fn tile(view: &ViewId, held: &ViewSegments, from: &Frontier, to: &Frontier) -> Result<Vec<Arc<Segment>>> {
    let not_held = |partition: Partition, reason: String| Error::NotHeld {
        what: format!("view {view}, partition {partition}"),
        from: Box::new(from.clone()),
        to: Box::new(to.clone()),
        reason,
    };
    let mut tiles = Vec::new();
    for partition in from.max(to).partitions() {
        let (start, end) = (from.get(partition), to.get(partition));
        let held = held.partitions.get(&partition).map_or(&[][..], Vec::as_slice);
        match tile_partition(view, partition, held, start, end) {
            Ok(found) => tiles.extend(found),
            Err(reason) => return Err(not_held(partition, reason)),
        }
    }
    Ok(tiles)
}

/// Returns the segments that tile `[from, to)` of one partition, or the reason why none do.
fn tile_partition(
    view: &ViewId,
    partition: Partition,
    held: &[Arc<Segment>],
    from: Offset,
    to: Offset,
) -> Result<Vec<Arc<Segment>>, String> {
    if from > to {
        return Err(format!("asked from {from} down to {to}"));
    }
    let mut at = from;
    let mut tiles = Vec::new();
    for segment in held {
        if at == to {
            break;
        }
        if segment.to <= at && segment.from < segment.to {
            continue;
        }
        if segment.view != *view || segment.partition != partition {
            return Err(format!("a segment of view {} partition {} is filed here", segment.view, segment.partition));
        }
        if segment.from != at || segment.to <= segment.from {
            return Err(format!("the segment {}..{} does not start at {at}", segment.from, segment.to));
        }
        if segment.to > to {
            return Err(format!("the segment {}..{} ends above {to}", segment.from, segment.to));
        }
        at = segment.to;
        tiles.push(Arc::clone(segment));
    }
    if at != to {
        return Err(format!("segments end at {at}, below {to}"));
    }
    Ok(tiles)
}

/// Returns the chunks that hold rows of `[from, to)` of one partition, or a description of the gap or overlap.
pub fn rows_between(
    chunks: &[Arc<RowsChunk>],
    partition: Partition,
    from: Offset,
    to: Offset,
) -> Result<Vec<Arc<RowsChunk>>, String> {
    if from > to {
        return Err(format!("asked from {from} down to {to}"));
    }
    let mut at = from;
    let mut found = Vec::new();
    for chunk in chunks {
        let (start, end) = (chunk.from.get(partition), chunk.to.get(partition));
        if start == end || end <= from || from == to {
            continue;
        }
        // Only the first chunk may begin below the requested range: its rows are filtered.
        let continues = start == at || (found.is_empty() && start < at);
        if !continues {
            return Err(format!("the rows {start}..{end} do not continue at {at}"));
        }
        at = end;
        found.push(Arc::clone(chunk));
    }
    if at != to {
        return Err(format!("rows end at {at}, not at {to}"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
