//! Pins: for each query and stream, one frontier, and the batch versions from which the realtime side tiles up to it.
//!
//! ```text
//!  batch version of the view    [O, B)     segments          [B, F)
//!  master dataset of the stream [O, A)     rows in memory    [A, F)
//! ```
//!
//! Segments and rows come from one snapshot of this process ([`local`]), or from workers, which keep them under pins
//! of their own ([`remote`]). Invariant: all tables of a stream in one query are at the pin's one F. A pin never lies
//! below an F of an earlier answer, unless the client has allowed that; such an answer is marked as stale.

mod local;
mod remote;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::realtime::snapshot::RowsChunk;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion, Published};
use thalweg_schemas::{Frontier, Offset, Partition, StreamName, ViewId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::options::Options;
use crate::sources::{Realtime, Sources};
use crate::workers::assign::LowestFrontier;
use crate::workers::scan::WorkerScans;
use crate::{Error, Result};

/// The parts of one stream that a query needs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) stream: Arc<CatalogStream>,
    /// True if the query reads the stream's rows or rejects.
    pub(crate) rows: bool,
    pub(crate) views: BTreeMap<ViewId, Arc<CompiledView>>,
    /// Views that the query reads if they can be pinned at once, and need not read.
    pub(crate) spare: BTreeMap<ViewId, Arc<CompiledView>>,
}

/// One stream at one frontier.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) stream: Arc<CatalogStream>,
    /// F.
    pub(crate) frontier: Frontier,
    /// True if the pin may lie below earlier answers. The client has allowed this.
    pub(crate) stale: bool,
    /// `None` if the query reads no rows.
    pub(crate) rows: Option<PinnedRows>,
    pub(crate) views: BTreeMap<ViewId, PinnedView>,
    /// Those of the views that the query need not read.
    pub(crate) spare: BTreeSet<ViewId>,
    /// Partitions that no process holds; their frontier is that of the batch layer.
    pub(crate) partial: BTreeSet<Partition>,
}

/// The rows of a stream at the pin's frontier.
#[derive(Debug)]
pub(crate) struct PinnedRows {
    pub(crate) master: Arc<MasterVersion>,
    /// A; for amendments, F if the archive has more.
    pub(crate) archived: Frontier,
    pub(crate) above: RowsAbove,
}

/// Rows of `[A, F)`.
#[derive(Debug)]
pub(crate) enum RowsAbove {
    /// Chunks that contain these rows, and possibly some below A.
    Local(Vec<Arc<RowsChunk>>),
    Remote(WorkerScans),
}

/// One view at the pin's frontier.
#[derive(Debug)]
pub(crate) struct PinnedView {
    pub(crate) view: Arc<CompiledView>,
    pub(crate) batch: Arc<BatchVersion>,
    /// B; partitions that the batch version does not name are taken from the origin.
    pub(crate) cut: Frontier,
    pub(crate) tiles: Tiles,
}

/// Segments that tile `[cut, F)`.
#[derive(Debug)]
pub(crate) enum Tiles {
    Local(Vec<Arc<Segment>>),
    Remote(WorkerScans),
}

/// The pins of one query.
pub(crate) type Pins = BTreeMap<StreamName, Pin>;

/// The part of the archive's frontier `archived` that rows at the pin's `frontier` come from. The archive has
/// amendments before the speed layer has taken them.
fn archived_at(archived: &Frontier, frontier: &Frontier) -> Frontier {
    let at = |(p, at): (Partition, Offset)| if p.is_amended() { (p, at.min(frontier.get(p))) } else { (p, at) };
    archived.iter().map(at).collect()
}

/// Returns the newest batch version of a view, and its cut.
///
/// Errors: [`Error::NotReady`].
fn published_cut(
    view: &CompiledView,
    published: &Published,
    origin: &Frontier,
) -> Result<(Arc<BatchVersion>, Frontier)> {
    let batch = published.versions.get(view.plan.id());
    let batch = batch.ok_or_else(|| Error::NotReady {
        what: format!("view `{}`", view.definition.name),
        reason: "its batch states are not published or not yet found".into(),
    })?;
    Ok((Arc::clone(batch), batch.cut.or(origin)))
}

/// The highest frontier of any answer, per stream, for as long as the stream's definition exists.
#[derive(Debug, Default)]
pub(crate) struct AnsweredFrontiers(Mutex<HashMap<StreamName, AnsweredFrontier>>);

#[derive(Debug)]
struct AnsweredFrontier {
    sql: String,
    predecessors: u64,
    frontier: Frontier,
}

impl AnsweredFrontier {
    fn is_of(&self, stream: &CatalogStream) -> bool {
        self.sql == stream.definition.sql && self.predecessors == stream.predecessors
    }
}

impl AnsweredFrontiers {
    fn of(&self, stream: &CatalogStream) -> Frontier {
        let given = self.0.lock();
        let given = given.get(&stream.definition.name).filter(|given| given.is_of(stream));
        given.map_or_else(Frontier::new, |given| given.frontier.clone())
    }

    fn raise(&self, pin: &Pin) {
        let stream = &pin.stream;
        let none = || AnsweredFrontier {
            sql: stream.definition.sql.clone(),
            predecessors: stream.predecessors,
            frontier: Frontier::new(),
        };
        let mut given = self.0.lock();
        let entry = given.entry(stream.definition.name.clone()).or_insert_with(none);
        if !entry.is_of(stream) {
            *entry = none();
        }
        entry.frontier = entry.frontier.max(&pin.frontier);
    }

    /// Removes dropped streams: a later stream of the same name starts anew.
    pub(crate) fn keep(&self, exists: impl Fn(&StreamName) -> bool) {
        self.0.lock().retain(|name, _| exists(name));
    }
}

/// Options for the pins of one query.
#[derive(Debug, Clone)]
pub(crate) struct PinOptions<'a> {
    pub(crate) options: &'a Options,
    /// The time until which a failed pin is tried again.
    pub(crate) deadline: Instant,
    /// How long the query may run, and so how long its pins must last.
    pub(crate) keep: Duration,
}

/// How long a query waits for a stopped stream: long enough for a restart after a first failure, and no longer,
/// because the reason is known.
const STOPPED_WAIT: Duration = Duration::from_secs(1);

/// The time until which a pin that failed with `error` is tried again. `began` is the time of the first attempt.
fn try_until(error: &Error, began: Instant, deadline: Instant) -> Instant {
    match error {
        Error::ViewFailed { .. } => began,
        Error::StreamStopped { .. } => deadline.min(began + STOPPED_WAIT),
        _ => deadline,
    }
}

/// Pins every wanted stream. If the data of a stream does not tile, tries again on every change until the deadline. A
/// stream that is stopped and a view that has failed are told without that wait.
///
/// Errors: [`Error::NotReady`], [`Error::NotHeld`], [`Error::StreamStopped`], [`Error::ViewFailed`].
pub(crate) async fn pin_all(
    sources: &Sources,
    given: &AnsweredFrontiers,
    wanted: &BTreeMap<StreamName, Wanted>,
    terms: &PinOptions<'_>,
) -> Result<Pins> {
    let mut pins = Pins::new();
    for (name, wanted) in wanted {
        let lowest = || LowestFrontier {
            given: given.of(&wanted.stream),
            asked: terms.options.min_frontier.get(name).cloned().unwrap_or_default(),
        };
        let pin = match &sources.realtime {
            Realtime::Local(streams) => {
                local::pin_in_time(streams, &sources.shared.published, wanted, lowest, terms).await?
            }
            Realtime::Remote { workers, masters } => {
                let sources = (sources.shared.published.clone(), masters.clone());
                match remote::pin_all_at_once(workers, &sources, wanted, &lowest, terms).await {
                    Some(pin) => pin,
                    None => remote::pin_in_time(workers, sources, wanted, lowest, terms).await?,
                }
            }
        };
        given.raise(&pin);
        pins.insert(name.clone(), pin);
    }
    Ok(pins)
}

/// Waits for a change, and forever if the sender is gone: such a source never changes again.
pub(crate) async fn changed<T>(source: &mut watch::Receiver<T>) {
    if source.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
