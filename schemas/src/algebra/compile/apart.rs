//! Plans that are no part of the algebra: each expression of an update alone, and the magnitudes of sums.
//!
//! Invariant: rows are those of [`ViewPlan::update`], in the same order.

use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{ViewPlan, group_name, keyed_rows, state_name, text_of};
use crate::Result;
use crate::algebra::split_plan::replace_scan;

impl ViewPlan {
    /// Plans for each expression of [`Self::update`] alone, over rows of the stream's row schema, with the expression
    /// as its author knows it. The plan below the aggregate comes first.
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub(in crate::algebra) fn parts(&self, rows: LogicalPlan) -> Result<Vec<(String, LogicalPlan)>> {
        let over = || replace_scan(&self.input, rows.clone());
        let plan = || -> PlanResult<Vec<(String, LogicalPlan)>> {
            let mut parts = vec![("FROM or WHERE".to_owned(), over()?)];
            for group in &self.groups {
                let key = group.clone().unalias().alias(group_name(0));
                parts.push((text_of(group), keyed_rows(over()?, std::iter::once(key), Vec::new())?));
            }
            for aggregate in &self.aggregates {
                let call = aggregate.update.clone().alias(state_name(0));
                parts.push((aggregate.name.clone(), keyed_rows(over()?, std::iter::empty(), vec![call])?));
            }
            Ok(parts)
        };
        plan().map_err(|source| self.planning(source))
    }

    /// Plans rows of the stream's row schema into magnitudes, per partition and group. The comparison of states
    /// judges float sums by them; see [`crate::algebra::rounding`]. `None` if the view has no such sums.
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub fn magnitudes(&self, rows: LogicalPlan) -> Result<Option<LogicalPlan>> {
        let calls = self.aggregates.iter().flat_map(|a| &a.magnitudes);
        let named = calls.enumerate();
        let magnitudes: Vec<Expr> = named.map(|(i, call)| call.clone().alias(format!("m{i}"))).collect();
        if magnitudes.is_empty() {
            return Ok(None);
        }
        replace_scan(&self.input, rows)
            .and_then(|rows| self.group_rows(rows, magnitudes))
            .map(Some)
            .map_err(|source| self.planning(source))
    }
}
