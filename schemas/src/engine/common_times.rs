//! The common type of times that meet: TIMESTAMP with DATE, or with text, in microseconds.
//!
//! ```text
//!  where times meet                          the engine's common type    after this rule
//!  CASE, UNION, VALUES, coalesce(), IN, =    nanoseconds, until 2262     microseconds, until 9999
//! ```
//!
//! The rule comes before the engine's coercion of types, which leaves operands of one type as they are.
//!
//! Invariant: operands have the common type that the engine would choose, but for its unit. Operands in nanoseconds,
//! which only `arrow_cast` makes, are left to the engine.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::expr::{Between, InList, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::{NamePreserver, coerce_plan_expr_for_schema};
use datafusion::logical_expr::type_coercion::binary::{comparison_coercion, type_union_coercion};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Case, Cast, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, Subquery, Union, Values,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Functions whose arguments have one type, or are lists of it.
const OF_ONE_TYPE: [&str; 26] = [
    "coalesce",
    "nvl",
    "nvl2",
    "nullif",
    "greatest",
    "least",
    "date_bin",
    "range",
    "generate_series",
    "make_array",
    "array_append",
    "array_concat",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_replace",
    "array_replace_all",
    "array_resize",
    "array_union",
];

/// Casts times that meet to one type.
#[derive(Debug)]
pub(super) struct CommonTimes;

impl AnalyzerRule for CommonTimes {
    fn name(&self) -> &'static str {
        "common_times"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(in_node)?.data)
    }
}

fn in_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = &node {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|inner| in_expression(inner, &schema))?.update_data(|expr| name.restore(expr)))
    })?;
    let node = match node.data {
        LogicalPlan::Join(join) => LogicalPlan::Join(in_keys(join)?),
        LogicalPlan::Union(union) => LogicalPlan::Union(in_union(union)?),
        LogicalPlan::Values(values) => LogicalPlan::Values(in_values(values)?),
        other => other,
    };
    // The types of the inputs may have changed.
    Ok(Transformed::yes(node.recompute_schema()?))
}

fn in_expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Case(case) => Ok(in_case(case, schema)?.update_data(Expr::Case)),
        Expr::ScalarFunction(call) if OF_ONE_TYPE.contains(&call.func.name()) => {
            Ok(in_call(call, schema)?.update_data(Expr::ScalarFunction))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == Operator::Minus || op.supports_propagation() => {
            let coercion = if op == Operator::Minus { difference_coercion } else { comparison_coercion };
            Ok(one_type([*left, *right], schema, coercion)?
                .update_data(|[left, right]| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            Ok(one_type([*expr, *low, *high], schema, comparison_coercion)?.update_data(|[expr, low, high]| {
                Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high)))
            }))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let all = std::iter::once(*expr).chain(list).collect();
            Ok(one_type::<Vec<_>>(all, schema, comparison_coercion)?.update_data(|mut all| {
                let expr = Box::new(all.remove(0));
                Expr::InList(InList::new(expr, all, negated))
            }))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let (expr, subquery) = with_subquery(*expr, subquery, schema)?;
            Ok(Transformed::yes(Expr::InSubquery(InSubquery::new(Box::new(expr), subquery, negated))))
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let (expr, subquery) = with_subquery(*expr, subquery, schema)?;
            Ok(Transformed::yes(Expr::SetComparison(SetComparison::new(Box::new(expr), subquery, op, quantifier))))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The common type of times that are subtracted. A text is no time there.
fn difference_coercion(left: &DataType, right: &DataType) -> Option<DataType> {
    if is_time(left) && is_time(right) { comparison_coercion(left, right) } else { None }
}

/// The branches of a CASE have one type, and its operand and the values after WHEN another.
fn in_case(case: Case, schema: &DFSchema) -> Result<Transformed<Case>> {
    let Case { expr, when_then_expr, else_expr } = case;
    let (whens, thens): (Vec<_>, Vec<_>) = when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
    let compared = expr.is_some();
    let tested: Vec<Expr> = expr.into_iter().map(|expr| *expr).chain(whens).collect();
    let mut tested = if compared { one_type(tested, schema, comparison_coercion)? } else { Transformed::no(tested) };
    let has_else = else_expr.is_some();
    let mut results = one_type::<Vec<_>>(
        thens.into_iter().chain(else_expr.map(|expr| *expr)).collect(),
        schema,
        type_union_coercion,
    )?;
    let else_expr = if has_else { results.data.pop().map(Box::new) } else { None };
    let expr = compared.then(|| Box::new(tested.data.remove(0)));
    let branches = tested.data.into_iter().zip(results.data).map(|(when, then)| (Box::new(when), Box::new(then)));
    let case = Case { expr, when_then_expr: branches.collect(), else_expr };
    Ok(if tested.transformed || results.transformed { Transformed::yes(case) } else { Transformed::no(case) })
}

/// Dates among the arguments of a call, and in its lists, become timestamps if there is one.
fn in_call(call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<ScalarFunction>> {
    let ScalarFunction { func, args } = call;
    let types = types(&args, schema);
    let times: Vec<DataType> = types.iter().map(element).filter(|data_type| is_time(data_type)).cloned().collect();
    let Some(common) = common_micros(&times, type_union_coercion) else {
        return Ok(Transformed::no(ScalarFunction { func, args }));
    };
    let args = args
        .into_iter()
        .zip(&types)
        .map(|(arg, from)| if is_time(element(from)) { cast(arg, from, &with_element(from, &common)) } else { arg });
    Ok(Transformed::yes(ScalarFunction { func, args: args.collect() }))
}

/// A value and the subquery that it is compared with.
fn with_subquery(expr: Expr, subquery: Subquery, schema: &DFSchema) -> Result<(Expr, Subquery)> {
    let Some(found) = types(std::slice::from_ref(&expr), schema).pop() else { return Ok((expr, subquery)) };
    let types = [found, subquery.subquery.schema().field(0).data_type().clone()];
    let Some(common) = common_micros(&types, comparison_coercion) else { return Ok((expr, subquery)) };
    let Subquery { subquery: plan, outer_ref_columns, spans } = subquery;
    let column = plan.schema().columns().remove(0);
    let name = column.name.clone();
    let value = cast(Expr::Column(column), &types[1], &common).alias(name);
    let plan = Arc::new(LogicalPlan::Projection(Projection::try_new(vec![value], plan)?));
    Ok((cast(expr, &types[0], &common), Subquery { subquery: plan, outer_ref_columns, spans }))
}

/// Each pair of keys has one type.
fn in_keys(mut join: Join) -> Result<Join> {
    let (left_schema, right_schema) = (Arc::clone(join.left.schema()), Arc::clone(join.right.schema()));
    let keys = join.on.into_iter().map(|(left, right)| {
        let types = [left.get_type(&left_schema)?, right.get_type(&right_schema)?];
        Ok(match common_micros(&types, comparison_coercion) {
            Some(common) => (cast(left, &types[0], &common), cast(right, &types[1], &common)),
            None => (left, right),
        })
    });
    join.on = keys.collect::<Result<_>>()?;
    Ok(join)
}

/// Each column has one type in all inputs.
fn in_union(union: Union) -> Result<Union> {
    let Union { inputs, schema } = union;
    let types = |column: usize| -> Vec<DataType> {
        inputs.iter().map(|input| input.schema().fields()[column].data_type().clone()).collect()
    };
    let same_width = inputs.iter().all(|input| input.schema().fields().len() == schema.fields().len());
    if !same_width {
        return Ok(Union { inputs, schema });
    }
    let common: Vec<Option<DataType>> =
        (0..schema.fields().len()).map(|column| common_micros(&types(column), type_union_coercion)).collect();
    if common.iter().all(Option::is_none) {
        return Ok(Union { inputs, schema });
    }
    let inputs = inputs.into_iter().map(|input| {
        let wanted = with_types(input.schema(), &common)?;
        Ok(Arc::new(coerce_plan_expr_for_schema(Arc::unwrap_or_clone(input), &wanted)?))
    });
    Ok(Union { inputs: inputs.collect::<Result<_>>()?, schema: Arc::new(with_types(&schema, &common)?) })
}

/// The planner has cast the values of each column to one type, of which [`super::analysis`] has made microseconds.
fn in_values(values: Values) -> Result<Values> {
    let Values { schema, mut values } = values;
    let none = DFSchema::empty();
    let mut types = vec![None; schema.fields().len()];
    for (column, planned) in types.iter_mut().enumerate() {
        let planned_type = schema.field(column).data_type();
        if !has_nanoseconds(planned_type) {
            continue;
        }
        let found = values.iter().map(|row| row[column].get_type(&none)).collect::<Result<Vec<_>>>()?;
        if found.iter().all(|found| found == planned_type) {
            continue;
        }
        let common = in_microseconds(planned_type);
        for (row, found) in values.iter_mut().zip(&found) {
            row[column] = cast(std::mem::take(&mut row[column]), found, &common);
        }
        *planned = Some(common);
    }
    Ok(Values { schema: Arc::new(with_types(&schema, &types)?), values })
}

/// Casts expressions to a common type in microseconds, if the engine would make nanoseconds of them.
fn one_type<L: AsMut<[Expr]> + AsRef<[Expr]>>(
    operands: L,
    schema: &DFSchema,
    coercion: fn(&DataType, &DataType) -> Option<DataType>,
) -> Result<Transformed<L>> {
    let mut operands = operands;
    let types = types(operands.as_ref(), schema);
    let Some(common) = common_micros(&types, coercion) else { return Ok(Transformed::no(operands)) };
    for (operand, from) in operands.as_mut().iter_mut().zip(&types) {
        *operand = cast(std::mem::take(operand), from, &common);
    }
    Ok(Transformed::yes(operands))
}

/// The types of expressions; none, if one of them has no type. The engine says why.
fn types(expressions: &[Expr], schema: &DFSchema) -> Vec<DataType> {
    let types = expressions.iter().map(|expression| expression.get_type(schema)).collect::<Result<Vec<_>>>();
    types.unwrap_or_default()
}

/// The common type in microseconds of types, one of which is TIMESTAMP, if the engine would make nanoseconds of them.
fn common_micros(types: &[DataType], coercion: fn(&DataType, &DataType) -> Option<DataType>) -> Option<DataType> {
    if types.iter().any(has_nanoseconds) || !types.iter().any(has_timestamp) {
        return None;
    }
    let mut known = types.iter().filter(|data_type| **data_type != DataType::Null);
    let first = known.next()?.clone();
    let common = known.try_fold(first, |common, data_type| coercion(&common, data_type))?;
    has_nanoseconds(&common).then(|| in_microseconds(&common))
}

fn cast(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to.clone())) }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64) || is_timestamp(data_type)
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

/// True if a condition holds for a type or for one within it.
fn any_part(data_type: &DataType, holds: fn(&DataType) -> bool) -> bool {
    use DataType as T;
    holds(data_type)
        || match data_type {
            T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => any_part(item.data_type(), holds),
            T::Struct(fields) => fields.iter().any(|field| any_part(field.data_type(), holds)),
            _ => false,
        }
}

fn has_timestamp(data_type: &DataType) -> bool {
    any_part(data_type, is_timestamp)
}

fn has_nanoseconds(data_type: &DataType) -> bool {
    any_part(data_type, |part| matches!(part, DataType::Timestamp(TimeUnit::Nanosecond, _)))
}

/// The type with microseconds for nanoseconds.
fn in_microseconds(data_type: &DataType) -> DataType {
    use DataType as T;
    let of = |field: &FieldRef| Arc::new(retyped(field, in_microseconds(field.data_type())));
    match data_type {
        T::Timestamp(TimeUnit::Nanosecond, zone) => T::Timestamp(TimeUnit::Microsecond, zone.clone()),
        T::List(item) => T::List(of(item)),
        T::LargeList(item) => T::LargeList(of(item)),
        T::FixedSizeList(item, length) => T::FixedSizeList(of(item), *length),
        T::Struct(fields) => T::Struct(fields.iter().map(of).collect()),
        other => other.clone(),
    }
}

/// The type of the innermost elements of a list, or the type itself.
fn element(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            element(item.data_type())
        }
        other => other,
    }
}

fn with_element(data_type: &DataType, of: &DataType) -> DataType {
    use DataType as T;
    let item_of = |item: &FieldRef| Arc::new(retyped(item, with_element(item.data_type(), of)));
    match data_type {
        T::List(item) => T::List(item_of(item)),
        T::LargeList(item) => T::LargeList(item_of(item)),
        T::FixedSizeList(item, length) => T::FixedSizeList(item_of(item), *length),
        _ => of.clone(),
    }
}

fn retyped(field: &Field, data_type: DataType) -> Field {
    field.clone().with_data_type(data_type)
}

/// A schema with other types for some of its columns.
fn with_types(schema: &DFSchemaRef, types: &[Option<DataType>]) -> Result<DFSchema> {
    let fields = schema.iter().zip(types).map(|((qualifier, field), data_type)| match data_type {
        Some(data_type) => (qualifier.cloned(), Arc::new(retyped(field, data_type.clone()))),
        None => (qualifier.cloned(), Arc::clone(field)),
    });
    DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())
}

#[cfg(test)]
mod tests;
