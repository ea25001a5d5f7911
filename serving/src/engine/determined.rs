//! Whether an answer is the same whenever a query is asked again of the same data.
//!
//! Invariant: a function that is not known to be immutable decides against it.

use std::ops::ControlFlow;

use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, Expr, Function, Statement, TableFactor, TypedString, Visit, Visitor,
};

use super::frontier_function;

/// Functions that return tables, and the same one for the same arguments.
pub(super) const TABLE_FUNCTIONS: [&str; 2] = ["generate_series", "range"];

/// True if the answer to `statement` depends on tables, values and options alone. A function that the engine does not
/// call immutable decides against it, and so does every statement but a query.
pub(super) fn is_determined(state: &SessionState, statement: &EngineStatement) -> bool {
    match statement {
        EngineStatement::Statement(statement) if matches!(statement.as_ref(), Statement::Query(_)) => {
            statement.visit(&mut Undetermined { state }).is_continue()
        }
        _ => false,
    }
}

struct Undetermined<'a> {
    state: &'a SessionState,
}

impl Undetermined<'_> {
    fn is_immutable(&self, function: &Function) -> bool {
        let name = function.name.to_string().to_ascii_lowercase();
        let scalar = self.state.scalar_functions().get(&name).map(|f| f.signature().volatility);
        let aggregate = self.state.aggregate_functions().get(&name).map(|f| f.signature().volatility);
        let window = self.state.window_functions().get(&name).map(|f| f.signature().volatility);
        let known: Vec<Volatility> = [scalar, aggregate, window].into_iter().flatten().collect();
        let immutable = !known.is_empty() && known.iter().all(|v| *v == Volatility::Immutable);
        immutable || name == frontier_function::NAME
    }
}

/// False for types that are not those of values: `regclass` and its kin look names up in the catalog.
fn is_of_values(data_type: &SqlType) -> bool {
    match data_type {
        SqlType::Regclass | SqlType::Custom(_, _) => false,
        SqlType::Array(
            ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::SquareBracket(inner, _)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => is_of_values(inner),
        _ => true,
    }
}

impl Visitor for Undetermined<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if !self.is_immutable(function) => ControlFlow::Break(()),
            Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. })
                if !is_of_values(data_type) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let determined = match table {
            TableFactor::Table { name, args: Some(_), sample: None, .. } => {
                TABLE_FUNCTIONS.contains(&name.to_string().to_ascii_lowercase().as_str())
            }
            TableFactor::Table { args: None, sample: None, .. }
            | TableFactor::Derived { sample: None, .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => true,
            _ => false,
        };
        if determined { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;
    use thalweg_schemas::engine::session;

    use super::*;

    #[test]
    fn only_what_is_always_the_same_is_determined() {
        let state = session::state(session::runtime(None, None, None).unwrap(), 1);
        let check = |sql: &str, expect: bool| {
            let statement = DFParser::parse_sql(sql).unwrap().remove(0).unwrap();
            assert_eq!(is_determined(&state, &statement), expect, "{sql}");
        };
        for sql in [
            "SELECT device, avg(peak) FROM device_minutes GROUP BY device",
            "WITH t AS (SELECT max(v) OVER (ORDER BY k) AS m FROM s) SELECT upper(m::TEXT) FROM t WHERE m = $1",
            "SELECT * FROM generate_series(1, 3) CROSS JOIN UNNEST([1, 2]) AS t(x)",
            "SELECT extract(hour FROM ts), date_trunc('hour', ts), thalweg_frontier('v') FROM s",
            "SELECT CASE WHEN a IS NULL THEN coalesce(b, 1) END FROM s UNION ALL SELECT row_number() OVER () FROM s",
        ] {
            check(sql, true);
        }
        for sql in [
            "SELECT now()",
            "SELECT random() FROM v",
            "SELECT uuid()",
            "SELECT current_date",
            "SELECT current_timestamp FROM v",
            "SELECT * FROM v WHERE ts > now() - INTERVAL '1 hour'",
            "SELECT * FROM (SELECT (SELECT max(x) FROM t WHERE y < NOW()) FROM u)",
            "SELECT count(*) FILTER (WHERE ts < now()) FROM v",
            "SELECT rank() OVER (ORDER BY random()) FROM v",
            "SELECT * FROM v ORDER BY random()",
            "SELECT * FROM v LIMIT CAST(random() * 5 AS BIGINT)",
            "SELECT no_such_function(1)",
            "SELECT * FROM some_table_function(1)",
            "SELECT * FROM v TABLESAMPLE BERNOULLI (10)",
            "SELECT 'totals'::regclass",
            "SELECT CAST(oid AS regclass) FROM v",
            "SELECT TRY_CAST('x' AS regtype)",
            "SELECT 'x'::pg_catalog.regclass::text FROM v",
            "SELECT ARRAY['x']::regclass[]",
            "SELECT regclass 'totals'",
            "SELECT to_regclass('totals')",
            "SELECT current_user",
            "SELECT pg_backend_pid()",
            "SELECT current_setting('x')",
            "EXPLAIN SELECT 1",
            "SHOW TABLES",
        ] {
            check(sql, false);
        }
    }
}
