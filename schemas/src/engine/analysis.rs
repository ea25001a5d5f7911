//! Rules that every plan goes through before it is optimised: `NOT IN` knows of NULLs, times are in microseconds, and
//! arithmetic is checked.
//!
//! [`Microseconds`] and [`CommonTimes`] come before the engine's coercion of types and [`Exact`] after it. All come
//! before constants are folded, so folding uses the same arithmetic as rows do.
//!
//! Invariant: a rule that has been applied changes nothing when it is applied again. Plans of a view are analysed when
//! the view is compiled, and once more when they are run.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, Between, Case, InList, Sort, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, lit};
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};

use super::arithmetic;
use super::at_time_zone::AtTimeZone;
use super::common_times::CommonTimes;
use super::floats::{in_set, is_float, is_in_set};
use super::get_field::GetField;
use super::guarded;
use super::in_calendar::{self, checked};
use super::not_in::NotIn;

/// The engine's rules, and ours around them.
pub(super) fn rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    let before: [Arc<dyn AnalyzerRule + Send + Sync>; 3] =
        [Arc::new(NotIn), Arc::new(Microseconds), Arc::new(CommonTimes)];
    rules.splice(0..0, before);
    rules.push(Arc::new(Exact));
    rules
}

/// Where an expression of a plan is.
struct Site<'a> {
    /// The columns of the plan's inputs.
    schema: &'a DFSchema,
    /// True for conditions of WHERE, ON and HAVING.
    is_condition: bool,
}

/// Rewrites every expression of a plan and of its subqueries, and keeps the names of columns.
fn rewrite_all(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &Site<'_>) -> Result<Transformed<Expr>> + Copy,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let is_condition = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::TableScan(_));
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = &node {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&node);
        let site = Site { schema: &schema, is_condition };
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(rewrite(expr, &site)?.update_data(|expr| name.restore(expr)))
        })?;
        if node.transformed { node.map_data(LogicalPlan::recompute_schema) } else { Ok(node) }
    });
    Ok(rewritten?.data)
}

/// Makes casts to TIMESTAMP and AT TIME ZONE keep microseconds, of which the planner would make nanoseconds. A whole
/// number that is cast to TIMESTAMP is in seconds.
#[derive(Debug)]
struct Microseconds;

impl AnalyzerRule for Microseconds {
    fn name(&self) -> &'static str {
        "microseconds"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_all(plan, |expr, site| expr.transform_up(|expr| in_microseconds(expr, site.schema)))
    }
}

fn in_microseconds(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Cast(Cast { expr, field }) if is_local(&expr, field.data_type(), schema)? => {
            Transformed::yes(at_time_zone(*expr, &micros_like(field.data_type())))
        }
        Expr::Cast(Cast { expr, field }) if is_nanoseconds(field.data_type()) => {
            Transformed::yes(Expr::Cast(Cast::new(expr, micros_like(field.data_type()))))
        }
        Expr::Cast(Cast { expr, field }) => match in_seconds(&expr, field.data_type(), schema)? {
            Some(seconds) => {
                let seconds = Box::new(Expr::Cast(Cast::new(expr, seconds)));
                Transformed::yes(Expr::Cast(Cast::new_from_field(seconds, field)))
            }
            None => Transformed::no(Expr::Cast(Cast { expr, field })),
        },
        Expr::TryCast(TryCast { expr, field }) => match in_seconds(&expr, field.data_type(), schema)? {
            Some(seconds) => {
                let seconds = Box::new(Expr::TryCast(TryCast::new(expr, seconds)));
                Transformed::yes(Expr::TryCast(TryCast::new_from_field(seconds, field)))
            }
            None => Transformed::no(Expr::TryCast(TryCast { expr, field })),
        },
        other => Transformed::no(other),
    })
}

/// True if a time without a time zone is cast to a zone whose clock changes.
fn is_local(time: &Expr, to: &DataType, schema: &DFSchema) -> Result<bool> {
    let DataType::Timestamp(_, Some(zone)) = to else { return Ok(false) };
    Ok(AtTimeZone::converts(zone) && matches!(time.get_type(schema)?, DataType::Timestamp(_, None)))
}

/// The instants of local times, as the type `zoned`.
fn at_time_zone(time: Expr, zoned: &DataType) -> Expr {
    let DataType::Timestamp(unit, Some(zone)) = zoned else { return time };
    let instants = ScalarUDF::new_from_impl(AtTimeZone::new(Arc::clone(zone))).call(vec![time]);
    match unit {
        TimeUnit::Microsecond => instants,
        _ => Expr::Cast(Cast::new(Box::new(instants), zoned.clone())),
    }
}

/// The timestamp in seconds for a whole number that is cast to a timestamp in microseconds.
fn in_seconds(number: &Expr, to: &DataType, schema: &DFSchema) -> Result<Option<DataType>> {
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = to else { return Ok(None) };
    let whole = number.get_type(schema)?.is_integer();
    Ok(whole.then(|| DataType::Timestamp(TimeUnit::Second, zone.clone())))
}

fn is_nanoseconds(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _))
}

/// The type in microseconds for a type in nanoseconds.
fn micros_like(nanos: &DataType) -> DataType {
    match nanos {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

/// Puts exact operators in the place of the engine's, checks computed times against the calendar, and lets conditions
/// within values protect others.
#[derive(Debug)]
struct Exact;

impl AnalyzerRule for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_all(plan, |expr, &Site { schema, is_condition }| {
            let exact = expr.transform_up(|inner| exact(inner, schema))?;
            // Other parts of conditions are protected when the plan is optimised.
            let protect = if is_condition { guarded::protect_cases } else { guarded::protect };
            let protected = exact.transform_data(|expr| protect(expr, schema))?;
            if is_condition { Ok(protected) } else { protected.transform_data(|expr| expr.transform_up(truth_test)) }
        })
    }
}

fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) if arithmetic::is_operator(binary.op) => {
            arithmetic::of_operator(binary, schema).map(Transformed::yes)
        }
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => compare(binary, schema),
        Expr::Between(between) => {
            let Between { expr, negated, low, high } = between;
            let found = [*expr, *low, *high];
            Ok(common_micros(found, schema)?.update_data(|[expr, low, high]| {
                Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high)))
            }))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let mut all = vec![*expr];
            all.extend(list);
            if is_float(&all[0].get_type(schema)?) && !is_in_set(&all[0]) {
                let mut all: Vec<Expr> = all.into_iter().map(in_set).collect();
                let expr = Box::new(all.remove(0));
                return Ok(Transformed::yes(Expr::InList(InList::new(expr, all, negated))));
            }
            let in_list = |mut all: Vec<Expr>| {
                let expr = all.remove(0);
                Expr::InList(InList::new(Box::new(expr), all, negated))
            };
            Ok(common_micros(all, schema)?.update_data(in_list))
        }
        Expr::AggregateFunction(mut call) if call.params.distinct => {
            let AggregateFunctionParams { args, order_by, .. } = &mut call.params;
            let changed = distinct(args, order_by, schema)?;
            Ok(Transformed::new(Expr::AggregateFunction(call), changed, TreeNodeRecursion::Continue))
        }
        Expr::WindowFunction(mut call) if call.params.distinct => {
            let changed = distinct(&mut call.params.args, &mut [], schema)?;
            Ok(Transformed::new(Expr::WindowFunction(call), changed, TreeNodeRecursion::Continue))
        }
        Expr::Negative(inner) => arithmetic::of_negation(*inner, schema).map(Transformed::yes),
        // The engine's coercion of types has added some of these casts.
        Expr::Cast(Cast { expr, field }) if is_local(&expr, field.data_type(), schema)? => {
            Ok(Transformed::yes(at_time_zone(*expr, field.data_type())))
        }
        Expr::Case(case) => Ok(Transformed::yes(Expr::Case(compare_floats(case, schema)?))),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema)?;
            let computed = leaves_calendar(&from, cast.field.data_type());
            let expr = Expr::Cast(cast);
            Ok(if computed { in_calendar(expr, false) } else { Transformed::no(expr) })
        }
        Expr::TryCast(TryCast { expr, field }) => {
            let computed = leaves_calendar(&expr.get_type(schema)?, field.data_type());
            let expr = Expr::TryCast(TryCast { expr, field });
            Ok(if computed { in_calendar(expr, true) } else { Transformed::no(expr) })
        }
        // A second analysis has wrapped a check that the first one made.
        outer if checked(&outer).and_then(checked).is_some() => {
            Ok(Transformed::yes(checked(&outer).cloned().unwrap_or(outer)))
        }
        Expr::ScalarFunction(call) if GetField::replaces(&call) => Ok(Transformed::yes(GetField::of(call))),
        Expr::ScalarFunction(call) if MAKES_TIMES.contains(&call.func.name()) => {
            let expr = Expr::ScalarFunction(call);
            Ok(if in_calendar::checks(&expr.get_type(schema)?) {
                in_calendar(expr, false)
            } else {
                Transformed::no(expr)
            })
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Functions that make a time of numbers or texts.
const MAKES_TIMES: [&str; 8] = [
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "from_unixtime",
    "to_date",
    "make_date",
    "to_local_time",
];

/// True if a cast may give a time outside of the calendar. Casts between times cannot, unless one side is local.
fn leaves_calendar(from: &DataType, to: &DataType) -> bool {
    let zone = |data_type: &DataType| match data_type {
        DataType::Timestamp(_, zone) => zone.is_some(),
        _ => false,
    };
    let is_time = matches!(from, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64);
    in_calendar::checks(to) && *from != DataType::Null && (!is_time || zone(from) != zone(to))
}

fn in_calendar(expr: Expr, or_null: bool) -> Transformed<Expr> {
    let text = arithmetic::text_of(&expr);
    Transformed::yes(in_calendar::in_calendar(expr, text, or_null))
}

/// Makes equal floats one value, for a call over distinct values. Returns false if there is nothing to do.
fn distinct(args: &mut [Expr], order_by: &mut [Sort], schema: &DFSchema) -> Result<bool> {
    let [value] = args else { return Ok(false) };
    if !is_float(&value.get_type(schema)?) || is_in_set(value) {
        return Ok(false);
    }
    // The engine demands that an ordering key be the argument.
    for key in order_by.iter_mut().filter(|key| key.expr == *value) {
        key.expr = in_set(value.clone());
    }
    *value = in_set(std::mem::take(value));
    Ok(true)
}

/// A CASE that compares its operand by `=`: the engine looks floats up by their bits.
fn compare_floats(case: Case, schema: &DFSchema) -> Result<Case> {
    let Case { expr, when_then_expr, else_expr } = case;
    let Some(operand) = expr else { return Ok(Case { expr, when_then_expr, else_expr }) };
    if !is_float(&operand.get_type(schema)?) || is_in_set(&operand) {
        return Ok(Case { expr: Some(operand), when_then_expr, else_expr });
    }
    let branches = when_then_expr.into_iter().map(|(when, then)| (Box::new(in_set(*when)), then));
    Ok(Case { expr: Some(Box::new(in_set(*operand))), when_then_expr: branches.collect(), else_expr })
}

/// A test of a boolean value, as a comparison. Operators of the engine think that the test itself may be NULL, and then
/// do not fit to their plan.
fn truth_test(expr: Expr) -> Result<Transformed<Expr>> {
    let compare = |value: Box<Expr>, op: Operator, with: bool| {
        Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(value, op, Box::new(lit(with)))))
    };
    Ok(match expr {
        Expr::IsTrue(value) => compare(value, Operator::IsNotDistinctFrom, true),
        Expr::IsNotTrue(value) => compare(value, Operator::IsDistinctFrom, true),
        Expr::IsFalse(value) => compare(value, Operator::IsNotDistinctFrom, false),
        Expr::IsNotFalse(value) => compare(value, Operator::IsDistinctFrom, false),
        Expr::IsUnknown(value) => Transformed::yes(Expr::IsNull(value)),
        Expr::IsNotUnknown(value) => Transformed::yes(Expr::IsNotNull(value)),
        other => Transformed::no(other),
    })
}

fn is_comparison(operator: Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn compare(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    // The engine makes a list of several such comparisons of one column, and looks values up in its set.
    let one_of = matches!(op, Operator::Eq | Operator::NotEq);
    if one_of && left.any_column_refs() != right.any_column_refs() && !is_in_set(&left) {
        let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
        if is_float(&left_type) && is_float(&right_type) {
            let (left, right) = (Box::new(in_set(*left)), Box::new(in_set(*right)));
            return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(left, op, right))));
        }
    }
    Ok(common_micros([*left, *right], schema)?
        .update_data(|[left, right]| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
}

/// Operands of a comparison, in microseconds if the engine has cast all of them to nanoseconds for the comparison:
/// such a cast fails for times after the year 2262.
fn common_micros<L>(operands: L, schema: &DFSchema) -> Result<Transformed<L>>
where
    L: AsMut<[Expr]> + AsRef<[Expr]>,
{
    let mut operands = operands;
    let coarser = |operand: &Expr| -> Result<bool> {
        Ok(match operand {
            Expr::Cast(Cast { expr, field }) => {
                is_nanoseconds(field.data_type()) && !is_nanoseconds(&expr.get_type(schema)?)
            }
            Expr::Literal(ScalarValue::TimestampNanosecond(nanos, _), _) => nanos.is_none_or(|nanos| nanos % 1000 == 0),
            _ => false,
        })
    };
    for operand in operands.as_ref() {
        if !coarser(operand)? {
            return Ok(Transformed::no(operands));
        }
    }
    for operand in operands.as_mut() {
        let to = micros_like(&operand.get_type(schema)?);
        let inner = match std::mem::take(operand) {
            Expr::Cast(cast) => *cast.expr,
            other => other,
        };
        *operand = if inner.get_type(schema)? == to { inner } else { Expr::Cast(Cast::new(Box::new(inner), to)) };
    }
    Ok(Transformed::yes(operands))
}
