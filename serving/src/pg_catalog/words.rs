//! Words of PostgreSQL, rewritten in every query.
//!
//! | written | planned as |
//! |---|---|
//! | `pg_catalog.lower(x)` | `lower(x)` |
//! | `a OPERATOR(pg_catalog.~) b` | `a ~ b` |
//! | `'sensor_data'::regclass` | `regclass('sensor_data')`, the oid; `regclass_text(…)` where it is shown |
//! | `x::oid`, `x::name`, `x::pg_catalog.int2[]` | a cast to INT, TEXT, SMALLINT[] |
//! | `$1::oid[]` | a cast to INT UNSIGNED[], by which clients are told that an array of oids is expected |
//! | `x::uuid`, `x::json`, `x::jsonb` | `uuid_in(x)`, `json_in(x)`: the text, if it is one of the type |
//! | `x LIKE 'a/_b' ESCAPE '/'` | `x LIKE 'a\_b'` |
//!
//! Invariant: what is rewritten here has no meaning for the planner as it is written.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, ObjectName, OrderByExpr, Query, SelectItem,
    SetExpr, Statement, TableFactor, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::calls;
use super::patterns::like_escape;

/// Types whose values are names of objects and whose numbers are oids.
const NAMED: [&str; 5] = ["regclass", "regtype", "regnamespace", "regrole", "regproc"];

pub(super) fn rewrite(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        show_names(query);
    }
    // The walk cannot break because the visitor does not.
    let _ = VisitMut::visit(statement, &mut Words);
}

/// A cast to `regclass` that is a column of the answer shows the name.
fn show_names(query: &mut Query) {
    fn body(expr: &mut SetExpr) {
        match expr {
            SetExpr::Select(select) => select.projection.iter_mut().for_each(item),
            SetExpr::Query(query) => body(&mut query.body),
            SetExpr::SetOperation { left, right, .. } => {
                body(left);
                body(right);
            }
            _ => {}
        }
    }
    fn item(item: &mut SelectItem) {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                if let Some((kind, shown)) = shown(expr) {
                    let name = match &shown {
                        Expr::Identifier(ident) => ident.clone(),
                        Expr::CompoundIdentifier(idents) => idents.last().cloned().unwrap_or_else(|| Ident::new(kind)),
                        _ => Ident::new(kind),
                    };
                    *item = SelectItem::ExprWithAlias { expr: as_text(kind, shown), alias: name };
                }
            }
            SelectItem::ExprWithAlias { expr, .. } => {
                if let Some((kind, shown)) = shown(expr) {
                    *expr = as_text(kind, shown);
                }
            }
            _ => {}
        }
    }
    fn shown(expr: &Expr) -> Option<(&'static str, Expr)> {
        match expr {
            Expr::Cast { expr, data_type, .. } => Some((named(data_type)?, expr.as_ref().clone())),
            _ => None,
        }
    }
    body(&mut query.body);
}

/// A column that will be a call keeps the name that it has as a cast.
fn keep_names(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && let Expr::Cast { expr: inner, data_type, .. } = &*expr
                    && checked(data_type).is_some()
                {
                    let alias = match inner.as_ref() {
                        Expr::Identifier(ident) => ident.clone(),
                        Expr::CompoundIdentifier(idents) if !idents.is_empty() => idents[idents.len() - 1].clone(),
                        _ => Ident::with_quote('"', calls::column_name(expr)),
                    };
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            keep_names(left);
            keep_names(right);
        }
        // A query within is visited by itself.
        _ => {}
    }
}

struct Words;

impl VisitorMut for Words {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        keep_names(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            strip(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => strip(&mut function.name),
            Expr::BinaryOp { op, .. } => builtin(op),
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                escape(pattern, escape_char);
            }
            Expr::Cast { .. } => cast(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `lower` for `pg_catalog.lower`.
fn strip(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && let Some(schema) = schema.as_ident()
        && ["pg_catalog", "information_schema"].contains(&schema.value.to_lowercase().as_str())
    {
        name.0.remove(0);
    }
}

/// `~` for `OPERATOR(pg_catalog.~)`.
fn builtin(op: &mut BinaryOperator) {
    use BinaryOperator as Op;
    let Op::PGCustomBinaryOperator(parts) = op else { return };
    let name = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pg_catalog", name] | [name] => name.to_owned(),
        _ => return,
    };
    *op = match name.as_str() {
        "~" => Op::PGRegexMatch,
        "~*" => Op::PGRegexIMatch,
        "!~" => Op::PGRegexNotMatch,
        "!~*" => Op::PGRegexNotIMatch,
        "~~" => Op::PGLikeMatch,
        "!~~" => Op::PGNotLikeMatch,
        "~~*" => Op::PGILikeMatch,
        "!~~*" => Op::PGNotILikeMatch,
        "=" => Op::Eq,
        "<>" | "!=" => Op::NotEq,
        "<" => Op::Lt,
        "<=" => Op::LtEq,
        ">" => Op::Gt,
        ">=" => Op::GtEq,
        "+" => Op::Plus,
        "-" => Op::Minus,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "||" => Op::StringConcat,
        _ => return,
    };
}

/// `LIKE 'a\_b'` for `LIKE 'a/_b' ESCAPE '/'`. What is known only when the query runs is left to a function.
fn escape(pattern: &mut Expr, escape_char: &mut Option<ValueWithSpan>) {
    let Some(escape) = escape_char.take() else { return };
    let constant = |expr: &Expr| match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text.clone()),
        _ => None,
    };
    let escape = Expr::Value(escape);
    let both = constant(pattern).zip(constant(&escape));
    *pattern = match both.and_then(|(pattern, escape)| like_escape(&pattern, &escape).ok()) {
        Some(text) => Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: Span::empty() }),
        None => call_all("like_escape", vec![pattern.clone(), escape]),
    };
}

fn cast(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, kind, .. } = expr else { return };
    if let Expr::Cast { expr: name, data_type: kind, .. } = inner.as_ref()
        && let Some(kind) = named(kind)
        && is_text(data_type)
    {
        *expr = as_text(kind, name.as_ref().clone());
        return;
    }
    if let Expr::Cast { expr: name, data_type: kind, .. } = inner.as_ref()
        && named(kind) == Some("regproc")
    {
        *expr = call("regproc_oid", name.as_ref().clone());
        return;
    }
    if let Some(kind) = named(data_type) {
        *expr = call(kind, inner.as_ref().clone());
        return;
    }
    if let (Some(checks), CastKind::Cast | CastKind::DoubleColon) = (checked(data_type), kind) {
        *expr = call(checks, to_text(inner.as_ref().clone()));
        return;
    }
    if let Some(item) = item_of(data_type)
        && named(item) == Some("regtype")
    {
        *expr = call("regtype_texts", inner.as_ref().clone());
        return;
    }
    if is_placeholder(inner) && item_of(data_type).is_some_and(is_oid) {
        *data_type = array_of(oid());
        return;
    }
    plain(data_type);
}

pub(super) fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

/// The type of the oids in an array for a placeholder.
pub(super) fn oid() -> SqlType {
    SqlType::IntUnsigned(None)
}

pub(super) fn array_of(item: SqlType) -> SqlType {
    SqlType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None))
}

fn is_oid(data_type: &SqlType) -> bool {
    matches!(data_type, SqlType::Custom(name, arguments) if arguments.is_empty() && type_name(name).as_deref() == Some("oid"))
}

/// The function that checks a text of the type, whose values are texts here.
fn checked(data_type: &SqlType) -> Option<&'static str> {
    let name = match data_type {
        SqlType::Uuid => "uuid".to_owned(),
        SqlType::JSON | SqlType::JSONB => "json".to_owned(),
        SqlType::Custom(name, arguments) if arguments.is_empty() => type_name(name)?,
        _ => return None,
    };
    match name.as_str() {
        "uuid" => Some("uuid_in"),
        "json" | "jsonb" => Some("json_in"),
        _ => None,
    }
}

/// The function that shows what a value of the type `kind` names.
fn as_text(kind: &'static str, of: Expr) -> Expr {
    // The values of a function's type are names already.
    if kind == "regproc" { call(kind, of) } else { call(&format!("{kind}_text"), of) }
}

/// The kind of objects that a type names.
fn named(data_type: &SqlType) -> Option<&'static str> {
    let name = match data_type {
        SqlType::Regclass => "regclass".to_owned(),
        SqlType::Custom(name, _) => type_name(name)?,
        _ => return None,
    };
    let name = if name == "regprocedure" { "regproc".to_owned() } else { name };
    NAMED.into_iter().find(|known| *known == name)
}

/// The name of a type without `pg_catalog`.
fn type_name(name: &ObjectName) -> Option<String> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts?.as_slice() {
        [name] => Some(name.value.to_lowercase()),
        [schema, name] if ["pg_catalog", "information_schema"].contains(&schema.value.to_lowercase().as_str()) => {
            Some(name.value.to_lowercase())
        }
        _ => None,
    }
}

fn is_text(data_type: &SqlType) -> bool {
    let mut data_type = data_type.clone();
    plain(&mut data_type);
    matches!(data_type, SqlType::Text | SqlType::Varchar(_) | SqlType::String(_) | SqlType::Char(_))
}

pub(super) fn item_of(data_type: &SqlType) -> Option<&SqlType> {
    match data_type {
        SqlType::Array(
            ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => Some(item),
        _ => None,
    }
}

/// Replaces types that have a name only in PostgreSQL.
fn plain(data_type: &mut SqlType) {
    match data_type {
        SqlType::Array(
            ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => plain(item),
        SqlType::JSON | SqlType::JSONB | SqlType::Uuid => *data_type = SqlType::Text,
        SqlType::Custom(name, arguments) => {
            let Some(name) = type_name(name).filter(|_| arguments.is_empty()) else { return };
            *data_type = match name.as_str() {
                "oid" | "xid" | "cid" | "cardinal_number" => SqlType::Int(None),
                "text" | "name" | "bpchar" | "varchar" | "char" | "json" | "jsonb" | "xml" | "inet" | "cidr"
                | "macaddr" | "sql_identifier" | "character_data" | "yes_or_no" | "cstring" | "uuid" => SqlType::Text,
                "bool" => SqlType::Boolean,
                "int2" => SqlType::SmallInt(None),
                "int4" => SqlType::Int(None),
                "int8" => SqlType::BigInt(None),
                "float4" => SqlType::Real,
                "float8" => SqlType::DoublePrecision,
                "bytea" => SqlType::Bytea,
                _ => return,
            };
        }
        _ => {}
    }
}

/// A call of a function with one argument.
pub(super) fn call(name: &str, argument: Expr) -> Expr {
    call_all(name, vec![argument])
}

/// A call of a function.
pub(super) fn call_all(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A call of an aggregate over sorted rows.
pub(super) fn call_ordered(name: &str, argument: Expr, keys: Vec<OrderByExpr>) -> Expr {
    let mut call = call(name, argument);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut call
        && !keys.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(keys));
    }
    call
}

/// `expr` as a text.
pub(super) fn to_text(expr: Expr) -> Expr {
    to_type(expr, SqlType::Text)
}

/// `expr` as a value of the type.
pub(super) fn to_type(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::{DFParser, Statement as Parsed};

    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: &str) {
        let Some(Parsed::Statement(mut statement)) = DFParser::parse_sql(sql).unwrap().pop_front() else {
            panic!("{sql}")
        };
        rewrite(&mut statement);
        assert_eq!(statement.to_string(), expect, "{sql}");
    }

    #[test]
    fn names_of_objects_become_calls() {
        check("SELECT 1 WHERE a = 's'::regclass", "SELECT 1 WHERE a = regclass('s')");
        check("SELECT 's'::regclass::oid", "SELECT regclass('s')::INT");
        check("SELECT 's'::regclass", "SELECT regclass_text('s') AS regclass");
        check("SELECT c.oid::pg_catalog.regclass FROM c", "SELECT regclass_text(c.oid) AS oid FROM c");
        check("SELECT 1 ORDER BY a::regclass::text", "SELECT 1 ORDER BY regclass_text(a)");
        check("SELECT CAST('t' AS regtype) AS x", "SELECT regtype_text('t') AS x");
        check("SELECT 1 WHERE a = 'pg_catalog.f'::regproc", "SELECT 1 WHERE a = regproc('pg_catalog.f')");
        check("SELECT a::regtype[]::text[]", "SELECT regtype_texts(a)::TEXT[]");
    }

    #[test]
    fn types_and_functions_lose_their_schema() {
        check("SELECT pg_catalog.lower(x)", "SELECT lower(x)");
        check("SELECT other.lower(x)", "SELECT other.lower(x)");
        check("SELECT 1 FROM pg_catalog.generate_series(1, 2) AS s", "SELECT 1 FROM generate_series(1, 2) AS s");
        check("SELECT x::pg_catalog.int2[]", "SELECT x::SMALLINT[]");
        check("SELECT x::oid, y::name", "SELECT x::INT, y::TEXT");
        check("SELECT x::oid[], $1::oid", "SELECT x::INT[], $1::INT");
        check("SELECT $1::oid[], $2::pg_catalog.oid[]", "SELECT $1::INT UNSIGNED[], $2::INT UNSIGNED[]");
        check("SELECT x::mood", "SELECT x::mood");
        check("SELECT 1 WHERE x::uuid = 'a'", "SELECT 1 WHERE uuid_in(CAST(x AS TEXT)) = 'a'");
        check("SELECT x::jsonb, y::UUID::text", "SELECT json_in(CAST(x AS TEXT)) AS x, uuid_in(CAST(y AS TEXT))::TEXT");
        check(r#"SELECT t."X"::json FROM t"#, r#"SELECT json_in(CAST(t."X" AS TEXT)) AS "X" FROM t"#);
        check("SELECT CAST('{' AS json)", r#"SELECT json_in(CAST('{' AS TEXT)) AS "json""#);
        check("SELECT 1 WHERE TRY_CAST(x AS uuid) = 'a'", "SELECT 1 WHERE TRY_CAST(x AS TEXT) = 'a'");
        check("SELECT x::uuid[]", "SELECT x::TEXT[]");
    }

    #[test]
    fn patterns_are_escaped_by_a_backslash() {
        check("SELECT a LIKE 'x/_y' ESCAPE '/'", r"SELECT a LIKE 'x\_y'");
        check("SELECT a NOT LIKE 'x' ESCAPE ''", "SELECT a NOT LIKE 'x'");
        check("SELECT a ILIKE b ESCAPE '!'", "SELECT a ILIKE like_escape(b, '!')");
        check("SELECT a LIKE 'x!' ESCAPE '!'", "SELECT a LIKE like_escape('x!', '!')");
    }

    #[test]
    fn operators_lose_their_schema() {
        check("SELECT a OPERATOR(pg_catalog.~) 'b'", "SELECT a ~ 'b'");
        check("SELECT a OPERATOR(pg_catalog.=) 'b'", "SELECT a = 'b'");
        check("SELECT a OPERATOR(mine.~) 'b'", "SELECT a OPERATOR(mine.~) 'b'");
    }
}
