//! Running one query: its names, its pins, its plan, its limits.
//!
//! Queries run on threads of their own: an operator that works long without a pause holds up neither ingestion nor
//! the time limit's answer.
//!
//! Invariant: whatever ends a query (its last row, an error, the time limit, a client that is gone) aborts its task,
//! and the task's end frees every operator, its memory and its permit.

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
use thalweg_schemas::threads::Threads;
use thalweg_schemas::{Error as SharedError, Frontier, StreamName, session};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Track;
use crate::names;
use crate::pin::{Given, Stale, pin_all};
use crate::sources::{ServingConfig, Sources};
use crate::statements::{self, Request};
use crate::{Error, Result};

/// Batches of an answer, in order.
pub(crate) type Batches = StdPin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// An answer whose frontier is known before its first row.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) frontier: BTreeMap<StreamName, Frontier>,
    /// It may lie below earlier answers, which its client has allowed.
    pub(crate) stale: bool,
    pub(crate) batches: Batches,
}

/// What a client sends: a text alone asks for an answer that is not stale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) sql: &'a str,
    pub(crate) allows: Stale,
}

impl<'a> From<&'a str> for Asked<'a> {
    fn from(sql: &'a str) -> Self {
        Self {
            sql,
            allows: Stale::Refuse,
        }
    }
}

impl<'a> From<&'a String> for Asked<'a> {
    fn from(sql: &'a String) -> Self {
        sql.as_str().into()
    }
}

/// Everything that queries share.
pub(crate) struct Engine {
    pub(crate) sources: Sources,
    pub(crate) config: ServingConfig,
    /// Functions, rules and settings; cloned per query.
    base: SessionState,
    permits: Arc<Semaphore>,
    given: Given,
    threads: Threads,
}

impl Engine {
    /// Errors: [`Error::Shared`] if the spill folder cannot be used, [`Error::StartThreads`].
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
        let threads =
            Threads::start("query", config.target_partitions).map_err(Error::StartThreads)?;
        Ok(Self {
            threads,
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
    pub(crate) async fn run<'a>(self: &Arc<Self>, asked: impl Into<Asked<'a>>) -> Result<Answer> {
        let Asked { sql, allows } = asked.into();
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
            Ok(Request::Query) => self.start_in_time(sql, allows, deadline).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(Started { head, running }) => Ok(Answer {
                schema: head.schema,
                frontier: head.frontier,
                stale: head.stale,
                batches: self.limited(running, deadline, track),
            }),
            Err(error) => Err(track.failed(error)),
        }
    }

    async fn start_in_time(
        self: &Arc<Self>,
        sql: &str,
        allows: Stale,
        deadline: Instant,
    ) -> Result<Started> {
        let permits = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(self.config.queue_wait, permits).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(Error::TooBusy {
                    running: self.config.max_queries,
                });
            }
        };
        let (head_sender, head) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (engine, sql) = (Arc::clone(self), sql.to_owned());
        let work = async move {
            let mut plan = match engine.start(&sql, allows).await {
                Ok((head, plan)) => {
                    if head_sender.send(Ok(head)).is_err() {
                        return;
                    }
                    plan
                }
                Err(error) => {
                    // If nobody listens any more, nobody needs to know.
                    let _ = head_sender.send(Err(error));
                    return;
                }
            };
            while let Some(batch) = plan.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        };
        // The limit holds here too: a client that has stopped reading must not keep a permit.
        let task = self.threads.spawn(async move {
            let _permit = permit;
            timeout_at(deadline, work).await.is_ok()
        });
        let running = Running { batches, task };
        match timeout_at(deadline, head).await {
            Ok(Ok(Ok(head))) => Ok(Started { head, running }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(match running.task.await {
                Ok(_) => self.timeout(),
                Err(_) => panicked(),
            }),
            Err(_) => Err(self.timeout()),
        }
    }

    async fn start(&self, sql: &str, allows: Stale) -> Result<(Head, SendableRecordBatchStream)> {
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
        let pins = pin_all(&self.sources, &self.given, &wanted, allows, pin_deadline).await?;
        let stale = pins.values().any(|pin| pin.stale);
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
        let head = Head {
            schema: batches.schema(),
            frontier,
            stale,
        };
        Ok((head, batches))
    }

    /// The shared runtime with a memory pool of its own.
    fn limited_env(&self) -> Result<Arc<RuntimeEnv>> {
        RuntimeEnvBuilder::from_runtime_env(self.base.runtime_env())
            .with_memory_pool(Arc::new(FairSpillPool::new(self.config.query_memory)))
            .build_arc()
            .map_err(|source| Error::RunQuery { source })
    }

    fn limited(&self, running: Running, deadline: Instant, track: Track) -> Batches {
        let seconds = self.config.query_timeout.as_secs_f64();
        let rest = stream::try_unfold(
            (running, track),
            move |(mut running, mut track)| async move {
                match timeout_at(deadline, running.batches.recv()).await {
                    Ok(Some(Ok(batch))) => Ok(Some((batch, (running, track)))),
                    Ok(Some(Err(source))) => Err(track.failed(Error::RunQuery { source })),
                    Ok(None) => match (&mut running.task).await {
                        Ok(true) => {
                            track.finish("ok");
                            Ok(None)
                        }
                        Ok(false) => Err(track.failed(Error::Timeout { seconds })),
                        Err(_) => Err(track.failed(panicked())),
                    },
                    Err(_) => Err(track.failed(Error::Timeout { seconds })),
                }
            },
        );
        Box::pin(rest)
    }

    fn timeout(&self) -> Error {
        Error::Timeout {
            seconds: self.config.query_timeout.as_secs_f64(),
        }
    }
}

/// Batches that a query may compute before its client has taken the last one.
const BATCHES_AHEAD: usize = 2;

/// What is known of an answer before its first row.
struct Head {
    schema: SchemaRef,
    frontier: BTreeMap<StreamName, Frontier>,
    stale: bool,
}

struct Started {
    head: Head,
    running: Running,
}

/// A query's task, aborted when this is dropped.
struct Running {
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// True if it came to its end, false if time ran out.
    task: AbortOnDropHandle<bool>,
}

/// A task that ended without a last word has panicked.
fn panicked() -> Error {
    Error::Shared(SharedError::Broken("a query's task panicked".into()))
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
