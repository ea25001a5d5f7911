//! Promotion: a view's name starts to point to its newly built states. The states replace older states, or are the
//! first.
//!
//! Invariant: a name never points to unpublished states, and the states are announced to readers before the
//! promotion.

use std::sync::Arc;

use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::BatchVersion;

use crate::Result;
use crate::view_table::ViewTable;

/// Points the name of `view` to `view`, if `catalog` lists the view as building and its states are published. Returns
/// true if the name was changed. `announce` receives the newest version first.
///
/// Errors: the state table cannot be read; the catalog cannot be written; the view was dropped or replaced in the
/// meantime.
pub async fn promote(
    warehouse: &Warehouse,
    catalogs: &CatalogStore,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    announce: impl FnOnce(Arc<BatchVersion>),
) -> Result<bool> {
    let (name, id) = (&view.definition.name, view.plan.id());
    let building = catalog.views.get(name).and_then(|named| named.building.as_ref());
    if building.is_none_or(|building| building.plan.id() != id) {
        return Ok(false);
    }
    let mut table = ViewTable::open(warehouse, id, view.plan.stored_schema()).await?;
    let Some(version) = table.latest().await? else {
        return Ok(false);
    };
    announce(version);
    catalogs.promote(name, id).await?;
    Ok(true)
}
