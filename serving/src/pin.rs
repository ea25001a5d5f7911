//! Pins: per query and stream, one snapshot and the batch versions that its segments tile from, taken together.
//!
//! ```text
//!  batch version of the view   [O, B)     segments of the snapshot   [B, F)
//!  master dataset of the stream [O, A)    rows of the snapshot       [A, F)
//! ```
//!
//! Invariant: all tables of a stream in one query stand at the pin's one F, and no pin stands below an F that was
//! given out before, unless its client has allowed that and is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::dataset::{BatchVersion, Published};
use thalweg_schemas::segment::Segment;
use thalweg_schemas::snapshot::{RowsChunk, StreamHandle, StreamSnapshot};
use thalweg_schemas::tile::tile;
use thalweg_schemas::{Error as SharedError, Frontier, StreamName, ViewId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::sources::Sources;
use crate::{Error, Result};

/// Whether a client takes an answer that may lie below earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    Allow,
    Refuse,
}

/// How a client says so.
const ALLOW_STALE: &str = "send the header `thalweg-stale: allow` or \"stale\": true beside \"sql\", or use \
                           `thalweg sql --stale`";

/// What a query needs of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) stream: Arc<CatalogStream>,
    /// True if the stream's rows or rejects are read.
    pub(crate) rows: bool,
    pub(crate) views: BTreeMap<ViewId, Arc<CompiledView>>,
}

/// One stream at one frontier.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) stream: Arc<CatalogStream>,
    pub(crate) snapshot: Arc<StreamSnapshot>,
    /// It may lie below earlier answers, and its client allows that.
    pub(crate) stale: bool,
    /// Chunks that hold what `[A, F)` needs; empty unless rows are wanted.
    pub(crate) rows: Vec<Arc<RowsChunk>>,
    pub(crate) views: BTreeMap<ViewId, PinnedView>,
}

/// One view at the pin's frontier.
#[derive(Debug)]
pub(crate) struct PinnedView {
    pub(crate) view: Arc<CompiledView>,
    pub(crate) batch: Arc<BatchVersion>,
    /// B, with partitions that the batch version does not name taken from the origin.
    pub(crate) cut: Frontier,
    /// Segments that tile `[cut, F)`.
    pub(crate) tiles: Vec<Arc<Segment>>,
}

/// The pins of one query.
pub(crate) type Pins = BTreeMap<StreamName, Pin>;

impl Pin {
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.snapshot.frontier
    }
}

/// True if `snapshot` is all that there is for now, and may lie below what was answered before.
fn is_stale(snapshot: &StreamSnapshot, given: &Frontier) -> bool {
    !snapshot.caught_up || !snapshot.frontier.covers(given)
}

/// Pins one snapshot, or says why it cannot be done with it.
///
/// `given` is the highest frontier of the stream that was given out. A client that `allows` it is answered below that,
/// and while the stream has not caught up.
/// Errors: [`Error::NotReady`], [`Error::NotHeld`].
pub(crate) fn pin(
    wanted: &Wanted,
    snapshot: Option<&Arc<StreamSnapshot>>,
    published: &Published,
    given: &Frontier,
    allows: Stale,
) -> Result<Pin> {
    let name = &wanted.stream.definition.name;
    let not_ready = |reason: String| Error::NotReady {
        what: format!("stream `{name}`"),
        reason,
    };
    let not_held = |reason: String| Error::NotHeld {
        stream: name.clone(),
        reason,
    };
    let snapshot = snapshot.ok_or_else(|| not_ready("it is starting".into()))?;
    let allowed = allows == Stale::Allow;
    if !snapshot.caught_up && !allowed {
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
        let lag: i64 = snapshot.health.values().map(|h| h.lag).sum();
        return Err(not_ready(format!(
            "it is catching up with Kafka, {lag} messages are left"
        )));
    }
    if !snapshot.frontier.covers(given) && !allowed {
        return Err(not_held(format!(
            "it stands at {}, below {given} which was already answered",
            snapshot.frontier
        )));
    }
    let rows = if wanted.rows {
        rows_above(
            &snapshot.master.frontier,
            &snapshot.rows,
            &snapshot.frontier,
        )
        .map_err(not_held)?
    } else {
        Vec::new()
    };
    let views = wanted
        .views
        .values()
        .map(|view| {
            let pinned = pin_view(view, snapshot, published)?;
            Ok((view.plan.id().clone(), pinned))
        })
        .collect::<Result<_>>()?;
    Ok(Pin {
        stream: Arc::clone(&wanted.stream),
        stale: is_stale(snapshot, given),
        snapshot: Arc::clone(snapshot),
        rows,
        views,
    })
}

fn pin_view(
    view: &Arc<CompiledView>,
    snapshot: &StreamSnapshot,
    published: &Published,
) -> Result<PinnedView> {
    let id = view.plan.id();
    let not_ready = |reason: &str| Error::NotReady {
        what: format!("view `{}`", view.definition.name),
        reason: reason.to_owned(),
    };
    let batch = published
        .versions
        .get(id)
        .ok_or_else(|| not_ready("its batch states are not published or not yet found"))?;
    let held = snapshot
        .views
        .get(id)
        .ok_or_else(|| not_ready("its realtime state is being rebuilt"))?;
    let cut = batch.cut.or(&snapshot.origin);
    let tiles = tile(id, held, &cut, &snapshot.frontier).map_err(|error| match error {
        SharedError::NotHeld { what, reason, .. } => Error::NotHeld {
            stream: snapshot.stream.clone(),
            reason: format!("{what}: {reason}"),
        },
        other => Error::Shared(other),
    })?;
    Ok(PinnedView {
        view: Arc::clone(view),
        batch: Arc::clone(batch),
        cut,
        tiles,
    })
}

/// The chunks that hold rows of `[archived, frontier)`, or why they leave a gap.
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
                return Err(format!(
                    "rows are held from {}, the archive ends at {archived}",
                    chunk.from
                ));
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

/// The highest frontier given out per stream, as long as the stream's definition lasts.
#[derive(Debug, Default)]
pub(crate) struct Given(Mutex<HashMap<StreamName, (String, Frontier)>>);

impl Given {
    fn of(&self, stream: &CatalogStream) -> Frontier {
        match self.0.lock().get(&stream.definition.name) {
            Some((sql, frontier)) if *sql == stream.definition.sql => frontier.clone(),
            _ => Frontier::new(),
        }
    }

    fn raise(&self, pin: &Pin) {
        let definition = &pin.stream.definition;
        let mut given = self.0.lock();
        let entry = given
            .entry(definition.name.clone())
            .or_insert_with(|| (definition.sql.clone(), Frontier::new()));
        if entry.0 != definition.sql {
            *entry = (definition.sql.clone(), Frontier::new());
        }
        entry.1 = entry.1.max(pin.frontier());
    }

    /// Forgets streams that were dropped: one of the same name that comes later starts anew.
    pub(crate) fn keep(&self, exists: impl Fn(&StreamName) -> bool) {
        self.0.lock().retain(|name, _| exists(name));
    }
}

/// Pins every stream that is wanted; what is not held or was stopped is tried again on every change until `deadline`.
///
/// Errors: as [`pin`], and [`Error::StreamStopped`].
pub(crate) async fn pin_all(
    sources: &Sources,
    given: &Given,
    wanted: &BTreeMap<StreamName, Wanted>,
    allows: Stale,
    deadline: Instant,
) -> Result<Pins> {
    let mut pins = Pins::new();
    for (name, wanted) in wanted {
        let mut streams = sources.streams.clone();
        let mut published = sources.published.clone();
        loop {
            let handle = streams.borrow_and_update().get(name).cloned();
            let mut handle = handle.ok_or_else(|| Error::NotReady {
                what: format!("stream `{name}`"),
                reason: "it is starting".into(),
            })?;
            match try_pin(wanted, &mut handle, &mut published, given, allows) {
                Ok(pin) => {
                    given.raise(&pin);
                    pins.insert(name.clone(), pin);
                    break;
                }
                Err(error @ Error::NotReady { .. }) => return Err(error),
                Err(error) => {
                    let any_change = async {
                        tokio::select! {
                            () = changed(&mut handle.snapshots) => {}
                            () = changed(&mut handle.failure) => {}
                            () = changed(&mut published) => {}
                            () = changed(&mut streams) => {}
                        }
                    };
                    let waited = tokio::time::timeout_at(deadline, any_change).await;
                    // A busy stream changes all the time: it must not keep a query beyond its deadline.
                    if waited.is_err() || Instant::now() >= deadline {
                        return Err(error);
                    }
                }
            }
        }
    }
    Ok(pins)
}

fn try_pin(
    wanted: &Wanted,
    handle: &mut StreamHandle,
    published: &mut watch::Receiver<Arc<Published>>,
    given: &Given,
    allows: Stale,
) -> Result<Pin> {
    // All are marked as seen before any is judged: what wakes the next attempt is newer than all of this.
    let failure = handle.failure.borrow_and_update().clone();
    let published = Arc::clone(&published.borrow_and_update());
    let snapshot = handle.snapshots.borrow_and_update().clone();
    let shown = allows == Stale::Allow && snapshot.is_some();
    if let Some(reason) = failure.clone().filter(|_| !shown) {
        return Err(Error::StreamStopped {
            stream: wanted.stream.definition.name.clone(),
            reason,
        });
    }
    let given = given.of(&wanted.stream);
    let mut pin = pin(wanted, snapshot.as_ref(), &published, &given, allows)?;
    pin.stale |= failure.is_some();
    Ok(pin)
}

/// Waits for a change; a source that has ended never changes again.
async fn changed<T>(source: &mut watch::Receiver<T>) {
    if source.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
