//! Running one query: its names, its pins, its plan, its limits.
//!
//! Invariant: whatever ends a query (its last row, an error, the time limit, a client that is gone) drops its plan's
//! stream, and with it every task, its memory and its permit.

use std::collections::BTreeMap;
use std::pin::Pin as StdPin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::stream::{self, Stream, StreamExt};
use thalweg_schemas::{Frontier, StreamName, session};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::metrics::Track;
use crate::names;
use crate::pin::{Given, pin_all};
use crate::sources::{ServingConfig, Sources};
use crate::statements::{self, Request};
use crate::{Error, Result};

/// Batches of an answer, in order.
pub(crate) type Batches = StdPin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// An answer whose frontier is known before its first row.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) frontier: BTreeMap<StreamName, Frontier>,
    pub(crate) batches: Batches,
}

/// Everything that queries share.
pub(crate) struct Engine {
    pub(crate) sources: Sources,
    pub(crate) config: ServingConfig,
    /// Functions, rules and settings; cloned per query.
    base: SessionState,
    permits: Arc<Semaphore>,
    given: Given,
}

impl Engine {
    /// Errors: [`Error::Shared`] if the spill folder cannot be used.
    pub(crate) fn new(config: ServingConfig, sources: Sources) -> Result<Self> {
        let env = session::runtime(Some(&sources.warehouse), None, config.spill.clone())?;
        let mut settings =
            session::config(config.target_partitions).with_create_default_catalog_and_schema(false);
        let options = settings.options_mut();
        options.catalog.default_catalog = names::CATALOG.into();
        options.catalog.default_schema = names::PUBLIC.into();
        options.sql_parser.collect_spans = true;
        let base = SessionStateBuilder::new()
            .with_config(settings)
            .with_runtime_env(env)
            .with_default_features()
            .build();
        Ok(Self {
            permits: Arc::new(Semaphore::new(config.max_queries.max(1))),
            given: Given::default(),
            base,
            sources,
            config,
        })
    }

    /// Applies the definitions or starts the query that `sql` holds.
    ///
    /// Errors: every variant of [`Error`] that has a code below 500, and those of a query that cannot start.
    pub(crate) async fn run(&self, sql: &str) -> Result<Answer> {
        let mut track = self.sources.metrics.track_query();
        let deadline = Instant::now() + self.config.query_timeout;
        let started = match statements::read(sql) {
            Ok(Request::Definitions(list)) => {
                return match statements::apply(&self.sources, list).await {
                    Ok(answer) => {
                        track.finish("ok");
                        Ok(answer)
                    }
                    Err(error) => Err(track.failed(error)),
                };
            }
            Ok(Request::Query) => self.start_in_time(sql, deadline).await,
            Err(error) => Err(error),
        };
        match started {
            Ok((schema, frontier, batches, permit)) => Ok(Answer {
                schema,
                frontier,
                batches: self.limited(batches, deadline, track, permit),
            }),
            Err(error) => Err(track.failed(error)),
        }
    }

    async fn start_in_time(&self, sql: &str, deadline: Instant) -> Result<Started> {
        let permits = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(self.config.queue_wait, permits).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(Error::TooBusy {
                    running: self.config.max_queries,
                });
            }
        };
        match timeout_at(deadline, self.start(sql)).await {
            Ok(Ok((schema, frontier, batches))) => Ok((schema, frontier, batches, permit)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.timeout()),
        }
    }

    async fn start(
        &self,
        sql: &str,
    ) -> Result<(
        SchemaRef,
        BTreeMap<StreamName, Frontier>,
        SendableRecordBatchStream,
    )> {
        let planning = |source: DataFusionError| Error::PlanQuery { source };
        let mut state = self.base.clone();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(planning)?;
        let references = state
            .resolve_table_references(&statement)
            .map_err(planning)?;

        let catalog = Arc::clone(&self.sources.catalog.borrow());
        self.given.keep(|name| catalog.streams.contains_key(name));
        let wanted = names::wanted(&catalog, &references)?;
        let pin_deadline = Instant::now() + self.config.pin_wait;
        let pins = pin_all(&self.sources, &self.given, &wanted, pin_deadline).await?;
        let frontier = pins
            .iter()
            .map(|(name, pin)| (name.clone(), pin.frontier().clone()))
            .collect();
        state.register_catalog_list(names::catalog_list(&catalog, Arc::new(pins)));

        let plan = state.statement_to_plan(statement).await.map_err(planning)?;
        refuse_changes(&plan)?;
        let env = self.limited_env()?;
        let frame = SessionContext::new_with_state(state)
            .execute_logical_plan(plan)
            .await
            .map_err(planning)?;
        let task = Arc::new(frame.task_ctx().with_runtime(env));
        let physical = frame.create_physical_plan().await.map_err(planning)?;
        let batches =
            execute_stream(physical, task).map_err(|source| Error::RunQuery { source })?;
        Ok((batches.schema(), frontier, batches))
    }

    /// The shared runtime with a memory pool of its own.
    fn limited_env(&self) -> Result<Arc<RuntimeEnv>> {
        RuntimeEnvBuilder::from_runtime_env(self.base.runtime_env())
            .with_memory_pool(Arc::new(FairSpillPool::new(self.config.query_memory)))
            .build_arc()
            .map_err(|source| Error::RunQuery { source })
    }

    fn limited(
        &self,
        batches: SendableRecordBatchStream,
        deadline: Instant,
        track: Track,
        permit: OwnedSemaphorePermit,
    ) -> Batches {
        let running = Running {
            batches,
            track,
            _permit: permit,
        };
        let seconds = self.config.query_timeout.as_secs_f64();
        Box::pin(stream::try_unfold(running, move |mut running| async move {
            match timeout_at(deadline, running.batches.next()).await {
                Ok(Some(Ok(batch))) => Ok(Some((batch, running))),
                Ok(Some(Err(source))) => Err(running.track.failed(Error::RunQuery { source })),
                Ok(None) => {
                    running.track.finish("ok");
                    Ok(None)
                }
                Err(_) => Err(running.track.failed(Error::Timeout { seconds })),
            }
        }))
    }

    fn timeout(&self) -> Error {
        Error::Timeout {
            seconds: self.config.query_timeout.as_secs_f64(),
        }
    }
}

type Started = (
    SchemaRef,
    BTreeMap<StreamName, Frontier>,
    SendableRecordBatchStream,
    OwnedSemaphorePermit,
);

/// What lives as long as a query runs.
struct Running {
    batches: SendableRecordBatchStream,
    track: Track,
    _permit: OwnedSemaphorePermit,
}

/// Queries read: whatever would change something is refused, EXPLAIN of it too.
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
    .map_err(|source| Error::PlanQuery { source })?;
    match refused {
        Some(what) => Err(Error::ChangeByQuery(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
