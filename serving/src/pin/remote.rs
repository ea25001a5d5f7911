//! Pins on segments and rows that workers hold.
//!
//! Invariant: S of every table is fixed before the workers are asked, and F is the frontier of the workers' pins. A
//! worker's part of the answer is read under the same pin that F came from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::Frontier;
use thalweg_schemas::realtime::protocol::{PinAnswer, PinRequest};
use thalweg_schemas::warehouse::versions::{MasterVersion, Masters, Published};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    Pin, PinOptions, PinnedRows, PinnedView, RowsAbove, Tiles, Wanted, archived_at, changed, published_cut, try_until,
};
use crate::options::Options;
use crate::workers::assign::{
    LowestFrontier, Requirements, WorkerChoice, choose_workers, describe_unheld, partial_frontier,
};
use crate::workers::scan::{WorkerScan, WorkerScans};
use crate::workers::{WorkerAnswer, Workers};
use crate::{Error, Result};

/// Pause before workers are asked again, unless a local source changes first: workers do not send notifications.
const AGAIN_FIRST: Duration = Duration::from_millis(10);
const AGAIN_LAST: Duration = Duration::from_millis(200);
/// How long a query that allows partial answers waits for missing partitions: a newly published cut alone, which
/// workers have not followed yet, must not make an answer partial.
const PARTIAL_WAIT: Duration = Duration::from_millis(500);

/// The parts of a stream that are pinned before any worker is asked.
struct Below {
    /// The master dataset, with the archive's frontier.
    master: Option<(Arc<MasterVersion>, Frontier)>,
    views: Vec<PinnedView>,
}

/// Pins at once if the workers' data tiles, otherwise at the first time that it does until the deadline.
///
/// Errors: [`Error::NotReady`] if the batch layer has nothing yet, [`Error::NotHeld`] naming partitions;
/// [`Error::ViewFailed`] and [`Error::StreamStopped`], see [`try_until`].
pub(super) async fn pin_in_time(
    workers: &Workers,
    (mut published, mut masters): (watch::Receiver<Arc<Published>>, watch::Receiver<Arc<Masters>>),
    wanted: &Wanted,
    lowest: impl Fn() -> LowestFrontier,
    terms: &PinOptions<'_>,
) -> Result<Pin> {
    let mut addresses = workers.addresses();
    let partial_from = Instant::now() + PARTIAL_WAIT;
    let mut again = AGAIN_FIRST;
    let began = Instant::now();
    loop {
        addresses.mark_unchanged();
        let below = below(
            wanted,
            &published.borrow_and_update().clone(),
            masters.borrow_and_update().get(&wanted.stream.definition.name),
        )?;
        let needs = Requirements {
            origin: wanted.stream.origin.clone(),
            views: below.views.iter().map(|pinned| (pinned.view.plan.id().clone(), pinned.cut.clone())).collect(),
            rows: below.master.as_ref().map(|(_, archived)| archived.clone()),
            lowest: lowest(),
            allow_stale: terms.options.stale,
        };
        let last = Instant::now() >= terms.deadline;
        let partial = terms.options.partial && (last || Instant::now() >= partial_from);
        let error = match ask(workers, wanted, below, &needs, terms.keep, partial).await {
            Ok(pin) => return Ok(pin),
            Err(error) => error,
        };
        let deadline = try_until(&error, began, terms.deadline);
        if last || Instant::now() >= deadline {
            return Err(error);
        }
        let until = (Instant::now() + again).min(deadline);
        let until = match terms.options.partial {
            true => until.min(partial_from.max(Instant::now() + AGAIN_FIRST)),
            false => until,
        };
        tokio::select! {
            () = changed(&mut published) => {}
            () = changed(&mut masters) => {}
            () = changed(&mut addresses) => {}
            () = tokio::time::sleep_until(until) => {}
        }
        again = (again * 2).min(AGAIN_LAST);
    }
}

/// Pins with all views that the query need not read, if there are any and all of them can be pinned at once. Views that
/// have failed are left out.
pub(super) async fn pin_all_at_once(
    workers: &Workers,
    sources: &(watch::Receiver<Arc<Published>>, watch::Receiver<Arc<Masters>>),
    wanted: &Wanted,
    lowest: impl Fn() -> LowestFrontier,
    terms: &PinOptions<'_>,
) -> Option<Pin> {
    let whole = Options { partial: false, ..terms.options.clone() };
    let terms = PinOptions { options: &whole, deadline: Instant::now(), keep: terms.keep };
    let mut spare = wanted.spare.clone();
    while !spare.is_empty() {
        let mut all = Wanted { spare: BTreeMap::new(), ..wanted.clone() };
        all.views.extend(spare.clone());
        match pin_in_time(workers, sources.clone(), &all, &lowest, &terms).await {
            Ok(pin) => return Some(Pin { spare: spare.into_keys().collect(), ..pin }),
            Err(Error::ViewFailed { view, .. }) => {
                let before = spare.len();
                spare.retain(|_, spare| spare.definition.name != view);
                if spare.len() == before {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
    None
}

fn below(wanted: &Wanted, published: &Published, master: Option<&Arc<MasterVersion>>) -> Result<Below> {
    let origin = &wanted.stream.origin;
    let master = match (wanted.rows, master) {
        (false, _) => None,
        (true, Some(master)) => Some((Arc::clone(master), master.frontier.or(origin))),
        (true, None) => {
            return Err(Error::NotReady {
                what: format!("stream `{}`", wanted.stream.definition.name),
                reason: "its master dataset has not been read yet".into(),
            });
        }
    };
    let views = wanted.views.values().map(|view| {
        let (batch, cut) = published_cut(view, published, origin)?;
        Ok(PinnedView { view: Arc::clone(view), batch, cut, tiles: Tiles::Remote(WorkerScans::default()) })
    });
    Ok(Below { master, views: views.collect::<Result<_>>()? })
}

async fn ask(
    workers: &Workers,
    wanted: &Wanted,
    below: Below,
    needs: &Requirements,
    keep: Duration,
    partial: bool,
) -> Result<Pin> {
    let definition = &wanted.stream.definition;
    let started = Instant::now();
    let request = PinRequest {
        stream: definition.name.clone(),
        definition: definition.fingerprint(),
        views: needs.views.clone(),
        rows: needs.rows.clone(),
        keep_ms: u64::try_from(keep.as_millis()).unwrap_or(u64::MAX),
        stale: needs.allow_stale,
    };
    let asked = workers.pin(request).await;
    let answers: Vec<_> = asked.iter().map(WorkerAnswer::answer).collect();
    let mut chosen = choose_workers(needs, &answers);
    drop(answers);
    let seconds = started.elapsed().as_secs_f64();
    workers.counts().pin_seconds.observe(seconds);
    let not_held = |reason: String| Error::NotHeld { stream: definition.name.clone(), reason };
    if !chosen.unheld.is_empty() {
        // A client that allows partial answers takes the partitions of a stopped stream as the batch layer left them.
        match known_cause(wanted, &asked) {
            Some(Error::StreamStopped { .. }) if partial => {}
            Some(error) => return Err(error),
            None => {}
        }
        let reason = describe_unheld(&chosen.unheld);
        if !partial {
            return Err(not_held(reason));
        }
        let left = partial_frontier(needs, &chosen).map_err(|why| not_held(format!("{reason}; {why}")))?;
        chosen.frontier = chosen.frontier.max(&left);
    }
    Ok(put_together(wanted, below, chosen, asked))
}

/// Why partitions are not held, if the workers know the cause: a view that has failed, or a stream that is stopped in
/// every worker that knows it.
fn known_cause(wanted: &Wanted, asked: &[WorkerAnswer]) -> Option<Error> {
    let answers: Vec<&PinAnswer> = asked.iter().filter_map(|asked| asked.answer().1.ok()).collect();
    let failed = answers.iter().flat_map(|answer| &answer.failed);
    let failed = failed.filter_map(|(id, failure)| Some((wanted.views.get(id)?, failure))).next();
    if let Some((view, failure)) = failed {
        let (view, failure) = (view.definition.name.clone(), Arc::new(failure.clone()));
        return Some(Error::ViewFailed { view, failure });
    }
    let stopped: Option<Vec<&String>> = answers.iter().map(|answer| answer.stopped.as_ref()).collect();
    let reason = stopped.filter(|_| answers.len() == asked.len())?.first()?.to_string();
    Some(Error::StreamStopped { stream: wanted.stream.definition.name.clone(), reason })
}

fn put_together(wanted: &Wanted, below: Below, chosen: WorkerChoice, asked: Vec<WorkerAnswer>) -> Pin {
    let mut frontiers = chosen.shares;
    let shares = asked.into_iter().enumerate().filter_map(|(i, asked)| {
        let frontier = frontiers.remove(&i)?;
        // Unused pins are dropped here, which releases them at the worker.
        Some(WorkerScan { pin: asked.pin.ok()?, frontier })
    });
    let shares: WorkerScans = Arc::new(shares.collect());
    let views = below.views.into_iter().map(|pinned| {
        let id = pinned.view.plan.id().clone();
        let tiles = Tiles::Remote(Arc::clone(&shares));
        (id, PinnedView { tiles, ..pinned })
    });
    let views: BTreeMap<_, _> = views.collect();
    let rows = below.master.map(|(master, archived)| PinnedRows {
        master,
        archived: archived_at(&archived, &chosen.frontier),
        above: RowsAbove::Remote(Arc::clone(&shares)),
    });
    Pin {
        stream: Arc::clone(&wanted.stream),
        frontier: chosen.frontier,
        stale: chosen.stale,
        rows,
        views,
        spare: BTreeSet::new(),
        partial: chosen.unheld.into_keys().collect(),
    }
}
