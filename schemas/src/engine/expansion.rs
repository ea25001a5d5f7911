//! How large and how deep expressions become once the columns that they refer to are written out.
//!
//! The optimizer moves filters below projections, and merges projections. Each time an expression takes the place of a
//! column, as often as the column occurs. A chain of WITH clauses that each use the column before twice becomes an
//! expression without end, and a chain of long expressions becomes one that is deeper than any stack.
//!
//! Invariant: sizes are computed column by column, from the leaves of a plan upward, and nothing is written out. What
//! is refused is refused before the optimizer sees the plan.

use std::collections::HashMap;
use std::rc::Rc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// The most parts of all expressions of a plan.
const PARTS: u64 = 100_000;

/// The most parts of an expression that lie in one another. `tests/it/depth.rs` runs an expression of this depth.
const DEPTH: u64 = 2_000;

/// What a part counts. A literal counts 1: a list may have 100,000 of them, and no rule of the optimizer dwells on one.
const PART: u64 = 8;
const LITERAL: u64 = 1;

/// What a plan has too many of once its expressions are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    pub what: &'static str,
    pub count: u64,
    pub limit: u64,
}

/// Returns why the expressions of `plan` become too large or too deep, if they do.
///
/// Errors: those of a walk over a plan.
pub fn excess(plan: &LogicalPlan) -> Result<Option<Excess>> {
    let found = measure(plan)?;
    let counts = [
        ("parts of expressions", found.parts / PART, PARTS),
        ("parts of one expression within each other", found.depth, DEPTH),
    ];
    let too_many = counts.into_iter().find(|(_, count, limit)| count > limit);
    Ok(too_many.map(|(what, count, limit)| Excess { what, count, limit }))
}

/// The sum of the sizes of all expressions of a plan, and the depth of the deepest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Measure {
    parts: u64,
    depth: u64,
}

fn measure(plan: &LogicalPlan) -> Result<Measure> {
    let mut walk = Walk { around: Vec::new(), found: Measure::default() };
    walk.columns_of(plan)?;
    Ok(walk.found)
}

/// The size of what a column or an expression stands for.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Where the expression stays above the unions below it.
    once: u64,
    /// Where it is moved into every branch of them.
    pushed: u64,
    /// The branches.
    copies: u64,
    depth: u64,
}

/// The size of a column that is computed where it stands, so that no expression takes its place.
const COLUMN: Size = Size { once: PART, pushed: PART, copies: 1, depth: 1 };

impl Size {
    /// The size of the same column in two branches of a union.
    fn beside(self, other: Self) -> Self {
        Self {
            once: self.once.max(other.once),
            pushed: self.pushed.saturating_add(other.pushed),
            copies: self.copies.saturating_add(other.copies),
            depth: self.depth.max(other.depth),
        }
    }
}

/// What was found in an expression so far. `own` is what is written there.
#[derive(Debug, Clone, Copy)]
struct Parts {
    own: u64,
    once: u64,
    pushed: u64,
    copies: u64,
    depth: u64,
}

impl Parts {
    fn of(own: u64) -> Self {
        Self { own, once: 0, pushed: 0, copies: 1, depth: 0 }
    }

    fn add_column(&mut self, size: Size) {
        self.once = self.once.saturating_add(size.once);
        self.pushed = self.pushed.saturating_add(size.pushed);
        self.copies = self.copies.max(size.copies);
        self.depth = self.depth.max(size.depth);
    }

    fn add(&mut self, other: Self) {
        self.own = self.own.saturating_add(other.own);
        self.add_column(Size { once: other.once, pushed: other.pushed, copies: other.copies, depth: other.depth });
    }

    fn size(self) -> Size {
        Size {
            once: self.own.saturating_add(self.once),
            pushed: self.own.saturating_mul(self.copies).saturating_add(self.pushed),
            copies: self.copies,
            depth: self.depth,
        }
    }
}

/// The columns that expressions of one operator refer to, by name.
type Scope<'p> = HashMap<&'p str, Vec<(Option<&'p TableReference>, Size)>>;

/// One walk over a plan.
struct Walk<'p> {
    /// The scopes of the operators around a subquery, the outermost first.
    around: Vec<Rc<Scope<'p>>>,
    found: Measure,
}

impl<'p> Walk<'p> {
    /// The sizes of the columns of `plan`, in their order.
    fn columns_of(&mut self, plan: &'p LogicalPlan) -> Result<Vec<Size>> {
        let inputs = plan.inputs();
        let sizes = inputs.iter().map(|input| self.columns_of(input)).collect::<Result<Vec<_>>>()?;
        let mut scope = Scope::new();
        for (input, sizes) in inputs.iter().zip(&sizes) {
            for ((table, field), size) in input.schema().iter().zip(sizes) {
                scope.entry(field.name().as_str()).or_default().push((table, *size));
            }
        }
        let scope = Rc::new(scope);
        let moves = matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
        let mut written = Vec::new();
        plan.apply_expressions(|expression| {
            let size = self.size_of(expression, &scope)?;
            if !is_column(expression) || !matches!(plan, LogicalPlan::Projection(_)) {
                let parts = if moves { size.pushed } else { size.once };
                self.found.parts = self.found.parts.saturating_add(parts);
            }
            self.found.depth = self.found.depth.max(size.depth);
            written.push(size);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let count = plan.schema().fields().len();
        let mut columns = output(plan, sizes, written);
        columns.resize(count, COLUMN);
        Ok(columns)
    }

    fn size_of(&mut self, expression: &Expr, scope: &Rc<Scope<'p>>) -> Result<Size> {
        Ok(self.parts_of(expression, scope)?.size())
    }

    fn parts_of(&mut self, expression: &Expr, scope: &Rc<Scope<'p>>) -> Result<Parts> {
        let mut parts = match expression {
            Expr::Alias(alias) => return self.parts_of(&alias.expr, scope),
            Expr::Column(column) => {
                let mut parts = Parts::of(0);
                parts.add_column(find(scope, column));
                return Ok(parts);
            }
            Expr::OuterReferenceColumn(_, column) => {
                let around = self.around.iter().rev().find(|scope| scope.contains_key(column.name()));
                let mut parts = Parts::of(0);
                parts.add_column(around.map_or(COLUMN, |scope| find(scope, column)));
                return Ok(parts);
            }
            Expr::Literal(..) => Parts::of(LITERAL),
            Expr::ScalarSubquery(subquery) => self.subquery(&subquery.subquery, scope)?,
            Expr::Exists(exists) => self.subquery(&exists.subquery.subquery, scope)?,
            Expr::InSubquery(within) => self.subquery(&within.subquery.subquery, scope)?,
            Expr::SetComparison(comparison) => self.subquery(&comparison.subquery.subquery, scope)?,
            _ => Parts::of(PART),
        };
        expression.apply_children(|child| {
            parts.add(self.parts_of(child, scope)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        parts.depth = parts.depth.saturating_add(1);
        Ok(parts)
    }

    /// A subquery within an expression: its plan is there as often as the expression, and its column is compared.
    fn subquery(&mut self, plan: &LogicalPlan, scope: &Rc<Scope<'p>>) -> Result<Parts> {
        let around = self.around.iter().chain([scope]).map(Rc::clone).collect();
        let mut walk = Walk { around, found: Measure::default() };
        let columns = walk.columns_of(plan)?;
        self.found.depth = self.found.depth.max(walk.found.depth);
        let mut parts = Parts::of(PART.saturating_add(walk.found.parts));
        parts.add_column(columns.first().copied().unwrap_or(COLUMN));
        Ok(parts)
    }
}

/// The column that `column` names; of several, the largest.
fn find(scope: &Scope<'_>, column: &Column) -> Size {
    let named = scope.get(column.name()).into_iter().flatten();
    let ours = named.filter(|(table, _)| match (table, &column.relation) {
        (Some(table), Some(relation)) => table.resolved_eq(relation),
        _ => true,
    });
    let larger = |a: Size, b: Size| Size {
        once: a.once.max(b.once),
        pushed: a.pushed.max(b.pushed),
        copies: a.copies.max(b.copies),
        depth: a.depth.max(b.depth),
    };
    ours.map(|(_, size)| *size).reduce(larger).unwrap_or(COLUMN)
}

fn is_column(expression: &Expr) -> bool {
    match expression {
        Expr::Alias(alias) => is_column(&alias.expr),
        other => matches!(other, Expr::Column(_)),
    }
}

/// The columns of `plan` over inputs with the columns `inputs`; `written` are its expressions. Columns that are left
/// out at the end are computed where they stand.
fn output(plan: &LogicalPlan, mut inputs: Vec<Vec<Size>>, written: Vec<Size>) -> Vec<Size> {
    match plan {
        LogicalPlan::Projection(_) => written,
        LogicalPlan::Distinct(Distinct::On(on)) => written.into_iter().skip(on.on_expr.len()).collect(),
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.first() {
            Some(Expr::GroupingSet(_)) => Vec::new(),
            _ => written.into_iter().take(aggregate.group_expr.len()).collect(),
        },
        LogicalPlan::Join(join) => match (join.join_type, inputs.pop(), inputs.pop()) {
            (JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark, Some(right), _) => right,
            (JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark, _, Some(left)) => left,
            (_, Some(right), Some(left)) => left.into_iter().chain(right).collect(),
            _ => Vec::new(),
        },
        LogicalPlan::Union(_) => {
            let branches = inputs.into_iter();
            let beside = |a: Vec<Size>, b: Vec<Size>| a.into_iter().zip(b).map(|(a, b)| a.beside(b)).collect();
            branches.reduce(beside).unwrap_or_default()
        }
        LogicalPlan::Unnest(unnest) => {
            let input = inputs.pop().unwrap_or_default();
            let column = |index: &usize| input.get(*index).copied().unwrap_or(COLUMN);
            unnest.dependency_indices.iter().map(column).collect()
        }
        LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_) => inputs.pop().unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
