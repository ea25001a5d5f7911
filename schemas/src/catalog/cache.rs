//! The views of the newest catalog, compiled, so that the next version compiles only what it adds.
//!
//! A compiled view is a function of its text and of its stream's; most versions change neither. Invariant: what is
//! remembered is what compiling again would give.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Catalog, CatalogStream, CompiledView};
use crate::StreamName;
use crate::definition::view::ViewDefinition;

/// The stream's text and the view's.
type Texts = (String, String);

/// Shared by all clones of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct ViewCache(Arc<Mutex<HashMap<Texts, Arc<CompiledView>>>>);

impl ViewCache {
    /// The view if it was compiled over the same stream.
    pub(super) fn find(
        &self,
        view: &ViewDefinition,
        streams: &BTreeMap<StreamName, Arc<CatalogStream>>,
    ) -> Option<Arc<CompiledView>> {
        let stream = streams.get(&view.stream)?;
        let texts = (stream.definition.sql.clone(), view.sql.clone());
        self.0.lock().get(&texts).cloned()
    }

    /// Remembers the views of `catalog` and forgets all others.
    pub(super) fn remember(&self, catalog: &Catalog) {
        let texts = |view: &Arc<CompiledView>| {
            let stream = catalog.streams.get(&view.definition.stream)?;
            Some((stream.definition.sql.clone(), view.definition.sql.clone()))
        };
        let views = catalog.compiled().filter_map(|view| Some((texts(view)?, Arc::clone(view)))).collect();
        *self.0.lock() = views;
    }
}
