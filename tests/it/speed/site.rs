//! A warehouse, a stream with one view, and an ingest loop over a scripted source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use thalweg_batch::{Archive, BatchConfig};
use thalweg_kit::positions::at;
use thalweg_kit::world::{World, warehouse_in_memory};
use thalweg_schemas::algebra::{batches, collect};
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::clock::MonotonicClock;
use thalweg_schemas::definition::{self, Statement};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::EpochRequest;
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::realtime::snapshot::{RowsChunk, StreamSnapshot};
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion, Published};
use thalweg_schemas::{Frontier, Partition};
use thalweg_speed::{
    AssignmentChange, BatchSender, ConsumerCommand, Drained, Ended, KafkaConnections, Source, SpeedConfig, Start,
    Upstream, ingest,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::script::{Answer, Script};
use crate::recompute::recompute;

const DEFINITIONS: &str = "
    CREATE EXTERNAL TABLE s (device STRING, value BIGINT) STORED AS KAFKA LOCATION 's'
      OPTIONS ('format' 'json');
    CREATE MATERIALIZED VIEW v AS SELECT device, count(*) AS n, sum(value) AS total FROM s GROUP BY device;";
const PATIENCE: Duration = Duration::from_secs(60);

/// The connections of a process whose streams are on these brokers.
pub(crate) fn on(brokers: &str) -> KafkaConnections {
    let default = [("bootstrap.servers".to_owned(), brokers.to_owned())].into();
    KafkaConnections { default, ..KafkaConnections::default() }
}

/// Waits until `happened`. Fails with `what` if that takes too long.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) config: SpeedConfig,
    pub(crate) clock: MonotonicClock,
    /// The view that the tests check.
    pub(crate) view: Arc<CompiledView>,
    pub(crate) pressure: Arc<Notify>,
    archive_gate: watch::Sender<bool>,
    batch: BatchConfig,
    _spill: tempfile::TempDir,
}

/// Holds epochs back from the archive until it is released.
pub(crate) struct HeldArchive(watch::Sender<bool>);

impl HeldArchive {
    pub(crate) fn release(self) {
        self.0.send_replace(true);
    }
}

impl Site {
    pub(crate) async fn new(origin: &[(i32, i64)]) -> Self {
        Self::reading("nowhere:1", origin).await
    }

    /// Creates a site whose stream is on these brokers.
    pub(crate) async fn reading(brokers: &str, origin: &[(i32, i64)]) -> Self {
        Self::over(warehouse_in_memory(), brokers, origin).await
    }

    /// Creates a site in this warehouse.
    pub(crate) async fn over(warehouse: Warehouse, brokers: &str, origin: &[(i32, i64)]) -> Self {
        let world = World::new(warehouse, DEFINITIONS, at(origin)).await;
        let clock = MonotonicClock::manual();
        let config = SpeedConfig {
            kafka: on(brokers),
            epoch_interval: Duration::from_secs(3),
            mark_interval: Duration::from_secs(7),
            grace: Duration::from_secs(5),
            clock: clock.clone(),
            ..SpeedConfig::default()
        };
        let spill = tempfile::tempdir().unwrap();
        Self {
            batch: BatchConfig { spill: spill.path().to_owned(), ..BatchConfig::default() },
            _spill: spill,
            view: world.views().remove(0),
            world,
            config,
            clock,
            pressure: Arc::default(),
            archive_gate: watch::Sender::new(true),
        }
    }

    pub(crate) async fn archive(&self) -> Archive {
        let (warehouse, definition) = (&self.world.warehouse, self.world.definition());
        Archive::open(warehouse, &definition, self.world.origin.clone()).await.unwrap()
    }

    /// Stops archiving until the returned value is released.
    pub(crate) fn hold_archive(&self) -> HeldArchive {
        self.archive_gate.send_replace(false);
        HeldArchive(self.archive_gate.clone())
    }

    /// Waits for the speed layer to ask for an early batch run. Returns false if it does not ask.
    pub(crate) async fn pressed(&self) -> bool {
        tokio::time::timeout(PATIENCE, self.pressure.notified()).await.is_ok()
    }

    /// Adds a view, and checks it from now on instead of the first one.
    pub(crate) async fn create(&mut self, sql: &str) {
        self.world.catalogs.apply(definition::parse(sql).unwrap()).await.unwrap();
        let catalog = self.world.catalogs.load().await.unwrap();
        let known = self.view.plan.id().clone();
        let mut views = catalog.views_of(&self.world.stream);
        self.view = Arc::clone(views.find(|v| *v.plan.id() != known).unwrap());
        drop(views);
        self.world.catalog.send_replace(catalog);
    }

    /// Adds a view that is published at the origin, or replaces its definition. The checked view stays.
    pub(crate) async fn add(&self, sql: &str) -> Arc<CompiledView> {
        let statements = definition::parse(sql).unwrap();
        let Statement::CreateView { definition, .. } = &statements[0] else { panic!("{sql}") };
        let name = definition.name.clone();
        self.world.catalogs.apply(statements).await.unwrap();
        let catalog = self.world.catalogs.load().await.unwrap();
        let view = Arc::clone(catalog.views[&name].building.as_ref().unwrap());
        self.world.catalog.send_replace(catalog);
        self.publish_empty(&view);
        view
    }

    /// Publishes the view at the origin, without events.
    pub(crate) async fn publish_at_origin(&self, name: &str) {
        assert_eq!(self.view.definition.name.as_str(), name);
        self.publish_empty(&self.view);
    }

    fn publish_empty(&self, view: &CompiledView) {
        let mut published = self.published();
        let version = BatchVersion {
            view: view.plan.id().clone(),
            version: 0,
            cut: self.world.origin.clone(),
            master_version: 0,
            published_ms: 0,
            files: Arc::from([]),
        };
        published.versions.insert(version.view.clone(), Arc::new(version));
        self.publish(published);
    }

    pub(crate) fn published(&self) -> Published {
        self.world.published.borrow().as_ref().clone()
    }

    pub(crate) fn publish(&self, published: Published) {
        self.world.published.send_replace(Arc::new(published));
    }

    /// Runs the batch layer over the view up to the newest mark, and publishes the result.
    pub(crate) async fn recompute(&self) {
        self.recompute_view(&self.view).await;
    }

    pub(crate) async fn recompute_view(&self, view: &Arc<CompiledView>) {
        let version = recompute(&self.world, view, RunMode::Incremental, &self.batch).await;
        let mut published = self.published();
        published.versions.insert(version.view.clone(), version);
        self.publish(published);
    }

    pub(crate) fn cut(&self) -> Frontier {
        let published = self.world.published.borrow();
        published.versions[self.view.plan.id()].cut.or(&self.world.origin)
    }

    pub(crate) fn upstream(
        &self,
        archive: mpsc::Sender<EpochRequest>,
        masters: watch::Receiver<Arc<MasterVersion>>,
        snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    ) -> Upstream {
        let shared = self.world.shared();
        let (failure, pressure) = (watch::Sender::new(None), Arc::clone(&self.pressure));
        Upstream { shared, archive, masters, snapshots, failure, pressure }
    }

    /// Starts a process that reads all partitions from the archive's frontier.
    pub(crate) async fn start(&self) -> Run {
        self.start_with(self.world.origin.partitions().collect()).await
    }

    /// Starts a process that reads these partitions at first.
    pub(crate) async fn start_with(&self, partitions: BTreeSet<Partition>) -> Run {
        let mut archive = self.archive().await;
        let master = archive.latest().await.unwrap();
        let (versions, masters) = watch::channel(Arc::clone(&master));
        let (requests, held) = mpsc::channel(1);
        tokio::spawn(serve(archive, held, versions, self.archive_gate.subscribe()));
        let (grown, found) = watch::channel(self.world.origin.len() as i32);
        let (feed, source) = Source::new(found);
        let high = master.frontier.or(&self.world.origin);
        feed.assigned(high.within(partitions.iter().copied()));
        let (snapshots, seen) = watch::channel(None);
        let cancel = CancellationToken::new();
        let catalog = self.world.catalogs.load().await.unwrap();
        let (changing, changes) = mpsc::channel(1);
        let start = Start {
            partitions,
            changes,
            stream: Arc::clone(&catalog.streams[&self.world.stream]),
            origin: self.world.origin.clone(),
            master: Arc::clone(&master),
            floor: Frontier::new(),
        };
        let mut upstream = self.upstream(requests, masters, snapshots);
        let (config, token) = (self.config.clone(), cancel.clone());
        let task = tokio::spawn(async move { ingest(&config, start, source, &mut upstream, &token).await });
        Run { feed: Some(feed), grown, changes: changing, seen, cancel, task }
    }
}

/// Runs the product's archive loop behind a gate.
async fn serve(
    archive: Archive,
    mut held: mpsc::Receiver<EpochRequest>,
    versions: watch::Sender<Arc<MasterVersion>>,
    mut gate: watch::Receiver<bool>,
) {
    let (sender, requests) = mpsc::channel(1);
    let (failure, _unread) = watch::channel(None);
    let token = CancellationToken::new();
    let served = tokio::spawn(thalweg_batch::archive::serve(archive, requests, versions, failure, |_| (), token));
    while let Some(request) = held.recv().await {
        gate.wait_for(|open| *open).await.unwrap();
        sender.send(request).await.unwrap();
    }
    drop(sender);
    served.await.unwrap().unwrap();
}

/// A running ingest loop.
pub(crate) struct Run {
    feed: Option<BatchSender>,
    grown: watch::Sender<i32>,
    changes: mpsc::Sender<AssignmentChange>,
    seen: watch::Receiver<Option<Arc<StreamSnapshot>>>,
    cancel: CancellationToken,
    task: JoinHandle<thalweg_speed::Result<Ended>>,
}

impl Run {
    pub(crate) async fn feed(&self, drained: Drained) {
        let feed = self.feed.as_ref().unwrap();
        assert!(tokio::task::block_in_place(|| feed.send(Ok(drained))));
    }

    pub(crate) async fn change(&self, change: AssignmentChange) {
        self.changes.send(change).await.unwrap();
    }

    pub(crate) fn grow(&self, partitions: i32) {
        self.grown.send_replace(partitions);
    }

    /// Returns the next command to the consumer.
    pub(crate) async fn command(&self) -> ConsumerCommand {
        let feed = self.feed.as_ref().unwrap();
        tokio::task::block_in_place(|| feed.commands.recv_timeout(PATIENCE)).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Arc<StreamSnapshot> {
        self.seen.borrow().clone().expect("a snapshot is shown")
    }

    pub(crate) async fn until(&mut self, what: &str, mut shows: impl FnMut(&StreamSnapshot) -> bool) {
        let shown = self.seen.wait_for(|snapshot| snapshot.as_ref().is_some_and(|s| shows(s)));
        match tokio::time::timeout(PATIENCE, shown).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => panic!("the loop ended while waiting for {what}"),
            Err(_) => panic!("waited in vain for {what}"),
        }
    }

    pub(crate) async fn reaches(&mut self, frontier: Frontier) {
        let what = format!("the frontier {frontier}");
        self.until(&what, |s| s.frontier.covers(&frontier)).await;
    }

    /// Waits until all of `frontier` is archived, and advances the clock until an epoch is due.
    pub(crate) async fn archived(&mut self, frontier: Frontier, site: &Site) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.snapshot().master.frontier.covers(&frontier) {
                return;
            }
            assert!(Instant::now() < deadline, "{frontier} was never archived");
            site.clock.advance(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until readers can tile from the published cut.
    pub(crate) async fn takes_up(&mut self, site: &Site) {
        let (id, cut) = (site.view.plan.id().clone(), site.cut());
        self.until("the published cut to be taken up", |s| {
            s.views.get(&id).is_some_and(|held| tile(&id, held, &cut, &s.frontier).is_ok())
        })
        .await;
    }

    /// Compares the snapshot with the produced messages: the view's states and the rows.
    pub(crate) async fn check(&self, site: &Site, script: &Script) {
        let snapshot = self.snapshot();
        let plan = &site.view.plan;
        let (from, to) = (site.cut(), &snapshot.frontier);
        let tiles = tile(plan.id(), &snapshot.views[plan.id()], &from, to).unwrap();
        let got = finish(&site.view, &tiles).await;
        assert_eq!(got, script.answer(&from, to), "from {from} to {to}");

        let archived = snapshot.master.frontier.or(&site.world.origin);
        let chunks = &snapshot.rows;
        assert!(chunks.first().is_none_or(|c| archived.covers(&c.from)));
        let joins = |a: &Frontier, b: &Frontier| a.covers(b) && b.covers(a);
        let gapless = |pair: &[Arc<RowsChunk>]| joins(&pair[0].to, &pair[1].from);
        assert!(chunks.windows(2).all(gapless));
        let to = to.of_topic();
        assert!(chunks.last().is_none_or(|c| joins(&c.to, &to)));
        let first = chunks.first().map_or(&to, |chunk| &chunk.from);
        let rows: usize = chunks.iter().flat_map(|chunk| &chunk.batches).map(RecordBatch::num_rows).sum();
        assert_eq!(rows, script.events(first, &to), "rows from {first} to {to}");
    }

    /// Asks the loop to end.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for the loop to end.
    pub(crate) async fn ended(self) -> thalweg_speed::Result<Ended> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap()
    }

    /// Ends the loop, and checks that all of `frontier` is archived with a mark.
    pub(crate) async fn end(self, site: &Site, frontier: Frontier) {
        self.cancel.cancel();
        let ended = self.ended().await.unwrap();
        assert!(matches!(ended, Ended::ShutDown), "{ended:?}");
        let master = site.archive().await.latest().await.unwrap();
        assert_eq!(master.frontier.of_topic(), frontier);
        assert_eq!(master.mark.of_topic(), frontier);
    }
}

/// Returns the view's answer over these segments.
pub(crate) async fn finish(view: &CompiledView, tiles: &[Arc<Segment>]) -> Answer {
    let plan = &view.plan;
    let states = tiles.iter().map(|s| s.states.clone()).collect();
    let states = batches("tiles", Arc::clone(plan.state_schema()), states).unwrap();
    let env = session::runtime(None, None, None).unwrap();
    let finished = plan.finish(states).unwrap();
    let got = collect(&session::state(env, 1), "checking", finished).await;
    got.unwrap().iter().flat_map(answers).collect()
}

fn answers(batch: &RecordBatch) -> Vec<(String, (i64, i64))> {
    let devices = batch.column(0).as_string::<i32>();
    let counts = batch.column(1).as_primitive::<Int64Type>();
    let totals = batch.column(2).as_primitive::<Int64Type>();
    (0..batch.num_rows())
        .map(|row| {
            let values = (counts.value(row), totals.value(row));
            (devices.value(row).to_owned(), values)
        })
        .collect()
}
