//! A stream as statements define it, without a warehouse.
//!
//! Invariant: the definition is the one that a catalog would hold.

use super::Catalog;
use super::change::{Change, Facts, missing_stream};
use crate::definition::Statement;
use crate::definition::stream::StreamDefinition;
use crate::{Result, StreamName};

/// The stream `name` as `statements` define it, in order. Views and other streams are ignored.
///
/// Errors: [`crate::Error::FindDefinition`]; the statement that cannot be applied, and the reason.
pub async fn define_stream(statements: Vec<Statement>, name: &StreamName) -> Result<StreamDefinition> {
    let mut catalog = Catalog::default();
    for statement in statements {
        let is_about = match &statement {
            Statement::CreateStream { definition, .. } => definition.name == *name,
            Statement::CreateOpenStream(open) => open.name == *name,
            Statement::AddColumns { stream, .. } => stream == name,
            Statement::DropStream { name: dropped, .. } => dropped == name,
            _ => false,
        };
        if is_about {
            let change = Change::Statements { statements: vec![statement], repeated: true };
            let decision = change.decide(&catalog, &Facts::default()).await?;
            catalog = decision.catalog.unwrap_or(catalog);
        }
    }
    let found = catalog.streams.get(name).map(|stream| stream.definition.clone());
    found.ok_or_else(|| missing_stream(name))
}
