//! Work on the text of a request: reading, describing and planning it, and applying definitions, each on a lane and in
//! time.
//!
//! Invariant: a text that is not short has a place of its own while it is read and planned. The work holds the
//! place and hands it back with its result, so a client that goes away does not free the place of a text that is still
//! read.

use std::sync::Arc;

use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::Statement;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use super::descriptions::{DescribedText, Description};
use super::panicked::LOGGED_CHARACTERS;
use super::planning::{self, QueryTables, RequestContent, RequestText};
use super::text_places::TextPlaces;
use crate::answer::Answer;
use crate::limits::weight::Weight;
use crate::options::Options;
use crate::parameters::{Bindings, Declared};
use crate::{Error, Result, names, statements};

/// The length in bytes up to which a text is planned before it is known whether the query is heavy. The time to plan an
/// expression grows with the square of its length.
const SHORT_TEXT: usize = 4 << 10;

/// The length in bytes from which few texts are read and planned at the same time.
const LONG_TEXT: usize = 64 << 10;

/// How long a plan may still take after its time before its lane is lost.
const PLAN_LOST_AFTER: std::time::Duration = std::time::Duration::from_millis(250);

/// How long definitions may be read and compiled.
const DEFINITIONS_TIME: std::time::Duration = std::time::Duration::from_secs(60);

/// The time of work on a lane.
pub(super) struct LaneTime {
    pub(super) within: std::time::Duration,
    /// The end of the request's time, if that ends the work too.
    pub(super) deadline: Option<Instant>,
    /// The error if `within` is over first.
    pub(super) late: Box<dyn Fn() -> Error + Send>,
}

impl Engine {
    /// Describes the text of a request without running it: the types of its placeholders (those in `declared` where the
    /// client has chosen them) and the columns of its answer. A description is kept until definitions change.
    ///
    /// Errors: those of a text that cannot be read or planned.
    pub(crate) async fn describe(
        self: &Arc<Self>,
        sql: &str,
        mut declared: Declared,
        options: Options,
    ) -> Result<Arc<Description>> {
        // Placeholders without a type need not be counted; some doors do.
        declared.truncate(declared.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
        let newest = || Arc::clone(&self.sources.shared.catalog.borrow());
        let catalog = newest();
        if sql.len() > LONG_TEXT {
            return self.describe_anew(sql, declared, options, catalog).await.map(Arc::new);
        }
        let text = DescribedText { sql: sql.to_owned(), declared, source: options.source };
        if let Some(known) = self.descriptions.find(&catalog, &text) {
            return Ok(known);
        }
        let described = self.describe_anew(sql, text.declared.clone(), options, Arc::clone(&catalog)).await;
        let described = Arc::new(described?);
        self.descriptions.keep(&catalog, newest, text, &described);
        Ok(described)
    }

    async fn describe_anew(
        self: &Arc<Self>,
        sql: &str,
        declared: Declared,
        options: Options,
        catalog: Arc<Catalog>,
    ) -> Result<Description> {
        let deadline = Instant::now() + self.config.query_timeout;
        let request = RequestText::Sql(sql.to_owned());
        let (content, places) = self.read(request, Bindings::Types(declared), options, deadline).await?;
        let query = match content {
            RequestContent::Definitions(_) => {
                return Ok(Description { parameters: Vec::new(), columns: None, tables: Vec::new() });
            }
            RequestContent::Query(query) => query,
        };
        names::refuse_sided_streams(&catalog, &query.references, query.options.source)?;
        names::wanted(&catalog, &query.references, None, &self.sources.metrics)?;
        let state = self.base.clone();
        let time = self.time_to_plan(places.is_short, deadline);
        let tables = QueryTables {
            catalog,
            pins: Arc::default(),
            system: Box::default(),
            activity: Arc::clone(&self.activity),
            postgres: Arc::clone(&self.postgres),
            assembled: None,
        };
        let described = self.on_lane(time, sql, async move {
            let described = planning::describe(state, &query, tables).await;
            (described, places)
        });
        described.await?.0
    }

    /// Why nothing is planned at the moment, if so: far more work is lost than that of heavy queries.
    fn refuses_plans(&self) -> Option<Error> {
        let lost = self.lanes.lost();
        let most = self.config.max_lost_queries + self.config.max_queries + self.config.max_light_queries;
        (lost >= most).then_some(Error::TooManyLost { lost })
    }

    /// Reads a request. A text that is not short is heavy before anything is known of it, so it needs a place of a
    /// heavy query.
    pub(super) async fn read(
        self: &Arc<Self>,
        request: RequestText,
        bindings: Bindings,
        options: Options,
        deadline: Instant,
    ) -> Result<(RequestContent, TextPlaces)> {
        let length = request.text().len();
        let logged: String = request.text().chars().take(LOGGED_CHARACTERS).collect();
        let mut places = TextPlaces { is_short: length <= SHORT_TEXT, run: None, long: None, wait: None };
        if length > LONG_TEXT {
            places.long = Some(self.places.long_text().await?);
        }
        if !places.is_short {
            places.run = Some(self.place(Weight::Heavy).await?);
        }
        let engine = Arc::clone(self);
        let time = self.time_to_plan(places.is_short, deadline);
        let read = self.on_lane(time, &logged, async move {
            let read = planning::read(&engine.base, request, bindings, options);
            (read, places)
        });
        let (read, places) = read.await?;
        let mut read = read?;
        if let RequestContent::Query(query) = &mut read {
            query.rolls_up = query.options.rollups.unwrap_or(self.config.rollups);
        }
        Ok((read, places))
    }

    /// Applies definitions on a lane, because views are compiled on the way. A COPY takes no lane: another layer does
    /// its work, for as long as the files are.
    pub(super) async fn apply(self: &Arc<Self>, mut definitions: Vec<Statement>, places: TextPlaces) -> Result<Answer> {
        if let [Statement::CopyFrom(_)] = &definitions[..]
            && let Some(Statement::CopyFrom(files)) = definitions.pop()
        {
            drop(places);
            return statements::copy(&self.sources, files).await;
        }
        // Kafka is asked beside the lanes, too.
        let (definitions, notes) = statements::with_columns(&self.sources, definitions).await?;
        let sources = self.sources.clone();
        let seconds = DEFINITIONS_TIME.as_secs_f64();
        let time = LaneTime {
            within: DEFINITIONS_TIME,
            deadline: None,
            late: Box::new(move || Error::ApplyInTime { seconds }),
        };
        let applied = self.on_lane(time, "definitions", async move {
            let applied = statements::apply(&sources, definitions, notes).await;
            (applied, places)
        });
        applied.await?.0
    }

    /// The time for reading or planning a text. A short text has little of it, because everybody may have one planned;
    /// others have places that are theirs.
    pub(super) fn time_to_plan(&self, is_short: bool, deadline: Instant) -> LaneTime {
        let within = if is_short { self.config.planning_time } else { self.config.query_timeout };
        let seconds = within.as_secs_f64();
        LaneTime { within, deadline: Some(deadline), late: Box::new(move || Error::PlanInTime { seconds }) }
    }

    /// Runs short work on a lane, with a place for plans. `sql` is for the log.
    pub(super) async fn on_lane<T: Send + 'static>(
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
        let held = (lane, place);
        let task = AbortOnDropHandle::new(threads.spawn(async move {
            let held = held;
            let done = work.await;
            drop(held);
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
}
