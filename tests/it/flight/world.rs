//! A stream with views in a warehouse in memory, archived and computed by the batch layer, and the snapshots of
//! workers above the cut.
//!
//! Invariant: the product's own code makes archive, batch states, segments and rows from the same messages. Only
//! Kafka is missing.

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_batch::{Archive, BatchConfig};
use thalweg_kit::positions::level;
use thalweg_kit::sensors::Sensors;
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::{MasterVersion, Published};
use thalweg_schemas::{Frontier, StreamName};
use tokio::sync::watch;

use crate::recompute::recompute;

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW device_minutes AS
      SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings,
             avg(temperature) AS mean, max(temperature) AS peak, sum(amount) AS amount,
             array_agg(amount) AS amounts
      FROM sensor_data GROUP BY 1, 2;
    CREATE MATERIALIZED VIEW totals AS
      SELECT count(*) AS readings, count(DISTINCT device) AS devices, sum(temperature) AS warmth
      FROM sensor_data;";

/// The state that all processes share.
pub(crate) struct World {
    pub(crate) sensors: Sensors,
    pub(crate) masters: watch::Sender<Arc<HashMap<StreamName, Arc<MasterVersion>>>>,
    archive: tokio::sync::Mutex<Archive>,
    spill: tempfile::TempDir,
}

impl World {
    /// Creates a world that is archived and computed below `cut` in each of `partitions`.
    pub(crate) async fn new(partitions: i32, cut: i64) -> Self {
        let origin = level(partitions, 0);
        let sensors = Sensors::new(warehouse_in_memory(), VIEWS, origin.clone(), 40, 3).await;
        let archive = Archive::open(&sensors.world.warehouse, &sensors.world.definition(), origin).await.unwrap();
        let world = Self {
            sensors,
            masters: watch::Sender::new(Arc::default()),
            archive: tokio::sync::Mutex::new(archive),
            spill: tempfile::tempdir().unwrap(),
        };
        world.archive(&level(partitions, cut)).await;
        world.recompute().await;
        world
    }

    pub(crate) fn master(&self) -> Arc<MasterVersion> {
        Arc::clone(&self.masters.borrow()[&self.sensors.world.stream])
    }

    /// Archives up to `to`, with a mark.
    pub(crate) async fn archive(&self, to: &Frontier) {
        let mut archive = self.archive.lock().await;
        let stream = &self.sensors.world.stream;
        let from = archive.latest().await.unwrap().frontier.clone();
        let epoch = Epoch {
            stream: stream.clone(),
            rows: vec![self.sensors.rows(&from, to)],
            from,
            to: to.clone(),
            mark: true,
            last: HashMap::new(),
        };
        let EpochOutcome::Landed(master) = archive.commit(&epoch).await.unwrap() else {
            panic!("nobody else archives");
        };
        self.masters.send_replace(Arc::new(HashMap::from([(stream.clone(), master)])));
    }

    /// Computes every view up to the newest mark and publishes it.
    pub(crate) async fn recompute(&self) {
        let config = BatchConfig { spill: self.spill.path().to_owned(), ..BatchConfig::default() };
        let world = &self.sensors.world;
        let mut published = Published::default();
        for view in world.views() {
            let version = recompute(world, &view, RunMode::Incremental, &config).await;
            published.versions.insert(version.view.clone(), version);
        }
        world.published.send_replace(Arc::new(published));
    }

    /// Returns the snapshot of a worker that reads the partitions of `to` and holds data from `from` on.
    pub(crate) async fn snapshot(&self, from: &Frontier, to: &Frontier) -> StreamSnapshot {
        self.sensors.snapshot(self.master(), from, from, to).await
    }
}
