//! A stream with views in a warehouse in memory, workers that serve hand-made snapshots of it over loopback, and
//! serving processes in front of them.
//!
//! Invariant: archive, batch states, segments and rows are all made from the same messages, by the product's own code;
//! only Kafka is missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use object_store::memory::InMemory;
use reqwest::Client;
use serde_json::Value;
use thalweg_batch::{Archive, BatchConfig, ViewTable, run_view};
use thalweg_schemas::algebra::{batches, between, collect};
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::definition;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::realtime::segment::{Provenance, Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::{PartitionHealth, RowsChunk, StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{MasterVersion, Published};
use thalweg_schemas::{Frontier, Offset, Partition, Shared, StreamName};
use thalweg_serving::{Metrics, Realtime, ServingConfig, Sources, Workers, WorkersConfig};
use thalweg_speed::flight::{FlightConfig, ServerTls, serve};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) const DEFINITIONS: &str = "
    CREATE EXTERNAL TABLE sensor_data (device STRING, ts TIMESTAMP, temperature DOUBLE, amount DECIMAL(12, 2))
      STORED AS KAFKA LOCATION 'sensor_data'
      OPTIONS ('format' 'json', 'event_time' 'ts', 'kafka.bootstrap.servers' 'nowhere:1');
    CREATE MATERIALIZED VIEW device_minutes AS
      SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings,
             avg(temperature) AS mean, max(temperature) AS peak, sum(amount) AS amount,
             array_agg(amount) AS amounts
      FROM sensor_data GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW totals AS
      SELECT count(*) AS readings, count(DISTINCT device) AS devices, sum(temperature) AS warmth
      FROM sensor_data;
    CREATE MATERIALIZED VIEW busy AS
      SELECT device, count(*) AS readings FROM sensor_data WHERE temperature IS NOT NULL
      GROUP BY device HAVING count(*) > 3;";

pub(crate) fn stream() -> StreamName {
    StreamName::new("sensor_data").unwrap()
}

/// The same offset in the first `count` partitions.
pub(crate) fn level(count: i32, offset: i64) -> Frontier {
    (0..count).map(|p| (Partition(p), Offset(offset))).collect()
}

/// Message `offset` of `partition`: every seventh cannot be decoded; values add up without rounding.
fn message(partition: i32, offset: i64) -> String {
    if offset % 7 == 6 {
        return format!("{{\"device\": broken {offset}");
    }
    let device = (offset * 5 + i64::from(partition)) % 40;
    let temperature = match offset % 5 {
        0 => "null".to_owned(),
        n => format!("{}.5", 60 + n * 15 + i64::from(partition)),
    };
    let (minute, second) = (offset % 3, offset % 60);
    format!(
        "{{\"device\":\"d{device}\",\"ts\":\"2026-01-01T00:{minute:02}:{second:02}\",\"temperature\":{temperature},\"amount\":{offset}.25}}"
    )
}

/// What all processes share.
pub(crate) struct World {
    pub(crate) warehouse: Warehouse,
    pub(crate) catalogs: CatalogStore,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) published: watch::Sender<Arc<Published>>,
    pub(crate) masters: watch::Sender<Arc<HashMap<StreamName, Arc<MasterVersion>>>>,
    pub(crate) partitions: i32,
    archive: tokio::sync::Mutex<Archive>,
    state: datafusion::execution::context::SessionState,
    spill: tempfile::TempDir,
}

impl World {
    /// Archived and computed below `cut` in each of `partitions`.
    pub(crate) async fn new(partitions: i32, cut: i64) -> Self {
        let warehouse = Warehouse::over(Url::parse("memory:///").unwrap(), Arc::new(InMemory::new()));
        let catalogs = CatalogStore::new(warehouse.clone());
        let definitions = definition::parse(DEFINITIONS).unwrap();
        catalogs.apply(definitions).await.unwrap();
        let origin = level(partitions, 0);
        let mut catalog = catalogs.record_origin(&stream(), &origin).await.unwrap();
        let views: Vec<Arc<CompiledView>> = catalog.compiled().cloned().collect();
        for view in &views {
            let (name, id) = (&view.definition.name, view.plan.id());
            catalog = catalogs.promote(name, id).await.unwrap();
        }
        let definition = &catalog.streams[&stream()].definition;
        let archive = Archive::open(&warehouse, definition, origin).await.unwrap();
        let env = session::runtime(None, None, None).unwrap();
        let world = Self {
            archive: tokio::sync::Mutex::new(archive),
            warehouse,
            catalogs,
            catalog: watch::Sender::new(catalog),
            published: watch::Sender::new(Arc::default()),
            masters: watch::Sender::new(Arc::default()),
            partitions,
            state: session::state(env, 1),
            spill: tempfile::tempdir().unwrap(),
        };
        world.archive(&level(partitions, cut)).await;
        world.recompute().await;
        world
    }

    fn views(&self) -> Vec<Arc<CompiledView>> {
        self.catalog.borrow().compiled().cloned().collect()
    }

    fn rows(&self, from: &Frontier, to: &Frontier) -> RecordBatch {
        let catalog = self.catalog.borrow().clone();
        let mut messages = Messages::new();
        for (partition, end) in to.iter() {
            for offset in from.get(partition).0..end.0 {
                let text = message(partition.0, offset);
                let time = Some(1_767_225_600_000 + offset);
                messages.push(partition, Offset(offset), time, Some(text.as_bytes()));
            }
        }
        let decoder = Decoder::new(&catalog.streams[&stream()].definition);
        decoder.unwrap().decode(&messages).unwrap().rows
    }

    pub(crate) fn master(&self) -> Arc<MasterVersion> {
        Arc::clone(&self.masters.borrow()[&stream()])
    }

    /// Archives up to `to`, with a mark.
    pub(crate) async fn archive(&self, to: &Frontier) {
        let mut archive = self.archive.lock().await;
        let from = archive.latest().await.unwrap().frontier.clone();
        let epoch = Epoch {
            stream: stream(),
            rows: vec![self.rows(&from, to)],
            from,
            to: to.clone(),
            mark: true,
            last: HashMap::new(),
        };
        let EpochOutcome::Landed(master) = archive.commit(&epoch).await.unwrap() else {
            panic!("nobody else archives");
        };
        self.masters.send_replace(Arc::new(HashMap::from([(stream(), master)])));
    }

    /// Computes every view up to the newest mark, and publishes it.
    pub(crate) async fn recompute(&self) {
        let config = BatchConfig { spill: self.spill.path().to_owned(), ..BatchConfig::default() };
        let catalog = self.catalog.borrow().clone();
        let mut published = Published::default();
        for view in self.views() {
            let mode = RunMode::Incremental;
            let run = run_view(&self.warehouse, &catalog, &view, mode, &config, |_| {});
            run.await.unwrap();
            let (id, schema) = (view.plan.id(), view.plan.stored_schema());
            let mut table = ViewTable::open(&self.warehouse, id, schema).await.unwrap();
            let version = table.latest().await.unwrap().unwrap();
            published.versions.insert(id.clone(), version);
        }
        self.published.send_replace(Arc::new(published));
    }

    /// What a worker that reads the partitions of `to` holds, from `from` on.
    pub(crate) async fn snapshot(&self, from: &Frontier, to: &Frontier) -> StreamSnapshot {
        let below: Frontier = to.iter().map(|(p, _)| (p, from.get(p))).collect();
        let rows = self.rows(&below, to);
        let mut views = HashMap::new();
        for view in self.views() {
            let held = self.segments(&view, &rows, &below, to).await;
            views.insert(view.plan.id().clone(), Arc::new(held));
        }
        let middle = |(p, o): (Partition, Offset)| (p, Offset((below.get(p).0 + o.0) / 2));
        let middle: Frontier = to.iter().map(middle).collect();
        let chunk = |from: &Frontier, to: &Frontier| {
            Arc::new(RowsChunk { from: from.clone(), to: to.clone(), batches: vec![self.rows(from, to)], bytes: 1 })
        };
        StreamSnapshot {
            stream: stream(),
            origin: level(self.partitions, 0),
            frontier: to.clone(),
            caught_up: true,
            caught_up_partitions: to.partitions().collect(),
            waiting: None,
            master: self.master(),
            rows: vec![chunk(&below, &middle), chunk(&middle, to)],
            views,
            health: to.partitions().map(|p| (p, PartitionHealth::default())).collect(),
            memory_bytes: 10,
            memory_budget: 100,
            paused: false,
        }
    }

    async fn segments(
        &self,
        view: &Arc<CompiledView>,
        rows: &RecordBatch,
        from: &Frontier,
        to: &Frontier,
    ) -> ViewSegments {
        let mut held = ViewSegments::default();
        for (partition, end) in to.iter() {
            let start = from.get(partition).0;
            let places = [start, start + (end.0 - start) / 3, (start + end.0) / 2, end.0];
            let list = held.partitions.entry(partition).or_default();
            for (i, ends) in places.windows(2).enumerate() {
                if ends[0] == ends[1] {
                    continue;
                }
                let one = |o| [(partition, Offset(o))].into_iter().collect::<Frontier>();
                let input = batches("rows", rows.schema(), vec![rows.clone()]).unwrap();
                let input = between(input, &one(ends[0]), &one(ends[1])).unwrap();
                let states = view.plan.update(input).unwrap();
                let states = collect(&self.state, "updating", states).await.unwrap();
                let schema = view.plan.state_schema();
                let states: Vec<RecordBatch> = states
                    .into_iter()
                    .map(|b| RecordBatch::try_new(Arc::clone(schema), b.columns().to_vec()).unwrap())
                    .collect();
                let provenance = [Provenance::Rebuilt, Provenance::Live][i.min(1)];
                list.push(Arc::new(Segment {
                    view: view.plan.id().clone(),
                    partition,
                    from: Offset(ends[0]),
                    to: Offset(ends[1]),
                    provenance,
                    states: arrow::compute::concat_batches(schema, &states).unwrap(),
                    bytes: 1,
                    level: 0,
                }));
            }
        }
        held
    }

    /// A worker that holds `snapshot`.
    pub(crate) async fn worker(&self, snapshot: StreamSnapshot) -> Worker {
        self.worker_with(snapshot, None, None, "127.0.0.1:0").await
    }

    pub(crate) async fn worker_with(
        &self,
        snapshot: StreamSnapshot,
        token: Option<&str>,
        tls: Option<ServerTls>,
        listen: &str,
    ) -> Worker {
        let listener = std::net::TcpListener::bind(listen).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let snapshots = watch::Sender::new(Some(Arc::new(snapshot)));
        let failure = watch::Sender::new(None);
        let handle = StreamHandle {
            snapshots: snapshots.subscribe(),
            failure: failure.subscribe(),
            archive_failure: watch::channel(None).1,
        };
        let streams = watch::Sender::new(Arc::new(HashMap::from([(stream(), handle)])));
        let config = FlightConfig { worker: address.clone(), token: token.map(str::to_owned), tls, threads: 1 };
        let catalog = watch::Sender::new(self.catalog.borrow().clone());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (known, shown) = (catalog.subscribe(), streams.subscribe());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let cancel = CancellationToken::new();
            serve(listener, config, known, shown, cancel).await.unwrap();
        });
        Worker { address, snapshots, failure, catalog, _streams: streams, runtime: Some(runtime) }
    }

    fn sources(&self, realtime: Realtime) -> Sources {
        let refuse = || thalweg_serving::CallError { fault: thalweg_schemas::Fault::User, message: "not here".into() };
        let shared = Shared {
            warehouse: self.warehouse.clone(),
            catalogs: self.catalogs.clone(),
            catalog: self.catalog.subscribe(),
            published: self.published.subscribe(),
        };
        Sources {
            shared,
            realtime,
            audit: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
            batch: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
            metrics: Arc::new(Metrics::new()),
        }
    }

    /// A serving process that has the snapshot in memory.
    pub(crate) async fn here(&self, snapshot: StreamSnapshot) -> Server {
        let handle = StreamHandle {
            snapshots: watch::channel(Some(Arc::new(snapshot))).1,
            failure: watch::channel(None).1,
            archive_failure: watch::channel(None).1,
        };
        let streams = Arc::new(HashMap::from([(stream(), handle)]));
        let realtime = Realtime::Local(watch::channel(streams).1);
        Server::start(self.sources(realtime)).await
    }

    /// A serving process that asks workers at `addresses`.
    pub(crate) async fn there(&self, addresses: &[String], config: WorkersConfig) -> Server {
        let addresses = watch::channel(addresses.to_vec()).1;
        let realtime = Realtime::Remote { workers: Workers::new(addresses, config), masters: self.masters.subscribe() };
        Server::start(self.sources(realtime)).await
    }

    pub(crate) async fn over(&self, workers: &[&Worker]) -> Server {
        let addresses: Vec<String> = workers.iter().map(|w| w.address.clone()).collect();
        self.there(&addresses, patient()).await
    }
}

/// No worker of a test is slow, but the machine may be.
pub(crate) fn patient() -> WorkersConfig {
    WorkersConfig { ask_within: Duration::from_secs(20), ..WorkersConfig::default() }
}

/// A speed worker's Flight side.
pub(crate) struct Worker {
    pub(crate) address: String,
    pub(crate) snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    _streams: watch::Sender<Arc<HashMap<StreamName, StreamHandle>>>,
    /// Its own, so that it can be killed with all of its connections.
    runtime: Option<Runtime>,
}

impl Worker {
    /// Gone as after SIGKILL: connections break.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let ending = move || runtime.shutdown_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(ending).await.unwrap();
    }

    pub(crate) fn show(&self, snapshot: StreamSnapshot) {
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A serving process.
pub(crate) struct Server {
    pub(crate) url: String,
    client: Client,
    cancel: CancellationToken,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) partial: Option<String>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or(""))
    }

    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or("")
    }

    /// The rows in an order that does not depend on the plan, and the frontier.
    pub(crate) fn answer(&self) -> (Vec<String>, Value) {
        assert_eq!(self.status, 200, "{}", self.body);
        let rows = self.body["rows"].as_array().unwrap();
        let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        (rows, self.body["frontier"].clone())
    }
}

impl Server {
    async fn start(sources: Sources) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let config = ServingConfig {
            pin_wait: Duration::from_millis(700),
            target_partitions: 2,
            shutdown_grace: Duration::from_millis(100),
            ..ServingConfig::default()
        };
        let serving = thalweg_serving::serve(listener, config, sources, cancel.clone());
        tokio::spawn(serving);
        Self { url, client: Client::new(), cancel }
    }

    pub(crate) async fn sql(&self, sql: &str) -> Reply {
        self.ask(sql, &[]).await
    }

    pub(crate) async fn ask(&self, sql: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.client.post(format!("{}/v1/sql", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.body(sql.to_owned()).send().await.unwrap();
        let status = reply.status().as_u16();
        let partial = reply.headers().get("thalweg-partial");
        let partial = partial.map(|value| value.to_str().unwrap().to_owned());
        let text = reply.text().await.unwrap_or_else(|e| format!("\"broke off: {e}\""));
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { status, partial, body }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let reply = self.client.get(format!("{}{path}", self.url));
        let reply = reply.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    /// The value of a metric, by its line's beginning.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The physical plan, as text.
    pub(crate) async fn explain(&self, sql: &str) -> String {
        let reply = self.sql(&format!("EXPLAIN {sql}")).await;
        reply.answer().0.join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// By partition, for readability in tests.
pub(crate) fn at(pairs: &[(i32, i64)]) -> Frontier {
    let pairs: BTreeMap<i32, i64> = pairs.iter().copied().collect();
    let pairs = pairs.into_iter();
    pairs.map(|(p, o)| (Partition(p), Offset(o))).collect()
}
