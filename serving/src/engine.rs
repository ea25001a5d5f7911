//! Runs one query: reads it, takes its pins, plans it, and runs it under limits.
//!
//! Reading, planning and running happen on lanes ([`crate::limits::lanes`]). Everything that only waits (for a place,
//! for pins) happens where the request is served, so a waiting query holds no thread.
//!
//! Invariant: a query ends by its last row, an error, the time limit or a client that disconnects. Each end asks all
//! work of the query to return, and the return of the last of it frees the query's memory, lane and place.

mod planning;
mod running;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SessionState;
use futures::stream;
use thalweg_schemas::StreamName;
use thalweg_schemas::api::sql::{Frontiers, Partial};
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::definition::{Statement, repeats};
use thalweg_schemas::engine::session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use self::planning::{Planned, QueryTables, ReadQuery, RequestContent};
use self::running::Running;
use crate::answer::{Answer, Batches};
use crate::limits::allowance::Terms;
use crate::limits::lanes::Lanes;
use crate::limits::memory::{AllQueries, QueryPool};
use crate::limits::places::Places;
use crate::limits::weight::Weight;
use crate::metrics::Track;
use crate::names;
use crate::options::Options;
use crate::pin::{AnsweredFrontiers, PinOptions, Pins, pin_all};
use crate::sources::{ServingConfig, Sources};
use crate::statements;
use crate::status::readiness::Readiness;
use crate::{Error, Result};

/// Everything that queries share.
pub(crate) struct Engine {
    pub(crate) sources: Sources,
    pub(crate) config: ServingConfig,
    /// Functions, rules and settings; cloned per query.
    base: SessionState,
    places: Places,
    lanes: Lanes,
    memory: Arc<AllQueries>,
    given: AnsweredFrontiers,
    pub(crate) readiness: Readiness,
    panics: AtomicU64,
}

impl Engine {
    /// Errors: [`Error::Shared`] if the spill folder cannot be used.
    pub(crate) fn new(config: ServingConfig, sources: Sources) -> Result<Self> {
        let env = session::runtime(Some(&sources.shared.warehouse), None, config.spill.clone())?;
        let mut settings = session::config(config.target_partitions).with_create_default_catalog_and_schema(false);
        let options = settings.options_mut();
        options.catalog.default_catalog = names::CATALOG.into();
        options.catalog.default_schema = names::PUBLIC.into();
        options.sql_parser.collect_spans = true;
        let base = session::state_with(settings, env);
        Ok(Self {
            lanes: Lanes::new(
                config.target_partitions,
                config.max_queries + config.max_light_queries,
                sources.metrics.lost.clone(),
            ),
            places: Places::new(config.max_queries, config.max_light_queries, config.queue_wait),
            memory: Arc::new(AllQueries::new(config.all_queries_memory)),
            given: AnsweredFrontiers::default(),
            readiness: Readiness::default(),
            panics: AtomicU64::new(0),
            base,
            sources,
            config,
        })
    }

    /// Applies the definitions in `sql`, or starts its query.
    ///
    /// Errors: every variant of [`Error`] with a code below 500, and the errors of a query that cannot start.
    pub(crate) async fn run(self: &Arc<Self>, sql: &str, options: Options) -> Result<Answer> {
        let mut track = self.sources.metrics.track_query();
        let denied = options.definitions;
        let deadline = Instant::now() + self.config.query_timeout;
        let started = match self.read(sql, options, deadline).await {
            Ok((RequestContent::Definitions(list), _places)) => {
                let applied = match denied {
                    Some(denied) => Err(Error::Deny(denied)),
                    None => self.apply(list).await,
                };
                return match applied {
                    Ok(answer) => {
                        track.finish("ok");
                        Ok(answer)
                    }
                    Err(error) => Err(track.failed(error)),
                };
            }
            Ok((RequestContent::Query(query), places)) => self.start_surely(query, places, deadline).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(Started { head, running }) => Ok(Answer {
                schema: head.schema,
                frontier: head.frontier,
                stale: head.stale,
                partial: head.partial,
                memory: Some(Arc::clone(running.memory())),
                batches: self.limited(running, deadline, track),
            }),
            Err(error) => Err(track.failed(error)),
        }
    }

    /// Why only light queries are answered at the moment, if so.
    pub(crate) fn overloaded(&self) -> Option<Error> {
        let lost = self.lanes.lost();
        (lost >= self.config.max_lost_queries).then_some(Error::Overloaded { lost })
    }

    /// Why nothing is planned at the moment, if so: far more work is lost than that of heavy queries.
    fn refuses_plans(&self) -> Option<Error> {
        let lost = self.lanes.lost();
        let most = self.config.max_lost_queries + self.config.max_queries + self.config.max_light_queries;
        (lost >= most).then_some(Error::PlansLost { lost })
    }

    /// Reads a request. A text that is not short is heavy before anything is known of it, so it needs a place of a
    /// heavy query.
    async fn read(
        self: &Arc<Self>,
        sql: &str,
        options: Options,
        deadline: Instant,
    ) -> Result<(RequestContent, TextPlaces)> {
        let mut places = TextPlaces { is_short: sql.len() <= SHORT_TEXT, heavy: None, long: None };
        if sql.len() > LONG_TEXT {
            places.long = Some(self.places.long_text().await?);
        }
        if !places.is_short {
            places.heavy = Some(self.place(Weight::Heavy).await?);
        }
        let (engine, text) = (Arc::clone(self), sql.to_owned());
        let time = self.time_to_plan(places.is_short, deadline);
        let read = self.on_lane(time, sql, async move { planning::read(&engine.base, &text, options) }).await??;
        Ok((read, places))
    }

    /// Applies definitions on a lane, because views are compiled on the way.
    async fn apply(self: &Arc<Self>, definitions: Vec<Statement>) -> Result<Answer> {
        let sources = self.sources.clone();
        let seconds = DEFINITIONS_TIME.as_secs_f64();
        let time = LaneTime {
            within: DEFINITIONS_TIME,
            deadline: None,
            late: Box::new(move || Error::ApplyInTime { seconds }),
        };
        self.on_lane(time, "definitions", async move { statements::apply(&sources, definitions).await }).await?
    }

    /// The time for reading or planning a text. A short text has little of it, because everybody may have one planned;
    /// others have places that are theirs.
    fn time_to_plan(&self, is_short: bool, deadline: Instant) -> LaneTime {
        let within = if is_short { self.config.planning_time } else { self.config.query_timeout };
        let seconds = within.as_secs_f64();
        LaneTime { within, deadline: Some(deadline), late: Box::new(move || Error::PlanInTime { seconds }) }
    }

    /// Runs short work on a lane, with a place for plans. `sql` is for the log.
    async fn on_lane<T: Send + 'static>(
        &self,
        time: LaneTime,
        sql: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::new(self.places.plan().await?);
        if let Some(error) = self.refuses_plans() {
            return Err(error);
        }
        let lane = self.lanes.take()?;
        let lost = Arc::downgrade(&place);
        lane.when_lost(move || {
            if let Some(place) = lost.upgrade() {
                place.replace();
            }
        });
        let own = Instant::now() + time.within;
        let end = time.deadline.map_or(own, |deadline| deadline.min(own));
        let threads = lane.handle().clone();
        let watch = lane.watch(end + PLAN_LOST_AFTER);
        let task = AbortOnDropHandle::new(threads.spawn(async move {
            let done = work.await;
            drop((lane, place));
            done
        }));
        let done = timeout_at(end, task).await;
        drop(watch);
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => Err(self.panicked(panic, sql)),
            Err(_) if end == own => Err((time.late)()),
            Err(_) => Err(self.timeout()),
        }
    }

    async fn place(&self, weight: Weight) -> Result<OwnedSemaphorePermit> {
        match (weight, self.overloaded()) {
            (Weight::Heavy, Some(error)) => Err(error),
            _ => self.places.run(weight).await,
        }
    }

    /// Starts the query and computes its first batch. If a worker fails before that batch, the query is pinned and
    /// started anew, [`ATTEMPTS`] times in total; if its rows are too wide, or a sort has no memory for a batch, it is
    /// started anew with smaller batches. Both are safe because nothing has been sent yet.
    async fn start_surely(
        self: &Arc<Self>,
        query: Box<ReadQuery>,
        mut places: TextPlaces,
        deadline: Instant,
    ) -> Result<Started> {
        let query = Arc::new(*query);
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
            match self.start(&query, &mut places, terms, deadline).await {
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
        terms: Terms,
        deadline: Instant,
    ) -> Result<Started> {
        // Until the query has a place to run, which bounds the pins from then on.
        let waiting = self.places.pinned().await?;
        let pinned = timeout_at(deadline, self.pin(query)).await;
        let (catalog, pins) = pinned.map_err(|_| self.timeout())??;
        let stale = pins.values().any(|pin| pin.stale);
        let frontier = pins.iter().map(|(name, pin)| (name.clone(), pin.frontier.clone())).collect();
        let partial = pins
            .iter()
            .filter(|(_, pin)| !pin.partial.is_empty())
            .map(|(name, pin)| (name.clone(), pin.partial.clone()))
            .collect();

        let pool = Arc::new(QueryPool::new(terms.memory, terms.threads, Arc::clone(&self.memory)));
        let (engine, read) = (Arc::clone(self), Arc::clone(query));
        let time = self.time_to_plan(places.is_short, deadline);
        let planned = self.on_lane(time, &query.sql, async move {
            let tables = QueryTables { catalog, pins: Arc::new(pins) };
            planning::plan(engine.base.clone(), &read, tables, &terms, pool, engine.config.max_join_pairs).await
        });
        let planned: Planned = planned.await??;

        let place = match places.heavy.take() {
            Some(place) => place,
            None => timeout_at(deadline, self.place(planned.weight)).await.map_err(|_| self.timeout())??,
        };
        drop(waiting);
        let head = Head { schema: repeats::shown(&planned.physical.schema()), frontier, stale, partial };
        let mut running = Running::start(planned, self.lanes.take()?, place, deadline);
        match timeout_at(deadline, running.first()).await {
            Ok(Some(Ok(()))) => Ok(Started { head, running }),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(match running.end().await {
                Ok(_) => self.timeout(),
                Err(panic) => self.panicked(panic, &query.sql),
            }),
            Err(_) => Err(self.timeout()),
        }
    }

    /// Pins all that the query reads.
    async fn pin(&self, query: &ReadQuery) -> Result<(Arc<thalweg_schemas::catalog::Catalog>, Pins)> {
        let catalog = Arc::clone(&self.sources.shared.catalog.borrow());
        self.given.keep(|name| catalog.streams.contains_key(name));
        let unknown = |name: &&StreamName| !catalog.streams.contains_key(*name);
        if let Some(name) = query.options.min_frontier.keys().find(unknown) {
            return Err(Error::SetOption {
                reason: format!("min_frontier names the stream `{name}`, which does not exist"),
            });
        }
        let wanted = names::wanted(&catalog, &query.references, &self.sources.metrics)?;
        let terms = PinOptions {
            options: &query.options,
            deadline: Instant::now() + self.config.pin_wait,
            keep: self.config.query_timeout,
        };
        let pins = pin_all(&self.sources, &self.given, &wanted, &terms).await?;
        Ok((catalog, pins))
    }

    fn limited(self: &Arc<Self>, running: Running, deadline: Instant, track: Track) -> Batches {
        let engine = Arc::clone(self);
        let rest = stream::try_unfold((running, track), move |(mut running, mut track)| {
            let engine = Arc::clone(&engine);
            async move {
                match timeout_at(deadline, running.next()).await {
                    Ok(Some(Ok(batch))) => Ok(Some((batch, (running, track)))),
                    Ok(Some(Err(source))) => Err(track.failed(Error::of_engine(source, false))),
                    Ok(None) => match running.end().await {
                        Ok(true) => {
                            track.finish("ok");
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

    fn timeout(&self) -> Error {
        Error::Timeout { seconds: self.config.query_timeout.as_secs_f64() }
    }

    /// The error of a task that ended without a result, which only a panic can cause.
    fn panicked(&self, error: JoinError, sql: &str) -> Error {
        let number = self.panics.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number}", WallClock::System.now_ms());
        let reason = match error.try_into_panic() {
            Ok(panic) => text_of(panic.as_ref()),
            Err(error) => error.to_string(),
        };
        let begin: String = sql.chars().take(LOGGED_CHARACTERS).collect();
        tracing::error!(id, reason, sql = begin, "a query panicked");
        Error::Panic { id }
    }
}

/// The length in bytes up to which a text is planned before it is known whether the query is heavy. The time to plan an
/// expression grows with the square of its length.
const SHORT_TEXT: usize = 4 << 10;

/// The length in bytes from which few texts are read and planned at the same time.
const LONG_TEXT: usize = 64 << 10;

/// How long a plan may still take after its time before its lane is lost.
const PLAN_LOST_AFTER: std::time::Duration = std::time::Duration::from_millis(250);

/// How long definitions may be read and compiled.
const DEFINITIONS_TIME: std::time::Duration = std::time::Duration::from_secs(60);

/// How many times a query is started in total when workers fail.
const ATTEMPTS: usize = 3;

/// How many times a query is started with smaller batches.
const NARROWER: usize = 8;

/// Rows of a batch below which a sort that finds no memory is not started again.
const FEWEST_ROWS: usize = 64;

/// Characters of a query in the log entry of its panic.
const LOGGED_CHARACTERS: usize = 200;

/// The places that a text has before it is planned.
struct TextPlaces {
    is_short: bool,
    /// Taken by the first plan that runs.
    heavy: Option<OwnedSemaphorePermit>,
    /// Held while the text and its tree are in memory.
    long: Option<OwnedSemaphorePermit>,
}

/// The time of work on a lane.
struct LaneTime {
    within: std::time::Duration,
    /// The end of the request's time, if that ends the work too.
    deadline: Option<Instant>,
    /// The error if `within` is over first.
    late: Box<dyn Fn() -> Error + Send>,
}

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

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason".to_owned())
}

#[cfg(test)]
mod tests;
