//! Pins on one snapshot of this process.
//!
//! Invariant: a pin uses a single snapshot; data of a newer snapshot is never mixed in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::snapshot::{RowsChunk, StreamHandle, StreamSnapshot};
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Error as SharedError, Frontier, StreamName, ViewId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    Pin, PinOptions, PinnedRows, PinnedView, RowsAbove, Tiles, Wanted, archived_at, changed, published_cut, try_until,
};
use crate::options::ALLOW_STALE;
use crate::workers::assign::LowestFrontier;
use crate::{Error, Result};

/// Pins the current snapshot, or the first readable one until the deadline.
///
/// Errors: as [`pin`], and [`Error::StreamStopped`]; see [`try_until`].
pub(super) async fn pin_in_time(
    streams: &watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
    published: &watch::Receiver<Arc<Published>>,
    wanted: &Wanted,
    lowest: impl Fn() -> LowestFrontier,
    terms: &PinOptions<'_>,
) -> Result<Pin> {
    let name = &wanted.stream.definition.name;
    let (mut streams, mut published) = (streams.clone(), published.clone());
    let began = Instant::now();
    loop {
        let handle = streams.borrow_and_update().get(name).cloned();
        let mut handle = handle
            .ok_or_else(|| Error::NotReady { what: format!("stream `{name}`"), reason: "it is starting".into() })?;
        let stale = terms.options.stale;
        let error = match try_pin(wanted, &mut handle, &mut published, &lowest(), stale) {
            Err(error) if !matches!(error, Error::NotReady { .. }) => error,
            outcome => return outcome,
        };
        let deadline = try_until(&error, began, terms.deadline);
        let any_change = async {
            tokio::select! {
                () = changed(&mut handle.snapshots) => {}
                () = changed(&mut handle.failure) => {}
                () = changed(&mut published) => {}
                () = changed(&mut streams) => {}
            }
        };
        let waited = tokio::time::timeout_at(deadline, any_change).await;
        // A busy stream changes constantly, which must not keep a query beyond its deadline.
        if waited.is_err() || Instant::now() >= deadline {
            return Err(error);
        }
    }
}

fn try_pin(
    wanted: &Wanted,
    handle: &mut StreamHandle,
    published: &mut watch::Receiver<Arc<Published>>,
    lowest: &LowestFrontier,
    allow_stale: bool,
) -> Result<Pin> {
    // Mark every watch as seen first, so that only a later change wakes the next attempt.
    let failure = handle.failure.borrow_and_update().clone();
    let published = Arc::clone(&published.borrow_and_update());
    let snapshot = handle.snapshots.borrow_and_update().clone();
    let shown = allow_stale && snapshot.is_some();
    if let Some(reason) = failure.clone().filter(|_| !shown) {
        return Err(Error::StreamStopped { stream: wanted.stream.definition.name.clone(), reason });
    }
    let mut pin = pin(wanted, snapshot.as_ref(), &published, lowest, allow_stale)?;
    pin.stale |= failure.is_some();
    Ok(pin)
}

/// True if `snapshot` is the newest available and may lie below earlier answers.
fn is_stale(snapshot: &StreamSnapshot, given: &Frontier) -> bool {
    !snapshot.caught_up || !snapshot.frontier.covers(given)
}

/// Pins one snapshot, or returns why it cannot be pinned.
///
/// For a client that allows stale answers, the pin may lie below earlier answers, and the stream need not have caught
/// up; the pin never lies below the frontier that the client asks for.
/// Errors: [`Error::NotReady`], [`Error::NotHeld`], [`Error::ViewFailed`].
pub(super) fn pin(
    wanted: &Wanted,
    snapshot: Option<&Arc<StreamSnapshot>>,
    published: &Published,
    lowest: &LowestFrontier,
    allow_stale: bool,
) -> Result<Pin> {
    let name = &wanted.stream.definition.name;
    let not_ready = |reason: String| Error::NotReady { what: format!("stream `{name}`"), reason };
    let not_held = |reason: String| Error::NotHeld { stream: name.clone(), reason };
    let snapshot = snapshot.ok_or_else(|| not_ready("it is starting".into()))?;
    if !snapshot.caught_up && !allow_stale {
        if let Some(why) = &snapshot.waiting {
            return Err(not_ready(format!(
                "it waits for Kafka ({why}). What is archived can be asked at {}, which may lie below earlier \
                 answers: {ALLOW_STALE}",
                snapshot.frontier
            )));
        }
        if !snapshot.has_reached_kafka() {
            return Err(not_ready("it has not reached Kafka yet".into()));
        }
        if let Some(why) = snapshot.health.values().find_map(|health| health.waiting.as_deref()) {
            return Err(not_ready(format!(
                "{why}. What was read can be asked at {}, which may lie below earlier answers: {ALLOW_STALE}",
                snapshot.frontier
            )));
        }
        let lag: i64 = snapshot.health.values().map(|h| h.lag).sum();
        return Err(not_ready(format!("it is catching up with Kafka, {lag} messages are left")));
    }
    for (bound, why, binds) in [
        (&lowest.asked, "which the request asks for", true),
        (&lowest.given, "which was already answered", !allow_stale),
    ] {
        if binds && !snapshot.frontier.covers(bound) {
            let at = &snapshot.frontier;
            return Err(not_held(format!("it stands at {at}, below {bound} {why}")));
        }
    }
    let rows = || -> Result<PinnedRows> {
        if !are_of(&snapshot.rows, &wanted.stream.definition.row_schema()) {
            return Err(not_held("its rows are read again, because it has another definition now".into()));
        }
        let archived = archived_at(&snapshot.master.frontier, &snapshot.frontier);
        let above = rows_above(&archived, &snapshot.rows, &snapshot.frontier);
        Ok(PinnedRows {
            master: Arc::clone(&snapshot.master),
            archived,
            above: RowsAbove::Local(above.map_err(not_held)?),
        })
    };
    let rows = wanted.rows.then(rows).transpose()?;
    let pinned = |(id, view): (&ViewId, &Arc<CompiledView>)| Ok((id.clone(), pin_view(view, snapshot, published)?));
    let mut views = wanted.views.iter().map(pinned).collect::<Result<BTreeMap<_, _>>>()?;
    let spare: BTreeMap<_, _> = wanted.spare.iter().filter_map(|view| pinned(view).ok()).collect();
    let spare_ids = spare.keys().cloned().collect();
    views.extend(spare);
    Ok(Pin {
        stream: Arc::clone(&wanted.stream),
        frontier: snapshot.frontier.clone(),
        stale: is_stale(snapshot, &lowest.given),
        rows,
        views,
        spare: spare_ids,
        partial: BTreeSet::new(),
    })
}

fn pin_view(view: &Arc<CompiledView>, snapshot: &StreamSnapshot, published: &Published) -> Result<PinnedView> {
    let id = view.plan.id();
    let not_ready =
        |reason: &str| Error::NotReady { what: format!("view `{}`", view.definition.name), reason: reason.to_owned() };
    if let Some(failure) = snapshot.failed.get(id) {
        return Err(Error::ViewFailed { view: view.definition.name.clone(), failure: Arc::clone(failure) });
    }
    let (batch, cut) = published_cut(view, published, &snapshot.origin)?;
    let held = snapshot.views.get(id).ok_or_else(|| not_ready("its realtime state is being rebuilt"))?;
    let tiles = tile(id, held, &cut, &snapshot.frontier).map_err(|error| match error {
        SharedError::NotHeld { what, reason, .. } => {
            let reason = snapshot.not_held(id, reason);
            Error::NotHeld { stream: snapshot.stream.clone(), reason: format!("{what}: {reason}") }
        }
        other => Error::Shared(other),
    })?;
    Ok(PinnedView { view: Arc::clone(view), batch, cut, tiles: Tiles::Local(tiles) })
}

/// False if rows were read under another definition, which has another schema. All chunks of a snapshot were read under
/// one.
fn are_of(chunks: &[Arc<RowsChunk>], schema: &SchemaRef) -> bool {
    let held = chunks.iter().rev().find_map(|chunk| chunk.batches.first());
    held.is_none_or(|rows| rows.schema_ref() == schema)
}

/// Returns the chunks with rows of `[archived, frontier)`, or why they leave a gap.
fn rows_above(
    archived: &Frontier,
    chunks: &[Arc<RowsChunk>],
    frontier: &Frontier,
) -> Result<Vec<Arc<RowsChunk>>, String> {
    let mut at: Option<&Frontier> = None;
    let mut above = Vec::new();
    for chunk in chunks {
        match at {
            None if !archived.covers(&chunk.from) => {
                return Err(format!("rows are held from {}, the archive ends at {archived}", chunk.from));
            }
            Some(at) if !(at.covers(&chunk.from) && chunk.from.covers(at)) => {
                return Err(format!("rows from {at} to {} are missing", chunk.from));
            }
            _ => {}
        }
        at = Some(&chunk.to);
        if !archived.covers(&chunk.to) {
            above.push(Arc::clone(chunk));
        }
    }
    let end = archived.max(at.unwrap_or(archived));
    if end.covers(frontier) && frontier.covers(at.unwrap_or(frontier)) {
        Ok(above)
    } else {
        Err(format!("rows end at {end}, the frontier is {frontier}"))
    }
}

#[cfg(test)]
mod tests;
