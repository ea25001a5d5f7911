//! Values for the placeholders `$1`, `$2`, … of a query, and the types that a query expects of them.
//!
//! A value never becomes a part of the text: the text is planned with placeholders, and values take their places in
//! the plan. Invariant: a query with values is the same query with the values written as literals of their types.

mod decimals;

pub(crate) mod arrays;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Statement as PlanStatement};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, Expr as SqlExpr, Ident, Statement, TableFactor,
    TimezoneInfo, Value, VisitMut, VisitorMut, visit_expressions, visit_expressions_mut,
};

pub(crate) use self::decimals::{MOST_DIGITS, beginning, decimal, exactly};
use crate::{Error, Result};

/// The most placeholders of one query: the protocol of PostgreSQL counts them in 16 bits, one of them for a sign.
pub(crate) const MOST: usize = 32_767;

/// A value for a placeholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    /// A value whose type the client has chosen.
    Typed(ScalarValue),
    /// A text that is read as a value of the type that the query expects.
    Text(String),
    /// NULL of the type that the query expects.
    Null,
}

/// The types that the placeholders have by themselves; `None` for one whose type the query decides.
pub(crate) type Declared = Vec<Option<DataType>>;

/// What a client knows of a query's placeholders.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bindings {
    /// The values of `$1`, `$2`, …
    Values(Vec<Parameter>),
    /// Types without values: the query is described, not run.
    Types(Declared),
}

impl Default for Bindings {
    fn default() -> Self {
        Bindings::Values(Vec::new())
    }
}

impl Bindings {
    fn declared(&self) -> Declared {
        match self {
            Bindings::Types(types) => types.clone(),
            Bindings::Values(values) => values
                .iter()
                .map(|value| match value {
                    Parameter::Typed(value) if !value.data_type().is_null() => Some(value.data_type()),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The type of the text at `at` where the query expects `wanted`: a number with more digits has a type of its own,
    /// since a comparison is decided by all of them.
    fn wide_enough(&self, at: usize, wanted: DataType) -> DataType {
        let text = match self {
            Bindings::Values(values) if wanted.is_decimal() => match values.get(at) {
                Some(Parameter::Text(text)) => text,
                _ => return wanted,
            },
            _ => return wanted,
        };
        let exact = decimal(text.trim()).and_then(|value| exactly(value, &wanted));
        exact.map_or(wanted, |value| value.data_type())
    }

    /// Checks that there is a value for each of `count` placeholders, and no further value.
    ///
    /// Errors: [`Error::BindParameters`].
    pub(crate) fn check(&self, count: usize) -> Result<()> {
        let given = match self {
            Bindings::Values(values) => values.len(),
            Bindings::Types(_) => return Ok(()),
        };
        if given == count {
            return Ok(());
        }
        Err(refused(match count {
            0 => format!("the text has no placeholders, but {given} values are given; write $1, $2, … in their places"),
            _ => format!("the text has placeholders up to ${count}, but {given} values are given"),
        }))
    }
}

/// The number of the highest placeholder in `statement`.
///
/// Errors: [`Error::BindParameters`] for a placeholder that has no number.
pub(crate) fn count(statement: &EngineStatement) -> Result<usize> {
    let EngineStatement::Statement(statement) = inner(statement) else {
        return Ok(0);
    };
    let mut highest = 0;
    let wrong = visit_expressions(statement.as_ref(), |expr| {
        if let SqlExpr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match number_of(name) {
                Some(number) => highest = highest.max(number),
                None => return ControlFlow::Break(name.clone()),
            }
        }
        ControlFlow::Continue(())
    });
    match wrong {
        ControlFlow::Break(name) => {
            Err(refused(format!("placeholders are $1, $2, … up to ${MOST}, and `{name}` is not one of them")))
        }
        ControlFlow::Continue(()) => Ok(highest),
    }
}

/// Plans `statement`, which has placeholders up to number `count`, with `plan`. Returns the plan with `bindings` in the
/// places of its placeholders (typed NULLs for a query that is only described), and the types of the placeholders.
///
/// Errors: those of `plan`; [`Error::BindParameters`] for a text that is not a value of the type that the query
/// expects.
pub(crate) async fn bind<Planning>(
    statement: EngineStatement,
    count: usize,
    bindings: &Bindings,
    plan: impl Fn(EngineStatement) -> Planning,
) -> Result<(LogicalPlan, Vec<DataType>)>
where
    Planning: Future<Output = Result<LogicalPlan, DataFusionError>>,
{
    if count == 0 {
        return Ok((plan(statement).await.map_err(planning)?, Vec::new()));
    }
    let mut statement = statement;
    let mut declared = bindings.declared();
    declared.resize(count, None);
    for number in write_in_table_functions(&mut statement, bindings) {
        declared[number - 1].get_or_insert(DataType::Int64);
    }
    let mut inferred = None;
    if declared.iter().any(Option::is_none) {
        let untyped = declared.iter().position(Option::is_none).map(|at| at + 1);
        let plan = plan(statement.clone()).await.map_err(|error| match is_of_type(&error) {
            true => guess_failed(error, untyped),
            false => planning(error),
        })?;
        for (at, found) in types_in(&plan, count).map_err(planning)?.into_iter().enumerate() {
            declared[at] = declared[at].take().or_else(|| found.map(|found| bindings.wide_enough(at, found)));
        }
        inferred = Some(plan);
    }
    let guessed = declared.iter().position(Option::is_none).map(|at| at + 1);
    let types: Vec<DataType> = declared.into_iter().map(|known| known.unwrap_or(DataType::Utf8)).collect();
    let typed = match (prepared(statement.clone(), &types), inferred) {
        (Some(statement), _) => match plan(statement).await.map_err(|error| guess_failed(error, guessed))? {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => std::sync::Arc::unwrap_or_clone(prepare.input),
            plan => plan,
        },
        // EXPLAIN holds a statement that cannot be prepared, and some types have no name in SQL.
        (None, Some(plan)) => plan,
        (None, None) => plan(statement).await.map_err(planning)?,
    };
    let values = match bindings {
        Bindings::Types(_) => types.iter().map(|wanted| ScalarValue::try_from(wanted).map_err(planning)).collect(),
        Bindings::Values(values) => {
            let numbered = values.iter().zip(&types).enumerate();
            numbered.map(|(at, (value, wanted))| value_of(at + 1, value, wanted)).collect::<Result<Vec<_>>>()
        }
    }?;
    Ok((typed.with_param_values(values).map_err(planning)?, types))
}

/// Writes values in the arguments of table functions, such as `generate_series(1, $1)`, which the planner calls before
/// values take their places. Returns the numbers of these placeholders.
fn write_in_table_functions(statement: &mut EngineStatement, bindings: &Bindings) -> BTreeSet<usize> {
    let mut writing = Writing { bindings, written: BTreeSet::new() };
    if let EngineStatement::Statement(statement) = inner_mut(statement) {
        // The walk cannot break because the visitor does not.
        let _ = VisitMut::visit(statement, &mut writing);
    }
    writing.written
}

struct Writing<'a> {
    bindings: &'a Bindings,
    written: BTreeSet<usize>,
}

impl VisitorMut for Writing<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let args = match table {
            TableFactor::Table { args: Some(table), .. } => &mut table.args,
            TableFactor::Function { args, .. } => args,
            _ => return ControlFlow::Continue(()),
        };
        visit_expressions_mut(args, |expr| {
            if let SqlExpr::Value(value) = expr
                && let Value::Placeholder(name) = &value.value
                && let Some(number) = number_of(name)
            {
                value.value = literal(self.bindings, number);
                self.written.insert(number);
            }
            ControlFlow::Continue(())
        })
    }
}

/// The value of placeholder `number` as a literal: whole numbers and texts are what table functions take.
fn literal(bindings: &Bindings, number: usize) -> Value {
    let Bindings::Values(values) = bindings else { return Value::Null };
    let text = match values.get(number - 1) {
        Some(Parameter::Typed(value)) if !value.is_null() => match value.data_type().is_integer() {
            true => return Value::Number(value.to_string(), false),
            false => value.to_string(),
        },
        Some(Parameter::Text(text)) => text.clone(),
        _ => return Value::Null,
    };
    match text.parse::<i64>() {
        Ok(number) => Value::Number(number.to_string(), false),
        Err(_) => Value::SingleQuotedString(text),
    }
}

fn value_of(number: usize, value: &Parameter, wanted: &DataType) -> Result<ScalarValue> {
    match value {
        Parameter::Typed(value) => Ok(value.clone()),
        Parameter::Null => ScalarValue::try_from(wanted).map_err(planning),
        Parameter::Text(text) => {
            let wrong = |reason: String| refused(format!("${number} is a {wanted}: {reason}"));
            let value = match wanted {
                DataType::List(item) => return list_of(text, item.data_type()).map_err(wrong),
                _ if wanted.is_decimal() => decimal(text.trim()).map_err(wrong)?,
                _ => ScalarValue::Utf8(Some(text.clone())),
            };
            value.cast_to(wanted).map_err(|error| wrong(error.strip_backtrace()))
        }
    }
}

/// The list that a text such as `{1,NULL,3}` says.
fn list_of(text: &str, wanted: &DataType) -> Result<ScalarValue, String> {
    let null = ScalarValue::try_from(wanted).map_err(|error| error.strip_backtrace())?;
    let items = arrays::items(text)?.into_iter().map(|item| match item {
        None => Ok(null.clone()),
        Some(text) if wanted.is_decimal() => {
            let value = exactly(decimal(text.trim())?, wanted)?;
            let fits = value.data_type() == *wanted;
            fits.then_some(value).ok_or_else(|| format!("`{}` has more digits", beginning(&text)))
        }
        Some(text) => ScalarValue::Utf8(Some(text)).cast_to(wanted).map_err(|error| error.strip_backtrace()),
    });
    let items = items.collect::<Result<Vec<_>, String>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list(&items, wanted, true)))
}

/// The types that `plan` expects of its placeholders.
fn types_in(plan: &LogicalPlan, count: usize) -> Result<Declared, DataFusionError> {
    let mut types: Declared = vec![None; count];
    let mut note = |id: &str, found: &DataType| {
        // A placeholder that is compared with another one has no type either.
        let slot = number_of(id).and_then(|number| types.get_mut(number - 1)).filter(|_| !found.is_null());
        if let Some(slot) = slot {
            slot.get_or_insert_with(|| found.clone());
        }
    };
    plan.apply_with_subqueries(|node| {
        let is_limit = matches!(node, LogicalPlan::Limit(_));
        let mut schema = DFSchema::empty();
        node.inputs().iter().for_each(|input| schema.merge(input.schema()));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Placeholder(Placeholder { id, field: Some(field) }) => note(id, field.data_type()),
                    Expr::Placeholder(Placeholder { id, field: None }) if is_limit => note(id, &DataType::Int64),
                    Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                        if let Expr::Placeholder(Placeholder { id, field: None }) = expr.as_ref() {
                            note(id, field.data_type());
                        }
                    }
                    Expr::ScalarFunction(call) if call.name() == "array_has" => {
                        if let Some((id, found)) = type_in_any(&call.args, &schema) {
                            note(id, &found);
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

/// The placeholder of `x = ANY($1)`, which is a list of the type of `x`, or of `$1 = ANY(list)`.
fn type_in_any<'a>(args: &'a [Expr], schema: &DFSchema) -> Option<(&'a str, DataType)> {
    match args {
        [Expr::Placeholder(Placeholder { id, field: None }), item] => {
            let item = item.get_type(schema).ok().filter(|item| !item.is_null())?;
            Some((id, DataType::new_list(item, true)))
        }
        [list, Expr::Placeholder(Placeholder { id, field: None })] => match list.get_type(schema).ok()? {
            DataType::List(item) => Some((id, item.data_type().clone())),
            _ => None,
        },
        _ => None,
    }
}

/// `PREPARE … (types) AS statement`, by which the planner learns the types of placeholders; `None` if it cannot.
fn prepared(statement: EngineStatement, types: &[DataType]) -> Option<EngineStatement> {
    let EngineStatement::Statement(statement) = statement else {
        return None;
    };
    let data_types = types.iter().map(sql_type).collect::<Option<Vec<_>>>()?;
    let name = Ident::new("parameters");
    Some(EngineStatement::Statement(Box::new(Statement::Prepare { name, data_types, statement })))
}

/// The SQL type that the planner takes for `found`.
fn sql_type(found: &DataType) -> Option<SqlType> {
    Some(match found {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 => SqlType::TinyInt(None),
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Int(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::UInt8 => SqlType::TinyIntUnsigned(None),
        DataType::UInt16 => SqlType::SmallIntUnsigned(None),
        DataType::UInt32 => SqlType::IntUnsigned(None),
        DataType::UInt64 => SqlType::BigIntUnsigned(None),
        DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::DoublePrecision,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            SqlType::Decimal(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SqlType::Bytea,
        DataType::Date32 => SqlType::Date,
        DataType::Time64(TimeUnit::Nanosecond) => SqlType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(unit, None) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            SqlType::Timestamp(Some(digits), TimezoneInfo::None)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => SqlType::Interval { fields: None, precision: None },
        DataType::List(item) => SqlType::Array(ArrayElemTypeDef::AngleBracket(Box::new(sql_type(item.data_type())?))),
        _ => return None,
    })
}

/// The number of the placeholder `$1`, `$2`, …
fn number_of(name: &str) -> Option<usize> {
    let number = name.strip_prefix('$')?.parse().ok()?;
    (1..=MOST).contains(&number).then_some(number)
}

fn inner_mut(statement: &mut EngineStatement) -> &mut EngineStatement {
    match statement {
        EngineStatement::Explain(explain) => inner_mut(&mut explain.statement),
        statement => statement,
    }
}

fn inner(statement: &EngineStatement) -> &EngineStatement {
    match statement {
        EngineStatement::Explain(explain) => inner(&explain.statement),
        statement => statement,
    }
}

fn planning(source: DataFusionError) -> Error {
    Error::of_engine(source, true)
}

/// True if the planner refuses a placeholder without a type.
fn is_of_type(error: &DataFusionError) -> bool {
    error.strip_backtrace().contains("Placeholder type")
}

/// The error of planning while the type of placeholder `guessed` was not known from its place.
fn guess_failed(error: DataFusionError, guessed: Option<usize>) -> Error {
    let Some(number) = guessed else { return planning(error) };
    let said = Error::of_engine(error, true);
    refused(format!(
        "{said}; the type of ${number} is not known from its place, so it is taken for a text unless the query says more: \
         write CAST(${number} AS …)"
    ))
}

fn refused(reason: String) -> Error {
    Error::BindParameters { reason }
}
