//! The system tables over a small platform: their columns, their rows, and what is not shown.

mod documents;

use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::memory_pool::GreedyMemoryPool;

use super::*;
use crate::fixture::{World, at};
use crate::sources::ShownSetting;

async fn all(world: &World, activity: &Arc<Activity>) -> SystemRows {
    let tables = StateTable::ALL.into_iter().collect();
    let state = read(tables, SystemSources { sources: &world.sources, activity }).await;
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
    let (rows, held) = state.rows(&pool).unwrap();
    let bytes: usize = rows.values().map(RecordBatch::get_array_memory_size).sum();
    assert_eq!((held.as_ref().unwrap().size(), pool.reserved()), (bytes, bytes));
    drop(held);
    assert_eq!(pool.reserved(), 0);
    rows
}

#[tokio::test]
async fn rows_that_exceed_the_memory_are_refused() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let activity = Arc::new(Activity::default());
    let sources = SystemSources { sources: &world.sources, activity: &activity };
    let state = read(BTreeSet::from([StateTable::Views]), sources).await;
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
    assert_eq!(state.rows(&pool).unwrap_err().code(), thalweg_schemas::api::error::ErrorCode::MemoryLimit);
}

#[tokio::test]
async fn each_table_has_the_columns_of_its_rows_and_shows_them() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    world.record_run();
    let activity = Arc::new(Activity::default());
    let _session =
        activity.begin_session(crate::activity::Protocol::Postgres, "::1".into(), "me".into(), "psql".into());
    let _query = activity.begin_query("SELECT 1", crate::activity::RequestClient::default());
    let rows = all(&world, &activity).await;
    let check = |table: StateTable, count: usize, parts: &[&str]| {
        let batch = &rows[&table];
        assert_eq!(batch.num_rows(), count, "{table:?}");
        let text = pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
        for part in parts {
            assert!(text.contains(part), "{table:?}: {part}\n{text}");
        }
    };
    check(StateTable::Streams, 1, &["sensor_data", "{\"0\":9,\"1\":7}", "running"]);
    check(StateTable::Partitions, 2, &["sensor_data"]);
    check(StateTable::Rejects, 2, &["| 2       |"]);
    check(StateTable::Views, 3, &["device_minutes", "serving", "totals"]);
    check(StateTable::Workers, 0, &[]);
    check(StateTable::NotUnderstood, 0, &[]);
    check(StateTable::Process, 1, &[env!("CARGO_PKG_VERSION")]);
    check(StateTable::Runs, 1, &["totals", "published", "full"]);
    check(StateTable::Audits, 0, &[]);
    check(StateTable::Queries, 1, &["running", "SELECT 1"]);
    check(StateTable::Sessions, 1, &["psql", "postgres"]);
    check(StateTable::Settings, 0, &[]);
    for (table, batch) in &rows {
        assert_eq!(StateTable::named(table.name()), Some(*table));
        // A column that no field of the row fills would be NULL in each row.
        let filled =
            |name: &str| batch.column_by_name(name).is_some_and(|column| column.null_count() < batch.num_rows());
        for name in ["name", "stream", "view", "id", "definition", "started", "status"] {
            let has = batch.schema().column_with_name(name).is_some();
            assert!(!has || batch.num_rows() == 0 || filled(name), "{table:?}.{name}");
        }
    }
}

#[test]
fn columns_are_the_fields_of_the_rows() {
    let check = |table: StateTable, row: serde_json::Value| {
        let fields: BTreeSet<String> = row.as_object().unwrap().keys().cloned().collect();
        let columns: BTreeSet<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(fields, columns, "{table:?}");
    };
    let setting = ShownSetting { name: "a".into(), value: "1".into(), source: "default".into() };
    check(StateTable::Settings, serde_json::to_value(setting).unwrap());
}
