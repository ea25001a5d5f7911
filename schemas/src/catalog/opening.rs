//! Streams whose columns are found out: each CREATE without columns gets those of its stream, or of its topic.
//!
//! Invariant: a stream that exists keeps its columns, so a file that creates it can be applied at every start, also
//! while Kafka and the registry are away.

use futures::future::BoxFuture;

use super::Catalog;
use crate::definition::open_stream::columns_of;
use crate::definition::statement::OpenStream;
use crate::definition::{self, Statement};
use crate::{Error, Result};

/// Columns in SQL, `(a INT, b STRING)`, and what is to be known of them.
pub type FoundColumns = (String, Vec<String>);

/// Asks the topic of a stream for its columns.
pub type FindColumns<'a, E> = dyn Fn(OpenStream) -> BoxFuture<'a, Result<FoundColumns, E>> + Send + Sync + 'a;

/// Whether a statement has no columns.
pub fn is_open(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateOpenStream(_))
}

/// The statements with the columns of their streams, and by statement what is to be known of the columns. `catalog` is
/// the one that the statements will change.
///
/// Errors: those of `find`, and of [`definition::parse`].
pub async fn with_columns<E: From<Error>>(
    statements: Vec<Statement>,
    catalog: &Catalog,
    find: &FindColumns<'_, E>,
) -> Result<(Vec<Statement>, Vec<Vec<String>>), E> {
    let mut closed: Vec<Statement> = Vec::with_capacity(statements.len());
    let mut notes = Vec::with_capacity(statements.len());
    for statement in statements {
        let Statement::CreateOpenStream(open) = statement else {
            closed.push(statement);
            notes.push(Vec::new());
            continue;
        };
        let is_dropped = closed.iter().any(|s| matches!(s, Statement::DropStream { name, .. } if *name == open.name));
        let known = catalog.streams.get(&open.name).filter(|_| !open.or_replace && !is_dropped);
        let known = known.and_then(|stream| columns_of(&stream.definition.sql));
        let (columns, told) = match known {
            Some(columns) => (columns.to_owned(), Vec::new()),
            None => find(open.clone()).await?,
        };
        let sql = open.text_with(&columns);
        let statement = definition::parse(&sql)?.pop();
        closed.push(statement.ok_or_else(|| Error::Broken(format!("`{sql}` is no statement")))?);
        notes.push(told);
    }
    Ok((closed, notes))
}
