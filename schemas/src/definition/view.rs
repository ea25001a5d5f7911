//! A view's definition: a name and one aggregate query over one stream.
//!
//! Invariant: the text is what the user wrote. The [`crate::algebra::ViewPlan`] compiled from it is its *meaning*.

use crate::{StreamName, ViewName};

/// `CREATE MATERIALIZED VIEW name AS query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDefinition {
    pub name: ViewName,
    /// The stream that the query reads.
    pub stream: StreamName,
    /// The query alone, as DataFusion's parser prints it.
    pub query: String,
    /// The statement as the user wrote it.
    pub sql: String,
}
