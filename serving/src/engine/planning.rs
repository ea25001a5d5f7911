//! From a text to a guarded plan, on a lane.
//!
//! Invariant: only plans that read are made, and each of their operators has a guard.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use thalweg_schemas::ViewId;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::{Statement, pieces, repeats, syntax};
use thalweg_schemas::engine::expansion::{self, Excess};

use super::assembled::AssembledTables;
use super::descriptions::Description;
use super::determined::is_determined;
use super::frontier_function::{self, FrontierOf};
use crate::activity::Activity;
use crate::limits::allowance::{Allowance, Terms};
use crate::limits::memory::first_merge;
use crate::limits::relations::OPERATORS;
use crate::limits::weight::{self, Weight};
use crate::limits::{growth, guard, relations, text};
use crate::measures;
use crate::names;
use crate::options::{Options, SourceLayer};
use crate::parameters::{self, Bindings};
use crate::pg_catalog::PgCatalog;
use crate::pin::Pins;
use crate::planned_table;
use crate::rollups::{self, CalledAggregates};
use crate::statements::{self, RequestKind};
use crate::system::{SystemRows, SystemState, cancel};
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
    /// True if the answer depends on the tables, values and options alone.
    pub(super) is_determined: bool,
    /// The number of the highest placeholder.
    placeholders: usize,
    pub(super) bindings: Bindings,
    frontiers_of: Vec<FrontierOf>,
    /// The aggregates that the query calls, if it aggregates.
    pub(super) called: Option<CalledAggregates>,
    /// True if states of views may answer aggregates of rows.
    pub(super) rolls_up: bool,
    /// The tables of the query, if they are not those of the catalog.
    pub(super) assembled: Option<AssembledTables>,
}

impl ReadQuery {
    /// The tables that are read, without those whose frontier alone is asked for.
    pub(super) fn tables(&self) -> &[TableReference] {
        &self.references[..self.references.len() - self.frontiers_of.len()]
    }
}

/// What a request asks.
pub(crate) enum RequestText {
    Sql(String),
    /// A query that is put together from parts on a lane, and what stands for it in identities and in the log.
    Parts {
        text: String,
        statement: Box<dyn FnOnce() -> Result<EngineStatement> + Send>,
    },
}

impl RequestText {
    pub(crate) fn text(&self) -> &str {
        match self {
            RequestText::Sql(text) | RequestText::Parts { text, .. } => text,
        }
    }
}

/// A plan that is ready to run.
pub(super) struct Planned {
    pub(super) physical: Arc<dyn ExecutionPlan>,
    pub(super) task: Arc<TaskContext>,
    pub(super) allowance: Arc<Allowance>,
    pub(super) weight: Weight,
    /// The part of the query's memory that rows of system tables take.
    pub(super) system: Option<MemoryReservation>,
    /// The views whose states stand for rows.
    pub(super) rolled_up: BTreeSet<ViewId>,
}

/// Reads a text.
///
/// Errors: those of a text that cannot be read, [`Error::RefuseSize`], [`Error::BindParameters`].
pub(super) fn read(
    state: &SessionState,
    request: RequestText,
    bindings: Bindings,
    mut options: Options,
) -> Result<RequestContent> {
    let sql = match request {
        RequestText::Sql(sql) => sql,
        RequestText::Parts { text, statement } => return query(state, text, statement()?, bindings, options),
    };
    let sql = sql.as_str();
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
            bindings.check(0)?;
            Ok(RequestContent::Definitions(list))
        }
        RequestKind::Query => {
            let statement = state.sql_to_statement(&sql, &dialect).map_err(planning)?;
            query(state, sql.into_owned(), statement, bindings, options)
        }
    }
}

fn query(
    state: &SessionState,
    sql: String,
    statement: EngineStatement,
    bindings: Bindings,
    options: Options,
) -> Result<RequestContent> {
    relations::refuse_many(&statement)?;
    let placeholders = parameters::count(&statement)?;
    bindings.check(placeholders)?;
    let source = options.source;
    let references = state.resolve_table_references(&statement).map_err(planning)?;
    let mut references: Vec<_> = references.into_iter().map(|table| names::of_source(table, source)).collect();
    let frontiers_of = frontier_function::names(&statement, source);
    references.extend(frontiers_of.iter().map(|of| of.table.clone()));
    let is_determined = is_determined(state, &statement);
    let rolls_up = options.rollups.unwrap_or(true);
    Ok(RequestContent::Query(Box::new(ReadQuery {
        sql,
        references,
        options,
        is_determined,
        placeholders,
        bindings,
        frontiers_of,
        called: CalledAggregates::of(&statement, state),
        rolls_up,
        statement,
        assembled: None,
    })))
}

/// The definitions that names stand for, and the pins that their tables read.
pub(super) struct QueryTables {
    pub(super) catalog: Arc<Catalog>,
    pub(super) pins: Arc<Pins>,
    /// The state behind the system tables that the query names.
    pub(super) system: Box<SystemState>,
    pub(super) activity: Arc<Activity>,
    pub(super) postgres: Arc<PgCatalog>,
    pub(super) assembled: Option<AssembledTables>,
}

/// Plans a query over `tables`.
///
/// Errors: [`Error::PlanQuery`], [`Error::ChangeByQuery`], [`Error::RefuseSize`], [`Error::RefusePairs`].
pub(super) async fn plan(
    mut state: SessionState,
    query: &ReadQuery,
    mut tables: QueryTables,
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
    let mut config = state.config().clone().with_batch_size(terms.batch_rows.max(1));
    config.options_mut().execution.sort_spill_reservation_bytes = first_merge(terms.memory, terms.threads);
    *state.config_mut() = config;
    let (rows, system) = std::mem::take(&mut *tables.system).rows(allowance.pool())?;
    let BoundPlan { plan: logical, rolled_up, .. } = logical(&mut state, query, &tables, rows, Purpose::Run).await?;
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
    Ok(Planned { physical, task, allowance, weight, system, rolled_up })
}

/// Describes a query over `tables`, none of which is read.
///
/// Errors: those of [`plan`] before the optimizer.
pub(super) async fn describe(mut state: SessionState, query: &ReadQuery, tables: QueryTables) -> Result<Description> {
    let BoundPlan { plan: logical, parameters, .. } =
        logical(&mut state, query, &tables, SystemRows::new(), Purpose::Describe).await?;
    let columns = state.analyzer().execute_and_check(logical, state.config_options(), |_, _| {}).map_err(planning)?;
    let tables = query.tables().to_vec();
    Ok(Description { parameters, columns: Some(repeats::shown(columns.schema().inner())), tables })
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Run,
    /// The tables have no plans.
    Describe,
}

/// The plan of a statement with the values of its placeholders.
struct BoundPlan {
    plan: LogicalPlan,
    /// The types of the placeholders.
    parameters: Vec<DataType>,
    /// The views whose states stand for rows.
    rolled_up: BTreeSet<ViewId>,
}

/// Plans the statement of `query` with its values. Registers the tables.
async fn logical(
    state: &mut SessionState,
    query: &ReadQuery,
    tables: &QueryTables,
    system: SystemRows,
    purpose: Purpose,
) -> Result<BoundPlan> {
    let mut statement = query.statement.clone();
    let mut prepared = tables.postgres.prepare(&mut statement, &tables.catalog, state).map_err(planning)?;
    let mentioned = Arc::new(syntax::mentioned(&statement));
    syntax::rewrite(&mut statement, |name| names::unlisted(&tables.catalog, &mentioned, name))?;
    let mut schemas = std::mem::take(&mut prepared.schemas);
    schemas.push(names::system_schema(system));
    schemas.extend(tables.assembled.as_ref().map(AssembledTables::schema));
    let pins = Arc::clone(&tables.pins);
    state.register_catalog_list(names::catalog_list(&tables.catalog, pins, &mentioned, schemas));
    for function in cancel::functions(&tables.activity, &query.options) {
        state.register_udf(Arc::new(function)).map_err(planning)?;
    }
    if query.options.source != SourceLayer::Merged {
        state.config_mut().options_mut().catalog.default_schema = query.options.source.as_str().to_owned();
    }
    let frontiers = frontier_function::function(&query.frontiers_of, &tables.catalog, &tables.pins);
    state.register_udf(Arc::new(frontiers)).map_err(planning)?;
    let state = &*state;
    let planned = bound(state, statement, query, &tables.pins, purpose).await;
    match prepared.instead {
        None => planned,
        // The planner does not take every query of a client. A poorer answer is better than none.
        Some(instead) => match planned {
            Ok(bound) if state.create_physical_plan(&bound.plan).await.is_ok() => Ok(bound),
            planned => match bound(state, instead, query, &tables.pins, purpose).await {
                instead @ (Ok(_) | Err(Error::RefuseSize { .. } | Error::ChangeByQuery(_))) => instead,
                Err(_) => planned,
            },
        },
    }
}

/// Errors: for a plan that changes something, or that is too large to be optimised.
fn refuse_unfit(plan: &LogicalPlan) -> Result<()> {
    refuse_changes(plan)?;
    refuse_large(plan)?;
    match expansion::excess(plan).map_err(planning)? {
        Some(Excess { what, count, limit }) => Err(Error::RefuseSize { what, count, limit }),
        None => Ok(()),
    }
}

/// Plans `statement` with the values of `query`, over the tables' plans. Nothing is optimised before its size is known.
async fn bound(
    state: &SessionState,
    statement: EngineStatement,
    query: &ReadQuery,
    pins: &Pins,
    purpose: Purpose,
) -> Result<BoundPlan> {
    let planned = parameters::bind(statement, query.placeholders, &query.bindings, |statement| async move {
        let mut apart = statement.clone();
        match state.statement_to_plan(statement).await {
            // Columns of one name are set apart only if the planner refuses them.
            Err(error) if repeats_a_name(&error) && repeats::set_apart(&mut apart) => {
                state.statement_to_plan(apart).await
            }
            planned => planned,
        }
    });
    let (plan, parameters) = planned.await?;
    let may_roll_up = query.rolls_up && pins.values().any(|pin| pin.rows.is_some() && !pin.views.is_empty());
    let (plan, rolled_up) = match &query.called {
        Some(called) if purpose == Purpose::Run && (may_roll_up || called.measures()) => {
            refuse_unfit(&plan)?;
            let analysed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {});
            let measured = analysed.and_then(|plan| measures::replace_measures(plan, pins)).map_err(planning)?;
            match query.rolls_up {
                true => rollups::roll_up(measured, pins).map_err(planning)?,
                false => (measured, BTreeSet::new()),
            }
        }
        _ => (plan, BTreeSet::new()),
    };
    let plan = planned_table::write_out(plan).map_err(planning)?;
    refuse_unfit(&plan)?;
    Ok(BoundPlan { plan, parameters, rolled_up })
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
