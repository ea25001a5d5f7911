//! `thalweg_frontier('name')`: the frontier of this very answer, for a stream or a view that is named.
//!
//! Invariant: the value comes from the pins of the query. The name counts as a table that the query reads, so the pin
//! exists before the function is planned.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, TableReference, plan_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value, visit_expressions,
};
use thalweg_schemas::catalog::Catalog;

use crate::names;
use crate::options::SourceLayer;
use crate::pin::Pins;
use crate::tables::Side;

pub(super) const NAME: &str = "thalweg_frontier";

/// A name that the function is called with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FrontierOf {
    /// As it is written.
    name: String,
    pub(super) table: TableReference,
}

/// The names in calls of the function. Names without a schema are of `source`.
pub(super) fn names(statement: &EngineStatement, source: SourceLayer) -> Vec<FrontierOf> {
    let of = |name: String| {
        let table = names::of_source(TableReference::parse_str(&name), source);
        FrontierOf { name, table }
    };
    names_in(statement).into_iter().map(of).collect()
}

fn names_in(statement: &EngineStatement) -> Vec<String> {
    let inner = match statement {
        EngineStatement::Statement(statement) => statement,
        EngineStatement::Explain(explain) => return names_in(&explain.statement),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    // The walk never breaks.
    let _ = visit_expressions(inner.as_ref(), |expr| {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case(NAME)
            && let Some(name) = argument(function)
        {
            found.push(name.to_owned());
        }
        ControlFlow::<()>::Continue(())
    });
    found.sort_unstable();
    found.dedup();
    found
}

/// The text of the only argument.
fn argument(function: &Function) -> Option<&str> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The function with the frontiers of `names`. Without pins, as for a query that is only described, it returns NULL.
pub(super) fn function(names: &[FrontierOf], catalog: &Catalog, pins: &Pins) -> ScalarUDF {
    let frontiers = names.iter().filter_map(|FrontierOf { name, table }| {
        let named = names::find(catalog, table)?;
        let frontier = pins.get(named.stream()).map(|pin| match &named {
            names::Named::View(view, Side::Batch) => match pin.views.get(view.plan.id()) {
                Some(pinned) => pinned.cut.clone(),
                None => pin.frontier.clone(),
            },
            _ => pin.frontier.clone(),
        });
        let text = frontier.and_then(|frontier| serde_json::to_string(&frontier).ok());
        Some((name.clone(), text))
    });
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::new_from_impl(FrontierFunction { signature, frontiers: frontiers.collect() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FrontierFunction {
    signature: Signature,
    /// By the name as it is written; JSON.
    frontiers: BTreeMap<String, Option<String>>,
}

impl ScalarUDFImpl for FrontierFunction {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        match args.scalar_arguments {
            [Some(ScalarValue::Utf8(Some(name)))] if self.frontiers.contains_key(name) => {
                Ok(Arc::new(Field::new(NAME, DataType::Utf8, true)))
            }
            [Some(ScalarValue::Utf8(Some(name)))] => {
                plan_err!("{NAME}: there is no stream or view `{name}`; SHOW TABLES lists what there is")
            }
            _ => plan_err!("{NAME} takes the name of a stream or view in quotes, as in {NAME}('device_minutes')"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let frontier = match args.args.as_slice() {
            [ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)))] => self.frontiers.get(name).cloned().flatten(),
            _ => None,
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(frontier)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn names_are_texts_in_quotes() {
        let check = |sql: &str, expect: &[&str]| {
            let statement = DFParser::parse_sql(sql).unwrap().remove(0).unwrap();
            assert_eq!(names_in(&statement), expect, "{sql}");
        };
        check("SELECT thalweg_frontier('b'), THALWEG_FRONTIER('a'), thalweg_frontier('b')", &["a", "b"]);
        check("SELECT (SELECT thalweg_frontier('batch.v')) FROM t", &["batch.v"]);
        check("EXPLAIN SELECT thalweg_frontier('v')", &["v"]);
        check("SELECT thalweg_frontier(v), thalweg_frontier(), thalweg_frontier('a', 'b'), upper('x') FROM t", &[]);
    }
}
