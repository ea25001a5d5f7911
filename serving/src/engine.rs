//! Runs one query: reads it, takes its pins, plans it, and runs it under limits.
//!
//! Reading, planning and running happen on lanes ([`crate::limits::lanes`]). Everything that only waits (for a place,
//! for pins) happens where the request is served, so a waiting query holds no thread.
//!
//! Invariant: a query ends by its last row, an error, the time limit or a client that disconnects. Each end asks all
//! work of the query to return, and the return of the last of it frees the query's memory, lane and place.

mod endless;
mod frontier_function;

mod determined;

mod assembled;

mod descriptions;

mod panicked;
mod planning;

mod standing;

mod identify;

mod running;
mod text_places;
mod texts;

mod opened;

mod run_over;

mod pinning;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SessionState;
use futures::stream;
use thalweg_schemas::api::certificate::Certificate;
use thalweg_schemas::definition::repeats;
use thalweg_schemas::engine::session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::assembled::{ASSEMBLED, AssembledTables};
pub(crate) use self::descriptions::Description;
use self::descriptions::Descriptions;
use self::opened::{OpenedContent, Pinned};
use self::planning::{Planned, ReadQuery, RequestContent};
pub(crate) use self::run_over::AssembledRows;
use self::running::Running;
use self::text_places::TextPlaces;
use crate::activity::Activity;
use crate::answer::{Answer, Batches};
use crate::identity::AnswerIdentity;
use crate::limits::allowance::Terms;
use crate::limits::guard::CountWindows;
use crate::limits::lanes::Lanes;
use crate::limits::memory::{AllQueries, QueryPool};
use crate::limits::places::Places;
use crate::limits::weight::Weight;
use crate::metrics::Track;
use crate::names;
use crate::options::Options;
use crate::parameters::{Bindings, Parameter};
use crate::pg_catalog::PgCatalog;
use crate::pin::AnsweredFrontiers;
use crate::sources::{ServingConfig, Sources};
use crate::status::readiness::Readiness;
use crate::{Error, Result};

pub(crate) use self::opened::OpenedRequest;
pub(crate) use self::planning::RequestText;
pub(crate) use self::standing::Standing;

/// Everything that queries share.
pub(crate) struct Engine {
    pub(crate) sources: Sources,
    pub(crate) config: ServingConfig,
    /// Functions, rules and settings; cloned per query.
    base: SessionState,
    places: Places,
    lanes: Lanes,
    /// For texts that are not short, of requests that wait for the answer to an equal one.
    waiting_texts: Arc<Semaphore>,
    memory: Arc<AllQueries>,
    given: AnsweredFrontiers,
    postgres: Arc<PgCatalog>,
    descriptions: Descriptions,
    pub(crate) readiness: Readiness,
    panics: AtomicU64,
    pub(crate) activity: Arc<Activity>,
}

impl Engine {
    /// Errors: [`Error::Shared`] if the spill folder cannot be used.
    pub(crate) fn new(config: ServingConfig, sources: Sources) -> Result<Self> {
        let env = session::runtime(Some(&sources.shared.warehouse), None, config.spill.clone())?;
        let mut settings = session::config(config.target_partitions).with_create_default_catalog_and_schema(false);
        let options = settings.options_mut();
        options.catalog.default_catalog = names::CATALOG.into();
        options.catalog.default_schema = names::PUBLIC.into();
        // `pg_catalog` has an information_schema of its own.
        options.catalog.information_schema = false;
        options.sql_parser.collect_spans = true;
        let mut base = session::state_with(settings, env);
        base.register_udtf(endless::CHANGES, Arc::new(endless::EndlessChanges));
        base.add_analyzer_rule(Arc::new(CountWindows));
        Ok(Self {
            lanes: Lanes::new(
                config.target_partitions,
                config.max_queries + config.max_light_queries,
                sources.metrics.lost.clone(),
            ),
            places: Places::new(config.max_queries, config.max_light_queries, config.queue_wait),
            waiting_texts: Arc::new(Semaphore::new(WAITING_TEXTS)),
            memory: Arc::new(AllQueries::new(config.all_queries_memory, config.reclaim)),
            given: AnsweredFrontiers::default(),
            postgres: Arc::default(),
            descriptions: Descriptions::default(),
            readiness: Readiness::default(),
            panics: AtomicU64::new(0),
            activity: Arc::default(),
            base,
            sources,
            config,
        })
    }

    /// Applies the definitions in `sql`, or starts its query, which has no placeholders; see [`Self::run_with`].
    ///
    /// Errors: those of [`Self::run_with`].
    pub(crate) async fn run(self: &Arc<Self>, sql: &str, options: Options) -> Result<Answer> {
        self.run_with(sql, Vec::new(), options).await
    }

    /// Applies the definitions in `sql`, or starts its query with `values` in the places of `$1`, `$2`, ….
    ///
    /// Errors: every variant of [`Error`] with a code below 500, and the errors of a query that cannot start.
    pub(crate) async fn run_with(
        self: &Arc<Self>,
        sql: &str,
        values: Vec<Parameter>,
        options: Options,
    ) -> Result<Answer> {
        self.open(RequestText::Sql(sql.to_owned()), values, options).await?.run().await
    }

    /// Reads `request` and, if it is a query, pins what it reads. Nothing is planned yet, so the frontier and the
    /// identity of the answer cost little.
    ///
    /// Errors: those of a text that cannot be read, and of pins.
    pub(crate) async fn open(
        self: &Arc<Self>,
        request: RequestText,
        values: Vec<Parameter>,
        options: Options,
    ) -> Result<OpenedRequest> {
        let listed = self.activity.begin_query(request.text(), options.client.clone());
        let cancelled = listed.cancelled();
        let mut track = self.sources.metrics.track_query(listed);
        let denied = options.definitions;
        let deadline = Instant::now() + self.config.query_timeout;
        let opened = tokio::select! {
            opened = self.read_and_pin(request, values, options, deadline) => opened,
            () = cancelled => Err(Error::Cancelled),
        };
        match opened {
            Ok(content) => {
                match &content {
                    OpenedContent::Definitions(..) => track.listed().hide_text(),
                    OpenedContent::Query { query, .. } => track.listed().show_text(&query.sql),
                }
                Ok(OpenedRequest { engine: Arc::clone(self), content, denied, deadline, track })
            }
            Err(error) => Err(track.failed(error)),
        }
    }

    async fn read_and_pin(
        self: &Arc<Self>,
        request: RequestText,
        values: Vec<Parameter>,
        options: Options,
        deadline: Instant,
    ) -> Result<OpenedContent> {
        match self.read(request, Bindings::Values(values), options, deadline).await? {
            (RequestContent::Definitions(list), places) => Ok(OpenedContent::Definitions(list, places)),
            (RequestContent::Query(query), places) => {
                let pinned = self.pinned(&query, &places, deadline).await?;
                let identity = identify::identity(&query, &pinned.tables.catalog, &pinned.tables.pins);
                Ok(OpenedContent::Query { query: Arc::from(query), places, pinned: Some(pinned), identity })
            }
        }
    }

    /// Why only light queries are answered at the moment, if so.
    pub(crate) fn overloaded(&self) -> Option<Error> {
        let lost = self.lanes.lost();
        (lost >= self.config.max_lost_queries).then_some(Error::Overloaded { lost })
    }

    async fn place(&self, weight: Weight) -> Result<OwnedSemaphorePermit> {
        match (weight, self.overloaded()) {
            (Weight::Heavy, Some(error)) => Err(error),
            _ => self.places.run(weight).await,
        }
    }

    /// Starts the query and computes its first batch. If a worker fails before that batch, the query is pinned and
    /// started anew, [`ATTEMPTS`] times in total; if its rows are too wide, or a sort has no memory for a batch, it is
    /// started anew with smaller batches. Both are safe because nothing has been sent yet. The query keeps its place.
    async fn start_surely(
        self: &Arc<Self>,
        query: Arc<ReadQuery>,
        mut places: TextPlaces,
        mut pinned: Option<Pinned>,
        deadline: Instant,
    ) -> Result<Started> {
        let mut batch_rows = self.base.config().batch_size();
        let mut join_rows = BTreeMap::new();
        let (mut lost, mut narrowed) = (0, 0);
        loop {
            let terms = Terms {
                deadline: deadline.into_std(),
                time: self.config.query_timeout,
                memory: self.config.query_memory,
                threads: self.config.target_partitions,
                batch_rows,
                join_rows: join_rows.clone(),
                can_restart: narrowed < NARROWER,
            };
            let pinned = match pinned.take() {
                Some(pinned) => pinned,
                None => self.pinned(&query, &places, deadline).await?,
            };
            match self.start(&query, &mut places, pinned, terms, deadline).await {
                Err(Error::WideRows { rows, join }) if narrowed < NARROWER => {
                    narrowed += 1;
                    match join {
                        Some(join) => {
                            join_rows.insert(join, rows);
                        }
                        None => batch_rows = rows,
                    }
                    tracing::debug!(rows, join, "a query starts again with smaller batches");
                }
                Err(error) if narrowed < NARROWER && batch_rows > FEWEST_ROWS && error.is_sort_without_memory() => {
                    narrowed += 1;
                    batch_rows = (batch_rows / 4).max(FEWEST_ROWS);
                    tracing::debug!(batch_rows, %error, "a query starts again with smaller batches");
                }
                Err(error) if error.is_worker_lost() => {
                    lost += 1;
                    if lost == ATTEMPTS {
                        return Err(error);
                    }
                    tracing::info!(%error, "a query pins again");
                }
                started => return started,
            }
        }
    }

    async fn start(
        self: &Arc<Self>,
        query: &Arc<ReadQuery>,
        places: &mut TextPlaces,
        pinned: Pinned,
        terms: Terms,
        deadline: Instant,
    ) -> Result<Started> {
        let Pinned { waiting, tables } = pinned;
        let pins = Arc::clone(&tables.pins);
        let identity = identify::identity(query, &tables.catalog, &pins);
        let catalog = Arc::clone(&tables.catalog);
        let can_restart = terms.can_restart;
        let pool = Arc::new(QueryPool::new(terms.memory, terms.threads, Arc::clone(&self.memory)));
        let (engine, read) = (Arc::clone(self), Arc::clone(query));
        let time = self.time_to_plan(places.is_short, deadline);
        let held = places.hand_over();
        let planned = self.on_lane(time, &query.sql, async move {
            let (base, pairs) = (engine.base.clone(), engine.config.max_join_pairs);
            let planned = planning::plan(base, &read, tables, &terms, pool, pairs).await;
            drop(read);
            (planned, held)
        });
        let (planned, held) = planned.await?;
        *places = held;
        let planned: Planned = planned?;
        let rolled_up = &planned.rolled_up;
        let standing = Standing::of(query.tables(), &catalog, &pins, rolled_up);
        let certificate = query.options.certificate;
        let certificate = certificate.then(|| identify::certificate(query, &pins, rolled_up, &standing.frontier));
        drop((catalog, pins));

        let place = match places.run.take() {
            Some(place) => place,
            None => {
                let waiting = match planned.weight {
                    Weight::Heavy => {
                        let in_turn = self.places.wait()?;
                        drop(waiting);
                        Some(in_turn)
                    }
                    Weight::Light => waiting,
                };
                let place = timeout_at(deadline, self.place(planned.weight)).await;
                drop(waiting);
                place.map_err(|_| self.timeout())??
            }
        };
        let schema = repeats::shown(&planned.physical.schema());
        let head = Head { schema, standing, certificate, identity };
        let occupied = Arc::clone(planned.allowance.occupied());
        let mut running = Running::start(planned, self.lanes.take()?, place, deadline);
        match timeout_at(deadline, running.first()).await {
            Ok(Some(Ok(()))) => Ok(Started { head, running }),
            Ok(Some(Err(error))) => {
                // Otherwise the place is free when the last operator is gone.
                let starts_again =
                    matches!(error, Error::WideRows { .. }) || error.is_sort_without_memory() || error.is_worker_lost();
                if starts_again && can_restart {
                    places.run = occupied.take_permit();
                }
                Err(error)
            }
            Ok(None) => Err(match running.end().await {
                Ok(_) => self.timeout(),
                Err(panic) => self.panicked(panic, &query.sql),
            }),
            Err(_) => Err(self.timeout()),
        }
    }

    fn limited(self: &Arc<Self>, running: Running, deadline: Instant, track: Track) -> Batches {
        let engine = Arc::clone(self);
        let cancelled = Box::pin(track.listed().cancelled());
        let rest = stream::try_unfold((running, track, cancelled), move |(mut running, mut track, mut cancelled)| {
            let engine = Arc::clone(&engine);
            async move {
                let next = tokio::select! {
                    next = timeout_at(deadline, running.next()) => next,
                    () = &mut cancelled => return Err(track.failed(Error::Cancelled)),
                };
                match next {
                    Ok(Some(Ok(batch))) => {
                        track.listed().handed_out(batch.num_rows());
                        Ok(Some((batch, (running, track, cancelled))))
                    }
                    Ok(Some(Err(source))) => Err(track.failed(Error::of_engine(source, false))),
                    Ok(None) => match running.end().await {
                        Ok(true) => {
                            track.finish();
                            Ok(None)
                        }
                        Ok(false) => Err(track.failed(engine.timeout())),
                        Err(panic) => Err(track.failed(engine.panicked(panic, ""))),
                    },
                    Err(_) => Err(track.failed(engine.timeout())),
                }
            }
        });
        Box::pin(rest)
    }
}

/// Texts that are not short, of requests that wait for the answer to an equal one. Each may take some megabytes once it
/// is read; further requests compute by themselves.
const WAITING_TEXTS: usize = 32;

/// How many times a query is started in total when workers fail.
const ATTEMPTS: usize = 3;

/// How many times a query is started with smaller batches.
const NARROWER: usize = 8;

/// Rows of a batch below which a sort that finds no memory is not started again.
const FEWEST_ROWS: usize = 64;

/// The properties of an answer that are known before its first row.
struct Head {
    schema: SchemaRef,
    standing: Standing,
    certificate: Option<Certificate>,
    identity: Option<AnswerIdentity>,
}

struct Started {
    head: Head,
    running: Running,
}

#[cfg(test)]
mod tests;
