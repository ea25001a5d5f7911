//! A run of the batch layer over one view, and the version that the run publishes.

use std::sync::Arc;

use thalweg_batch::{BatchConfig, ViewTable, run_view};
use thalweg_kit::world::World;
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::warehouse::versions::BatchVersion;

/// Computes the view up to the newest mark, and returns the newest version.
pub(crate) async fn recompute(
    world: &World,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
) -> Arc<BatchVersion> {
    let catalog = world.catalogs.load().await.unwrap();
    run_view(&world.warehouse, &catalog, view, mode, config, |_| {}).await.unwrap();
    let plan = &view.plan;
    let mut table = ViewTable::open(&world.warehouse, plan.id(), plan.stored_schema()).await.unwrap();
    table.latest().await.unwrap().unwrap()
}
