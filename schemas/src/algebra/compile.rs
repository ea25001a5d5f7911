//! A compiled view: the text of one aggregate query as plans of update, merge and finish.
//!
//! Invariant: the id covers everything that the meaning of a state depends on: the analysed plan, the aggregates as
//! they are maintained, the types of the used columns and of the states, the engine's version and the session's
//! settings.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, ExprSchema, Result as PlanResult};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;

use super::aggregate::Aggregate;
use super::groupings::check_groupings;
use super::places::QueryPlaces;
use super::plans;
use super::prepared::{InputTable, PreparedPlan};
use super::split_plan::{check_expressions, find_aggregate, position_column, replace_aggregate, replace_scan};
use super::storage::{StorageFunction, stored_type};
use super::table_aggregate::TableAggregate;
use crate::definition::message::{ROW, UNLISTED};
use crate::definition::stream::{PARTITION, StreamDefinition};
use crate::definition::syntax;
use crate::definition::view::ViewDefinition;
use crate::engine::expansion::{self, Excess};
use crate::engine::session;
use crate::error::Diagnostic;
use crate::{Error, Result, StreamName, ViewId, ViewName};

mod apart;
mod keyed;

pub use keyed::key_name;

/// One compiled view.
#[derive(Debug, Clone)]
pub struct ViewPlan {
    pub(crate) id: ViewId,
    name: ViewName,
    stream: StreamName,
    /// The analysed query.
    query: LogicalPlan,
    /// The query's aggregate over the stream's columns; `None` if the query cannot be compared with others.
    pub(super) shape: Option<TableAggregate>,
    /// The plan below the aggregate, over the stream's scan.
    input: LogicalPlan,
    groups: Vec<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    /// The input schema of the plan above the aggregate.
    pub(super) aggregate_schema: DFSchemaRef,
    pub(super) state_schema: SchemaRef,
    stored_schema: SchemaRef,
    output_schema: SchemaRef,
    /// Physical plans of update over rows and of merge over states.
    prepared_update: PreparedPlan,
    prepared_merge: PreparedPlan,
    warnings: Vec<Diagnostic>,
}

impl ViewPlan {
    /// Compiles `view` over `stream`.
    ///
    /// Errors: [`Error::RefuseDefinition`] if the view cannot be maintained, [`Error::PlanView`] if its text is not a
    /// valid query of the stream.
    pub async fn compile(view: &ViewDefinition, stream: &StreamDefinition) -> Result<ViewPlan> {
        let session = session::context(session::runtime(None, None, None)?, 1);
        Self::compile_text(view, stream, &view.query, &session, &QueryPlaces::unknown()).await
    }

    /// Compiles `query`, the query of `view`. `places` holds the places of its parts.
    pub(super) async fn compile_text(
        view: &ViewDefinition,
        stream: &StreamDefinition,
        query: &str,
        session: &SessionContext,
        places: &QueryPlaces<'_>,
    ) -> Result<ViewPlan> {
        let planning = |source| Error::PlanView { view: view.name.clone(), source, span: None };
        let state = session.state();
        let dialect = state.config_options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(query, &dialect).map_err(planning)?;
        check_groupings(&statement, places)?;
        let mut named = syntax::mentioned(&statement);
        if stream.messages.has_several_rows() {
            // Ordered aggregates need it.
            named.insert(ROW);
        }
        syntax::rewrite(&mut statement, |_| named.iter().copied().collect())?;
        let table = Arc::new(EmptyTable::new(stream.table_schema_with(&named)));
        session.register_table(stream.name.as_str(), table).map_err(planning)?;
        let raw = state.statement_to_plan(statement).await.map_err(planning)?;
        find_aggregate(&raw, places)?;
        check_expressions(&raw, places)?;
        let query = state.analyzer().execute_and_check(raw, state.config_options(), |_, _| {}).map_err(planning)?;
        // Before the optimizer writes expressions out.
        if let Some(Excess { what, count, limit }) = expansion::excess(&query).map_err(planning)? {
            let message =
                format!("The query has {count} {what} once its subqueries are written out, more than {limit}");
            return Err(Error::refuse(
                message,
                "Use each column of a subquery fewer times, or compute less in the view.",
            ));
        }
        let aggregate = find_aggregate(&query, places)?.clone();

        let rows = input_table("rows", &stream.row_schema())?;
        let unread = rows.clone();
        let over_rows = replace_scan(&aggregate.input, rows).map_err(planning)?;
        let grouped = !aggregate.group_expr.is_empty();
        let aggregates = aggregate
            .aggr_expr
            .iter()
            .map(|expr| {
                let place = || places.call(unaliased(expr)).and_then(|call| call.span);
                Aggregate::plan(expr, &over_rows, grouped, &view.name).map_err(|e| e.at(place()))
            })
            .collect::<Result<Vec<_>>>()?;
        let growing = aggregate.aggr_expr.iter().zip(&aggregates).filter(|(_, aggregate)| aggregate.grows);
        let warnings = growing.map(|(expr, _)| growth_warning(unaliased(expr), places)).collect();

        let mut plan = ViewPlan {
            id: ViewId::of(&[]),
            name: view.name.clone(),
            stream: stream.name.clone(),
            input: aggregate.input.as_ref().clone(),
            groups: once(&aggregate.group_expr).map_err(planning)?,
            aggregates,
            aggregate_schema: Arc::clone(&aggregate.schema),
            shape: TableAggregate::of(&LogicalPlan::Aggregate(aggregate)).map(|(shape, _)| shape),
            query,
            state_schema: Arc::new(Schema::empty()),
            stored_schema: Arc::new(Schema::empty()),
            output_schema: Arc::new(Schema::empty()),
            prepared_update: PreparedPlan::new(Arc::new(EmptyExec::new(stream.row_schema()))),
            prepared_merge: PreparedPlan::new(Arc::new(EmptyExec::new(stream.row_schema()))),
            warnings,
        };
        let updated = plan.update_over(over_rows).map_err(planning)?;
        plan.state_schema = Arc::new(all_nullable(updated.schema().as_arrow()));
        plan.stored_schema = Arc::new(stored_schema(&plan.state_schema)?);
        let states = input_table("states", &plan.state_schema)?;
        let finished = plan.finish(states.clone())?;
        plan.output_schema = Arc::new(finished.schema().as_arrow().clone());
        // A query without a physical plan (two orders that conflict, for example) must fail here, not at the first
        // event.
        let physical = async |form: LogicalPlan| {
            let physical = state.create_physical_plan(&form).await;
            physical.map(PreparedPlan::new).map_err(planning)
        };
        plan.prepared_update = physical(plan.update(unread)?).await?;
        plan.prepared_merge = physical(plan.merge(states)?).await?;
        physical(finished).await?;
        plan.id = plan.identify(stream);
        Ok(plan)
    }

    pub fn id(&self) -> &ViewId {
        &self.id
    }

    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// `_partition`, groups `g0…`, states `a0…` (structs).
    pub fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }

    /// The columns of [`Self::state_schema`] in types that Delta can hold.
    pub fn stored_schema(&self) -> &SchemaRef {
        &self.stored_schema
    }

    /// The schema that a query of the view sees.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// The number of group columns. A view without group columns has one row.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub fn aggregates(&self) -> &[Aggregate] {
        &self.aggregates
    }

    /// The analysed query. Run over all rows at once, it gives the answer that the layers give together.
    pub fn query(&self) -> &LogicalPlan {
        &self.query
    }

    /// Warnings for the user, such as states that grow with every event.
    pub fn warnings(&self) -> Vec<String> {
        self.placed_warnings().iter().map(Diagnostic::to_string).collect()
    }

    pub(super) fn placed_warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Plans rows of the stream's row schema into states, one row per partition and group. Rejects are left out.
    ///
    /// Errors: [`Error::PlanView`].
    pub fn update(&self, rows: LogicalPlan) -> Result<LogicalPlan> {
        replace_scan(&self.input, rows).and_then(|rows| self.update_over(rows)).map_err(|source| self.planning(source))
    }

    /// Runs [`Self::update`] over `rows`, which have the stream's row schema. The plan was made when the view was
    /// compiled.
    ///
    /// Errors: [`Error::RunPlan`].
    pub async fn update_batches(&self, task: Arc<TaskContext>, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let update = &self.prepared_update;
        update.run("updating a view", task, rows).await
    }

    /// Runs [`Self::merge`] over `states`. The plan was made when the view was compiled.
    ///
    /// Errors: [`Error::RunPlan`].
    pub async fn merge_batches(&self, task: Arc<TaskContext>, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let merge = &self.prepared_merge;
        merge.run("merging segments", task, states).await
    }

    fn update_over(&self, rows: LogicalPlan) -> PlanResult<LogicalPlan> {
        let states = self.aggregates.iter().enumerate();
        let states = states.map(|(i, a)| a.update.clone().alias(state_name(i)));
        self.group_rows(rows, states.collect())
    }

    fn group_rows(&self, rows: LogicalPlan, calls: Vec<Expr>) -> PlanResult<LogicalPlan> {
        let groups = self.groups.iter().enumerate();
        let groups = groups.map(|(i, group)| group.clone().unalias().alias(group_name(i)));
        keyed_rows(rows, groups, calls)
    }

    /// Merges states into one row of states per partition and group.
    ///
    /// Errors: [`Error::PlanView`].
    pub fn merge(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        self.combine(states, &[PARTITION], |a| &a.merge).map_err(|source| self.planning(source))
    }

    /// Plans states into the view's rows: merges all partitions, then applies HAVING and the projection.
    ///
    /// Errors: [`Error::PlanView`].
    pub fn finish(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        self.finish_over(states).map_err(|source| self.planning(source))
    }

    fn finish_over(&self, states: LogicalPlan) -> PlanResult<LogicalPlan> {
        shown(replace_aggregate(&self.query, self.aggregate_values(states)?)?)
    }

    /// The output of the view's aggregate, with the names that it has in the query.
    fn aggregate_values(&self, states: LogicalPlan) -> PlanResult<LogicalPlan> {
        let finished = self.combine(states, &[], |a| &a.finish)?;
        LogicalPlanBuilder::from(finished).project(self.named_values())?.build()
    }

    /// Groups and finished states under the names that they have in the query.
    pub(super) fn named_values(&self) -> Vec<Expr> {
        let names = (0..self.groups.len()).map(group_name).chain((0..self.aggregates.len()).map(state_name));
        let named = names.zip(self.aggregate_schema.iter()).map(|(name, (relation, field))| {
            let column = Expr::Column(datafusion::common::Column::new_unqualified(name));
            column.alias_qualified(relation.cloned(), field.name())
        });
        named.collect()
    }

    /// Groups states by `keys` and the view's groups, and calls one form of every aggregate.
    fn combine(
        &self,
        states: LogicalPlan,
        keys: &[&str],
        form: impl Fn(&Aggregate) -> &Arc<AggregateUDF>,
    ) -> PlanResult<LogicalPlan> {
        let column = |name: &str| position_column(&states, name).map(Expr::Column);
        let keys = keys.iter().map(|key| (*key).to_owned());
        let groups = keys
            .chain((0..self.groups.len()).map(group_name))
            .map(|name| Ok(column(&name)?.alias(name)))
            .collect::<PlanResult<Vec<_>>>()?;
        let calls = self
            .aggregates
            .iter()
            .enumerate()
            .map(|(i, aggregate)| {
                let name = state_name(i);
                Ok(form(aggregate).call(vec![column(&name)?]).alias(name))
            })
            .collect::<PlanResult<Vec<_>>>()?;
        LogicalPlanBuilder::from(states).aggregate(groups, calls)?.build()
    }

    /// Converts states to the types in which Delta holds them.
    ///
    /// Errors: [`Error::PlanView`].
    pub fn to_stored(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        self.convert(states, &self.stored_schema)
    }

    /// Converts stored states to the types that merge and finish take.
    ///
    /// Errors: [`Error::PlanView`].
    pub fn from_stored(&self, stored: LogicalPlan) -> Result<LogicalPlan> {
        self.convert(stored, &self.state_schema)
    }

    fn convert(&self, plan: LogicalPlan, to: &Schema) -> Result<LogicalPlan> {
        let converted = to
            .fields()
            .iter()
            .map(|field| {
                let column = position_column(&plan, field.name())?;
                let from = plan.schema().field_from_column(&column)?.data_type().clone();
                let column = Expr::Column(column);
                Ok(if from == *field.data_type() {
                    column
                } else {
                    let function = StorageFunction::new(from, field.data_type().clone());
                    ScalarUDF::new_from_impl(function).call(vec![column])
                }
                .alias(field.name()))
            })
            .collect::<PlanResult<Vec<_>>>();
        converted
            .and_then(|exprs| LogicalPlanBuilder::from(plan).project(exprs)?.build())
            .map_err(|source| self.planning(source))
    }

    pub(super) fn planning(&self, source: DataFusionError) -> Error {
        Error::PlanView { view: self.name.clone(), source, span: None }
    }

    fn identify(&self, stream: &StreamDefinition) -> ViewId {
        let mut columns = BTreeSet::new();
        // The walk cannot fail because its closure cannot.
        let _ = self.query.apply(|node| {
            for expr in node.expressions() {
                columns.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let schema = stream.table_schema_with(&UNLISTED.into());
        let columns: Vec<String> = columns
            .iter()
            .filter_map(|name| schema.field_with_name(name).ok())
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect();
        let options = session::config(1);
        let options = options.options();
        ViewId::of(&[
            session::ENGINE,
            self.stream.as_str(),
            &self.query.display_indent().to_string(),
            &format!("{:?}", self.aggregates.iter().map(|a| &a.name).collect::<Vec<_>>()),
            &columns.join(", "),
            &self.state_schema.to_string(),
            &format!("time zone {:?}, nulls {}", options.execution.time_zone, options.sql_parser.default_null_ordering),
        ])
    }
}

fn input_table(name: &str, schema: &SchemaRef) -> Result<LogicalPlan> {
    plans::scan(name, Arc::new(InputTable::new(Arc::clone(schema))))
}

/// Groups rows by their partition and `groups`, and computes `calls`.
fn keyed_rows(rows: LogicalPlan, groups: impl Iterator<Item = Expr>, calls: Vec<Expr>) -> PlanResult<LogicalPlan> {
    let partition = Expr::Column(position_column(&rows, PARTITION)?).alias(PARTITION);
    let keys = std::iter::once(partition).chain(groups).collect::<Vec<_>>();
    LogicalPlanBuilder::from(rows).aggregate(keys, calls)?.build()
}

/// The columns of `top` under their names alone.
pub(super) fn shown(top: LogicalPlan) -> PlanResult<LogicalPlan> {
    let columns = top.schema().columns();
    let output = columns.into_iter().map(|column| {
        let name = column.name.clone();
        Expr::Column(column).alias(name)
    });
    let output = output.collect::<Vec<_>>();
    LogicalPlanBuilder::from(top).project(output)?.build()
}

/// The groups of an aggregate: `GROUP BY k, k` has one.
fn once(groups: &[Expr]) -> PlanResult<Vec<Expr>> {
    Ok(grouping_set_to_exprlist(groups)?.into_iter().cloned().collect())
}

/// The text of an expression, as its author knows it.
fn text_of(expr: &Expr) -> String {
    unaliased(expr).schema_name().to_string()
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn growth_warning(call: &Expr, places: &QueryPlaces<'_>) -> Diagnostic {
    let written = places.call(call);
    let text = written.map_or_else(|| call.schema_name().to_string(), |written| written.text.clone());
    let message = format!("the state of {text} grows with the number of events in a group");
    Diagnostic::new(message).at(written.and_then(|written| written.span))
}

pub(super) fn group_name(i: usize) -> String {
    format!("g{i}")
}

pub(super) fn state_name(i: usize) -> String {
    format!("a{i}")
}

fn all_nullable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter();
    Schema::new(fields.map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect::<Vec<_>>())
}

fn stored_schema(states: &Schema) -> Result<Schema> {
    let fields = states.fields().iter().map(|field| {
        let stored: DataType = stored_type(field.data_type())
            .map_err(|reason| Error::refuse(reason, "Cast the expression to another type inside the query."))?;
        Ok(Field::new(field.name(), stored, true))
    });
    Ok(Schema::new(fields.collect::<Result<Vec<_>>>()?))
}
