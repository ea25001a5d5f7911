//! A view as it was defined: a name and one aggregate query over one stream.
//!
//! Invariant: the text is what the user wrote; what it *means* is the [`crate::algebra::ViewPlan`] compiled from it.

use crate::{StreamName, ViewName};

/// `CREATE MATERIALIZED VIEW name AS query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDefinition {
    pub name: ViewName,
    /// The stream that the query reads.
    pub stream: StreamName,
    /// The query alone, as DataFusion's parser prints it.
    pub query: String,
    /// The statement as it was written.
    pub sql: String,
}
