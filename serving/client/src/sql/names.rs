//! The server's names, for completion.
//!
//! Invariant: all names come from the server's own `information_schema`, so every completed name can be queried.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::ask;
use crate::http::Client;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CompletionNames {
    pub(super) tables: Vec<Table>,
    pub(super) functions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

/// The schema of unqualified names.
pub(super) const PUBLIC: &str = "public";

/// Names that the editor reads and the shell replaces concurrently.
#[derive(Clone, Default)]
pub(super) struct SharedNames(Arc<Mutex<CompletionNames>>);

impl SharedNames {
    pub(super) fn read<T>(&self, read: impl FnOnce(&CompletionNames) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut CompletionNames)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Fetches the current tables and columns.
    pub(super) async fn refresh_tables(&self, client: &Client) -> Result<()> {
        let sql = "SELECT table_schema, table_name, column_name FROM information_schema.columns \
                   WHERE table_schema NOT IN ('pg_catalog', 'information_schema') \
                   ORDER BY table_schema, table_name, ordinal_position";
        let answer = ask::ask(client, sql).await?;
        let rows = answer.rows.iter().filter_map(|row| match row.as_slice() {
            [schema, name, column] => Some([ask::text(schema), ask::text(name), ask::text(column)]),
            _ => None,
        });
        let tables = grouped(rows);
        self.change(|names| names.tables = tables);
        Ok(())
    }

    /// Fetches the server's functions, which do not change while the server runs.
    pub(super) async fn refresh_functions(&self, client: &Client) -> Result<()> {
        let sql = "SELECT DISTINCT routine_name FROM information_schema.routines ORDER BY 1";
        let answer = ask::ask(client, sql).await?;
        let functions = answer.rows.iter().flatten().map(ask::text).collect();
        self.change(|names| names.functions = functions);
        Ok(())
    }
}

/// Groups columns by table; the rows of one table must be adjacent.
fn grouped(rows: impl Iterator<Item = [String; 3]>) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for [schema, name, column] in rows {
        match tables.last_mut() {
            Some(last) if last.schema == schema && last.name == name => last.columns.push(column),
            _ => tables.push(Table { schema, name, columns: vec![column] }),
        }
    }
    tables
}
