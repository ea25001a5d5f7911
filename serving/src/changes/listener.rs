//! One client's way through the changes of a view: all rows at one frontier, then steps.
//!
//! ```text
//!  no token, another view, a frontier out of reach ─▶ Reset, all rows, Frontier ─┐
//!  a token ─▶ one step from there ──────────────────▶ rows, Frontier ────────────┴▶ steps: rows, Frontier …
//! ```
//!
//! A client may select columns and rows. A group whose row no longer fits is a delete for that client, and a row that
//! differs in other columns alone is no change.
//!
//! Invariant: rows belong to the frontier that follows them. A client that keeps this frontier with what it wrote goes
//! on from there exactly once, wherever it was stopped.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::sql::parser::Statement as EngineStatement;
use futures::TryStreamExt;
use thalweg_schemas::ViewName;
use thalweg_schemas::algebra::key_name;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::feed::{ChangeFeed, ChangeFeeds, FeedEvent, JoinedFeed, collect, step};
use super::held::HeldView;
use super::step::{ChangeKind, ChangeStep, Changed, KeyedRows, compare};
use super::tables::{self, AFTER, BEFORE, StepStart, statement};
use super::token::ResumeToken;
use crate::engine::{ASSEMBLED, AssembledRows, AssembledTables, Engine};
use crate::{Error, Result};

/// Events that are made ahead of a client.
const EVENTS_AHEAD: usize = 4;

/// A query of a client over the columns of a view, read from the table that is named. The columns [`key_name`] of the
/// view's groups, as many as are said, stand last.
pub(crate) type Selection = Arc<dyn Fn(&'static str, usize) -> Result<EngineStatement> + Send + Sync>;

/// What a client wants to hear.
#[derive(Clone)]
pub(crate) struct ListenRequest {
    pub(crate) view: ViewName,
    /// `None` for all columns and rows.
    pub(crate) selection: Option<Selection>,
    pub(crate) since: Option<ResumeToken>,
}

/// One event of a client's stream.
#[derive(Debug)]
pub(crate) enum ChangeEvent {
    /// The client forgets its rows; all rows of this view at one frontier follow.
    Reset {
        view_id: String,
    },
    Rows {
        kind: ChangeKind,
        rows: RecordBatch,
        keys: RecordBatch,
    },
    /// The rows up to here are complete.
    Frontier(ResumeToken),
}

/// The events of one client.
pub(crate) type ChangeEvents = mpsc::Receiver<Result<ChangeEvent>>;

/// A client's stream.
pub(crate) struct Listening {
    /// The columns of its rows.
    pub(crate) columns: SchemaRef,
    pub(crate) events: ChangeEvents,
}

/// Starts to listen.
///
/// Errors: those of finding and pinning the view, of a selection that cannot be planned, and
/// [`Error::TooManyListeners`].
pub(crate) async fn listen(
    feeds: &Arc<ChangeFeeds>,
    engine: &Arc<Engine>,
    request: ListenRequest,
) -> Result<Listening> {
    let place = feeds.place()?;
    let joined = feeds.join(engine, &request.view).await?;
    let mut listener = Listener { feeds: Arc::clone(feeds), engine: Arc::clone(engine), request, at: None };
    listener.at = listener.request.since.take();
    // Says at once whether the selection can be planned.
    let view = &joined.held.view.view.plan;
    let keyed = keyed_schema(view.output_schema(), joined.held.view.view.plan.state_schema(), view.group_count());
    let empty = KeyedRows { schema: keyed, batches: Vec::new() };
    let selected = listener.select(&joined.feed, &empty, AFTER).await?.schema;
    let shown = selected.fields().len().saturating_sub(view.group_count());
    let columns = Arc::new(Schema::new(selected.fields()[..shown].to_vec()));
    let (events, received) = mpsc::channel(EVENTS_AHEAD);
    let end = feeds.end.clone();
    tokio::spawn(async move {
        let _place = place;
        let listening = async {
            if let Err(error) = listener.run(joined, &events).await {
                // A receiver that is gone is a client that has gone.
                let _ = events.send(Err(error)).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = events.closed() => {}
            () = end.cancelled() => {}
        }
    });
    Ok(Listening { columns, events: received })
}

/// The client has gone.
struct Gone;

enum ListenEnd {
    Gone,
    Failed(Error),
}

impl From<Error> for ListenEnd {
    fn from(error: Error) -> Self {
        ListenEnd::Failed(error)
    }
}

impl From<Gone> for ListenEnd {
    fn from(_: Gone) -> Self {
        ListenEnd::Gone
    }
}

type Events = mpsc::Sender<Result<ChangeEvent>>;

struct Listener {
    feeds: Arc<ChangeFeeds>,
    engine: Arc<Engine>,
    request: ListenRequest,
    /// What the client has.
    at: Option<ResumeToken>,
}

impl Listener {
    /// Sends events until the client has gone.
    ///
    /// Errors: those of a view that is gone, or that cannot be read.
    async fn run(mut self, joined: JoinedFeed, events: &Events) -> Result<()> {
        let mut joined = joined;
        loop {
            match self.follow(joined, events).await {
                Ok(()) => {}
                Err(ListenEnd::Gone) => return Ok(()),
                Err(ListenEnd::Failed(error)) => return Err(error),
            }
            joined = self.feeds.join(&self.engine, &self.request.view).await?;
        }
    }

    /// Brings the client to the frontier of `joined`, and sends steps until there is none.
    async fn follow(&mut self, joined: JoinedFeed, events: &Events) -> std::result::Result<(), ListenEnd> {
        let JoinedFeed { feed, held, mut steps } = joined;
        self.bring_up(&feed, &held, events).await?;
        drop(held);
        loop {
            match steps.recv().await {
                Ok(FeedEvent::Step(step)) if self.at.as_ref().is_some_and(|at| at.frontier == step.from) => {
                    self.send_step(&feed, &step, events).await?;
                }
                // A step from elsewhere would leave rows out.
                Ok(FeedEvent::Step(_)) => return Ok(()),
                Ok(FeedEvent::Anew) => {
                    self.at = None;
                    return Ok(());
                }
                // The client is slow, and is brought up from where it stands; or the feed has ended.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn bring_up(
        &mut self,
        feed: &ChangeFeed,
        held: &HeldView,
        events: &Events,
    ) -> std::result::Result<(), ListenEnd> {
        let token = held.token();
        let since = self.at.take().filter(|at| at.view_id == token.view_id && reaches(held, at));
        match since {
            Some(at) if at.frontier == token.frontier => {
                self.at = Some(token);
                return Ok(());
            }
            Some(at) => match self.step_from(&at, held).await {
                Ok(step) => return self.send_step(feed, &step, events).await,
                Err(error) => tracing::info!(view = %self.request.view, %error, "a listener begins anew"),
            },
            None => {}
        }
        send(events, ChangeEvent::Reset { view_id: token.view_id.clone() }).await?;
        let rows = self.query(feed, tables::all(held)?, AFTER).await?;
        let mut batches = rows.batches;
        while let Some(batch) = batches.try_next().await? {
            self.send_rows(feed, ChangeKind::Upsert, &batch, events).await?;
        }
        self.send_frontier(token, events).await
    }

    async fn step_from(&self, at: &ResumeToken, held: &HeldView) -> Result<ChangeStep> {
        let _place = self.feeds.own_query().await;
        step(&self.engine, &StepStart::Frontier(&at.frontier), held).await
    }

    async fn send_step(
        &mut self,
        feed: &ChangeFeed,
        step: &ChangeStep,
        events: &Events,
    ) -> std::result::Result<(), ListenEnd> {
        let changed: Changed = match self.request.selection {
            None => step.changed.clone(),
            Some(_) => {
                let before = self.select(feed, &step.before, BEFORE).await?;
                let after = self.select(feed, &step.after, AFTER).await?;
                compare(&before, &after, keys(feed))?
            }
        };
        for (kind, rows) in changed {
            self.send_rows(feed, kind, &rows, events).await?;
        }
        let view_id = feed.followed.view.plan.id().as_str().to_owned();
        self.send_frontier(ResumeToken { view_id, frontier: step.to.clone() }, events).await
    }

    async fn send_frontier(&mut self, token: ResumeToken, events: &Events) -> std::result::Result<(), ListenEnd> {
        self.at = Some(token.clone());
        Ok(send(events, ChangeEvent::Frontier(token)).await?)
    }

    async fn send_rows(
        &self,
        feed: &ChangeFeed,
        kind: ChangeKind,
        batch: &RecordBatch,
        events: &Events,
    ) -> std::result::Result<(), ListenEnd> {
        let shown = batch.num_columns().saturating_sub(keys(feed));
        let names = feed.followed.view.plan.key_names();
        let (rows, keys) = split(batch, shown, &names).map_err(Error::Encode)?;
        Ok(send(events, ChangeEvent::Rows { kind, rows, keys }).await?)
    }

    /// The client's rows and columns of `rows`.
    async fn select(&self, feed: &ChangeFeed, rows: &KeyedRows, table: &'static str) -> Result<KeyedRows> {
        if self.request.selection.is_none() {
            return Ok(rows.clone());
        }
        let _place = self.feeds.own_query().await;
        let tables = AssembledTables::new([(table, rows.table()?)])?;
        collect(self.query(feed, tables, table).await?).await
    }

    async fn query(&self, feed: &ChangeFeed, tables: AssembledTables, table: &'static str) -> Result<AssembledRows> {
        let text = format!("changes of {} for a client: {table}", self.request.view);
        let keys = keys(feed);
        match self.request.selection.clone() {
            Some(selection) => self.engine.run_over(text, move || selection(table, keys), tables).await,
            None => {
                let all = format!("SELECT * FROM {}.{table}", ASSEMBLED);
                self.engine.run_over(text, move || statement(&all), tables).await
            }
        }
    }
}

fn keys(feed: &ChangeFeed) -> usize {
    feed.followed.view.plan.group_count()
}

async fn send(events: &Events, event: ChangeEvent) -> std::result::Result<(), Gone> {
    events.send(Ok(event)).await.map_err(|_| Gone)
}

/// True if the rows between the client's frontier and that of `held` can be read.
fn reaches(held: &HeldView, at: &ResumeToken) -> bool {
    held.frontier().covers(&at.frontier) && at.frontier.covers(&held.pin.stream.origin)
}

/// The columns of a view with its groups behind them.
fn keyed_schema(output: &SchemaRef, states: &SchemaRef, groups: usize) -> SchemaRef {
    let keys = states.fields().iter().skip(1).take(groups).enumerate();
    let keys = keys.map(|(i, field)| Arc::new(field.as_ref().clone().with_name(key_name(i))));
    Arc::new(Schema::new(output.fields().iter().cloned().chain(keys).collect::<Vec<_>>()))
}

/// The first `shown` columns, and the others under `names`.
fn split(
    batch: &RecordBatch,
    shown: usize,
    names: &[String],
) -> std::result::Result<(RecordBatch, RecordBatch), arrow::error::ArrowError> {
    let rows = batch.project(&(0..shown).collect::<Vec<_>>())?;
    let keys = batch.project(&(shown..batch.num_columns()).collect::<Vec<_>>())?;
    let fields = keys.schema_ref().fields().iter().zip(names);
    let fields = fields.map(|(field, name)| field.as_ref().clone().with_name(name)).collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(fields));
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(keys.num_rows()));
    let keys = RecordBatch::try_new_with_options(schema, keys.columns().to_vec(), &options)?;
    Ok((rows, keys))
}
