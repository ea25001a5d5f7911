//! A small platform for tests: a real warehouse on disk with a catalog, archive files and batch states, and a
//! hand-made snapshot above them; only Kafka and the other layers' loops are missing.
//!
//! Invariant: archive, batch states, segments and rows are all computed from the same messages, each cut where the
//! test says.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use thalweg_schemas::algebra::{batches, between, collect};
use thalweg_schemas::api::audits::{AuditList, AuditReport};
use thalweg_schemas::api::runs::{RunList, RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::definition;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::segment::{Provenance, Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::{PartitionHealth, RowsChunk, StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::writer_properties;
use thalweg_schemas::warehouse::versions::{BatchVersion, DataFile, MasterVersion, Published};
use thalweg_schemas::{Frontier, Offset, Partition, Shared, StreamName, ViewId, ViewName};
use tokio::sync::watch;

use crate::Metrics;
use crate::sources::{CallError, Realtime, ServingConfig, Sources};

pub(crate) const DEFINITIONS: &str = "
    CREATE EXTERNAL TABLE sensor_data (device STRING, ts TIMESTAMP, temperature DOUBLE, amount DECIMAL(12, 2))
      STORED AS KAFKA LOCATION 'sensor_data'
      OPTIONS ('format' 'json', 'event_time' 'ts', 'kafka.bootstrap.servers' '127.0.0.1:1');
    CREATE MATERIALIZED VIEW device_minutes AS
      SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings,
             avg(temperature) AS mean, max(temperature) AS peak, sum(amount) AS amount,
             count(*) FILTER (WHERE temperature > 100) AS alarms
      FROM sensor_data GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW totals AS
      SELECT count(*) AS readings, count(DISTINCT device) AS devices, sum(temperature) / count(*) AS mean
      FROM sensor_data;
    CREATE MATERIALIZED VIEW busy AS
      SELECT device, count(*) AS readings FROM sensor_data WHERE temperature IS NOT NULL
      GROUP BY device HAVING count(*) > 3;";

/// The frontier at these offsets of partitions 0 and 1.
pub(crate) fn at(first: i64, second: i64) -> Frontier {
    [(Partition(0), Offset(first)), (Partition(1), Offset(second))].into_iter().collect()
}

/// Message `offset` of `partition`: every seventh cannot be decoded; values add up without rounding.
fn message(partition: i32, offset: i64) -> String {
    if offset % 7 == 6 {
        return format!("{{\"device\": broken {offset}");
    }
    let device = (offset * 5 + i64::from(partition)) % 4;
    let temperature = match offset % 5 {
        0 => "null".to_owned(),
        n => format!("{}.5", 60 + n * 15 + i64::from(partition)),
    };
    let (minute, second) = (offset % 3, offset % 60);
    format!(
        "{{\"device\":\"d{device}\",\"ts\":\"2026-01-01T00:{minute:02}:{second:02}\",\"temperature\":{temperature},\"amount\":{offset}.25}}"
    )
}

/// The platform, and the ends from which a test moves it.
pub(crate) struct World {
    pub(crate) sources: Sources,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    pub(crate) streams: watch::Sender<Arc<HashMap<StreamName, StreamHandle>>>,
    pub(crate) snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) archive_failure: watch::Sender<Option<String>>,
    pub(crate) state: SessionState,
    folder: TempDir,
}

impl World {
    /// Everything defined, nothing published and no snapshot.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let warehouse = Warehouse::open(path, &BTreeMap::new()).unwrap();
        let catalogs = CatalogStore::new(warehouse.clone());
        catalogs.apply(definition::parse(DEFINITIONS).unwrap()).await.unwrap();
        let name = stream();
        let mut latest = catalogs.record_origin(&name, &at(0, 0)).await.unwrap();
        let views: Vec<Arc<CompiledView>> = latest.compiled().cloned().collect();
        for view in views {
            latest = catalogs.promote(&view.definition.name, view.plan.id()).await.unwrap();
        }
        let env = session::runtime(Some(&warehouse), None, None).unwrap();
        let (catalog, catalog_receiver) = watch::channel(latest);
        let (published, published_receiver) = watch::channel(Arc::new(Published::default()));
        let (snapshots, snapshot_receiver) = watch::channel(None);
        let (failure, failure_receiver) = watch::channel(None);
        let (archive_failure, archive_failure_receiver) = watch::channel(None);
        let handle = StreamHandle {
            snapshots: snapshot_receiver,
            failure: failure_receiver,
            archive_failure: archive_failure_receiver,
        };
        let (streams, streams_receiver) = watch::channel(Arc::new(HashMap::from([(name, handle)])));
        let sources = Sources {
            shared: Shared { warehouse, catalogs, catalog: catalog_receiver, published: published_receiver },
            realtime: Realtime::Local(streams_receiver),
            audit: Arc::new(|view| {
                Box::pin(async move {
                    match view {
                        Some(view) => Ok(AuditList { audits: vec![audited(view)] }),
                        None => Err(CallError {
                            fault: thalweg_schemas::Fault::Transient,
                            message: "no two cuts yet".into(),
                        }),
                    }
                })
            }),
            batch: Arc::new(|request| Box::pin(async move { Ok(RunList { runs: vec![ran("totals", request.full)] }) })),
            metrics: Arc::new(Metrics::new()),
        };
        Self {
            sources,
            catalog,
            published,
            streams,
            snapshots,
            failure,
            archive_failure,
            state: session::state(env, 2),
            folder,
        }
    }

    /// A platform that has archived below `archived`, computed its views below `cut` and read up to `to`.
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
        self.catalog.borrow().compiled().cloned().collect()
    }

    /// All messages of `[from, to)` as rows of the row schema.
    pub(crate) fn rows(&self, from: &Frontier, to: &Frontier) -> RecordBatch {
        let catalog = self.catalog.borrow().clone();
        let definition = &catalog.streams[&stream()].definition;
        let mut messages = Messages::new();
        for (partition, end) in to.iter() {
            for offset in from.get(partition).0..end.0 {
                let text = message(partition.0, offset);
                messages.push(partition, Offset(offset), Some(1_767_225_600_000 + offset), Some(text.as_bytes()));
            }
        }
        Decoder::new(definition).unwrap().decode(&messages).unwrap().rows
    }

    /// Publishes every view's states below `cut`, in two files so that groups occur in both.
    pub(crate) async fn publish(&self, cut: &Frontier, to: &Frontier) {
        let rows = self.rows(&at(0, 0), to);
        let half: Frontier = cut.iter().map(|(p, o)| (p, Offset(o.0 / 2))).collect();
        let mut versions = HashMap::new();
        for view in self.views() {
            let mut files = Vec::new();
            for (i, (from, to)) in [(&at(0, 0), &half), (&half, cut)].into_iter().enumerate() {
                let states = self.states(&view, &rows, from, to).await;
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
                published_ms: 1_767_225_600_000,
                files: files.into(),
            };
            versions.insert(id, Arc::new(version));
        }
        self.published.send_replace(Arc::new(Published { versions }));
    }

    /// A snapshot at `to` whose segments start at `cut` and are cut at odd places.
    pub(crate) async fn snapshot(&self, archived: &Frontier, cut: &Frontier, to: &Frontier) -> StreamSnapshot {
        let rows = self.rows(&at(0, 0), to);
        let mut views = HashMap::new();
        for view in self.views() {
            views.insert(view.plan.id().clone(), Arc::new(self.segments(&view, &rows, cut, to).await));
        }
        let middle: Frontier = to.iter().map(|(p, o)| (p, Offset((archived.get(p).0 + o.0) / 2))).collect();
        // Rows reach back a little below the archive's frontier, as within the grace time.
        let below: Frontier = archived.iter().map(|(p, o)| (p, Offset((o.0 - 2).max(0)))).collect();
        let chunk = |from: &Frontier, to: &Frontier| {
            Arc::new(RowsChunk { from: from.clone(), to: to.clone(), batches: vec![self.rows(from, to)], bytes: 1 })
        };
        let health = to.iter().map(|(p, o)| {
            let health = PartitionHealth {
                high_watermark: Some(o),
                latest_event_us: Some(1_767_225_600_000_000),
                rows: 10,
                rejects: 2,
                ..PartitionHealth::default()
            };
            (p, health)
        });
        StreamSnapshot {
            stream: stream(),
            origin: at(0, 0),
            frontier: to.clone(),
            caught_up: true,
            caught_up_partitions: to.partitions().collect(),
            waiting: None,
            master: Arc::new(self.master(archived)),
            rows: vec![chunk(&below, &middle), chunk(&middle, to)],
            views,
            health: health.collect(),
            memory_bytes: 10,
            memory_budget: 100,
            paused: false,
        }
    }

    fn master(&self, archived: &Frontier) -> MasterVersion {
        let rows = self.rows(&at(0, 0), archived);
        let name = format!("streams/sensor_data/{}.parquet", archived.distance(&at(0, 0)));
        let files = match rows.num_rows() {
            0 => Vec::new(),
            _ => vec![self.write(&name, &rows.schema(), std::slice::from_ref(&rows))],
        };
        MasterVersion {
            stream: stream(),
            version: 1,
            frontier: archived.clone(),
            mark: archived.clone(),
            files: files.into(),
            last: HashMap::new(),
        }
    }

    async fn segments(
        &self,
        view: &Arc<CompiledView>,
        rows: &RecordBatch,
        from: &Frontier,
        to: &Frontier,
    ) -> ViewSegments {
        let mut partitions = BTreeMap::new();
        for (partition, end) in to.iter() {
            let start = from.get(partition);
            let places = [start.0, (start.0 + end.0) / 2, end.0];
            let mut segments = Vec::new();
            for ends in places.windows(2).filter(|ends| ends[0] < ends[1]) {
                let one = |o| [(partition, Offset(o))].into_iter().collect::<Frontier>();
                let states = self.states(view, rows, &one(ends[0]), &one(ends[1])).await;
                segments.push(Arc::new(Segment {
                    view: view.plan.id().clone(),
                    partition,
                    from: Offset(ends[0]),
                    to: Offset(ends[1]),
                    provenance: Provenance::Live,
                    states,
                    bytes: 1,
                    level: 0,
                }));
            }
            partitions.insert(partition, segments);
        }
        ViewSegments { partitions }
    }

    async fn states(
        &self,
        view: &Arc<CompiledView>,
        rows: &RecordBatch,
        from: &Frontier,
        to: &Frontier,
    ) -> RecordBatch {
        let rows = batches("rows", rows.schema(), vec![rows.clone()]).unwrap();
        let plan = view.plan.update(between(rows, from, to).unwrap()).unwrap();
        let states = collect(&self.state, "updating", plan).await.unwrap();
        let schema = view.plan.state_schema();
        let states: Vec<RecordBatch> = states
            .into_iter()
            .map(|b| RecordBatch::try_new(Arc::clone(schema), b.columns().to_vec()).unwrap())
            .collect();
        arrow::compute::concat_batches(schema, &states).unwrap()
    }

    fn write(&self, name: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> DataFile {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = writer_properties(schema);
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

    /// The newest snapshot with one change.
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
