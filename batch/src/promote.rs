//! Promotion: a view's name starts to point to states that were built to replace others, or to be the first.
//!
//! Invariant: a name never points to states that are not published; whoever tells readers of them is called before.

use std::sync::Arc;

use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::BatchVersion;

use crate::Result;
use crate::view_table::ViewTable;

/// Lets the name of `view` point to `view`, if `catalog` calls it building and states of it are published; true if so.
/// `announce` is told of the newest version first.
///
/// Errors: the state table cannot be read; the catalog cannot be written, or the view was dropped or replaced
/// meanwhile.
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
