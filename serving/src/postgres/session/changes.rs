//! `COPY (SELECT … FROM changes('view')) TO STDOUT`: rows without an end.
//!
//! Invariant: such a COPY ends by the client, by `statement_timeout`, or by an error. The time of queries does not end
//! it.

use std::sync::Arc;

use super::super::commands::ClientStatement;
use super::super::failure::{Failure, Unanswered};
use super::super::wire::{Stop, Wire};
use super::PostgresSession;
use super::portal::OpenAnswer;
use crate::Error;
use crate::changes::{ChangedRows, read_query};

impl PostgresSession {
    /// Starts to listen, if `sql`, the query of a COPY, is one of changes.
    pub(super) async fn listen(
        &mut self,
        wire: &mut Wire,
        statement: &ClientStatement,
        sql: &str,
        stop: &Stop,
    ) -> Result<Option<OpenAnswer>, Unanswered> {
        let failure = |error: Error| Failure::of(&error, sql, statement.before);
        let Some(query) = read_query(sql).map_err(failure)? else {
            return Ok(None);
        };
        let (feeds, engine) = (Arc::clone(&self.feeds), Arc::clone(&self.engine));
        let listening = Box::pin(async move { query.run(&feeds, &engine).await });
        let ChangedRows { schema, batches } = wire.attend(stop, listening).await?.map_err(failure)?;
        Ok(Some(OpenAnswer { schema, batches, memory: None, current: None, is_large: false, until: None }))
    }
}
