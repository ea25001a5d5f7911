//! How heavy a plan is, judged before it runs.
//!
//! A light query has places that heavy ones cannot take. A join that would compare more pairs of rows than allowed is
//! refused. Invariant: a plan that cannot be judged is heavy, and is not refused: an estimate of rows makes a query
//! heavy, and only a count of rows refuses it.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, IsNullExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};
use thalweg_schemas::definition::stream::REJECT;
use thalweg_schemas::engine::leaf::LeafExec;

use super::growth;
use crate::workers::scan::RemoteReads;
use crate::{Error, Result as OwnResult};

/// Rows that a light query may read from memory.
const LIGHT_ROWS: usize = 1_000_000;

/// Bytes of files that a light query may open.
const LIGHT_FILE_BYTES: u64 = 64 << 20;

/// Operators and functions that a light query may apply to rows: the rows that it reads, times the parts of its
/// expressions.
const LIGHT_STEPS: usize = 20_000_000;

/// Bytes of a row in a file whose rows were not counted.
const FILE_ROW_BYTES: u64 = 64;

/// Leaves of plans that read little.
const SMALL_LEAVES: [&str; 5] =
    ["EmptyExec", "PlaceholderRowExec", "ExplainExec", "StreamingTableExec", "WorkTableExec"];

/// Operators that work on each of their rows once, in a known time.
const PLAIN: [&str; 14] = [
    "ProjectionExec",
    "FilterExec",
    "AggregateExec",
    "SortExec",
    "SortPreservingMergeExec",
    "CoalescePartitionsExec",
    "CoalesceBatchesExec",
    "RepartitionExec",
    "UnionExec",
    "InterleaveExec",
    "GlobalLimitExec",
    "LocalLimitExec",
    "CooperativeExec",
    "DataSourceExec",
];

/// Scalar functions whose time grows faster than their arguments.
const SLOW: [&str; 2] = ["levenshtein", "regexp_replace"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Light,
    Heavy,
}

/// What the leaves of a plan read, and what the plan does with each row.
#[derive(Debug, Default)]
struct PlanWork {
    /// Rows in memory, here or at workers.
    rows: usize,
    file_bytes: u64,
    file_rows: usize,
    /// Parts of all expressions.
    parts: usize,
    is_unknown: bool,
}

/// Errors: those of the engine's statistics.
pub(crate) fn weigh(plan: &Arc<dyn ExecutionPlan>) -> Result<Weight> {
    let mut work = PlanWork::default();
    plan.apply(|node| {
        if node.children().is_empty() {
            work.add_leaf(node);
        } else if !PLAIN.contains(&node.name()) || repeats_rows(node) {
            work.is_unknown = true;
        }
        work.add_expressions(node)?;
        Ok(if work.is_unknown { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(if work.is_light() { Weight::Light } else { Weight::Heavy })
}

/// True for an aggregate that takes each of its rows once for every grouping set.
fn repeats_rows(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.group_expr().groups().len() > 1)
}

impl PlanWork {
    fn is_light(&self) -> bool {
        let rows = self.rows.saturating_add(self.file_rows);
        !self.is_unknown
            && self.rows <= LIGHT_ROWS
            && self.file_bytes <= LIGHT_FILE_BYTES
            && rows.saturating_mul(self.parts) <= LIGHT_STEPS
    }

    fn add_leaf(&mut self, leaf: &Arc<dyn ExecutionPlan>) {
        if SMALL_LEAVES.contains(&leaf.name()) {
            return;
        }
        if let Some(remote) = leaf.downcast_ref::<LeafExec<RemoteReads>>() {
            self.rows = self.rows.saturating_add(remote.input().rows());
            return;
        }
        let counted = match rows_of(leaf) {
            Precision::Exact(rows) | Precision::Inexact(rows) => Some(rows),
            Precision::Absent => None,
        };
        let files = leaf.downcast_ref::<DataSourceExec>().and_then(|s| s.downcast_to_file_source::<ParquetSource>());
        if let Some((config, _)) = files {
            let files = config.file_groups.iter().flat_map(|group| group.files());
            let bytes: u64 = files.map(|file| file.object_meta.size).sum();
            let rows = counted.unwrap_or(usize::try_from(bytes / FILE_ROW_BYTES).unwrap_or(usize::MAX));
            self.file_bytes = self.file_bytes.saturating_add(bytes);
            self.file_rows = self.file_rows.saturating_add(rows);
            return;
        }
        match counted {
            Some(rows) => self.rows = self.rows.saturating_add(rows),
            None => self.is_unknown = true,
        }
    }

    fn add_expressions(&mut self, node: &Arc<dyn ExecutionPlan>) -> Result<()> {
        node.apply_expressions(&mut |expression: &Arc<dyn PhysicalExpr>| {
            expression.apply(|inner| {
                self.parts += usize::from(!inner.is::<Column>() && !inner.is::<Literal>());
                let name = inner.downcast_ref::<ScalarFunctionExpr>().map(|call| call.fun().name());
                self.is_unknown |= name.is_some_and(|name| SLOW.contains(&name) || growth::NAMES.contains(&name));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(())
    }
}

fn rows_of(plan: &Arc<dyn ExecutionPlan>) -> Precision<usize> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    statistics.map_or(Precision::Absent, |statistics| statistics.num_rows)
}

/// Refuses a plan with a join without an equality that compares more than `limit` pairs of rows. Rejects of a stream
/// count as rows.
///
/// Errors: [`Error::RefusePairs`].
pub(crate) fn refuse_pairs(plan: &Arc<dyn ExecutionPlan>, limit: u64) -> OwnResult<()> {
    let mut most = 0;
    plan.apply(|node| {
        most = most.max(pairs(node));
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|source| Error::PlanQuery { source })?;
    if most > limit { Err(Error::RefusePairs { pairs: most, limit }) } else { Ok(()) }
}

/// The pairs of rows that a join without an equality compares, at least; 0 for any other operator.
fn pairs(node: &Arc<dyn ExecutionPlan>) -> u64 {
    match (node.name(), &node.children()[..]) {
        ("CrossJoinExec" | "NestedLoopJoinExec", [left, right]) => at_least(left).saturating_mul(at_least(right)),
        _ => 0,
    }
}

/// The rows that `plan` has, as far as they were counted: a filter may leave none, and an estimate may be wrong.
fn at_least(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let children = plan.children();
    match (plan.name(), &children[..]) {
        (_, []) => match rows_of(plan) {
            Precision::Exact(rows) => u64::try_from(rows).unwrap_or(u64::MAX),
            Precision::Inexact(_) | Precision::Absent => 0,
        },
        ("UnionExec", inputs) => inputs.iter().map(|input| at_least(input)).fold(0, u64::saturating_add),
        ("CrossJoinExec", _) => pairs(plan),
        ("FilterExec", [input]) if keeps_rows(plan) => at_least(input),
        (name, [input]) if PASSING.contains(&name) => at_least(input),
        _ => 0,
    }
}

/// Operators with as many rows as their input, if they have no limit.
const PASSING: [&str; 6] = [
    "ProjectionExec",
    "CoalescePartitionsExec",
    "CoalesceBatchesExec",
    "RepartitionExec",
    "CooperativeExec",
    "SortPreservingMergeExec",
];

/// True for the filter that only leaves out rejects, which are few.
fn keeps_rows(filter: &Arc<dyn ExecutionPlan>) -> bool {
    let Some(filter) = filter.downcast_ref::<FilterExec>() else {
        return false;
    };
    let tested = filter.predicate().downcast_ref::<IsNullExpr>().map(IsNullExpr::arg);
    let column = tested.and_then(|tested| tested.downcast_ref::<Column>());
    filter.fetch().is_none() && column.is_some_and(|column| column.name() == REJECT)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn plan(sql: &str) -> Arc<dyn ExecutionPlan> {
        let context = SessionContext::new();
        let texts: StringArray = (0..500_000).map(|i| Some(if i % 2 == 0 { "a" } else { "b" })).collect();
        let batch = RecordBatch::try_from_iter([("w", Arc::new(texts) as ArrayRef)]).unwrap();
        context.register_batch("half_a_million", batch).unwrap();
        context.sql("CREATE TABLE t AS VALUES (1, 'a'), (2, 'b'), (3, 'c')").await.unwrap().collect().await.unwrap();
        context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    #[tokio::test]
    async fn light_queries_read_little_and_join_nothing() {
        let long = format!("SELECT {}w{} FROM half_a_million", "md5(".repeat(42), ")".repeat(42));
        for (sql, expect) in [
            ("SELECT 1", Weight::Light),
            ("SELECT column1, count(*) FROM t WHERE column2 = 'a' GROUP BY 1 ORDER BY 1", Weight::Light),
            ("SELECT 1 UNION ALL SELECT column1 FROM t LIMIT 1", Weight::Light),
            ("SELECT column1, count(*) FROM t GROUP BY CUBE (column1)", Weight::Heavy),
            ("SELECT w, count(*) FROM half_a_million WHERE w <> 'c' GROUP BY w ORDER BY 2", Weight::Light),
            (long.as_str(), Weight::Heavy),
            ("SELECT a.column1 FROM t a, t b", Weight::Heavy),
            ("SELECT a.column1 FROM t a JOIN t b ON a.column1 = b.column1", Weight::Heavy),
            ("SELECT sum(column1) OVER (ORDER BY column2) FROM t", Weight::Heavy),
            ("SELECT repeat(column2, column1) FROM t", Weight::Heavy),
            ("SELECT levenshtein(column2, 'x') FROM t", Weight::Heavy),
            ("SELECT unnest(range(column1)) FROM t", Weight::Heavy),
            ("SELECT value FROM generate_series(1, 1000000000)", Weight::Heavy),
            (
                "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r",
                Weight::Heavy,
            ),
        ] {
            assert_eq!(weigh(&plan(sql).await).unwrap(), expect, "{sql}");
        }
    }

    #[tokio::test]
    async fn rows_of_workers_have_a_weight() {
        for (rows, expect) in [(10, Weight::Light), (1_000_000, Weight::Light), (1_000_001, Weight::Heavy)] {
            let remote: Arc<dyn ExecutionPlan> = Arc::new(RemoteReads::of_rows(rows));
            assert_eq!(weigh(&remote).unwrap(), expect, "{rows}");
        }
    }

    #[tokio::test]
    async fn pairs_are_counted_where_they_are_sure() {
        for (sql, expect) in [
            ("SELECT a.column1 FROM t a, t b", 9),
            ("SELECT a.column1 FROM t a, t b, t c", 27),
            ("SELECT a.column1 FROM t a JOIN t b ON a.column1 < b.column1", 9),
            ("SELECT a.column1 FROM t a JOIN t b ON a.column1 = b.column1", 0),
            ("SELECT a.column1 FROM t a, (SELECT * FROM t WHERE column1 > 2) b", 0),
        ] {
            let plan = plan(sql).await;
            let mut most = 0;
            plan.apply(|node| {
                most = most.max(pairs(node));
                Ok(TreeNodeRecursion::Continue)
            })
            .unwrap();
            assert_eq!(most, expect, "{sql}");
            assert_eq!(refuse_pairs(&plan, 8).is_err(), expect > 8, "{sql}");
        }
    }
}
