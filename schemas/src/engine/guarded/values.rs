//! Expressions whose value matters: columns of a SELECT, arguments, group keys and sort keys.
//!
//! ```text
//! s AND f                          ─▶   CASE true WHEN s AND f THEN true WHEN NOT (s AND f) THEN false END
//! CASE WHEN c THEN f …             ─▶   CASE true WHEN c THEN f …
//! coalesce(v, f)                   ─▶   CASE true WHEN v IS NOT NULL THEN v ELSE f END
//! sum(f) FILTER (WHERE c)          ─▶   sum(CASE true WHEN given(c) THEN f END) FILTER (WHERE c)
//! ```
//!
//! Here `f` may fail, and conditions after WHEN are rewritten as conditions. Invariant: a rewritten expression has the
//! same value, and rewriting it again changes nothing.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, Case, ScalarFunction, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};

use super::super::floats::{self, in_set_value};
use super::conditions::{self, Rewriter, Role};
use super::fallible::may_fail;
use super::given::{Guarded, guarded, guarded_case, lasting, only_where};

/// How often an expression is written out.
#[derive(Debug, Clone, Copy)]
struct Copies(u32);

impl Default for Copies {
    fn default() -> Self {
        Self(1)
    }
}

impl Copies {
    /// The most copies of an expression.
    const MOST: u32 = 64;

    fn twice(self) -> Result<Self> {
        if self.0 >= Self::MOST {
            return plan_err!(
                "Conditions that are values of other conditions nest too deeply. Compute the inner ones in a subquery"
            );
        }
        Ok(Self(self.0 * 2))
    }
}

/// Rewrites an expression whose value matters.
pub(in super::super) fn protect(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if may_fail(&expr, schema)? {
        Ok(Transformed::yes(Of { schema, copies: Copies::default() }.value(expr)?))
    } else {
        Ok(Transformed::no(expr))
    }
}

/// Rewrites the CASEs within a condition of WHERE, ON or HAVING, before the engine turns them into ANDs and ORs. Their
/// order is lost then.
pub(in super::super) fn protect_cases(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if may_fail(&expr, schema)? {
        Ok(Transformed::yes(Of { schema, copies: Copies::default() }.cases(expr)?))
    } else {
        Ok(Transformed::no(expr))
    }
}

/// Rewrites the condition of WHERE, ON or HAVING.
pub(super) fn root(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    conditions::condition(expr, Role::Root, &Of { schema, copies: Copies::default() })
}

/// The expressions over the columns of one plan.
#[derive(Clone, Copy)]
struct Of<'a> {
    schema: &'a DFSchema,
    copies: Copies,
}

impl Rewriter for Of<'_> {
    fn schema(&self) -> &DFSchema {
        self.schema
    }

    fn truth(&self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Case(case) => self.case(case, |then| self.condition(then)),
            Expr::IsTrue(inner) => self.condition(*inner),
            Expr::IsFalse(inner) => self.condition(Expr::Not(inner)),
            other => self.value(other),
        }
    }

    fn value(&self, expr: Expr) -> Result<Expr> {
        let rewritten = expr.transform_down(|expr| {
            if !is_open(&expr) {
                return Ok(Transformed::no(expr));
            }
            if !may_fail(&expr, self.schema)? {
                return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::new(self.open(expr)?, true, TreeNodeRecursion::Jump))
        });
        Ok(rewritten?.data)
    }
}

/// True for an expression that does not evaluate all of its parts for every row.
fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => matches!(op, Operator::And | Operator::Or),
        Expr::Not(inner) => is_open(inner),
        Expr::IsTrue(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNotFalse(_) => true,
        Expr::Case(_) | Expr::AggregateFunction(_) | Expr::WindowFunction(_) => true,
        Expr::ScalarFunction(call) => matches!(call.func.name(), "coalesce" | "nvl" | "nvl2"),
        _ => false,
    }
}

fn is_logical(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => matches!(op, Operator::And | Operator::Or),
        Expr::Not(inner) => is_logical(inner),
        _ => false,
    }
}

/// `value` where the condition is true, and its opposite elsewhere.
fn either(condition: Expr, value: bool) -> Expr {
    lasting(vec![(Box::new(condition), Box::new(lit(value)))], Some(Box::new(lit(!value))))
}

impl Of<'_> {
    fn twice(&self) -> Result<Self> {
        Ok(Self { copies: self.copies.twice()?, ..*self })
    }

    fn condition(&self, expr: Expr) -> Result<Expr> {
        if may_fail(&expr, self.schema)? { conditions::condition(expr, Role::Inner, self) } else { Ok(expr) }
    }

    fn cases(&self, condition: Expr) -> Result<Expr> {
        let mut is_truth = true;
        let rewritten = condition.transform_down(|expr| {
            let is_chain = matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }));
            let is_case = matches!(expr, Expr::Case(_) | Expr::ScalarFunction(_)) && is_open(&expr);
            if !is_case || !may_fail(&expr, self.schema)? {
                // Below anything but AND and OR the value matters, and so it may behind.
                is_truth = is_truth && is_chain;
                return Ok(Transformed::no(expr));
            }
            let rewritten = if is_truth { self.truth(expr)? } else { self.value(expr)? };
            Ok(Transformed::new(rewritten, true, TreeNodeRecursion::Jump))
        });
        Ok(rewritten?.data)
    }

    /// Rewrites an expression that [`is_open`].
    fn open(&self, expr: Expr) -> Result<Expr> {
        Ok(match expr {
            Expr::Not(inner) if !is_logical(&inner) => Expr::Not(Box::new(self.value(*inner)?)),
            Expr::BinaryExpr(_) | Expr::Not(_) => self.logical(expr)?,
            Expr::IsTrue(inner) => either(self.condition(*inner)?, true),
            Expr::IsNotTrue(inner) => either(self.condition(*inner)?, false),
            Expr::IsFalse(inner) => either(self.condition(Expr::Not(inner))?, true),
            Expr::IsNotFalse(inner) => either(self.condition(Expr::Not(inner))?, false),
            Expr::Case(case) => self.case(case, |then| self.value(then))?,
            Expr::ScalarFunction(call) => self.first_of(call)?,
            Expr::AggregateFunction(call) => self.aggregate(call)?,
            Expr::WindowFunction(call) => self.window(*call)?,
            other => other,
        })
    }

    /// AND, OR and NOT of them, of which NULL matters.
    fn logical(&self, expr: Expr) -> Result<Expr> {
        if expr.is_volatile() {
            return Ok(expr);
        }
        let branch = |condition: Expr, value: bool| (Box::new(condition), Box::new(lit(value)));
        if !expr.nullable(self.schema)? {
            return Ok(either(self.condition(expr)?, true));
        }
        let each = self.twice()?;
        let is_true = each.condition(expr.clone())?;
        let is_false = each.condition(Expr::Not(Box::new(expr)))?;
        Ok(lasting(vec![branch(is_true, true), branch(is_false, false)], None))
    }

    /// A CASE of which a part may fail. The engine keeps its conditions before their values if there is an operand.
    fn case(&self, case: Case, result: impl Fn(Expr) -> Result<Expr>) -> Result<Expr> {
        let is_marked = guarded_case(&case).is_some();
        let Case { expr, when_then_expr, else_expr } = case;
        let compares = expr.as_ref().is_some_and(|operand| **operand != lit(true));
        let mut branches = Vec::with_capacity(when_then_expr.len());
        for (when, then) in when_then_expr {
            let when = match *when {
                when if is_marked => when,
                when if compares => self.value(when)?,
                when => self.condition(when)?,
            };
            branches.push((Box::new(when), Box::new(result(*then)?)));
        }
        let operand = match expr {
            Some(operand) => self.value(*operand)?,
            None => lit(true),
        };
        let otherwise = else_expr.map(|otherwise| result(*otherwise)).transpose()?;
        Ok(Expr::Case(Case::new(Some(Box::new(operand)), branches, otherwise.map(Box::new))))
    }

    /// `coalesce`, `nvl` and `nvl2`, of which the engine makes a CASE.
    fn first_of(&self, call: ScalarFunction) -> Result<Expr> {
        let ScalarFunction { func, mut args } = call;
        let mut behind = false;
        for arg in args.iter().skip(1) {
            behind = behind || may_fail(arg, self.schema)?;
        }
        if !behind || args.iter().any(Expr::is_volatile) {
            let args = args.into_iter().map(|arg| self.value(arg)).collect::<Result<_>>()?;
            return Ok(Expr::ScalarFunction(ScalarFunction { func, args }));
        }
        let not_null = |value: &Expr| Box::new(Expr::IsNotNull(Box::new(value.clone())));
        if func.name() == "nvl2" {
            let args = args.into_iter().map(|arg| self.value(arg)).collect::<Result<Vec<_>>>()?;
            let Ok([test, then, otherwise]) = <[Expr; 3]>::try_from(args) else {
                return plan_err!("nvl2 takes three values");
            };
            return Ok(lasting(vec![(not_null(&test), Box::new(then))], Some(Box::new(otherwise))));
        }
        // A call in front gives its arguments to the call around it.
        while let Some(Expr::ScalarFunction(inner)) = args.first()
            && matches!(inner.func.name(), "coalesce" | "nvl")
        {
            let inner = inner.args.clone();
            args.splice(0..1, inner);
        }
        let last = args.pop().map(|arg| self.value(arg)).transpose()?;
        let mut branches = Vec::with_capacity(args.len());
        for arg in args {
            let arg = if may_fail(&arg, self.schema)? { self.twice()?.value(arg)? } else { arg };
            branches.push((not_null(&arg), Box::new(arg)));
        }
        Ok(lasting(branches, last.map(Box::new)))
    }

    fn aggregate(&self, mut call: AggregateFunction) -> Result<Expr> {
        let params = &mut call.params;
        let keys = params.order_by.iter_mut().map(|key| &mut key.expr);
        self.arguments(params.args.iter_mut().chain(keys), params.filter.as_deref_mut())?;
        Ok(Expr::AggregateFunction(call))
    }

    fn window(&self, mut call: WindowFunction) -> Result<Expr> {
        let params = &mut call.params;
        for key in params.partition_by.iter_mut().chain(params.order_by.iter_mut().map(|key| &mut key.expr)) {
            *key = self.value(std::mem::take(key))?;
        }
        self.arguments(params.args.iter_mut(), params.filter.as_deref_mut())?;
        Ok(Expr::WindowFunction(Box::new(call)))
    }

    /// Rewrites the arguments of an aggregate: rows that its FILTER leaves out do not reach those that may fail.
    fn arguments<'e>(&self, args: impl Iterator<Item = &'e mut Expr>, filter: Option<&mut Expr>) -> Result<()> {
        let mut guards = None;
        if let Some(filter) = filter {
            *filter = self.condition(std::mem::take(filter))?;
            let parts = split_conjunction(filter).into_iter();
            guards = conjunction(parts.filter(|part| !is_once(part)).cloned());
        }
        for arg in args {
            // The engine demands constants of some functions.
            if arg.column_refs().is_empty() || !may_fail(arg, self.schema)? {
                continue;
            }
            let Some(guards) = guards.clone() else {
                *arg = self.value(std::mem::take(arg))?;
                continue;
            };
            let in_set = in_set_value(arg);
            let is_set = in_set.is_some();
            let inner = in_set.unwrap_or(&*arg);
            let inner = match guarded(inner) {
                Some(Guarded::Value(condition, value)) if *condition == guards => value.clone(),
                _ => inner.clone(),
            };
            let inner = only_where(guards, self.value(inner)?);
            *arg = if is_set { floats::in_set(inner) } else { inner };
        }
        Ok(())
    }
}

/// True for a condition that is evaluated in one place only: its values differ from place to place, or a rule of the
/// engine looks for it.
fn is_once(expr: &Expr) -> bool {
    use Expr::{Exists, InSubquery, OuterReferenceColumn, SetComparison};
    let once = |inner: &Expr| {
        inner.is_volatile_node()
            || matches!(inner, InSubquery(_) | Exists(_) | SetComparison(_) | OuterReferenceColumn(..))
    };
    expr.exists(|inner| Ok(once(inner))).unwrap_or(true)
}
