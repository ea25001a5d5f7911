//! Runs one query: resolves its names, takes its pins, plans it, and runs it under limits.
//!
//! Queries run on threads of their own, so an operator that computes for long without yielding delays neither
//! ingestion nor the answer of the time limit.
//!
//! Invariant: a query ends by its last row, an error, the time limit or a client that disconnects. Each end aborts
//! the task, and the end of the task frees all operators, their memory and the permit.

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
use futures::stream::{self, StreamExt};
use thalweg_schemas::api::sql::{Frontiers, Partial};
use thalweg_schemas::definition::pieces;
use thalweg_schemas::engine::session;
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::{Error as SharedError, StreamName};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::answer::{Answer, Batches};
use crate::metrics::Track;
use crate::names;
use crate::options::Options;
use crate::pin::{AnsweredFrontiers, PinOptions, pin_all};
use crate::sources::{ServingConfig, Sources};
use crate::statements::{self, RequestKind};
use crate::status::readiness::Readiness;
use crate::{Error, Result};

/// Everything that queries share.
pub(crate) struct Engine {
    pub(crate) sources: Sources,
    pub(crate) config: ServingConfig,
    /// Functions, rules and settings; cloned per query.
    base: SessionState,
    permits: Arc<Semaphore>,
    given: AnsweredFrontiers,
    threads: Threads,
    pub(crate) readiness: Readiness,
}

impl Engine {
    /// Errors: [`Error::Shared`] if the spill folder cannot be used, [`Error::StartThreads`].
    pub(crate) fn new(config: ServingConfig, sources: Sources) -> Result<Self> {
        let env = session::runtime(Some(&sources.shared.warehouse), None, config.spill.clone())?;
        let mut settings = session::config(config.target_partitions).with_create_default_catalog_and_schema(false);
        let options = settings.options_mut();
        options.catalog.default_catalog = names::CATALOG.into();
        options.catalog.default_schema = names::PUBLIC.into();
        options.sql_parser.collect_spans = true;
        let base =
            SessionStateBuilder::new().with_config(settings).with_runtime_env(env).with_default_features().build();
        let threads = Threads::start("query", config.target_partitions).map_err(Error::StartThreads)?;
        Ok(Self {
            threads,
            permits: Arc::new(Semaphore::new(config.max_queries.max(1))),
            given: AnsweredFrontiers::default(),
            readiness: Readiness::default(),
            base,
            sources,
            config,
        })
    }

    /// Applies the definitions in `sql`, or starts its query.
    ///
    /// Errors: every variant of [`Error`] with a code below 500, and the errors of a query that cannot start.
    pub(crate) async fn run(self: &Arc<Self>, sql: &str, mut options: Options) -> Result<Answer> {
        let mut track = self.sources.metrics.track_query();
        let deadline = Instant::now() + self.config.query_timeout;
        let read = pieces::split(sql).map_err(Error::from).and_then(|mut pieces| {
            let sql = options.take(sql, &mut pieces)?;
            Ok((sql, statements::read(&pieces)?))
        });
        let started = match read {
            Ok((_, RequestKind::Definitions(list))) => {
                return match statements::apply(&self.sources, list).await {
                    Ok(answer) => {
                        track.finish("ok");
                        Ok(answer)
                    }
                    Err(error) => Err(track.failed(error)),
                };
            }
            Ok((sql, RequestKind::Query)) => self.start_in_time(&sql, options, deadline).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(Started { head, running }) => Ok(Answer {
                schema: head.schema,
                frontier: head.frontier,
                stale: head.stale,
                partial: head.partial,
                batches: self.limited(running, deadline, track),
            }),
            Err(error) => Err(track.failed(error)),
        }
    }

    async fn start_in_time(self: &Arc<Self>, sql: &str, options: Options, deadline: Instant) -> Result<Started> {
        let permits = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(self.config.queue_wait, permits).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(Error::TooBusy { running: self.config.max_queries });
            }
        };
        let (head_sender, head) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (engine, sql) = (Arc::clone(self), sql.to_owned());
        let work = async move {
            let (first, mut plan) = match engine.start_surely(&sql, &options).await {
                Ok((head, first, plan)) => {
                    if head_sender.send(Ok(head)).is_err() {
                        return;
                    }
                    (first, plan)
                }
                Err(error) => {
                    // A dropped receiver means that the client has gone, so the error has no reader.
                    let _ = head_sender.send(Err(error));
                    return;
                }
            };
            let mut next = first;
            while let Some(batch) = next {
                if sender.send(batch).await.is_err() {
                    return;
                }
                next = plan.next().await;
            }
        };
        // The time limit also covers the rest of the query: a client that stops reading must not keep a permit.
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

    /// Starts the query and computes its first batch. If a worker fails before that batch, the query is pinned and
    /// started anew, [`ATTEMPTS`] times in total; this is safe because nothing has been sent yet.
    async fn start_surely(&self, sql: &str, options: &Options) -> Result<(Head, First, Rest)> {
        let mut lost = 0;
        loop {
            let (head, mut plan) = self.start(sql, options).await?;
            match plan.next().await {
                Some(Err(source)) => {
                    let error = Error::RunQuery { source };
                    lost += 1;
                    if lost == ATTEMPTS || !error.is_worker_lost() {
                        return Err(error);
                    }
                    tracing::info!(%error, "a query pins again");
                }
                first => return Ok((head, first, plan)),
            }
        }
    }

    async fn start(&self, sql: &str, options: &Options) -> Result<(Head, Rest)> {
        let planning = |source: DataFusionError| Error::PlanQuery { source };
        let mut state = self.base.clone();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(planning)?;
        let references = state.resolve_table_references(&statement).map_err(planning)?;

        let catalog = Arc::clone(&self.sources.shared.catalog.borrow());
        self.given.keep(|name| catalog.streams.contains_key(name));
        let unknown = |name: &&StreamName| !catalog.streams.contains_key(*name);
        if let Some(name) = options.min_frontier.keys().find(unknown) {
            return Err(Error::SetOption {
                reason: format!("min_frontier names the stream `{name}`, which does not exist"),
            });
        }
        let wanted = names::wanted(&catalog, &references, &self.sources.metrics)?;
        let terms =
            PinOptions { options, deadline: Instant::now() + self.config.pin_wait, keep: self.config.query_timeout };
        let pins = pin_all(&self.sources, &self.given, &wanted, &terms).await?;
        let stale = pins.values().any(|pin| pin.stale);
        let frontier = pins.iter().map(|(name, pin)| (name.clone(), pin.frontier.clone())).collect();
        let partial = pins
            .iter()
            .filter(|(_, pin)| !pin.partial.is_empty())
            .map(|(name, pin)| (name.clone(), pin.partial.clone()))
            .collect();
        state.register_catalog_list(names::catalog_list(&catalog, Arc::new(pins)));

        let plan = state.statement_to_plan(statement).await.map_err(planning)?;
        refuse_changes(&plan)?;
        let env = self.limited_env()?;
        let frame = SessionContext::new_with_state(state).execute_logical_plan(plan).await.map_err(planning)?;
        let task = Arc::new(frame.task_ctx().with_runtime(env));
        let physical = frame.create_physical_plan().await.map_err(planning)?;
        let batches = execute_stream(physical, task).map_err(|source| Error::RunQuery { source })?;
        let head = Head { schema: batches.schema(), frontier, stale, partial };
        Ok((head, batches))
    }

    /// Returns the shared runtime with a memory pool for one query.
    fn limited_env(&self) -> Result<Arc<RuntimeEnv>> {
        RuntimeEnvBuilder::from_runtime_env(self.base.runtime_env())
            .with_memory_pool(Arc::new(FairSpillPool::new(self.config.query_memory)))
            .build_arc()
            .map_err(|source| Error::RunQuery { source })
    }

    fn limited(&self, running: Running, deadline: Instant, track: Track) -> Batches {
        let seconds = self.config.query_timeout.as_secs_f64();
        let rest = stream::try_unfold((running, track), move |(mut running, mut track)| async move {
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
        });
        Box::pin(rest)
    }

    fn timeout(&self) -> Error {
        Error::Timeout { seconds: self.config.query_timeout.as_secs_f64() }
    }
}

/// Batches that a query may compute ahead of its client.
const BATCHES_AHEAD: usize = 2;

/// How many times a query is started in total when workers fail.
const ATTEMPTS: usize = 3;

/// The first batch of an answer, if there is one, and the remaining batches.
type First = Option<Result<RecordBatch, DataFusionError>>;
type Rest = SendableRecordBatchStream;

/// The properties of an answer that are known before its first row.
struct Head {
    schema: SchemaRef,
    frontier: Frontiers,
    stale: bool,
    partial: Partial,
}

struct Started {
    head: Head,
    running: Running,
}

/// A query's task; dropping this value aborts the task.
struct Running {
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// True if the query finished, false if its time ran out.
    task: AbortOnDropHandle<bool>,
}

/// The error of a task that ended without a result, which only a panic can cause.
fn panicked() -> Error {
    Error::Shared(SharedError::Broken("a query's task panicked".into()))
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
    .map_err(|source| Error::PlanQuery { source })?;
    match refused {
        Some(what) => Err(Error::ChangeByQuery(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
