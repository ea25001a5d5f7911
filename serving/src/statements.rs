//! The contents of a request's SQL: definitions to apply, or one query.
//!
//! Invariant: a request holds definitions or one query, never both, so a query never runs against a catalog that its
//! own text has half changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::{FutureExt, TryFutureExt, stream};
use thalweg_schemas::Error as SharedError;
use thalweg_schemas::catalog::{self, is_open};
use thalweg_schemas::definition::pieces::Piece;
use thalweg_schemas::definition::statement::CopiedFiles;
use thalweg_schemas::definition::{self, Statement};

use crate::answer::Answer;
use crate::sources::{CallError, Sources};
use crate::{Error, Result};

/// How long the answer to a definition waits for this process to follow the new catalog.
const FOLLOW_WAIT: Duration = Duration::from_secs(5);

/// The contents of a text.
pub(crate) enum RequestKind {
    Definitions(Vec<Statement>),
    /// Exactly one query. The text is kept unchanged, so that lines and columns in errors match the user's text.
    Query,
}

/// Errors: [`Error::Shared`] if a statement cannot be read, or if a COPY is not alone; [`Error::FindStatement`],
/// [`Error::MixStatements`].
pub(crate) fn read(pieces: &[Piece<'_>]) -> Result<RequestKind> {
    let statements = definition::parse_pieces(pieces)?;
    if statements.is_empty() {
        return Err(Error::FindStatement);
    }
    let queries = statements.iter().filter(|s| matches!(s, Statement::Query(_))).count();
    if let [_, _, ..] = &statements[..]
        && statements.iter().any(|s| matches!(s, Statement::CopyFrom(_)))
    {
        let refused = SharedError::refuse("COPY loads files beside no other statement", "Send it on its own.");
        return Err(Error::Shared(refused));
    }
    match (queries, statements.len() - queries) {
        (1, 0) => Ok(RequestKind::Query),
        (0, _) => Ok(RequestKind::Definitions(statements)),
        (queries, definitions) => Err(Error::MixStatements { definitions, queries }),
    }
}

/// The columns of the answer to definitions.
pub(crate) fn applied_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("action", DataType::Utf8, false),
        Field::new("warning", DataType::Utf8, true),
    ]))
}

/// Applies `definitions` in one catalog version and waits until this process follows that version. The answer has one
/// row per statement: `action`, and `warning` if there is one or if there are `notes` on the statement.
///
/// Errors: [`Error::Shared`].
pub(crate) async fn apply(sources: &Sources, definitions: Vec<Statement>, notes: Vec<Vec<String>>) -> Result<Answer> {
    let applied = sources.shared.catalogs.apply(definitions).await?;
    let version = sources.shared.catalogs.load().await?.version;
    let mut catalog = sources.shared.catalog.clone();
    let followed = catalog.wait_for(|c| c.version >= version);
    if tokio::time::timeout(FOLLOW_WAIT, followed).await.is_err() {
        tracing::warn!(version, "the catalog was changed but is not followed yet");
    }
    let notes = notes.into_iter().chain(std::iter::repeat_with(Vec::new));
    let told = applied.into_iter().zip(notes).map(|(applied, mut notes)| {
        notes.extend(applied.warnings);
        (applied.action, notes)
    });
    answer(told.collect())
}

/// Gives streams without columns those of their topics. Returns by statement what is to be known of them.
///
/// Errors: [`Error::Call`] if a topic cannot be asked, [`Error::Shared`].
pub(crate) async fn with_columns(
    sources: &Sources,
    definitions: Vec<Statement>,
) -> Result<(Vec<Statement>, Vec<Vec<String>>)> {
    if !definitions.iter().any(is_open) {
        return Ok((definitions, Vec::new()));
    }
    let catalog = sources.shared.catalogs.load().await?;
    let find = |open| {
        let found = (sources.columns)(open);
        found.map_err(|CallError { fault, message }| Error::Call { fault, message }).boxed()
    };
    catalog::with_columns(definitions, &catalog, &find).await
}

/// Loads files; the answer is as that of a definition.
///
/// Errors: [`Error::Call`].
pub(crate) async fn copy(sources: &Sources, files: CopiedFiles) -> Result<Answer> {
    let loaded = (sources.load)(files).await;
    let loaded = loaded.map_err(|CallError { fault, message }| Error::Call { fault, message })?;
    answer(vec![loaded])
}

/// One row for each statement: what was done, and what is to be known.
fn answer(done: Vec<(String, Vec<String>)>) -> Result<Answer> {
    let actions = done.iter().map(|(action, _)| Some(action.clone()));
    let warnings = done.iter().map(|(_, warnings)| (!warnings.is_empty()).then(|| warnings.join("\n")));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(actions.collect::<StringArray>()), Arc::new(warnings.collect::<StringArray>())];
    let schema = applied_schema();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(Error::Encode)?;
    Ok(Answer {
        schema,
        frontier: BTreeMap::new(),
        stale: false,
        partial: BTreeMap::new(),
        views: BTreeMap::new(),
        certificate: None,
        identity: None,
        batches: Box::pin(stream::iter([Ok(batch)])),
        memory: None,
    })
}
