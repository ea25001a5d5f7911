//! From a text to a guarded plan, on a lane.
//!
//! Invariant: only plans that read are made, and each of their operators has a guard.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::{Statement, pieces, repeats, syntax};

use crate::limits::allowance::{Allowance, Terms};
use crate::limits::relations::OPERATORS;
use crate::limits::weight::{self, Weight};
use crate::limits::{expansion, growth, guard, relations, text};
use crate::names;
use crate::options::Options;
use crate::pin::Pins;
use crate::statements::{self, RequestKind};
use crate::{Error, Result};

/// What a request asks for.
pub(super) enum RequestContent {
    Definitions(Vec<Statement>),
    Query(Box<ReadQuery>),
}

/// A query that was read and not planned.
pub(super) struct ReadQuery {
    pub(super) sql: String,
    pub(super) statement: EngineStatement,
    pub(super) references: Vec<TableReference>,
    pub(super) options: Options,
}

/// A plan that is ready to run.
pub(super) struct Planned {
    pub(super) physical: Arc<dyn ExecutionPlan>,
    pub(super) task: Arc<TaskContext>,
    pub(super) allowance: Arc<Allowance>,
    pub(super) weight: Weight,
}

/// Reads a text.
///
/// Errors: those of a text that cannot be read, [`Error::RefuseSize`].
pub(super) fn read(state: &SessionState, sql: &str, mut options: Options) -> Result<RequestContent> {
    text::refuse_long(sql)?;
    let mut pieces = pieces::split(sql).map_err(Error::from)?;
    let sql = options.take(sql, &mut pieces)?;
    let dialect = state.config_options().sql_parser.dialect;
    match statements::read(&pieces)? {
        RequestKind::Definitions(list) => {
            for statement in &list {
                if let Statement::CreateView { definition, .. } = statement {
                    let query = state.sql_to_statement(&definition.query, &dialect).map_err(planning)?;
                    relations::refuse_many(&query)?;
                }
            }
            Ok(RequestContent::Definitions(list))
        }
        RequestKind::Query => {
            let statement = state.sql_to_statement(&sql, &dialect).map_err(planning)?;
            relations::refuse_many(&statement)?;
            let references = state.resolve_table_references(&statement).map_err(planning)?;
            Ok(RequestContent::Query(Box::new(ReadQuery { sql: sql.into_owned(), statement, references, options })))
        }
    }
}

/// The definitions that names stand for, and the pins that their tables read.
pub(super) struct QueryTables {
    pub(super) catalog: Arc<Catalog>,
    pub(super) pins: Arc<Pins>,
}

/// Plans a query over `tables`.
///
/// Errors: [`Error::PlanQuery`], [`Error::ChangeByQuery`], [`Error::RefuseSize`], [`Error::RefusePairs`].
pub(super) async fn plan(
    mut state: SessionState,
    query: &ReadQuery,
    tables: QueryTables,
    terms: &Terms,
    pool: Arc<dyn MemoryPool>,
    max_join_pairs: u64,
) -> Result<Planned> {
    let allowance = Arc::new(Allowance::new(terms, pool));
    for name in growth::NAMES {
        if let Some(function) = state.scalar_functions().get(name).cloned() {
            state.register_udf(growth::checked(&function, &allowance)).map_err(planning)?;
        }
    }
    let config = state.config().clone().with_batch_size(terms.batch_rows.max(1));
    *state.config_mut() = config;
    let mut statement = query.statement.clone();
    let mentioned = Arc::new(syntax::mentioned(&statement));
    syntax::rewrite(&mut statement, |name| names::unlisted(&tables.catalog, &mentioned, name));
    state.register_catalog_list(names::catalog_list(&tables.catalog, tables.pins, &mentioned));
    let logical = logical(&state, statement).await.map_err(planning)?;
    refuse_changes(&logical)?;
    refuse_large(&logical)?;
    expansion::refuse_large(&logical)?;
    let env = RuntimeEnvBuilder::from_runtime_env(state.runtime_env())
        .with_memory_pool(allowance.operators_pool())
        .build_arc()
        .map_err(planning)?;
    let frame = SessionContext::new_with_state(state).execute_logical_plan(logical).await.map_err(planning)?;
    let task = Arc::new(frame.task_ctx().with_runtime(env));
    let physical = frame.create_physical_plan().await.map_err(planning)?;
    weight::refuse_pairs(&physical, max_join_pairs)?;
    let weight = weight::weigh(&physical).map_err(planning)?;
    let physical = guard::guarded(physical, &allowance).map_err(planning)?;
    Ok(Planned { physical, task, allowance, weight })
}

/// Plans `statement`, with columns of one name set apart if the planner refuses them.
async fn logical(state: &SessionState, statement: EngineStatement) -> Result<LogicalPlan, DataFusionError> {
    let mut apart = statement.clone();
    match state.statement_to_plan(statement).await {
        Err(error) if repeats_a_name(&error) && repeats::set_apart(&mut apart) => state.statement_to_plan(apart).await,
        planned => planned,
    }
}

/// True if the planner says that columns of a SELECT have one name. It has no error of its own for that.
fn repeats_a_name(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::Plan(text) if text.contains("require unique expression names"))
}

fn planning(source: DataFusionError) -> Error {
    Error::of_engine(source, true)
}

/// Refuses every plan that would change something, also under EXPLAIN: queries only read.
fn refuse_changes(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        refused = match node {
            LogicalPlan::Ddl(ddl) => Some(ddl.name().to_owned()),
            LogicalPlan::Dml(dml) => Some(dml.op.name().to_owned()),
            LogicalPlan::Copy(_) => Some("COPY".to_owned()),
            LogicalPlan::Statement(statement) => Some(statement.name().to_owned()),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(planning)?;
    match refused {
        Some(what) => Err(Error::ChangeByQuery(what)),
        None => Ok(()),
    }
}

/// Refuses a plan of very many operators before the optimizer walks it again and again.
fn refuse_large(plan: &LogicalPlan) -> Result<()> {
    let mut operators = 0;
    plan.apply_with_subqueries(|_| {
        operators += 1;
        Ok(if operators > OPERATORS { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(planning)?;
    match operators > OPERATORS {
        true => Err(Error::RefuseSize { what: "operators", count: operators as u64, limit: OPERATORS as u64 }),
        false => Ok(()),
    }
}
