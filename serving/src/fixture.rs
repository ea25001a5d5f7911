//! A small platform for tests: a real warehouse on disk with a catalog, archive files and batch states, and a
//! hand-made snapshot for the realtime side. Only Kafka and the loops of the other layers are missing.
//!
//! Invariant: archive, batch states, segments and rows are computed from the same messages; the test chooses the cut
//! of each.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use thalweg_kit::segments::{FIRST_MS, states};
use thalweg_kit::sensors::Sensors;
use thalweg_kit::snapshots::{Shown, master};
use thalweg_schemas::algebra::{batches, collect};
use thalweg_schemas::api::audits::{AuditList, AuditReport};
use thalweg_schemas::api::runs::{RunList, RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::snapshot::{StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::writer_properties;
use thalweg_schemas::warehouse::versions::{BatchVersion, DataFile, MasterVersion, Published};
use thalweg_schemas::{Frontier, Offset, StreamName, ViewId, ViewName};
use tokio::sync::watch;

use crate::Metrics;
use crate::sources::{CallError, Realtime, ServingConfig, Sources};

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW device_minutes AS
      SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings,
             avg(temperature) AS mean, max(temperature) AS peak, sum(amount) AS amount,
             count(*) FILTER (WHERE temperature > 100) AS alarms
      FROM sensor_data GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW totals AS
      SELECT count(*) AS readings, count(DISTINCT device) AS devices, sum(temperature) / count(*) AS mean
      FROM sensor_data;";

/// The frontier at these offsets of partitions 0 and 1.
pub(crate) fn at(first: i64, second: i64) -> Frontier {
    Frontier::from([(0, first), (1, second)])
}

/// The platform, and the senders through which a test changes it.
pub(crate) struct World {
    pub(crate) sources: Sources,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    pub(crate) streams: watch::Sender<Arc<HashMap<StreamName, StreamHandle>>>,
    pub(crate) snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) archive_failure: watch::Sender<Option<String>>,
    pub(crate) state: SessionState,
    sensors: Sensors,
    folder: TempDir,
}

impl World {
    /// A platform with all definitions, without published states or snapshots.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let warehouse = Warehouse::open(path, &BTreeMap::new()).unwrap();
        let sensors = Sensors::new(warehouse, VIEWS, at(0, 0), 4, 2).await;
        let world = &sensors.world;
        let shown = Shown::new(None);
        let streams = watch::Sender::new(Arc::new(HashMap::from([(world.stream.clone(), shown.handle())])));
        let sources = Sources {
            shared: world.shared(),
            realtime: Realtime::Local(streams.subscribe()),
            audit: Arc::new(|view| {
                Box::pin(async move {
                    match view {
                        Some(view) => Ok(AuditList { audits: vec![audited(view)], failed: Vec::new() }),
                        None => Err(CallError {
                            fault: thalweg_schemas::Fault::Transient,
                            message: "no two cuts yet".into(),
                        }),
                    }
                })
            }),
            load: Arc::new(|files| {
                Box::pin(
                    async move { Ok((format!("1 rows of {} have entered", files.from), vec!["a note".to_owned()])) },
                )
            }),
            columns: Arc::new(|_| Box::pin(async { Ok(("(a INT)".to_owned(), vec!["a guess".to_owned()])) })),
            batch: Arc::new(|request| Box::pin(async move { Ok(RunList { runs: vec![ran("totals", request.full)] }) })),
            metrics: Arc::new(Metrics::new()),
            settings: Arc::from([]),
        };
        Self {
            sources,
            catalog: world.catalog.clone(),
            published: world.published.clone(),
            streams,
            snapshots: shown.snapshots,
            failure: shown.failure,
            archive_failure: shown.archive_failure,
            state: sensors.state.clone(),
            sensors,
            folder,
        }
    }

    /// A platform that has archived rows below `archived`, computed its views below `cut`, and read up to `to`.
    pub(crate) async fn standing(archived: &Frontier, cut: &Frontier, to: &Frontier) -> Self {
        let world = Self::new().await;
        world.publish(cut, to).await;
        let snapshot = world.snapshot(archived, cut, to).await;
        world.snapshots.send_replace(Some(Arc::new(snapshot)));
        world
    }

    pub(crate) fn config(&self) -> ServingConfig {
        ServingConfig { pin_wait: Duration::from_millis(200), target_partitions: 2, ..ServingConfig::default() }
    }

    pub(crate) fn views(&self) -> Vec<Arc<CompiledView>> {
        self.sensors.world.views()
    }

    /// All messages of `[from, to)` as rows in the row schema.
    pub(crate) fn rows(&self, from: &Frontier, to: &Frontier) -> RecordBatch {
        self.sensors.rows(from, to)
    }

    /// Publishes every view's states below `cut`, in two files, so that groups occur in both files.
    pub(crate) async fn publish(&self, cut: &Frontier, to: &Frontier) {
        let rows = [self.rows(&at(0, 0), to)];
        let half: Frontier = cut.iter().map(|(p, o)| (p, Offset(o.0 / 2))).collect();
        let mut versions = HashMap::new();
        for view in self.views() {
            let mut files = Vec::new();
            for (i, (from, to)) in [(&at(0, 0), &half), (&half, cut)].into_iter().enumerate() {
                let states = states(&self.state, &view, &rows, from, to).await;
                let stored = view.plan.to_stored(batches("states", states.schema(), vec![states]).unwrap()).unwrap();
                let stored = collect(&self.state, "storing", stored).await.unwrap();
                let name = format!("views/{}/{}-{i}.parquet", view.plan.id(), cut.distance(&at(0, 0)));
                files.push(self.write(&name, view.plan.stored_schema(), &stored));
            }
            let id = view.plan.id().clone();
            let version = BatchVersion {
                view: id.clone(),
                version: 1,
                cut: cut.clone(),
                master_version: 1,
                published_ms: FIRST_MS,
                files: files.into(),
            };
            versions.insert(id, Arc::new(version));
        }
        self.published.send_replace(Arc::new(Published { versions }));
    }

    /// Builds a snapshot at `to` whose segments start at `cut`, with two segments per partition.
    pub(crate) async fn snapshot(&self, archived: &Frontier, cut: &Frontier, to: &Frontier) -> StreamSnapshot {
        // Rows reach slightly below the archive's frontier, as they do within the grace time.
        let below: Frontier = archived.iter().map(|(p, o)| (p, Offset((o.0 - 2).max(0)))).collect();
        let mut snapshot = self.sensors.snapshot(Arc::new(self.master(archived)), &below, cut, to).await;
        for (partition, health) in &mut snapshot.health {
            health.high_watermark = Some(to.get(*partition));
            health.latest_event_us = Some(1000 * FIRST_MS);
            (health.rows, health.rejects) = (10, 2);
        }
        snapshot
    }

    fn master(&self, archived: &Frontier) -> MasterVersion {
        let rows = self.rows(&at(0, 0), archived);
        let name = format!("streams/sensor_data/{}.parquet", archived.distance(&at(0, 0)));
        let mut master = master(&stream(), archived);
        if rows.num_rows() > 0 {
            master.files = [self.write(&name, &rows.schema(), std::slice::from_ref(&rows))].into();
        }
        master
    }

    fn write(&self, name: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> DataFile {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = writer_properties(schema, "_payload");
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), Arc::clone(schema), Some(properties)).unwrap();
        let mut rows = 0;
        for batch in batches {
            rows += batch.num_rows() as u64;
            let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()).unwrap();
            writer.write(&batch).unwrap();
        }
        writer.close().unwrap();
        DataFile { path: name.to_owned(), size: std::fs::metadata(&path).unwrap().len(), rows: Some(rows), span: None }
    }

    /// Publishes the newest snapshot with one change.
    pub(crate) fn alter(&self, change: impl FnOnce(&mut StreamSnapshot)) {
        let current = self.snapshots.borrow().clone().unwrap();
        let mut snapshot = StreamSnapshot::clone(&current);
        change(&mut snapshot);
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    pub(crate) fn view_id(&self, name: &str) -> ViewId {
        let view = self.views().into_iter().find(|v| v.definition.name.as_str() == name);
        view.unwrap().plan.id().clone()
    }

    /// Rewrites the text of the newest catalog file, and reads the file again.
    pub(crate) async fn edit_catalog(&self, edit: impl FnOnce(String) -> String) -> Arc<Catalog> {
        let version = self.catalog.borrow().version;
        let path = self.folder.path().join(format!("catalog/{version:08}.json"));
        let text = edit(std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, text).unwrap();
        self.sources.shared.catalogs.load().await.unwrap()
    }

    /// Records a run of the view that failed.
    pub(crate) fn fail_run(&self, name: &str, failure: ViewFailure) {
        let outcome = RunOutcome::Failed(failure);
        let report = RunReport { id: self.view_id(name), outcome, ..ran(name, true) };
        self.sources.metrics.record_run(&report);
    }

    pub(crate) fn record_run(&self) {
        self.sources.metrics.record_run(&ran("totals", true));
    }
}

/// A run of `view` that published one group of twelve rows.
fn ran(view: &str, full: bool) -> RunReport {
    RunReport {
        view: ViewName::new(view).unwrap(),
        id: ViewId::of(&[view]),
        mode: if full { RunMode::Full } else { RunMode::Incremental },
        from: Frontier::new(),
        to: at(7, 5),
        rows_read: 12,
        groups: 1,
        files: 1,
        bytes: 1000,
        elapsed: Duration::from_millis(250),
        outcome: RunOutcome::Published,
    }
}

/// An audit of `view` that compared nothing.
fn audited(view: ViewName) -> AuditReport {
    let id = ViewId::of(&[view.as_str()]);
    AuditReport { view, id, cut: at(7, 5), from: at(7, 5), to: at(7, 5), parts: Vec::new() }
}

pub(crate) fn stream() -> StreamName {
    StreamName::new("sensor_data").unwrap()
}
