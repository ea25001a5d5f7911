//! A view at one frontier, held: its pin, with the rows of its stream.
//!
//! Invariant: what is held can be read until it is dropped, whatever is published meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::{Error as SharedError, Frontier, ViewName};

use super::token::ResumeToken;
use crate::engine::Engine;
use crate::options::Options;
use crate::pin::{Pin, PinnedRows, PinnedView, Wanted};
use crate::{Error, Result, names};

/// A view of the catalog, and the stream that it reads.
#[derive(Debug, Clone)]
pub(super) struct FollowedView {
    pub(super) name: ViewName,
    pub(super) view: Arc<CompiledView>,
    stream: Arc<CatalogStream>,
}

impl FollowedView {
    /// Errors: for a view that does not exist or does not answer yet.
    pub(super) fn find(engine: &Engine, name: &ViewName) -> Result<Self> {
        let catalog = Arc::clone(&engine.sources.shared.catalog.borrow());
        if !catalog.views.contains_key(name) {
            return Err(Error::Shared(SharedError::FindDefinition { kind: "view", name: name.to_string() }));
        }
        let reference = datafusion::common::TableReference::bare(name.as_str());
        // Says why a view does not answer.
        names::wanted(&catalog, &[reference], None, &engine.sources.metrics)?;
        let serving = catalog.views.get(name).and_then(|view| view.serving.clone());
        let found = serving.and_then(|view| {
            let stream = Arc::clone(catalog.streams.get(view.plan.stream())?);
            Some(Self { name: name.clone(), view, stream })
        });
        found.ok_or_else(|| Error::NotReady { what: format!("view `{name}`"), reason: "its stream is missing".into() })
    }

    /// Pins the view at its newest frontier.
    ///
    /// Errors: those of pins.
    pub(super) async fn hold(self, engine: &Engine) -> Result<HeldView> {
        let id = self.view.plan.id().clone();
        let wanted = Wanted {
            stream: Arc::clone(&self.stream),
            rows: true,
            views: BTreeMap::from([(id, Arc::clone(&self.view))]),
            spare: BTreeMap::new(),
        };
        let stream = self.stream.definition.name.clone();
        let mut pins = engine.pin_wanted(&stream, wanted, &Options::default()).await?;
        let not_held = || Error::NotHeld { stream: stream.clone(), reason: "the view was not pinned".into() };
        let mut pin = pins.remove(&stream).ok_or_else(not_held)?;
        let view = pin.views.remove(self.view.plan.id()).ok_or_else(not_held)?;
        let rows = pin.rows.take().ok_or_else(not_held)?;
        Ok(HeldView { followed: self, pin, view, rows })
    }
}

/// A view at one frontier.
#[derive(Debug)]
pub(super) struct HeldView {
    pub(super) followed: FollowedView,
    pub(super) pin: Pin,
    pub(super) view: PinnedView,
    pub(super) rows: PinnedRows,
}

impl HeldView {
    pub(super) fn frontier(&self) -> &Frontier {
        &self.pin.frontier
    }

    pub(super) fn token(&self) -> ResumeToken {
        let view_id = self.view.view.plan.id().as_str().to_owned();
        ResumeToken { view_id, frontier: self.pin.frontier.clone() }
    }
}
