//! The catalog: the streams and views, their definitions, and the view id to which each name points.
//!
//! The catalog is a series of numbered files in the warehouse. Each file holds the whole catalog after one change and
//! is never written again. Creating the file with the next number is the compare-and-set: of two writers, one finds
//! the number taken, reads that file and decides again. No change is lost, no database is needed, and the history
//! stays readable.
//!
//! Invariant: a [`Catalog`] value is one version, compiled by this engine. The ids of its views are those that this
//! process computes, whatever the file says. A definition that this process does not understand is kept as it is, and
//! nothing but the definition itself depends on it.

mod cache;
mod kept;

mod comments;

mod file;
mod shape;

mod commenting;

pub(crate) mod change;

mod define;

mod opening;

mod store;

mod follow;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::algebra::ViewPlan;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::{Error, Frontier, Result, StreamName, ViewName};

pub use comments::Comments;
pub use define::define_stream;
pub use follow::CatalogFollower;
pub use kept::{KeptEntry, RestOfFile};
pub use opening::{FindColumns, FoundColumns, is_open, with_columns};
pub use store::CatalogStore;

/// One version of the catalog. Version 0 is empty and has no file.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub version: u64,
    pub streams: BTreeMap<StreamName, Arc<CatalogStream>>,
    pub views: BTreeMap<ViewName, CatalogView>,
    /// Streams that were dropped. Their archives stay in the warehouse, so the catalog keeps their origins: a stream
    /// that is created again over its archive begins at its old origin.
    pub dropped: BTreeMap<StreamName, Arc<CatalogStream>>,
    /// Streams that this process does not understand.
    pub kept_streams: BTreeMap<StreamName, Arc<KeptEntry>>,
    /// The comments on streams and views, by name.
    pub comments: BTreeMap<String, Comments>,
    pub rest: Arc<RestOfFile>,
}

/// A stream and its origin.
#[derive(Debug, Clone)]
pub struct CatalogStream {
    pub definition: StreamDefinition,
    /// The origin O. It names every partition that was ever read.
    pub origin: Frontier,
    /// How many streams of this name were read and dropped before, and left no archive. Offsets of those streams are
    /// offsets of other messages.
    pub predecessors: u64,
}

/// The compiled views of one name: the one that is served, and the one that is being built to replace it.
#[derive(Debug, Clone, Default)]
pub struct CatalogView {
    pub serving: Option<Arc<CompiledView>>,
    pub building: Option<Arc<CompiledView>>,
    /// The entry of the file, if it holds something that this process does not use: a definition that it does not
    /// understand, or a served view whose states another engine computed. It is written back as it is until this
    /// process changes the view.
    pub kept: Option<Arc<KeptEntry>>,
}

/// A view's definition and its compiled plan; the plan holds the id.
#[derive(Debug)]
pub struct CompiledView {
    pub definition: ViewDefinition,
    pub plan: ViewPlan,
}

/// The effect of a statement, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// `created view x`, `view x is as it was`.
    pub action: String,
    pub warnings: Vec<String>,
}

impl Catalog {
    /// Iterates over every compiled view of every name, served or being built.
    pub fn compiled(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.views.values().flat_map(CatalogView::compiled)
    }

    /// Returns the compiled views of `name`, or of all names: the served ones and those being built.
    ///
    /// Errors: [`Error::FindDefinition`]; a refusal if this process does not understand the view.
    pub fn compiled_of(&self, name: Option<&ViewName>) -> Result<Vec<Arc<CompiledView>>> {
        match name {
            None => Ok(self.compiled().cloned().collect()),
            Some(name) => match self.views.get(name) {
                Some(view) => match view.not_understood() {
                    Some(reason) if view.compiled().next().is_none() => Err(Error::refuse(
                        format!("view `{name}` is not understood by this version of the program: {reason}"),
                        "Use the version that defined it, or replace or drop the view.",
                    )),
                    _ => Ok(view.compiled().cloned().collect()),
                },
                None => Err(Error::FindDefinition { kind: "view", name: name.to_string() }),
            },
        }
    }

    /// Iterates over the compiled views that read `stream`.
    pub fn views_of<'a>(&'a self, stream: &'a StreamName) -> impl Iterator<Item = &'a Arc<CompiledView>> {
        self.compiled().filter(move |view| view.definition.stream == *stream)
    }
}

impl CatalogView {
    /// Iterates over the served view, then the one being built, as far as they exist.
    pub fn compiled(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.serving.iter().chain(&self.building)
    }

    /// Why this process does not understand the view, or the newest version of it.
    pub fn not_understood(&self) -> Option<&str> {
        self.kept.as_ref()?.reason.as_deref()
    }

    /// True if the view was served with states of another engine, and is not served yet with states of this one.
    pub fn is_rebuilt_for_engine(&self) -> bool {
        self.serving.is_none() && self.kept.as_ref().is_some_and(|kept| kept.reason.is_none())
    }
}

#[cfg(test)]
mod tests;
