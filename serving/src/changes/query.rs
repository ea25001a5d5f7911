//! Changes as rows, for `COPY (SELECT … FROM changes('view', 'token') WHERE …) TO STDOUT`.
//!
//! ```text
//!  _change    _token            the columns of the view
//!  reset      null              null
//!  upsert     null              the row
//!  delete     null              the last row
//!  frontier   5f0c1a@0:8334     null
//! ```
//!
//! Invariant: a condition is on the rows of the view, as it is for other listeners. So a row that no longer fits is a
//! delete.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::sql::parser::{DFParser, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, Value, ValueWithSpan, visit_relations,
};
use futures::stream::{self, BoxStream, StreamExt};
use thalweg_schemas::algebra::key_name;
use thalweg_schemas::{Error as SharedError, ViewName};

use super::feed::ChangeFeeds;
use super::listener::{ChangeEvent, ListenRequest, Listening, Selection, listen};
use super::step::ChangeKind;
use super::token::ResumeToken;
use crate::engine::{ASSEMBLED, Engine};
use crate::limits::text;
use crate::{Error, Result};

/// The table function.
const FUNCTION: &str = "changes";

/// What has happened to the row.
const CHANGE: &str = "_change";

/// Where the client stands.
const TOKEN: &str = "_token";

/// A query of changes.
pub(crate) struct ChangesQuery {
    request: ListenRequest,
    shown: Vec<ShownColumn>,
}

/// A column of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownColumn {
    Change,
    Token,
    /// The next one of the columns that are read from the view.
    Read,
    /// All of them.
    All,
}

/// Rows without an end.
pub(crate) struct ChangedRows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch>>,
}

/// Reads a query of changes; `None` for every other text.
///
/// Errors: a query of changes that asks for more than columns and a condition.
pub(crate) fn read(sql: &str) -> Result<Option<ChangesQuery>> {
    if !sql.to_ascii_lowercase().contains(FUNCTION) {
        return Ok(None);
    }
    text::refuse_long(sql)?;
    let Ok(mut statements) = DFParser::parse_sql(sql) else {
        return Ok(None);
    };
    let Some(EngineStatement::Statement(statement)) = statements.pop_front().filter(|_| statements.is_empty()) else {
        return Ok(None);
    };
    let Statement::Query(query) = *statement else {
        return Ok(None);
    };
    let names_changes = |name: &ObjectName| match is_changes(name) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    if visit_relations(&query, names_changes).is_continue() {
        return Ok(None);
    }
    of_query(*query)
}

fn is_changes(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case(FUNCTION)
}

fn of_query(query: Query) -> Result<Option<ChangesQuery>> {
    let arguments = match query.body.as_ref() {
        SetExpr::Select(select) => match select.from.first().map(|table| &table.relation) {
            Some(TableFactor::Table { name, args: Some(args), .. }) if is_changes(name) => Some(args.args.clone()),
            Some(TableFactor::Table { name, args: None, .. }) if is_changes(name) => return Ok(None),
            _ => None,
        },
        _ => None,
    };
    let plain = is_plain(&query);
    match (arguments, query.body.as_ref()) {
        (Some(arguments), SetExpr::Select(select)) if plain => of_select(select, &query, &arguments).map(Some),
        _ => Err(refused(
            "changes('view') takes a list of columns and a WHERE, and nothing else",
            "Copy the changes, and join, group or sort what you have.",
        )),
    }
}

/// True for a query of one table with nothing but columns and a condition.
fn is_plain(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let one_table = select.from.len() == 1 && select.from.iter().all(|table| table.joins.is_empty());
    let ordered = query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some();
    let narrowed = select.distinct.is_some() || select.having.is_some() || select.qualify.is_some() || grouped;
    one_table && query.with.is_none() && !ordered && !narrowed
}

fn of_select(select: &Select, query: &Query, arguments: &[FunctionArg]) -> Result<ChangesQuery> {
    let texts = arguments.iter().map(argument).collect::<Option<Vec<_>>>();
    let (view, token) = match texts.as_deref() {
        Some([Some(view)]) => (view, None),
        Some([Some(view), token]) => (view, token.as_ref().filter(|token| !token.is_empty())),
        _ => {
            let help = "Write changes('view'), or changes('view', 'the last _token').";
            return Err(refused("changes() takes the name of a view and a token, as texts", help));
        }
    };
    let view = ViewName::new(view).map_err(SharedError::from)?;
    let since = token.map(|token| token.parse::<ResumeToken>()).transpose();
    let since = since.map_err(|error| refused(&error.to_string(), "Give the last `_token` as it came."))?;
    let mut shown = Vec::new();
    let mut read = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) if select.projection.len() == 1 => {
                shown.extend([ShownColumn::Change, ShownColumn::Token, ShownColumn::All]);
            }
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                let help = "`*` has _change, _token and all columns of the view; or name the columns.";
                return Err(refused("`*` stands alone in a query of changes", help));
            }
            item => match named(item) {
                Some(CHANGE) => shown.push(ShownColumn::Change),
                Some(TOKEN) => shown.push(ShownColumn::Token),
                _ => {
                    shown.push(ShownColumn::Read);
                    read.push(item.clone());
                }
            },
        }
    }
    let all = shown.contains(&ShownColumn::All);
    let selection: Option<Selection> = (!all || select.selection.is_some()).then(|| -> Selection {
        let query = query.clone();
        Arc::new(move |table, keys| Ok(selecting(query.clone(), (!all).then(|| read.clone()), table, keys)))
    });
    Ok(ChangesQuery { request: ListenRequest { view, selection, since }, shown })
}

/// The text of an argument, or `None` for NULL; nothing for what is neither.
fn argument(argument: &FunctionArg) -> Option<Option<String>> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value, .. }))) => match value {
            Value::SingleQuotedString(text) => Some(Some(text.clone())),
            Value::Null => Some(None),
            _ => None,
        },
        _ => None,
    }
}

/// The name of a column that stands alone.
fn named(item: &SelectItem) -> Option<&str> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.as_str()),
        _ => None,
    }
}

/// `query` over `table`, with the columns `read` (all, if `None`) and those of the keys.
fn selecting(mut query: Query, read: Option<Vec<SelectItem>>, table: &str, keys: usize) -> EngineStatement {
    if let SetExpr::Select(select) = query.body.as_mut() {
        if let Some(read) = read {
            let keys = (0..keys).map(|key| SelectItem::UnnamedExpr(Expr::Identifier(Ident::new(key_name(key)))));
            select.projection = read.into_iter().chain(keys).collect();
        }
        for from in &mut select.from {
            if let TableFactor::Table { name, args, .. } = &mut from.relation {
                *name = ObjectName::from(vec![Ident::new(ASSEMBLED), Ident::new(table)]);
                *args = None;
            }
        }
    }
    EngineStatement::Statement(Box::new(Statement::Query(Box::new(query))))
}

fn refused(message: &str, help: &str) -> Error {
    Error::Shared(SharedError::refuse(message, help))
}

impl ChangesQuery {
    /// Starts to listen.
    ///
    /// Errors: those of [`listen`].
    pub(crate) async fn run(self, feeds: &Arc<ChangeFeeds>, engine: &Arc<Engine>) -> Result<ChangedRows> {
        let Listening { columns, events } = listen(feeds, engine, self.request).await?;
        let text = |name: &str, nullable| Arc::new(Field::new(name, DataType::Utf8, nullable));
        let mut read = columns.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let mut fields = Vec::new();
        for shown in &self.shown {
            match shown {
                ShownColumn::Change => fields.push(text(CHANGE, false)),
                ShownColumn::Token => fields.push(text(TOKEN, true)),
                ShownColumn::Read => fields.extend(read.next()),
                ShownColumn::All => fields.extend(read.by_ref()),
            }
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let rows = ShownRows { schema: Arc::clone(&schema), shown: self.shown, columns };
        let batches = stream::unfold((events, rows), |(mut events, rows)| async move {
            let event = events.recv().await?;
            let batch = event.and_then(|event| rows.batch(event).map_err(Error::Encode));
            Some((batch, (events, rows)))
        });
        Ok(ChangedRows { schema, batches: batches.boxed() })
    }
}

/// Makes rows of events.
struct ShownRows {
    schema: SchemaRef,
    shown: Vec<ShownColumn>,
    /// The columns that are read from the view.
    columns: SchemaRef,
}

impl ShownRows {
    fn batch(&self, event: ChangeEvent) -> std::result::Result<RecordBatch, ArrowError> {
        let (change, token, rows) = match event {
            ChangeEvent::Reset { .. } => ("reset", None, None),
            ChangeEvent::Rows { kind: ChangeKind::Upsert, rows, .. } => ("upsert", None, Some(rows)),
            ChangeEvent::Rows { kind: ChangeKind::Delete, rows, .. } => ("delete", None, Some(rows)),
            ChangeEvent::Frontier(token) => ("frontier", Some(token.to_string()), None),
        };
        let length = rows.as_ref().map_or(1, RecordBatch::num_rows);
        let read = |at: usize| match &rows {
            Some(rows) => Arc::clone(rows.column(at)),
            None => new_null_array(self.columns.field(at).data_type(), length),
        };
        let mut columns: Vec<ArrayRef> = Vec::new();
        let mut at = 0;
        for shown in &self.shown {
            match shown {
                ShownColumn::Change => columns.push(Arc::new(StringArray::from(vec![change; length]))),
                ShownColumn::Token => columns.push(Arc::new(StringArray::from(vec![token.as_deref(); length]))),
                ShownColumn::Read => {
                    columns.push(read(at));
                    at += 1;
                }
                ShownColumn::All => columns.extend((0..self.columns.fields().len()).map(read)),
            }
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_changes_has_columns_and_a_condition() {
        use ShownColumn::{All, Change, Read, Token};
        let check = |sql: &str, view: &str, since: bool, selects: bool, shown: &[ShownColumn]| {
            let query = read(sql).unwrap().unwrap();
            let request = &query.request;
            assert_eq!(request.view.as_str(), view, "{sql}");
            assert_eq!((request.since.is_some(), request.selection.is_some()), (since, selects), "{sql}");
            assert_eq!(query.shown, shown, "{sql}");
        };
        check("SELECT * FROM changes('v')", "v", false, false, &[Change, Token, All]);
        check("select * from Changes('v', NULL)", "v", false, false, &[Change, Token, All]);
        check("SELECT * FROM changes('v', 'ab@0:5')", "v", true, false, &[Change, Token, All]);
        check("SELECT * FROM changes('v', '')", "v", false, false, &[Change, Token, All]);
        check("SELECT * FROM changes('v') WHERE k = 'a'", "v", false, true, &[Change, Token, All]);
        check("SELECT _change, k FROM changes('v')", "v", false, true, &[Change, Read]);
        check("SELECT k, upper(k) AS u, _token FROM changes('v')", "v", false, true, &[Read, Read, Token]);
    }

    #[test]
    fn other_queries_are_none_of_these() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM v",
            "SELECT 'changes'",
            "SELECT changes FROM v",
            "SELECT * FROM changes",
            "SELECT * FROM public.changes",
            "SELECT changes( FROM",
            "DROP TABLE changes",
        ] {
            assert!(read(sql).unwrap().is_none(), "{sql}");
        }
    }

    #[test]
    fn more_is_refused() {
        for sql in [
            "SELECT * FROM changes('v') LIMIT 1",
            "SELECT * FROM changes('v') ORDER BY k",
            "SELECT DISTINCT k FROM changes('v')",
            "SELECT k, count(*) FROM changes('v') GROUP BY k",
            "SELECT * FROM changes('v') a JOIN changes('w') b ON a.k = b.k",
            "SELECT * FROM changes('v'), v",
            "SELECT * FROM (SELECT * FROM changes('v')) x",
            "WITH x AS (SELECT 1) SELECT * FROM changes('v')",
            "SELECT * FROM changes('v') UNION ALL SELECT * FROM changes('v')",
            "SELECT *, k FROM changes('v')",
            "SELECT * FROM changes()",
            "SELECT * FROM changes(v)",
            "SELECT * FROM changes('v', 'x')",
            "SELECT * FROM changes('v', 'ab@0:5', 1)",
            "SELECT * FROM changes('V W')",
        ] {
            assert!(read(sql).is_err(), "{sql}");
        }
    }
}
