//! One task per stream of the catalog: it starts, restarts and ends the stream's archive and speed layer together.
//!
//! Invariant: a stream has at most one task; a changed definition starts a new task after the old one has ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use thalweg_batch::{Archive, archive};

use thalweg_schemas::catalog::{Catalog, CatalogStream};
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::realtime::snapshot::{StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Shared, StreamName};
use thalweg_serving::Metrics;
use thalweg_speed::{SpeedConfig, Upstream, record_origins};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::stopped::Stopped;
use super::supervise::supervise;

/// The capacity of the channel to the archive; the speed layer has one epoch in flight.
const EPOCHS: usize = 1;

type StreamHandles = Arc<HashMap<StreamName, StreamHandle>>;
type Snapshots = watch::Sender<Option<Arc<StreamSnapshot>>>;

/// The inputs of every stream's task.
#[derive(Clone)]
pub(super) struct StreamRunner {
    pub(super) config: SpeedConfig,
    pub(super) shared: Shared,
    /// Notified when memory is short, so that a recomputation frees some.
    pub(super) pressure: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    /// Time that a dropped stream may take to archive its rows in memory.
    pub(super) end_within: Duration,
    /// Where the streams compute: updates, merges and rebuilds must not keep HTTP, Flight and probes waiting.
    pub(super) threads: Arc<Threads>,
}

/// The published state of a stream: the senders of its [`StreamHandle`].
struct Shown {
    snapshots: Snapshots,
    failure: watch::Sender<Option<String>>,
    archive_failure: watch::Sender<Option<String>>,
}

struct StreamTask {
    /// The definition of the task, as written.
    sql: String,
    cancel: CancellationToken,
    handle: StreamHandle,
    task: JoinHandle<Result<(), Stopped>>,
}

/// The tasks to end and to start so that exactly the streams of the catalog run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    end: Vec<StreamName>,
    start: Vec<StreamName>,
}

/// `running` and `wanted` are definitions by name; a task with a different definition is ended and started.
fn changes(running: &BTreeMap<StreamName, String>, wanted: &BTreeMap<StreamName, String>) -> Changes {
    let differs = |a: &BTreeMap<_, _>, b: &BTreeMap<StreamName, String>| {
        let names = a.iter().filter(|(name, sql)| b.get(name) != Some(sql));
        names.map(|(name, _): (&StreamName, _)| name.clone()).collect()
    };
    Changes { end: differs(running, wanted), start: differs(wanted, running) }
}

impl StreamRunner {
    /// Keeps one task per stream until `cancel`, then lets every task archive its rows in memory.
    ///
    /// Errors: a stream failed by a bug, or could not archive its rows at the end.
    pub(super) async fn run(
        mut self,
        shown: watch::Sender<StreamHandles>,
        cancel: CancellationToken,
    ) -> Result<(), Stopped> {
        let mut tasks: BTreeMap<StreamName, StreamTask> = BTreeMap::new();
        // Tasks notify this when they end, so that a failure by a bug is noticed at once.
        let ended = Arc::new(Notify::new());
        loop {
            let catalog = Arc::clone(&self.shared.catalog.borrow_and_update());
            self.reconcile(&mut tasks, &catalog, &ended).await?;
            let handles: HashMap<_, _> = tasks.iter().map(|(name, task)| (name.clone(), task.handle.clone())).collect();
            shown.send_replace(Arc::new(handles));
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = self.shared.catalog.changed() => if changed.is_err() { break },
                () = ended.notified() => first_end(&mut tasks).await?,
            }
        }
        for task in tasks.values() {
            task.cancel.cancel();
        }
        let ends = join_all(tasks.into_values().map(|task| task.task)).await;
        ends.into_iter().try_for_each(flatten)
    }

    async fn reconcile(
        &self,
        tasks: &mut BTreeMap<StreamName, StreamTask>,
        catalog: &Catalog,
        ended: &Arc<Notify>,
    ) -> Result<(), Stopped> {
        let running = tasks.iter().map(|(name, task)| (name.clone(), task.sql.clone())).collect();
        let wanted =
            catalog.streams.iter().map(|(name, stream)| (name.clone(), stream.definition.sql.clone())).collect();
        let changes = changes(&running, &wanted);
        for name in changes.end {
            if let Some(mut task) = tasks.remove(&name) {
                task.cancel.cancel();
                match tokio::time::timeout(self.end_within, &mut task.task).await {
                    Ok(end) => flatten(end)?,
                    Err(_) => {
                        task.task.abort();
                        warn!("{}", Stopped::late(&format!("stream `{name}`"), self.end_within));
                    }
                }
                info!(stream = %name, "stream ended");
            }
        }
        for name in changes.start {
            let sql = catalog.streams[&name].definition.sql.clone();
            info!(stream = %name, "stream started");
            tasks.insert(name.clone(), StreamTask::spawn(name, sql, self.clone(), Arc::clone(ended)));
        }
        Ok(())
    }
}

/// Returns the outcome of a task that has ended, although none should have.
async fn first_end(tasks: &mut BTreeMap<StreamName, StreamTask>) -> Result<(), Stopped> {
    let finished = tasks.iter().find(|(_, task)| task.task.is_finished()).map(|(name, _)| name.clone());
    match finished.and_then(|name| tasks.remove(&name)) {
        Some(task) => flatten(task.task.await),
        None => Ok(()),
    }
}

fn flatten(end: Result<Result<(), Stopped>, tokio::task::JoinError>) -> Result<(), Stopped> {
    end.unwrap_or_else(|panic| Err(Stopped::broken(format!("a stream's task panicked: {panic}"))))
}

impl StreamTask {
    fn spawn(name: StreamName, sql: String, runner: StreamRunner, ended: Arc<Notify>) -> Self {
        let cancel = CancellationToken::new();
        let (snapshots, seen_snapshots) = watch::channel(None);
        let (failure, seen_failure) = watch::channel(None);
        let (archive_failure, seen_archive_failure) = watch::channel(None);
        let token = cancel.clone();
        let threads = Arc::clone(&runner.threads);
        let task = threads.handle().spawn(async move {
            let part = format!("stream {name}");
            let shown = Shown { snapshots, failure, archive_failure };
            let attempt = || attempt(&name, &runner, &shown, &token);
            let end = supervise(&part, &token, &shown.failure, attempt).await;
            ended.notify_one();
            end
        });
        let handle =
            StreamHandle { snapshots: seen_snapshots, failure: seen_failure, archive_failure: seen_archive_failure };
        Self { sql, cancel, handle, task }
    }
}

/// Runs a stream's archive and speed layer until one of them ends.
async fn attempt(
    name: &StreamName,
    runner: &StreamRunner,
    shown: &Shown,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    // A new archive is opened: the failure of the last one is over, or appears again.
    shown.archive_failure.send_replace(None);
    let shared = &runner.shared;
    let stream = shared.catalog.borrow().streams.get(name).cloned();
    let Some(stream) = stream else {
        return Ok(());
    };
    let opened = tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        opened = open_archive(&stream, runner, shown) => opened,
    };
    let (archive, newest) = opened.map_err(Stopped::while_idle)?;
    let (versions, masters) = watch::channel(newest);
    let (requests, epochs) = mpsc::channel(EPOCHS);
    // The archive must outlive the speed layer, which sends it a last epoch. So the archive has its own token, and
    // ends by itself when all senders of epochs are dropped.
    let archive_end = CancellationToken::new();
    let speed_end = cancel.child_token();
    let _ends_with_this = archive_end.clone().drop_guard();
    let metrics = Arc::clone(&runner.metrics);
    let landed = move |took: Duration| metrics.record_commit(took.as_secs_f64());
    let archive_failure = shown.archive_failure.clone();
    let mut archiving = tokio::spawn(archive::serve(archive, epochs, versions, archive_failure, landed, archive_end));
    let upstream = Upstream {
        shared: shared.clone(),
        archive: requests,
        masters,
        snapshots: shown.snapshots.clone(),
        failure: shown.failure.clone(),
        pressure: Arc::clone(&runner.pressure),
    };
    let mut speed = std::pin::pin!(thalweg_speed::run(runner.config.clone(), stream, upstream, speed_end.clone()));
    let (speed_outcome, archive_outcome) = tokio::select! {
        outcome = &mut speed => (outcome, archiving.await),
        outcome = &mut archiving => {
            speed_end.cancel();
            (speed.await, outcome)
        }
    };
    let archive_outcome = archive_outcome
        .map_err(|panic| Stopped::broken(format!("the archive of stream `{name}` panicked: {panic}")))?;
    // If both failed, the archive's failure caused the other one.
    archive_outcome?;
    Ok(speed_outcome?)
}

/// Opens the archive of a stream, which needs the origin of partitions that it does not know yet. Returns the newest
/// version of the archive with it.
async fn open_archive(
    stream: &CatalogStream,
    runner: &StreamRunner,
    shown: &Shown,
) -> Result<(Archive, Arc<MasterVersion>), Stopped> {
    let shared = &runner.shared;
    let origin = record_origins(&runner.config, stream, &shared.catalogs, &shown.failure).await?;
    let mut archive = Archive::open(&shared.warehouse, &stream.definition, origin).await?;
    let newest = archive.latest().await?;
    Ok((archive, newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(pairs: &[(&str, &str)]) -> BTreeMap<StreamName, String> {
        pairs.iter().map(|(n, sql)| (StreamName::new(n).unwrap(), (*sql).to_owned())).collect()
    }

    #[track_caller]
    fn check(running: &[(&str, &str)], wanted: &[(&str, &str)], end: &[&str], start: &[&str]) {
        let names = |names: &[&str]| names.iter().map(|n| StreamName::new(n).unwrap()).collect();
        let expect = Changes { end: names(end), start: names(start) };
        assert_eq!(changes(&streams(running), &streams(wanted)), expect);
    }

    #[test]
    fn only_what_differs_changes() {
        check(&[], &[], &[], &[]);
        check(&[], &[("a", "1"), ("b", "1")], &[], &["a", "b"]);
        check(&[("a", "1"), ("b", "1")], &[("b", "1")], &["a"], &[]);
        check(&[("a", "1"), ("b", "1")], &[("a", "2"), ("b", "1")], &["a"], &["a"]);
    }
}
