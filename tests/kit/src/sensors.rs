//! The stream for the tests of readers: messages by formula, and the data that a speed worker holds of them.
//!
//! Invariant: archive, batch states, segments and rows are all made from the same messages. The test chooses every
//! cut.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::snapshot::{PartitionHealth, StreamSnapshot};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::segments::{self, segments};
use crate::snapshots::{chunk, snapshot};
use crate::world::World;

const STREAM: &str = "
    CREATE EXTERNAL TABLE sensor_data (device STRING, ts TIMESTAMP, temperature DOUBLE, amount DECIMAL(12, 2))
      STORED AS KAFKA LOCATION 'sensor_data'
      OPTIONS ('format' 'json', 'event_time' 'ts');
    CREATE MATERIALIZED VIEW busy AS
      SELECT device, count(*) AS readings FROM sensor_data WHERE temperature IS NOT NULL
      GROUP BY device HAVING count(*) > 3;";

/// Readings of some devices, with the view `busy` and the views that a test adds. All views are served.
pub struct Sensors {
    pub world: World,
    devices: i64,
    /// The number of segments into which each partition of a snapshot is cut.
    parts: i64,
    pub state: SessionState,
}

impl Sensors {
    pub async fn new(warehouse: Warehouse, views: &str, origin: Frontier, devices: i64, parts: i64) -> Self {
        let env = session::runtime(Some(&warehouse), None, None).unwrap();
        let world = World::new(warehouse, &format!("{STREAM}{views}"), origin).await;
        world.promote().await;
        Self { world, devices, parts, state: session::state(env, 2) }
    }

    /// Makes a message. Every seventh one cannot be decoded. Sums of the values have no rounding.
    fn message(&self, partition: Partition, Offset(offset): Offset) -> String {
        if offset % 7 == 6 {
            return format!("{{\"device\": broken {offset}");
        }
        let partition = i64::from(partition.0);
        let device = (offset * 5 + partition) % self.devices;
        let temperature = match offset % 5 {
            0 => "null".to_owned(),
            n => format!("{}.5", 60 + n * 15 + partition),
        };
        let (minute, second) = (offset % 3, offset % 60);
        format!(
            r#"{{"device":"d{device}","ts":"2026-01-01T00:{minute:02}:{second:02}","temperature":{temperature},"amount":{offset}.25}}"#
        )
    }

    /// Returns all messages of `[from, to)` as rows of the row schema.
    pub fn rows(&self, from: &Frontier, to: &Frontier) -> RecordBatch {
        segments::rows(&self.world.definition(), from, to, |p, o| self.message(p, o))
    }

    /// Returns the snapshot of a worker that reads the partitions of `to`: rows from `rows_from` on, states from
    /// `cut` on.
    pub async fn snapshot(
        &self,
        master: Arc<MasterVersion>,
        rows_from: &Frontier,
        cut: &Frontier,
        to: &Frontier,
    ) -> StreamSnapshot {
        let from = |below: &Frontier| to.iter().map(|(p, _)| (p, below.get(p))).collect::<Frontier>();
        let (below, cut) = (from(rows_from), from(cut));
        let middle: Frontier = to.iter().map(|(p, o)| (p, Offset((below.get(p).0 + o.0) / 2))).collect();
        let chunk = |from, to| chunk(from, to, vec![self.rows(from, to)]);
        let mut snapshot = snapshot(master, &self.world.origin, to);
        snapshot.rows = vec![chunk(&below, &middle), chunk(&middle, to)];
        snapshot.health = to.partitions().map(|p| (p, PartitionHealth::default())).collect();
        let rows = [self.rows(&cut, to)];
        for view in self.world.views() {
            let held = segments(&self.state, &view, &rows, &cut, to, self.parts).await;
            snapshot.views.insert(view.plan.id().clone(), Arc::new(held));
        }
        snapshot
    }
}
