//! Expressions over a stream's rows, written over the groups of a view.
//!
//! Invariant: the written expression has for the group of every row the value that the expression has for the row. A
//! function of a group is computed once for all its rows, so only what has one value for all of them is written.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{InSubquery, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};

use crate::algebra::compile::group_name;
use crate::algebra::table_aggregate::TableAggregate;
use crate::engine::buckets::{Bucket, is_of_utc};
use crate::engine::in_calendar::checked;

/// The groups of a view, as columns of its states.
pub(super) struct GroupColumns<'v> {
    groups: Vec<ViewGroup<'v>>,
    columns: &'v DFSchema,
}

struct ViewGroup<'v> {
    expr: &'v Expr,
    column: Expr,
    /// False if equal values may differ: 0.0 and -0.0 are one group.
    is_exact: bool,
    bucket: Option<(Bucket, &'v Expr)>,
}

impl<'v> GroupColumns<'v> {
    pub(super) fn of(view: &'v TableAggregate) -> Self {
        let columns = view.columns.as_ref();
        let groups = view.groups.iter().enumerate().map(|(i, expr)| ViewGroup {
            expr,
            column: Expr::Column(Column::new_unqualified(group_name(i))),
            is_exact: expr.get_type(columns).is_ok_and(|data_type| !has_floats(&data_type)),
            bucket: Bucket::of(expr, columns),
        });
        Self { groups: groups.collect(), columns }
    }

    /// `expr` as a group of a coarser query.
    pub(super) fn group(&self, expr: &Expr) -> Option<Expr> {
        if let Some(group) = self.groups.iter().find(|group| group.expr == expr) {
            return Some(group.column.clone());
        }
        match expr {
            Expr::GroupingSet(_) => self.map_children(expr, Self::group),
            other => self.express(other),
        }
    }

    /// `expr` over the groups.
    pub(super) fn express(&self, expr: &Expr) -> Option<Expr> {
        if let Some(group) = self.groups.iter().find(|group| group.expr == expr) {
            return group.is_exact.then(|| group.column.clone());
        }
        if let Some(coarser) = self.coarser(expr).or_else(|| self.compared(expr)) {
            return Some(coarser);
        }
        match expr {
            Expr::Literal(..) => Some(expr.clone()),
            Expr::ScalarSubquery(subquery) => subquery.outer_ref_columns.is_empty().then(|| expr.clone()),
            Expr::InSubquery(InSubquery { subquery, .. }) if !subquery.outer_ref_columns.is_empty() => None,
            Expr::InSubquery(_)
            | Expr::Alias(_)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::InList(_) => self.map_children(expr, Self::express),
            _ => None,
        }
    }

    fn map_children(&self, expr: &Expr, map: impl Fn(&Self, &Expr) -> Option<Expr>) -> Option<Expr> {
        let mut all = true;
        let mapped = expr.clone().map_children(|child| {
            Ok(match map(self, &child) {
                Some(mapped) => Transformed::yes(mapped),
                None => {
                    all = false;
                    Transformed::new(child, false, TreeNodeRecursion::Stop)
                }
            })
        });
        mapped.ok().filter(|_| all).map(|mapped| mapped.data)
    }

    /// The group column with times that are cut to spans of `time` within those of `coarse`.
    fn within(&self, coarse: Bucket, time: &Expr) -> Option<&Expr> {
        let is_within =
            |group: &&ViewGroup<'_>| group.bucket.is_some_and(|(fine, of)| of == time && fine.refines(coarse));
        self.groups.iter().find(is_within).map(|group| &group.column)
    }

    /// A coarser bucket, a part of a time, or a date, of a time that the view has in finer buckets.
    fn coarser(&self, expr: &Expr) -> Option<Expr> {
        if let Some((bucket, time)) = Bucket::of(expr, self.columns) {
            let column = self.within(bucket, time)?.clone();
            let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
            let args = args.iter().map(|arg| if arg == time { column.clone() } else { arg.clone() }).collect();
            return Some(Expr::ScalarFunction(ScalarFunction { func: func.clone(), args }));
        }
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "date_part" => {
                let [part @ Expr::Literal(ScalarValue::Utf8(Some(name)), _), time] = args.as_slice() else {
                    return None;
                };
                let column = self.within(Bucket::of_part(name)?, time)?.clone();
                Some(Expr::ScalarFunction(ScalarFunction { func: func.clone(), args: vec![part.clone(), column] }))
            }
            Expr::Cast(Cast { expr: time, field }) if *field.data_type() == DataType::Date32 => {
                let column = self.within(Bucket::DAY, time)?.clone();
                Some(Expr::Cast(Cast { expr: Box::new(column), field: field.clone() }))
            }
            _ => None,
        }
    }

    /// A comparison of a time with a bound at which spans of a group start: all rows of a group are on one side.
    fn compared(&self, expr: &Expr) -> Option<Expr> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
        let of = |side: &Expr, op: Operator, bound: &Expr| {
            let time = as_utc(side, self.columns);
            let separates = |group: &&ViewGroup<'_>| {
                group.bucket.is_some_and(|(bucket, of)| of == time && self.separates(bucket, op, bound))
            };
            let column = &self.groups.iter().find(separates)?.column;
            let in_place = |inner: Expr| {
                Ok(if inner == *time { Transformed::complete(column.clone()) } else { Transformed::no(inner) })
            };
            side.clone().transform_down(in_place).data().ok().map(Box::new)
        };
        let (left, right) = match of(left, *op, right) {
            Some(column) => (column, right.clone()),
            None => (left.clone(), of(right, op.swap()?, left)?),
        };
        Some(Expr::BinaryExpr(BinaryExpr { left, op: *op, right }))
    }

    /// True if `time op bound` has one value for all times of a span of `bucket`, that of the span's start.
    fn separates(&self, bucket: Bucket, op: Operator, bound: &Expr) -> bool {
        if let Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), _), _) = bound {
            return match op {
                Operator::GtEq | Operator::Lt => bucket.starts_at(*micros),
                // The last microsecond of a span.
                Operator::Gt | Operator::LtEq => micros.checked_add(1).is_some_and(|next| bucket.starts_at(next)),
                _ => false,
            };
        }
        // A bound that is computed, such as `date_trunc('hour', now())`.
        let is_constant =
            bound.column_refs().is_empty() && !bound.exists(|e| Ok(has_columns_elsewhere(e))).unwrap_or(true);
        let starts = Bucket::of(bound, self.columns).is_some_and(|(coarse, _)| bucket.refines(coarse));
        is_constant && starts && matches!(op, Operator::GtEq | Operator::Lt)
    }
}

/// The time that `expr` shows as an instant of UTC, or `expr` itself: comparisons cast times without a zone to that.
fn as_utc<'e>(expr: &'e Expr, columns: &DFSchema) -> &'e Expr {
    match checked(expr).unwrap_or(expr) {
        Expr::Cast(Cast { expr: time, field }) => {
            let is_time = time.get_type(columns).is_ok_and(|data_type| is_of_utc(&data_type));
            if is_time && is_of_utc(field.data_type()) { time } else { expr }
        }
        _ => expr,
    }
}

/// True for expressions that `column_refs` does not look into.
fn has_columns_elsewhere(expr: &Expr) -> bool {
    matches!(expr, Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))
}

fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _) => has_floats(field.data_type()),
        DataType::Dictionary(_, value) => has_floats(value),
        _ => false,
    }
}
