//! A request that was read and, if it is a query, pinned. Its identity is known, and nothing was planned.
//!
//! Invariant: every opened request ends in the counts of queries once: by its answer, by an error, as one that a client
//! or another request has already been answered, or as cancelled if it is dropped.

use std::sync::Arc;

use thalweg_schemas::definition::Statement;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::identify;
use super::planning::{QueryTables, ReadQuery};
use super::text_places::TextPlaces;
use super::{Engine, Started};
use crate::access::AccessDenied;
use crate::answer::Answer;
use crate::identity::AnswerIdentity;
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

    /// Releases the pins, for a request that waits for the answer to another one.
    pub(crate) fn release(&mut self) {
        if let OpenedContent::Query { pinned, .. } = &mut self.content {
            *pinned = None;
        }
    }

    /// Pins again what was released, at the newest frontier. The identity may be another one then.
    ///
    /// Errors: those of pins.
    pub(crate) async fn pin_again(&mut self) -> Result<()> {
        let (engine, deadline) = (Arc::clone(&self.engine), self.deadline);
        if let OpenedContent::Query { query, places, pinned, identity } = &mut self.content
            && pinned.is_none()
        {
            let again = engine.pinned(query, places, deadline).await.map_err(|error| self.track.failed(error))?;
            *identity = identify::identity(query, &again.tables.catalog, &again.tables.pins);
            *pinned = Some(again);
        }
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

    /// The error of a request whose time is over.
    pub(crate) fn timeout(mut self) -> Error {
        let error = self.engine.timeout();
        self.track.failed(error)
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
                track.listed().pinned(&head.frontier);
                Ok(Answer {
                    schema: head.schema,
                    frontier: head.frontier,
                    stale: head.stale,
                    partial: head.partial,
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
