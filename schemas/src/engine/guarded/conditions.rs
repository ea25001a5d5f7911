//! Conditions of which only the truth matters: WHERE, ON, HAVING, FILTER and WHEN.
//!
//! ```text
//! s AND f        ─▶   s AND CASE true WHEN not_true(s) THEN false ELSE f END
//! s OR f         ─▶   s OR CASE true WHEN given(s) THEN true ELSE f END
//! f AND g        ─▶   CASE true WHEN not_true(f) THEN false ELSE g END
//! NOT (s OR f)   ─▶   as NOT s AND NOT f
//! ```
//!
//! Here `f` and `g` may fail and `s` cannot, whatever its place. All parts that may fail are in one CASE, in their
//! order, together with the conditions that protect them. So no rule of the engine can take them apart, and they may go
//! wherever the engine moves them. `s` stays where it was as well, and still chooses files.
//!
//! Invariant: a rewritten condition is true for the same rows, and rewriting it again changes nothing.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};

use super::fallible::may_fail;
use super::given::{Guarded, guard, guarded, only_where, parts_of};

/// How parts of a condition are rewritten that are no chains.
pub(super) trait Rewriter {
    fn schema(&self) -> &DFSchema;

    /// Rewrites an expression of which only the truth matters.
    fn truth(&self, expr: Expr) -> Result<Expr>;

    /// Rewrites an expression whose value matters.
    fn value(&self, expr: Expr) -> Result<Expr>;
}

/// What a condition is to its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// After WHERE or ON. Equalities between two tables stay conditions of their own: joins find rows by them.
    Root,
    Inner,
}

/// Rewrites a condition of which only the truth matters.
pub(super) fn condition(expr: Expr, role: Role, of: &impl Rewriter) -> Result<Expr> {
    // The walk of the engine has room on the stack for every depth.
    let rewritten = expr.transform_down(|expr| {
        let operator = operator_of(&expr).unwrap_or(Operator::And);
        let role = if operator == Operator::And { role } else { Role::Inner };
        let rewritten = Junction::of(operator, expr, role, of)?;
        Ok(Transformed::new(rewritten, true, TreeNodeRecursion::Jump))
    });
    Ok(rewritten?.data)
}

/// The operator of the chain that a condition is.
fn operator_of(expr: &Expr) -> Option<Operator> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => Some(*op),
        Expr::Not(inner) => match &**inner {
            Expr::Not(inner) => operator_of(inner),
            inner => operator_of(inner).map(opposite),
        },
        Expr::IsTrue(inner) => operator_of(inner),
        Expr::IsFalse(inner) => operator_of(inner).map(opposite),
        expr => match guarded(expr) {
            Some(Guarded::Chain(operator)) => Some(operator),
            _ => None,
        },
    }
}

fn opposite(operator: Operator) -> Operator {
    if operator == Operator::And { Operator::Or } else { Operator::And }
}

fn join(operator: Operator, parts: Vec<Expr>) -> Option<Expr> {
    match operator {
        Operator::And => conjunction(parts),
        _ => disjunction(parts),
    }
}

/// The parts of a chain, each kind in the order in which it was written.
struct Junction {
    operator: Operator,
    /// Rewriter that cannot fail.
    safe: Vec<Expr>,
    /// Those of them that protect, and others that did so before the engine moved them away.
    guards: Vec<Expr>,
    failing: Vec<Expr>,
    /// Rewriter that rules of the engine look for, whether they may fail or not.
    bound: Vec<Expr>,
}

impl Junction {
    /// Takes a chain apart, and joins its parts again so that they are protected.
    fn of(operator: Operator, expr: Expr, role: Role, of: &impl Rewriter) -> Result<Expr> {
        let mut chain = Self { operator, safe: vec![], guards: vec![], failing: vec![], bound: vec![] };
        chain.take_apart(expr, of.schema())?;
        let keys = if role == Role::Root { chain.take_keys() } else { vec![] };
        if chain.failing.is_empty() && keys.is_empty() {
            let parts = [chain.safe, chain.bound].concat();
            return Ok(join(operator, parts).unwrap_or_else(|| lit(operator == Operator::And)));
        }
        let failing = std::mem::take(&mut chain.failing).into_iter();
        let failing: Vec<Expr> = failing.map(|part| part_of(part, operator, of)).collect::<Result<_>>()?;
        for key in keys {
            let key = chain.guarded_key(key, of)?;
            chain.bound.push(key);
        }
        let before = if failing.is_empty() { None } else { join(operator, chain.guards) };
        let tests = guard(operator, before.into_iter().chain(failing).collect());
        let parts = [chain.safe, chain.bound].concat().into_iter().chain(tests).collect();
        Ok(join(operator, parts).unwrap_or_else(|| lit(operator == Operator::And)))
    }

    /// Sorts the parts of `expr` into their kinds.
    fn take_apart(&mut self, expr: Expr, schema: &DFSchema) -> Result<()> {
        // The second value says that a part is known from a guard only.
        let mut open = vec![(expr, false)];
        while let Some((part, of_guard)) = open.pop() {
            match part {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == self.operator => {
                    open.push((*right, of_guard));
                    open.push((*left, of_guard));
                }
                part if !may_fail(&part, schema)? => {
                    if !is_bound(&part)? {
                        push(&mut self.guards, &part);
                    }
                    if !of_guard {
                        push(&mut self.safe, &part);
                    }
                }
                part if is_bound(&part)? => push(&mut self.bound, &part),
                part => match self.opened(part) {
                    Ok(parts) => open.extend(parts.into_iter().rev().map(|(part, guards)| (part, guards || of_guard))),
                    Err(part) => push(&mut self.failing, &part),
                },
            }
        }
        Ok(())
    }

    /// The parts of a chain of this operator that is written in another form. Without such a chain, `part`.
    fn opened(&self, part: Expr) -> std::result::Result<Vec<(Expr, bool)>, Expr> {
        let is_own = |expr: &Expr| operator_of(expr).is_some_and(|operator| operator == self.operator);
        if !is_own(&part) {
            return Err(part);
        }
        Ok(match part {
            Expr::IsTrue(inner) => vec![(*inner, false)],
            Expr::IsFalse(inner) => vec![(Expr::Not(inner), false)],
            Expr::Not(inner) => match *inner {
                Expr::Not(inner) => vec![(*inner, false)],
                Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
                    vec![(Expr::Not(left), false), (Expr::Not(right), false)]
                }
                inner => return Err(Expr::Not(Box::new(inner))),
            },
            Expr::Case(case) => {
                let parts = parts_of(case).into_iter();
                parts.enumerate().map(|(at, part)| (part, at == 0)).collect()
            }
            part => return Err(part),
        })
    }

    /// Takes equalities that may fail and between two tables out of the parts that may fail, unless another equality of
    /// these tables finds their rows.
    fn take_keys(&mut self) -> Vec<Expr> {
        let found: Vec<_> = self.guards.iter().filter_map(joined_tables).collect();
        let (keys, failing) = std::mem::take(&mut self.failing).into_iter().partition(|part| {
            joined_tables(part).is_some_and(|(left, right)| {
                !found.iter().any(|(l, r)| (*l == left && *r == right) || (*l == right && *r == left))
            })
        });
        self.failing = failing;
        keys
    }

    /// An equality whose sides are evaluated where the conditions on their own table are true.
    fn guarded_key(&self, key: Expr, of: &impl Rewriter) -> Result<Expr> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = key else { return Ok(key) };
        let side = |side: Expr| -> Result<Expr> {
            if !may_fail(&side, of.schema())? {
                return Ok(side);
            }
            let mut conditions = Vec::new();
            let value = match guarded(&side) {
                Some(Guarded::Value(before, value)) => {
                    split(before, Operator::And, &mut conditions);
                    value.clone()
                }
                _ => side,
            };
            let tables = tables(&value);
            for condition in self.guards.iter().filter(|condition| self::tables(condition).is_subset(&tables)) {
                push(&mut conditions, condition);
            }
            let value = of.value(value)?;
            Ok(match conjunction(conditions) {
                Some(conditions) => only_where(conditions, value),
                None => value,
            })
        };
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(side(*left)?), op, Box::new(side(*right)?))))
    }
}

/// Rewrites a part that may fail of a chain of `operator`.
fn part_of(part: Expr, operator: Operator, of: &impl Rewriter) -> Result<Expr> {
    match operator_of(&part) {
        Some(inner) if inner != operator => condition(part, Role::Inner, of),
        _ => of.truth(part),
    }
}

fn push(parts: &mut Vec<Expr>, part: &Expr) {
    if !parts.contains(part) {
        parts.push(part.clone());
    }
}

/// The parts of a chain.
fn split(expr: &Expr, operator: Operator, parts: &mut Vec<Expr>) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == operator => open.extend([&**right, &**left]),
            other => push(parts, other),
        }
    }
}

/// The names of the tables that an expression reads.
fn tables(expr: &Expr) -> BTreeSet<String> {
    let names = expr.column_refs().into_iter();
    names.map(|column| column.relation.as_ref().map(ToString::to_string).unwrap_or_default()).collect()
}

/// The tables of both sides of an equality, if the sides read different ones.
fn joined_tables(expr: &Expr) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (left, right) = (tables(left), tables(right));
            (!left.is_empty() && !right.is_empty() && left.is_disjoint(&right)).then_some((left, right))
        }
        _ => None,
    }
}

/// True for an equality between two tables.
pub(super) fn is_key(expr: &Expr) -> bool {
    joined_tables(expr).is_some()
}

/// True for an expression that must stay a condition of its own: rules of the engine look for it there.
pub(super) fn is_bound(expr: &Expr) -> Result<bool> {
    expr.exists(|inner| {
        Ok(inner.is_volatile_node()
            || matches!(
                inner,
                Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
    })
}
