//! `GET /v1/views/{view}` and `GET /v1/streams/{stream}`: rows for clients without SQL.
//!
//! ```text
//!  where=peak > 5 & columns=device,peak & order=peak.desc,device & limit=10 & offset=20
//! ```
//!
//! Invariant: the query is put together as a tree. No text of a client becomes a part of SQL: a condition is read as
//! one expression, names become quoted identifiers, and counts are numbers.

use datafusion::sql::parser::{DFParser, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, LimitClause, ObjectName, Offset, OffsetRows, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query,
    SelectItem, SetExpr, Statement, TableFactor, Value,
};
use thalweg_schemas::definition::expression;

use super::request::{bad, take};
use crate::limits::text;
use crate::{Error, Result};

/// The parameters of rows.
pub(super) const PARAMETERS: [&str; 5] = ["where", "columns", "order", "limit", "offset"];

/// What a request asks of one table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowsRequest {
    /// A valid name, alone or after a schema.
    pub(super) table: Vec<String>,
    condition: Option<String>,
    /// All, if there is none.
    columns: Vec<String>,
    order: Vec<Sorted>,
    limit: Option<u64>,
    offset: Option<u64>,
}

/// A column to sort by.
#[derive(Debug, Clone, PartialEq)]
struct Sorted {
    column: String,
    descending: bool,
    nulls_first: Option<bool>,
}

impl RowsRequest {
    /// Takes a request out of a query string.
    ///
    /// Errors: [`Error::ReadRequest`].
    pub(super) fn read(table: Vec<String>, parameters: &mut Vec<(String, String)>) -> Result<Self> {
        let columns = match take(parameters, "columns") {
            Some(list) => items(&list)?.into_iter().map(|item| item.plain("columns")).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let order = match take(parameters, "order") {
            Some(list) => items(&list)?.into_iter().map(Item::sorted).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let mut count = |name: &str| {
            let text = take(parameters, name);
            let digits = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match text.map(|text| if digits(&text) { text.parse::<i64>().ok() } else { None }) {
                None => Ok(None),
                Some(Some(count)) => Ok(Some(count.unsigned_abs())),
                Some(None) => Err(bad(format!("{name} is a whole number, as in {name}=100"))),
            }
        };
        let (limit, offset) = (count("limit")?, count("offset")?);
        Ok(Self { table, condition: take(parameters, "where"), columns, order, limit, offset })
    }

    /// True if the request leaves nothing out.
    pub(super) fn is_whole(&self) -> bool {
        self.condition.is_none() && self.columns.is_empty()
    }

    /// The same request of another table, with `more` columns behind those that the client names.
    pub(super) fn over(&self, table: Vec<String>, more: Vec<String>) -> Self {
        let mut other = Self { table, ..self.clone() };
        if !other.columns.is_empty() {
            other.columns.extend(more);
        }
        other
    }

    /// The query. Reading a condition may take a deep stack.
    ///
    /// Errors: [`Error::RefuseSize`], [`Error::Shared`] for a condition that cannot be read.
    pub(super) fn statement(&self) -> Result<EngineStatement> {
        let condition = match &self.condition {
            Some(condition) => {
                text::refuse_long(condition)?;
                Some(expression::condition(condition)?)
            }
            None => None,
        };
        let mut statement = template()?;
        if let Some(query) = query_of(&mut statement) {
            self.fill(query, condition);
        }
        Ok(statement)
    }

    fn fill(&self, query: &mut Query, condition: Option<Expr>) {
        if let SetExpr::Select(select) = query.body.as_mut() {
            if !self.columns.is_empty() {
                let columns = self.columns.iter().map(|name| SelectItem::UnnamedExpr(Expr::Identifier(quoted(name))));
                select.projection = columns.collect();
            }
            for table in &mut select.from {
                if let TableFactor::Table { name, .. } = &mut table.relation {
                    *name =
                        ObjectName::from(self.table.iter().map(|part| Ident::new(part.as_str())).collect::<Vec<_>>());
                }
            }
            select.selection = condition;
        }
        let sorts: Vec<OrderByExpr> = self.order.iter().map(Sorted::expression).collect();
        query.order_by =
            (!sorts.is_empty()).then_some(OrderBy { kind: OrderByKind::Expressions(sorts), interpolate: None });
        let number = |count: u64| Expr::Value(Value::Number(count.to_string(), false).into());
        let offset = self.offset.map(|offset| Offset { value: number(offset), rows: OffsetRows::None });
        let limit = self.limit.map(number);
        let limited = limit.is_some() || offset.is_some();
        query.limit_clause = limited.then(|| LimitClause::LimitOffset { limit, offset, limit_by: Vec::new() });
    }

    /// What stands for the query in the log and in the identity of its answer: the request, written in one way.
    pub(super) fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Sorted {
    fn expression(&self) -> OrderByExpr {
        let options = OrderByOptions { asc: Some(!self.descending), nulls_first: self.nulls_first };
        OrderByExpr { expr: Expr::Identifier(quoted(&self.column)), options, with_fill: None }
    }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// A query of one table, whose parts are replaced.
fn template() -> Result<EngineStatement> {
    let mut statements = DFParser::parse_sql("SELECT * FROM template").map_err(|source| Error::PlanQuery { source })?;
    statements.pop_front().ok_or(Error::FindStatement)
}

fn query_of(statement: &mut EngineStatement) -> Option<&mut Query> {
    match statement {
        EngineStatement::Statement(statement) => match statement.as_mut() {
            Statement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

/// A name of a list, and the words behind it.
#[derive(Debug, PartialEq)]
struct Item {
    name: String,
    words: Vec<String>,
}

impl Item {
    fn plain(self, parameter: &str) -> Result<String> {
        match self.words.first() {
            None => Ok(self.name),
            Some(_) => Err(bad(format!(
                "{parameter} is a list of names, as in {parameter}=device,peak; put a name with a dot in double quotes"
            ))),
        }
    }

    fn sorted(self) -> Result<Sorted> {
        let mut sorted = Sorted { column: self.name, descending: false, nulls_first: None };
        for (at, word) in self.words.iter().enumerate() {
            match word.as_str() {
                "asc" if at == 0 => {}
                "desc" if at == 0 => sorted.descending = true,
                "nullsfirst" if at + 1 == self.words.len() => sorted.nulls_first = Some(true),
                "nullslast" if at + 1 == self.words.len() => sorted.nulls_first = Some(false),
                _ => {
                    return Err(bad(
                        "order is a list of names, each with .asc or .desc and .nullsfirst or .nullslast behind it, as in \
                         order=peak.desc.nullslast,device; put a name with a dot in double quotes"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(sorted)
    }
}

/// Splits `a.desc,"b,c",d`.
fn items(list: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = list;
    loop {
        let (name, behind) = name(rest)?;
        let end = behind.find(',').unwrap_or(behind.len());
        let (words, next) = behind.split_at(end);
        let words = match words.strip_prefix('.') {
            Some(words) => words.split('.').map(|word| word.trim().to_owned()).collect(),
            None if words.trim().is_empty() => Vec::new(),
            None => return Err(bad(format!("a comma stands between names, and not `{}`", shown(words)))),
        };
        items.push(Item { name, words });
        match next.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(items),
        }
    }
}

/// The name at the start of `text`, and the rest.
fn name(text: &str) -> Result<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '.']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return match name.trim() {
            "" => Err(bad("a name is missing in a list of columns".to_owned())),
            name => Ok((name.to_owned(), rest)),
        };
    };
    let mut name = String::new();
    let mut rest = quoted;
    while let Some((part, behind)) = rest.split_once('"') {
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None if name.is_empty() => return Err(bad("a name is missing in a list of columns".to_owned())),
            None => return Ok((name, behind)),
        }
    }
    Err(bad("a name in double quotes has no end".to_owned()))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<String> {
        let uri: axum::http::Uri = format!("/v1/views/v?{query}").parse().unwrap();
        let mut given = super::super::request::parameters(&uri, &PARAMETERS)?;
        let request = RowsRequest::read(vec!["v".to_owned()], &mut given)?;
        assert!(given.is_empty());
        Ok(request.statement()?.to_string())
    }

    #[test]
    fn a_request_becomes_one_query() {
        let check = |query: &str, expect: &str| assert_eq!(read(query).unwrap(), expect, "{query}");
        check("", r#"SELECT * FROM v"#);
        check("columns=device,peak", r#"SELECT "device", "peak" FROM v"#);
        check("columns=%20device%20,%20%22a,b%22", r#"SELECT "device", "a,b" FROM v"#);
        check("where=peak%20%3E%205", r#"SELECT * FROM v WHERE peak > 5"#);
        check("where=a%20OR%20b&limit=0", r#"SELECT * FROM v WHERE a OR b LIMIT 0"#);
        check("order=a.desc,b", r#"SELECT * FROM v ORDER BY "a" DESC, "b" ASC"#);
        check(
            "order=a.asc.nullslast,%22x.y%22.desc,c.nullsfirst",
            r#"SELECT * FROM v ORDER BY "a" ASC NULLS LAST, "x.y" DESC, "c" ASC NULLS FIRST"#,
        );
        check("limit=10&offset=20", r#"SELECT * FROM v LIMIT 10 OFFSET 20"#);
        check("columns=a%22%3B%20DROP%20TABLE%20s--", r#"SELECT "a""; DROP TABLE s--" FROM v"#);
    }

    #[test]
    fn what_is_no_part_of_a_query_is_refused() {
        for query in [
            "limit=-1",
            "limit=1%20UNION%20SELECT%201",
            "limit=%2B1",
            "limit=",
            "limit=99999999999999999999",
            "offset=1.5",
            "columns=",
            "columns=a,,b",
            "columns=a.desc",
            "columns=%22a",
            "columns=%22%22",
            "columns=%22a%22b",
            "order=a.down",
            "order=a.nullslast.desc",
            "order=a.desc.desc",
            "order=a.",
            "where=",
            "where=true%3BDROP%20TABLE%20s",
            "where=a%20IN%20(SELECT%201)",
            "where=a%20%3D%20%241",
            "where=1)%20OR%20(1",
            "where=a&where=b",
            "device=d1",
        ] {
            assert_eq!(read(query).unwrap_err().status(), 400, "{query}");
        }
    }

    #[test]
    fn requests_that_differ_have_texts_that_differ() {
        let text = |query: &str| {
            let uri: axum::http::Uri = format!("/v1/views/v?{query}").parse().unwrap();
            let mut given = super::super::request::parameters(&uri, &PARAMETERS).unwrap();
            RowsRequest::read(vec!["v".to_owned()], &mut given).unwrap().text()
        };
        assert_ne!(text("columns=a,b"), text("columns=%22a,b%22"));
        assert_ne!(text("where=a"), text("columns=a"));
        assert_eq!(text("columns=a,%20b"), text("columns=a,b"));
    }
}
