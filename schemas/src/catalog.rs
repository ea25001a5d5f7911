//! The catalog: which streams and views there are, what they were defined as, and which view id each name points to.
//!
//! It is a row of numbered files in the warehouse, each the whole catalog after one change and never written again.
//! Creating the next number is the compare-and-set: of two writers one finds it taken, reads it and decides anew.
//! So no change is lost, no database is needed, and the history stays readable.
//!
//! Invariant: a [`Catalog`] value is one version, compiled by this engine; its views' ids are what this process would
//! compute, whatever the file says.

mod cache;
mod file;

pub(crate) mod change;

mod store;

mod follow;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::algebra::ViewPlan;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::{Error, Frontier, Result, StreamName, ViewName};

pub use follow::CatalogFollower;
pub use store::CatalogStore;

/// One version of the catalog. Version 0 is empty and has no file.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub version: u64,
    pub streams: BTreeMap<StreamName, Arc<CatalogStream>>,
    pub views: BTreeMap<ViewName, CatalogView>,
    /// Streams that were dropped. Their archives stay where they are, so their origins are kept: a stream that is
    /// created again over its archive begins where it began.
    pub dropped: BTreeMap<StreamName, Arc<CatalogStream>>,
}

/// A stream and where it begins.
#[derive(Debug, Clone)]
pub struct CatalogStream {
    pub definition: StreamDefinition,
    /// The origin O; names every partition that was ever read.
    pub origin: Frontier,
}

/// What a view's name points to: the states that are served, and those that are being built to replace them.
#[derive(Debug, Clone, Default)]
pub struct CatalogView {
    pub serving: Option<Arc<CompiledView>>,
    pub building: Option<Arc<CompiledView>>,
}

/// A view's definition with its compiled plan; the plan has its id.
#[derive(Debug)]
pub struct CompiledView {
    pub definition: ViewDefinition,
    pub plan: ViewPlan,
}

/// What a statement did, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// `created view x`, `view x is as it was`.
    pub action: String,
    pub warnings: Vec<String>,
}

impl Catalog {
    /// Every compiled view of every name, served or being built.
    pub fn compiled(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.views.values().flat_map(CatalogView::compiled)
    }

    /// The compiled views of `name`, or of all: those that are served and those being built.
    ///
    /// Errors: [`Error::FindDefinition`].
    pub fn compiled_of(&self, name: Option<&ViewName>) -> Result<Vec<Arc<CompiledView>>> {
        match name {
            None => Ok(self.compiled().cloned().collect()),
            Some(name) => match self.views.get(name) {
                Some(view) => Ok(view.compiled().cloned().collect()),
                None => Err(Error::FindDefinition { kind: "view", name: name.to_string() }),
            },
        }
    }

    /// The compiled views that read `stream`.
    pub fn views_of<'a>(&'a self, stream: &'a StreamName) -> impl Iterator<Item = &'a Arc<CompiledView>> {
        self.compiled().filter(move |view| view.definition.stream == *stream)
    }
}

impl CatalogView {
    /// Both sides, as far as they exist; what is served comes first.
    pub fn compiled(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.serving.iter().chain(&self.building)
    }
}

#[cfg(test)]
mod tests;
