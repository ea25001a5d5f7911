//! The compiled views of the newest catalog, so that the next version compiles only the views that it adds.
//!
//! A compiled view is a function of its own text and of its stream. Most versions change neither.
//!
//! Invariant: a cached view is equal to the result of compiling it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Catalog, CatalogStream, CompiledView};
use crate::StreamName;
use crate::definition::view::ViewDefinition;

/// The text of the stream, the number of its predecessors, and the text of the view.
type Texts = (String, u64, String);

/// The cache, shared by all clones of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct ViewCache(Arc<Mutex<HashMap<Texts, Arc<CompiledView>>>>);

impl ViewCache {
    /// Returns the view if it was compiled over the same stream.
    pub(super) fn find(
        &self,
        view: &ViewDefinition,
        streams: &BTreeMap<StreamName, Arc<CatalogStream>>,
    ) -> Option<Arc<CompiledView>> {
        let stream = streams.get(&view.stream)?;
        let texts = (stream.definition.sql.clone(), stream.predecessors, view.sql.clone());
        self.0.lock().get(&texts).cloned()
    }

    /// Remembers the views of `catalog` and forgets all others.
    pub(super) fn remember(&self, catalog: &Catalog) {
        let texts = |view: &Arc<CompiledView>| {
            let stream = catalog.streams.get(&view.definition.stream)?;
            Some((stream.definition.sql.clone(), stream.predecessors, view.definition.sql.clone()))
        };
        let views = catalog.compiled().filter_map(|view| Some((texts(view)?, Arc::clone(view)))).collect();
        *self.0.lock() = views;
    }
}
