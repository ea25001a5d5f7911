//! A request that was read and, if it is a query, pinned. Its identity is known, and nothing was planned.
//!
//! Invariant: every opened request ends in the counts of queries once: by its answer, by an error, as one that a client
//! or another request has already been answered, or as cancelled if it is dropped.

use std::sync::Arc;

use thalweg_schemas::definition::Statement;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::identify;
use super::planning::{QueryTables, ReadQuery};
use super::standing::Standing;
use super::text_places::TextPlaces;
use super::{Engine, Started};
use crate::access::AccessDenied;
use crate::answer::Answer;
use crate::identity::AnswerIdentity;
use crate::limits::weight::Weight;
use crate::metrics::{SHARED, Track, UNCHANGED};
use crate::{Error, Result};

/// What a query reads, and its place until it runs.
pub(super) struct Pinned {
    /// `None` for a query that has its place to run already.
    pub(super) waiting: Option<OwnedSemaphorePermit>,
    pub(super) tables: QueryTables,
}

pub(super) enum OpenedContent {
    Definitions(Vec<Statement>, TextPlaces),
    Query {
        query: Arc<ReadQuery>,
        places: TextPlaces,
        /// `None` while the pins are released.
        pinned: Option<Pinned>,
        identity: Option<AnswerIdentity>,
    },
}

/// A request before its answer is computed.
pub(crate) struct OpenedRequest {
    pub(super) engine: Arc<Engine>,
    pub(super) content: OpenedContent,
    /// Why the client may not change definitions.
    pub(super) denied: Option<AccessDenied>,
    pub(super) deadline: Instant,
    pub(super) track: Track,
}

impl OpenedRequest {
    /// What the answer depends on; `None` if that is not known before the answer.
    pub(crate) fn identity(&self) -> Option<AnswerIdentity> {
        match &self.content {
            OpenedContent::Definitions(..) => None,
            OpenedContent::Query { identity, .. } => *identity,
        }
    }

    /// The end of the request's time.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Gives back the pins and the place to run, so that the request can wait for the answer to an equal one. False if
    /// the request must not wait: see [`TextPlaces::release`].
    pub(crate) fn release(&mut self) -> bool {
        let OpenedContent::Query { pinned, places, .. } = &mut self.content else { return false };
        let released = places.release(&self.engine.waiting_texts);
        if released {
            *pinned = None;
        }
        released
    }

    /// Waits for the end of another request. Whoever waits holds nothing of workers, snapshots or places.
    ///
    /// Errors: [`Error::Timeout`], [`Error::Cancelled`].
    pub(crate) async fn wait(&mut self, until: Instant, other: impl Future<Output = ()>) -> Result<()> {
        let cancelled = self.track.listed().cancelled();
        let waited = tokio::select! {
            waited = timeout_at(until, other) => waited.map_err(|_| self.engine.timeout()),
            () = cancelled => Err(Error::Cancelled),
        };
        waited.map_err(|error| self.track.failed(error))
    }

    /// Takes again what was given back, at the newest frontier. The identity may be another one then, and the time of
    /// the query begins anew: the time in which another request computed is not its own.
    ///
    /// Errors: those of places and pins.
    pub(crate) async fn begin_again(&mut self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.deadline = Instant::now() + engine.config.query_timeout;
        let (deadline, cancelled) = (self.deadline, self.track.listed().cancelled());
        let OpenedContent::Query { query, places, pinned, identity } = &mut self.content else { return Ok(()) };
        let again = async {
            if !places.is_short {
                places.run = Some(engine.place(Weight::Heavy).await?);
                places.wait = None;
            }
            engine.pinned(query, places, deadline).await
        };
        let again = tokio::select! {
            again = again => again,
            () = cancelled => Err(Error::Cancelled),
        };
        let again = again.map_err(|error| self.track.failed(error))?;
        *identity = identify::identity(query, &again.tables.catalog, &again.tables.pins);
        *pinned = Some(again);
        Ok(())
    }

    /// Ends the request without a query: the client has the answer already.
    pub(crate) fn end_as_unchanged(mut self) {
        self.track.finish_as(UNCHANGED);
    }

    /// Ends the request without a query: it is answered as an equal request was.
    pub(crate) fn end_as_shared(mut self) {
        self.track.finish_as(SHARED);
    }

    /// Applies the definitions, or starts the query.
    ///
    /// Errors: every variant of [`Error`] with a code below 500, and the errors of a query that cannot start.
    pub(crate) async fn run(self) -> Result<Answer> {
        let Self { engine, content, denied, deadline, mut track } = self;
        let cancelled = track.listed().cancelled();
        let begun = async {
            match content {
                OpenedContent::Definitions(list, places) => match denied {
                    Some(denied) => Err(Error::Deny(denied)),
                    None => engine.apply(list, places).await.map(BegunRequest::Defined),
                },
                OpenedContent::Query { query, places, pinned, .. } => {
                    engine.start_surely(query, places, pinned, deadline).await.map(BegunRequest::Started)
                }
            }
        };
        let begun = tokio::select! {
            begun = begun => begun,
            () = cancelled => Err(Error::Cancelled),
        };
        match begun {
            Ok(BegunRequest::Defined(answer)) => {
                track.finish();
                Ok(answer)
            }
            Ok(BegunRequest::Started(Started { head, running })) => {
                let Standing { frontier, stale, partial, views } = head.standing;
                track.listed().pinned(&frontier);
                Ok(Answer {
                    schema: head.schema,
                    frontier,
                    stale,
                    partial,
                    views,
                    certificate: head.certificate,
                    identity: head.identity,
                    memory: Some(Arc::clone(running.memory())),
                    batches: engine.limited(running, deadline, track),
                })
            }
            Err(error) => Err(track.failed(error)),
        }
    }
}

/// What a request has led to.
enum BegunRequest {
    Defined(Answer),
    Started(Started),
}
