//! The steps of one view, made once for all who listen.
//!
//! A feed lives while somebody listens. It holds the view at its newest frontier. When events have arrived, it pins
//! the view anew, makes the step between the two pins, and sends the step to its listeners.
//!
//! Invariant: steps follow each other without a gap: each begins at the frontier where the one before it ended. A
//! listener that joins gets the view at the frontier at which its first step begins.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::TryStreamExt;
use parking_lot::Mutex;
use thalweg_schemas::{Fault, StreamName, ViewId, ViewName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, broadcast};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::held::{FollowedView, HeldView};
use super::step::{ChangeStep, KeyedRows, compare};
use super::tables::{self, AFTER, BEFORE, StepStart};
use crate::engine::{ASSEMBLED, AssembledRows, AssembledTables, Engine};
use crate::sources::Realtime;
use crate::{Error, Result};

/// The longest time between two looks at the view, and the pause after a failed one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Queries for single listeners at the same time, so that hundreds of them leave places to plan to others.
const OWN_QUERIES: usize = 2;

/// Steps that a listener may be behind before it has to be brought up anew.
const STEPS_BEHIND: usize = 16;

/// Bytes of one side of a step. If more rows change at once, listeners begin anew, which needs no memory.
const STEP_BYTES: usize = 32 << 20;

/// What a feed tells its listeners.
#[derive(Debug, Clone)]
pub(super) enum FeedEvent {
    Step(Arc<ChangeStep>),
    /// There is no step to the newest frontier.
    Anew,
}

/// A view that is followed.
pub(super) struct ChangeFeed {
    pub(super) followed: FollowedView,
    newest: Mutex<Newest>,
}

struct Newest {
    held: Arc<HeldView>,
    steps: broadcast::Sender<FeedEvent>,
    /// True once nobody makes steps any more. Whoever joins then would wait for ever.
    ended: bool,
}

/// The feeds of a process.
pub(crate) struct ChangeFeeds {
    feeds: Mutex<HashMap<ViewId, Weak<ChangeFeed>>>,
    places: Arc<Semaphore>,
    most: usize,
    step_every: Duration,
    /// Queries for single listeners at the same time. Those of the feeds need no place.
    own_queries: Semaphore,
    /// The end of the process.
    pub(super) end: CancellationToken,
}

/// What a listener gets when it joins a feed.
pub(super) struct JoinedFeed {
    /// Keeps the feed alive.
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) held: Arc<HeldView>,
    pub(super) steps: broadcast::Receiver<FeedEvent>,
}

impl ChangeFeeds {
    /// Feeds for at most `most` listeners, until `end`. Steps are at least `step_every` apart.
    pub(crate) fn new(most: usize, step_every: Duration, end: CancellationToken) -> Self {
        Self {
            feeds: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            most,
            step_every,
            own_queries: Semaphore::new(OWN_QUERIES),
            end,
        }
    }

    /// A place for queries whose result is for one listener. Who waits is a few steps behind, and is brought up in one.
    pub(super) async fn own_query(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.own_queries.acquire().await.ok()
    }

    /// How many views are followed.
    #[cfg(test)]
    pub(super) fn running_feeds(&self) -> usize {
        self.feeds.lock().values().filter(|feed| feed.strong_count() > 0).count()
    }

    /// A place for one listener.
    ///
    /// Errors: [`Error::TooManyListeners`].
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::TooManyListeners { listening: self.most })
    }

    /// Joins the feed of a view, or starts it.
    ///
    /// Errors: those of finding and pinning a view.
    pub(super) async fn join(self: &Arc<Self>, engine: &Arc<Engine>, name: &ViewName) -> Result<JoinedFeed> {
        let followed = FollowedView::find(engine, name)?;
        if let Some(joined) = self.running(&followed) {
            return Ok(joined);
        }
        let held = Arc::new(followed.clone().hold(engine).await?);
        let mut feeds = self.feeds.lock();
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let id = followed.view.plan.id().clone();
        // Somebody else may have started the feed meanwhile.
        if let Some(joined) = feeds.get(&id).and_then(Weak::upgrade).and_then(ChangeFeed::joined) {
            return Ok(joined);
        }
        let (steps, _) = broadcast::channel(STEPS_BEHIND);
        let feed = Arc::new(ChangeFeed { followed, newest: Mutex::new(Newest { held, steps, ended: false }) });
        feeds.insert(id, Arc::downgrade(&feed));
        drop(feeds);
        let following = follow(Arc::downgrade(&feed), Arc::clone(engine), self.step_every);
        let joined = feed.joined();
        tokio::spawn(self.end.clone().run_until_cancelled_owned(following));
        joined.ok_or_else(|| Error::NotReady { what: format!("view `{name}`"), reason: "it is changing".into() })
    }

    fn running(&self, followed: &FollowedView) -> Option<JoinedFeed> {
        let feeds = self.feeds.lock();
        feeds.get(followed.view.plan.id())?.upgrade()?.joined()
    }
}

impl ChangeFeed {
    /// `None` if the feed has ended.
    fn joined(self: Arc<Self>) -> Option<JoinedFeed> {
        let newest = self.newest.lock();
        if newest.ended {
            return None;
        }
        let (held, steps) = (Arc::clone(&newest.held), newest.steps.subscribe());
        drop(newest);
        Some(JoinedFeed { feed: self, held, steps })
    }

    /// Pins the view anew and sends the step to its frontier. False if the feed has ended: the view is another one.
    async fn advance(&self, engine: &Arc<Engine>) -> Result<bool> {
        let followed = FollowedView::find(engine, &self.followed.name)?;
        if followed.view.plan.id() != self.followed.view.plan.id() {
            self.end();
            return Ok(false);
        }
        let next = Arc::new(followed.hold(engine).await?);
        let held = Arc::clone(&self.newest.lock().held);
        if next.frontier() == held.frontier() && next.pin.stream.definition.sql == held.pin.stream.definition.sql {
            // The newer pin reads a newer batch version, whose files are there for longer.
            self.newest.lock().held = next;
            return Ok(true);
        }
        let event = match is_later(&held, &next) {
            true => match step(engine, &StepStart::Held(&held), &next).await {
                Ok(step) => FeedEvent::Step(Arc::new(step)),
                Err(error) => {
                    tracing::warn!(view = %self.followed.name, %error, "listeners begin anew: no step can be made");
                    FeedEvent::Anew
                }
            },
            false => FeedEvent::Anew,
        };
        let mut newest = self.newest.lock();
        newest.held = next;
        // Without a receiver nobody listens, and the feed ends.
        let _ = newest.steps.send(event);
        Ok(true)
    }

    /// Sends everybody to the feed that comes after this one, if there is one.
    fn end(&self) {
        let mut newest = self.newest.lock();
        newest.ended = true;
        let _ = newest.steps.send(FeedEvent::Anew);
    }
}

/// True if steps lead from one pin to the other: of the same stream, and not back.
fn is_later(held: &HeldView, next: &HeldView) -> bool {
    next.pin.stream.definition.sql == held.pin.stream.definition.sql && next.frontier().covers(held.frontier())
}

async fn follow(feed: Weak<ChangeFeed>, engine: Arc<Engine>, step_every: Duration) {
    loop {
        let began = Instant::now();
        let Some(name) = feed.upgrade().map(|feed| feed.followed.view.plan.stream().clone()) else {
            return;
        };
        wait_for_events(&engine, &name).await;
        let Some(followed) = feed.upgrade() else {
            return;
        };
        match followed.advance(&engine).await {
            Ok(true) => {}
            Ok(false) => return,
            // A stream that is catching up, a view that is being rebuilt: who listens waits. A view that is gone ends
            // its listeners when they join again.
            Err(error) => {
                tracing::debug!(view = %followed.followed.name, %error, "no step");
                if !passes(&error) {
                    followed.end();
                    return;
                }
                drop(followed);
                sleep(LOOK_EVERY).await;
            }
        }
        sleep_until(began + step_every).await;
    }
}

/// True if the same will succeed by itself: data is on its way, or the server is busy.
fn passes(error: &Error) -> bool {
    match error {
        Error::ViewFailed { .. } | Error::StreamStopped { .. } | Error::NotUnderstood { .. } => false,
        Error::Timeout { .. } => true,
        other => other.fault() == Fault::Transient,
    }
}

/// Waits until the stream has moved, or until it is time to look anyway.
async fn wait_for_events(engine: &Engine, stream: &StreamName) {
    let snapshots = match &engine.sources.realtime {
        Realtime::Local(streams) => streams.borrow().get(stream).map(|handle| handle.snapshots.clone()),
        Realtime::Remote { .. } => None,
    };
    match snapshots {
        // A sender that is gone, or no change in time: the next pin tells.
        Some(mut snapshots) => drop(timeout(LOOK_EVERY, snapshots.changed()).await),
        None => sleep(LOOK_EVERY).await,
    }
}

/// Makes the step from `start` to `end`.
///
/// Errors: those of queries; [`Error::RefuseSize`] if more rows change than a step may have.
pub(super) async fn step(engine: &Arc<Engine>, start: &StepStart<'_>, end: &HeldView) -> Result<ChangeStep> {
    let tables = tables::step(start, end)?;
    let name = &end.followed.name;
    let before = read(engine, name, BEFORE, tables.clone()).await?;
    let after = read(engine, name, AFTER, tables).await?;
    let changed = compare(&before, &after, end.view.view.plan.group_count())?;
    let from = match start {
        StepStart::Held(held) => held.frontier().clone(),
        StepStart::Frontier(from) => (*from).clone(),
    };
    Ok(ChangeStep { from, to: end.frontier().clone(), before, after, changed })
}

async fn read(
    engine: &Arc<Engine>,
    name: &ViewName,
    table: &'static str,
    tables: AssembledTables,
) -> Result<KeyedRows> {
    let text = format!("changes of {name}: {table}");
    let statement = move || tables::statement(&format!("SELECT * FROM {ASSEMBLED}.{table}"));
    let rows = engine.run_over(text, statement, tables).await?;
    collect(rows).await
}

/// Errors: those of the query; [`Error::RefuseSize`] if there are more bytes than a step may have.
pub(super) async fn collect(rows: AssembledRows) -> Result<KeyedRows> {
    let mut keyed = KeyedRows { schema: rows.schema, batches: Vec::new() };
    let mut batches = rows.batches;
    let mut bytes = 0;
    while let Some(batch) = batches.try_next().await? {
        bytes += crate::limits::slices::bytes(&batch);
        if bytes > STEP_BYTES {
            let (count, limit) = (bytes as u64, STEP_BYTES as u64);
            return Err(Error::RefuseSize { what: "bytes in one step of changes", count, limit });
        }
        keyed.batches.push(batch);
    }
    Ok(keyed)
}
