//! The catalog queries of clients, over a small platform: every file of `tests/catalog` is run as its client sends it.
//!
//! A file begins with its source, and with a line per parameter. The expected answer is beside it; `CATALOG_UPDATE=1`
//! writes it anew. What matters most is also said here by hand.

mod clients;
mod comments;
mod user_queries;
mod values;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use thalweg_schemas::definition;

use crate::engine::Engine;
use crate::fixture::{World, at};
use crate::options::Options;
use crate::parameters::Parameter;

/// A platform whose stream and view have comments.
async fn platform() -> (World, Arc<Engine>) {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    define(
        &world,
        "COMMENT ON TABLE sensor_data IS 'What the sensors say';
         COMMENT ON COLUMN sensor_data.device IS 'Its name';
         COMMENT ON MATERIALIZED VIEW totals IS 'One row of sums';
         COMMENT ON COLUMN totals.devices IS 'How many have spoken'",
    )
    .await;
    let engine = Arc::new(Engine::new(world.config(), world.sources.clone()).unwrap());
    (world, engine)
}

/// Applies definitions, and follows the catalog.
async fn define(world: &World, sql: &str) {
    let catalogs = &world.sources.shared.catalogs;
    catalogs.apply(definition::parse(sql).unwrap()).await.unwrap();
    world.catalog.send_replace(catalogs.load().await.unwrap());
}

async fn answer(engine: &Arc<Engine>, sql: &str, values: Vec<Parameter>) -> Result<Vec<RecordBatch>, String> {
    let answer = engine.run_with(sql, values, Options::default()).await.map_err(|e| e.to_string())?;
    let schema = Arc::clone(&answer.schema);
    let mut batches: Vec<RecordBatch> = answer.batches.try_collect().await.map_err(|e| e.to_string())?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    } else {
        // The answer's schema has the names that are shown.
        for batch in &mut batches {
            *batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).map_err(|e| e.to_string())?;
        }
    }
    Ok(batches)
}

/// Rows as cells.
fn cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("∅");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string().replace('\n', "⏎")).collect());
        }
    }
    rows
}

async fn rows(engine: &Arc<Engine>, sql: &str) -> Vec<Vec<String>> {
    cells(&answer(engine, sql, Vec::new()).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
}

#[track_caller]
fn assert_rows(found: &[Vec<String>], expect: &[&[&str]]) {
    assert_eq!(found, expect);
}
