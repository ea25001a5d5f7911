//! A warehouse with the stream `things` and views over every case, in three phases: all in memory, half archived and
//! computed, all archived and computed.
//!
//! Invariant: the product's own code makes archive, batch states, segments and rows from the same messages.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use thalweg_batch::audit::{audit_published, audit_view};
use thalweg_batch::{Archive, BatchConfig};
use thalweg_kit::positions::level;
use thalweg_kit::segments::{FIRST_MS, segments};
use thalweg_kit::snapshots::{Shown, chunk, snapshot};
use thalweg_kit::world::{World as Warehouse, warehouse_in_memory};
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::{MasterVersion, Published};
use thalweg_schemas::{Offset, Partition, StreamName};
use thalweg_serving::{Realtime, Workers};
use tokio::sync::watch;

use super::cases::{Case, OFFSETS, PARTITIONS, events};
use crate::flight::processes::{Server, Worker, patient, sources, worker};
use crate::recompute::recompute;

/// Where the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Memory,
    /// The first half is archived, and batch states cover it.
    Both,
    Archive,
}

impl Phase {
    fn archived(self) -> i64 {
        match self {
            Self::Memory => 0,
            Self::Both => OFFSETS / 2,
            Self::Archive => OFFSETS,
        }
    }
}

pub(super) struct World {
    world: Warehouse,
    rows: RecordBatch,
    state: SessionState,
    archive: Archive,
    masters: watch::Sender<Arc<HashMap<StreamName, Arc<MasterVersion>>>>,
    phase: Phase,
    spill: tempfile::TempDir,
}

fn definitions(cases: &[Case]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for case in cases.iter().filter(|case| !case.column.is_empty()) {
        if !columns.contains(&case.column) {
            columns.push(case.column);
        }
    }
    let columns = columns.join(", ");
    let mut sql = format!("CREATE EXTERNAL TABLE things ({columns}) STORED AS KAFKA LOCATION 'things';");
    for (at, Case { sql: value, ordered, literal, .. }) in cases.iter().enumerate() {
        write!(
            sql,
            "CREATE MATERIALIZED VIEW keys_{at} AS SELECT {value} AS k, count(*) AS n FROM things GROUP BY {value};
             CREATE MATERIALIZED VIEW values_{at} AS
               SELECT count({value}) AS present, count(DISTINCT {value}) AS kinds, first_value({value}) AS earliest,
                      last_value({value}) AS latest, array_agg({value}) AS everything FROM things;"
        )
        .unwrap();
        if *ordered {
            write!(
                sql,
                "CREATE MATERIALIZED VIEW ranges_{at} AS
                   SELECT min({value}) AS least, max({value}) AS most FROM things;"
            )
            .unwrap();
        }
        if let Some((literal, _)) = literal {
            write!(
                sql,
                "CREATE MATERIALIZED VIEW equal_{at} AS
                   SELECT count(*) AS n FROM things WHERE {value} = {literal};"
            )
            .unwrap();
        }
    }
    sql
}

impl World {
    pub(super) async fn new(cases: &[Case]) -> Self {
        let origin = level(PARTITIONS, 0);
        let world = Warehouse::new(warehouse_in_memory(), &definitions(cases), origin.clone()).await;
        world.promote().await;
        let mut messages = Messages::new();
        for event in events() {
            let payload = event.message(cases);
            let (partition, offset) = (Partition(event.partition), Offset(event.offset));
            messages.push(partition, offset, Some(FIRST_MS + event.offset), Some(payload.as_bytes()));
            if let Some(key) = event.key_bytes() {
                messages.set_key(key);
            }
            if event.key() == Some("oslo") {
                messages.add_header("trace", Some(b"oslo"));
                messages.add_header("empty", None);
            }
        }
        let definition = world.definition();
        let rows = Decoder::new(&definition).unwrap().decode(&messages).unwrap().rows;
        let archive = Archive::open(&world.warehouse, &definition, origin).await.unwrap();
        let env = session::runtime(Some(&world.warehouse), None, None).unwrap();
        Self {
            state: session::state(env, 2),
            world,
            rows,
            archive,
            masters: watch::Sender::new(Arc::default()),
            phase: Phase::Memory,
            spill: tempfile::tempdir().unwrap(),
        }
    }

    /// The rows of `[from, to)` of every partition.
    fn between(&self, from: i64, to: i64) -> RecordBatch {
        let places = events().into_iter().enumerate();
        let kept = places.filter(|(_, event)| (from..to).contains(&event.offset)).map(|(row, _)| row as u64);
        let kept = arrow::array::UInt64Array::from_iter_values(kept);
        arrow::compute::take_record_batch(&self.rows, &kept).unwrap()
    }

    /// Archives and computes up to the phase's frontier.
    pub(super) async fn enter(&mut self, phase: Phase) {
        let (from, to) = (self.phase.archived(), phase.archived());
        self.phase = phase;
        let epoch = Epoch {
            stream: self.world.stream.clone(),
            from: level(PARTITIONS, from),
            to: level(PARTITIONS, to),
            rows: vec![self.between(from, to)],
            mark: true,
            last: HashMap::new(),
        };
        let EpochOutcome::Landed(master) = self.archive.commit(&epoch).await.unwrap() else {
            panic!("nobody else archives");
        };
        self.masters.send_replace(Arc::new(HashMap::from([(self.world.stream.clone(), master)])));
        let config = BatchConfig { spill: self.spill.path().to_owned(), ..BatchConfig::default() };
        let mut published = Published::default();
        for view in self.world.views() {
            let version = recompute(&self.world, &view, RunMode::Incremental, &config).await;
            published.versions.insert(version.view.clone(), version);
        }
        self.world.published.send_replace(Arc::new(published));
    }

    fn master(&self) -> Arc<MasterVersion> {
        Arc::clone(&self.masters.borrow()[&self.world.stream])
    }

    /// The snapshot of a process that holds everything from the archive's frontier on.
    async fn snapshot(&self) -> StreamSnapshot {
        let to = level(PARTITIONS, OFFSETS);
        let archived = self.phase.archived();
        let from = level(PARTITIONS, archived);
        let mut snapshot = snapshot(self.master(), &self.world.origin, &to);
        if archived < OFFSETS {
            let middle = (archived + OFFSETS) / 2;
            let chunk =
                |from, to| chunk(&level(PARTITIONS, from), &level(PARTITIONS, to), vec![self.between(from, to)]);
            snapshot.rows = vec![chunk(archived, middle), chunk(middle, OFFSETS)];
        }
        snapshot.health = to.partitions().map(|p| (p, Default::default())).collect();
        for view in self.world.views() {
            let rows = [self.rows.clone()];
            let held = segments(&self.state, &view, &rows, &from, &to, 2).await;
            snapshot.views.insert(view.plan.id().clone(), Arc::new(held));
        }
        snapshot
    }

    /// A serving process that holds the rows and segments itself.
    pub(super) async fn here(&self) -> Server {
        let handle = Shown::new(Some(self.snapshot().await)).handle();
        let streams = Arc::new(HashMap::from([(self.world.stream.clone(), handle)]));
        Server::start(sources(&self.world, Realtime::Local(watch::channel(streams).1))).await
    }

    pub(super) async fn worker(&self) -> Worker {
        worker(&self.world, self.snapshot().await, None, None, "127.0.0.1:0")
    }

    /// A serving process that reads from a worker.
    pub(super) async fn over(&self, worker: &Worker) -> Server {
        let workers = Workers::new(watch::channel(vec![worker.address.clone()]).1, patient());
        let realtime = Realtime::Remote { workers, masters: self.masters.subscribe() };
        Server::start(sources(&self.world, realtime)).await
    }

    /// The views whose segments differ from states that are computed from the archive.
    pub(super) async fn audit(&self) -> Vec<String> {
        let mut live = self.snapshot().await;
        let half = level(PARTITIONS, self.phase.archived());
        for view in self.world.views() {
            let held =
                segments(&self.state, &view, std::slice::from_ref(&self.rows), &level(PARTITIONS, 0), &half, 2).await;
            live.views.insert(view.plan.id().clone(), Arc::new(held));
        }
        live.frontier = half;
        let catalog = self.world.catalog.borrow().clone();
        let mut wrong = Vec::new();
        for view in catalog.compiled() {
            match audit_view(&self.world.warehouse, &catalog, view, &live).await {
                Ok(report) if report.is_equal() && !report.parts.is_empty() => {}
                other => wrong.push(format!("audit of {}: {other:?}", view.definition.sql)),
            }
        }
        wrong
    }

    /// The views whose segments, rebuilt from the archive, differ from the published batch states.
    pub(super) async fn audit_rebuilt(&self) -> Vec<String> {
        let (from, to) = (level(PARTITIONS, 0), level(PARTITIONS, OFFSETS));
        let catalog = self.world.catalog.borrow().clone();
        let stream = &catalog.streams[&self.world.stream];
        let published = self.world.published.borrow().clone();
        let mut wrong = Vec::new();
        for view in catalog.compiled() {
            let rebuilt = thalweg_speed::rebuild_range(
                &self.world.warehouse,
                &stream.definition,
                Arc::clone(view),
                self.master(),
                (&from, &to),
                64 << 20,
                None,
            );
            let version = &published.versions[view.plan.id()];
            let report = match rebuilt.await {
                Ok(segments) => audit_published(&self.world.warehouse, stream, view, version, segments).await,
                Err(error) => {
                    wrong.push(format!("rebuild of {}: {error}", view.definition.sql));
                    continue;
                }
            };
            match report {
                Ok(report) if report.is_equal() => {}
                other => wrong.push(format!("audit of the rebuilt {}: {other:?}", view.definition.sql)),
            }
        }
        wrong
    }
}
