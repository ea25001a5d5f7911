//! Refuses a view's GROUPING SETS, CUBE and ROLLUP, wherever in the query they are.
//!
//! The syntax tree is read, not the plan: the planner ignores some of them, and does not plan others.
//!
//! Invariant: a query that passes has one grouping in each SELECT.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, GroupByExpr, GroupByWithModifier, Select, Visit, Visitor};
use datafusion::sql::sqlparser::keywords::Keyword;

use super::places::QueryPlaces;
use crate::{Error, Result};

const SETS: &[Keyword] = &[Keyword::GROUPING, Keyword::SETS];

/// Errors: [`Error::RefuseDefinition`] with the place of the first grouping that is not maintained.
pub(super) fn check_groupings(statement: &Parsed, places: &QueryPlaces<'_>) -> Result<()> {
    let Parsed::Statement(statement) = statement else { return Ok(()) };
    match Visit::visit(statement, &mut Groupings) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(RefusedGrouping { what, instead, keywords }) => {
            Err(Error::refuse(what, instead).at(places.clause(keywords)))
        }
    }
}

struct RefusedGrouping {
    what: &'static str,
    instead: &'static str,
    /// The words at the place of the grouping.
    keywords: &'static [Keyword],
}

struct Groupings;

impl Visitor for Groupings {
    type Break = RefusedGrouping;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<RefusedGrouping> {
        let (GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers)) = &select.group_by;
        let of_modifier = |modifier: &GroupByWithModifier| match modifier {
            GroupByWithModifier::Rollup => &[Keyword::WITH, Keyword::ROLLUP],
            GroupByWithModifier::Cube => &[Keyword::WITH, Keyword::CUBE],
            GroupByWithModifier::Totals => &[Keyword::WITH, Keyword::TOTALS],
            GroupByWithModifier::GroupingSets(_) => SETS,
        };
        if let Some(modifier) = modifiers.first() {
            return several(of_modifier(modifier));
        }
        let GroupByExpr::Expressions(groups, _) = &select.group_by else { return ControlFlow::Continue(()) };
        match groups.as_slice() {
            [SqlExpr::Tuple(none)] if none.is_empty() => ControlFlow::Break(RefusedGrouping {
                what: "GROUP BY () names no group",
                instead: "Leave it out: an aggregate without GROUP BY is one over all rows.",
                keywords: &[Keyword::GROUP, Keyword::BY],
            }),
            groups => groups.iter().find_map(kind).map_or(ControlFlow::Continue(()), several),
        }
    }
}

/// The words of an expression that makes several groupings.
fn kind(expr: &SqlExpr) -> Option<&'static [Keyword]> {
    match expr {
        SqlExpr::GroupingSets(_) => Some(SETS),
        SqlExpr::Cube(_) => Some(&[Keyword::CUBE]),
        SqlExpr::Rollup(_) => Some(&[Keyword::ROLLUP]),
        _ => None,
    }
}

fn several(keywords: &'static [Keyword]) -> ControlFlow<RefusedGrouping> {
    ControlFlow::Break(RefusedGrouping {
        what: "GROUPING SETS, CUBE and ROLLUP are not maintained",
        instead: "Create one view per grouping.",
        keywords,
    })
}
