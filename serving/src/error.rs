//! The crate's error: what was being done for a client when it failed, and what the client is told.
//!
//! Invariant: [`Error::answer`] is the only place where a code and an HTTP status are chosen; codes never change.

use datafusion::error::DataFusionError;
use serde::Serialize;
use thalweg_schemas::error::complaint::Complaint;
use thalweg_schemas::error::{Place, plan_fault};
use thalweg_schemas::{Error as SharedError, Fault, StreamName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done when it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{reason}")]
    ReadRequest { code: &'static str, status: u16, reason: String },
    #[error(
        "a request holds either definitions or exactly one query; this one has {definitions} definitions and {queries} queries"
    )]
    MixStatements { definitions: usize, queries: usize },
    #[error("{0} is not possible here: queries read, and only CREATE and DROP of streams and views change anything")]
    ChangeByQuery(String),
    #[error("{}", Complaint::sentence(.source))]
    PlanQuery {
        #[source]
        source: DataFusionError,
    },
    #[error("{}", Complaint::sentence(.source))]
    RunQuery {
        #[source]
        source: DataFusionError,
    },
    /// It will be answerable in a while; the sentence says what it waits for.
    #[error("{what} is not ready: {reason}")]
    NotReady { what: String, reason: String },
    /// What is held does not tile what the query needs.
    #[error("stream `{stream}` cannot be answered at one frontier at the moment: {reason}")]
    NotHeld { stream: StreamName, reason: String },
    #[error("stream `{stream}` has stopped: {reason}")]
    StreamStopped { stream: StreamName, reason: String },
    /// It was chosen for a part of the answer and then failed. Asked again, another one may answer.
    #[error("a speed worker failed while the query read from it: {worker} {reason}; try again")]
    AskWorker { worker: String, reason: String },
    #[error("{running} queries are running, which is the limit; try again in a moment")]
    TooBusy { running: usize },
    #[error("the query took longer than its limit of {seconds} s")]
    Timeout { seconds: f64 },
    /// From the catalog or the algebra.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// From another layer, through a callback.
    #[error("{message}")]
    Call { fault: Fault, message: String },
    #[error("encoding an answer: {0}")]
    Encode(#[source] arrow::error::ArrowError),
    #[error("starting the threads for queries: {0}")]
    StartThreads(#[source] std::io::Error),
    #[error("serving HTTP: {0}")]
    Serve(#[source] std::io::Error),
}

/// What a client is told: `{"error": {"code", "message", "line", "column"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorAnswer {
    #[serde(skip)]
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Error {
    /// Decides what becomes of the failed work.
    pub fn fault(&self) -> Fault {
        match self {
            Error::ReadRequest { .. }
            | Error::MixStatements { .. }
            | Error::ChangeByQuery(_)
            | Error::Timeout { .. } => Fault::User,
            Error::PlanQuery { source } | Error::RunQuery { source } => match (own(source), shared(source)) {
                (Some(inner), _) => inner.fault(),
                (_, Some(inner)) => inner.fault(),
                _ => plan_fault(source),
            },
            Error::NotReady { .. }
            | Error::NotHeld { .. }
            | Error::StreamStopped { .. }
            | Error::AskWorker { .. }
            | Error::TooBusy { .. }
            | Error::StartThreads(_)
            | Error::Serve(_) => Fault::Transient,
            Error::Shared(inner) => inner.fault(),
            Error::Call { fault, .. } => *fault,
            Error::Encode(_) => Fault::Bug,
        }
    }

    /// True if a worker failed that was asked for a part of the answer: pinned again, another one may answer.
    pub(crate) fn is_worker_lost(&self) -> bool {
        match self {
            Error::AskWorker { .. } => true,
            Error::RunQuery { source } | Error::PlanQuery { source } => own(source).is_some_and(Self::is_worker_lost),
            _ => false,
        }
    }

    /// Status, code, sentence and place, as the client sees them.
    pub fn answer(&self) -> ErrorAnswer {
        let (status, code) = self.status_and_code();
        ErrorAnswer { status, code, message: self.to_string(), place: self.place() }
    }

    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Error::ReadRequest { code, status, .. } => (*status, code),
            Error::MixStatements { .. } => (400, "mixed_statements"),
            Error::ChangeByQuery(_) => (400, "read_only"),
            Error::NotReady { .. } => (503, "not_ready"),
            Error::NotHeld { .. } => (503, "not_held"),
            Error::StreamStopped { .. } => (503, "stream_stopped"),
            Error::AskWorker { .. } => (503, "worker_failed"),
            Error::TooBusy { .. } => (503, "too_busy"),
            Error::Timeout { .. } => (504, "timeout"),
            Error::PlanQuery { source } => engine_code(source, "invalid_query"),
            Error::RunQuery { source } => engine_code(source, "query_failed"),
            Error::Shared(inner) => shared_code(inner),
            Error::Call { fault, .. } => match fault {
                Fault::User => (400, "refused"),
                Fault::Transient => (503, "unavailable"),
                Fault::Bug => (500, "internal"),
            },
            Error::Encode(_) | Error::StartThreads(_) | Error::Serve(_) => (500, "internal"),
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Error::Shared(SharedError::ParseSql { place, .. }) => *place,
            Error::PlanQuery { source } => {
                let (start, _) = Complaint::all(source).first()?.span?;
                Some(start)
            }
            _ => None,
        }
    }
}

/// An error of the shared crate that travelled through the engine.
fn shared(error: &DataFusionError) -> Option<&SharedError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// An error of this crate that travelled through the engine.
fn own(error: &DataFusionError) -> Option<&Error> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

fn engine_code(error: &DataFusionError, user: &'static str) -> (u16, &'static str) {
    if let Some(inner) = own(error) {
        return inner.status_and_code();
    }
    if let Some(inner) = shared(error) {
        return shared_code(inner);
    }
    match (error.find_root(), plan_fault(error)) {
        (DataFusionError::ResourcesExhausted(_), _) => (507, "memory_limit"),
        // How DataFusion 55's nested-loop join says that its first batch is over the limit already.
        (DataFusionError::Internal(text), _) if text.contains("no data to spill") => (507, "memory_limit"),
        (_, Fault::User) => (400, user),
        (_, Fault::Transient) => (503, "storage"),
        (_, Fault::Bug) => (500, "internal"),
    }
}

fn shared_code(error: &SharedError) -> (u16, &'static str) {
    match error {
        SharedError::ParseSql { .. } => (400, "syntax"),
        SharedError::RefuseDefinition { .. } | SharedError::CheckName(_) | SharedError::PlanView { .. } => {
            (400, "refused")
        }
        SharedError::FindDefinition { .. } => (404, "not_found"),
        SharedError::CreateTwice { .. } | SharedError::DropStreamInUse { .. } => (409, "conflict"),
        SharedError::WriteCatalog { .. } => (503, "conflict"),
        SharedError::NotHeld { .. } => (503, "not_held"),
        SharedError::RunPlan { source, .. } => engine_code(source, "query_failed"),
        other => match other.fault() {
            Fault::User => (400, "refused"),
            Fault::Transient => (503, "storage"),
            Fault::Bug => (500, "internal"),
        },
    }
}
