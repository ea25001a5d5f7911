//! What an answer depends on, known before the query is planned.
//!
//! ```text
//!  text ─ values ─ options ─┐
//!  names ─ view ids ────────┼─▶ identity
//!  streams ─ frontiers ─────┘
//! ```
//!
//! Invariant: equal identities mean equal answers, up to the order of rows that the query leaves open and to the
//! tolerance of sums of floats. A query whose answer depends on anything else has no identity.

use std::collections::BTreeSet;

use datafusion::common::TableReference;
use thalweg_schemas::ViewId;
use thalweg_schemas::api::certificate::{Certificate, CertifiedView};
use thalweg_schemas::api::sql::Frontiers;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::engine::session::ENGINE;

use super::determined::TABLE_FUNCTIONS;
use super::planning::ReadQuery;
use super::standing::read_views;
use crate::identity::{AnswerIdentity, IdentityParts};
use crate::names::{self, Named};
use crate::parameters::{Bindings, Parameter};
use crate::pin::Pins;
use crate::tables::Side;

/// The identity of the answer to `query` at its pins.
pub(super) fn identity(query: &ReadQuery, catalog: &Catalog, pins: &Pins) -> Option<AnswerIdentity> {
    if !query.is_determined {
        return None;
    }
    let mut hash = IdentityParts::new();
    hash.part(concat!("thalweg ", env!("CARGO_PKG_VERSION")).as_bytes());
    hash.part(ENGINE.as_bytes());
    hash.part(query.sql.as_bytes());
    hash.part(query.options.source.as_str().as_bytes());
    if let Bindings::Values(values) = &query.bindings {
        for value in values {
            match value {
                Parameter::Typed(value) => hash.scalar(value),
                Parameter::Text(text) => [&b"text"[..], text.as_bytes()].into_iter().for_each(|part| hash.part(part)),
                Parameter::Null => hash.part(b"null"),
            }
        }
    }
    let mut sides = false;
    for reference in &query.references {
        let Some(named) = names::find(catalog, reference) else {
            if is_table_function(reference) {
                continue;
            }
            return None;
        };
        hash.part(reference.to_string().as_bytes());
        if let Named::View(view, side) = &named {
            hash.part(view.plan.id().as_str().as_bytes());
            hash.part(view.definition.sql.as_bytes());
            sides |= *side != Side::Merged;
        }
    }
    hash.value(&query.options.certificate);
    for (name, pin) in pins {
        hash.part(name.as_str().as_bytes());
        hash.part(pin.stream.definition.sql.as_bytes());
        hash.value(&(&pin.stream.origin, pin.stream.predecessors));
        hash.value(&pin.frontier);
        hash.value(&(pin.stale, &pin.partial));
        // One layer alone answers up to its own border, which moves while the frontier stands still.
        if sides || query.options.certificate {
            for (id, view) in &pin.views {
                hash.part(id.as_str().as_bytes());
                hash.value(&(view.batch.version, &view.cut));
            }
        }
    }
    Some(hash.end())
}

fn is_table_function(reference: &TableReference) -> bool {
    reference.catalog().is_none() && TABLE_FUNCTIONS.contains(&reference.table())
}

/// What the answer to `query`, which stands at `frontiers`, is computed from.
pub(super) fn certificate(
    query: &ReadQuery,
    pins: &Pins,
    rolled_up: &BTreeSet<ViewId>,
    frontiers: &Frontiers,
) -> Certificate {
    let views = pins.values().flat_map(|pin| read_views(pin, rolled_up)).map(|pinned| {
        let certified = CertifiedView {
            id: pinned.view.plan.id().clone(),
            batch_version: pinned.batch.version,
            cut: pinned.cut.clone(),
        };
        (pinned.view.definition.name.clone(), certified)
    });
    Certificate {
        sql: blake3::hash(query.sql.as_bytes()).to_hex().to_string(),
        streams: frontiers.clone(),
        views: views.collect(),
    }
}
