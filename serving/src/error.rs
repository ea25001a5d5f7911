//! The crate's error: what was being done for a client when it failed, and what the client is told.
//!
//! Invariant: [`Error::code`] and [`Error::status`] alone choose a code and an HTTP status.

use datafusion::error::DataFusionError;
use thalweg_schemas::api::error::{ErrorBody, ErrorCode};
use thalweg_schemas::error::{Diagnostic, Place, plan_fault};
use thalweg_schemas::{Error as SharedError, Fault, StreamName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done when it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is nothing at {path}; SQL goes to POST /v1/sql")]
    FindPath { path: String },
    #[error("{path} does not take {method}")]
    FindMethod { path: String, method: String },
    #[error("the request comes from a page of another site")]
    AskFromOtherSite,
    #[error("{reason}")]
    ReadRequest { reason: String },
    #[error("{reason}")]
    ReadLongRequest { reason: String },
    #[error("answers are application/json or text/csv, not {accept}")]
    ChooseFormat { accept: String },
    #[error("{reason}")]
    SetOption { reason: String },
    #[error("the request holds no SQL statement")]
    FindStatement,
    #[error(
        "a request holds either definitions or exactly one query; this one has {definitions} definitions and {queries} queries"
    )]
    MixStatements { definitions: usize, queries: usize },
    #[error("{0} is not possible here: queries read, and only CREATE and DROP of streams and views change anything")]
    ChangeByQuery(String),
    #[error("{}", Diagnostic::sentence(.source))]
    PlanQuery {
        #[source]
        source: DataFusionError,
    },
    #[error("{}", Diagnostic::sentence(.source))]
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

impl Error {
    /// Decides what becomes of the failed work.
    pub fn fault(&self) -> Fault {
        match self {
            Error::FindPath { .. }
            | Error::FindMethod { .. }
            | Error::AskFromOtherSite
            | Error::ReadRequest { .. }
            | Error::ReadLongRequest { .. }
            | Error::ChooseFormat { .. }
            | Error::SetOption { .. }
            | Error::FindStatement
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

    /// Code, sentence and place, as the client sees them.
    pub fn body(&self) -> ErrorBody {
        let (line, column) = self.place().map(|place| (place.line, place.column)).unzip();
        ErrorBody { code: self.code(), message: self.to_string(), line, column }
    }

    /// The HTTP status of the answer: that of its code, but for two errors.
    pub fn status(&self) -> u16 {
        match self {
            Error::ReadLongRequest { .. } => 413,
            // A lost race may be won when it is run again.
            Error::Shared(SharedError::WriteCatalog { .. }) => 503,
            _ => self.code().status(),
        }
    }

    /// What kind of error it is.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::FindPath { .. } => ErrorCode::NoSuchPath,
            Error::FindMethod { .. } => ErrorCode::NoSuchMethod,
            Error::AskFromOtherSite => ErrorCode::OtherSite,
            Error::ReadRequest { .. } | Error::ReadLongRequest { .. } => ErrorCode::BadRequest,
            Error::ChooseFormat { .. } => ErrorCode::NotAcceptable,
            Error::SetOption { .. } => ErrorCode::BadOption,
            Error::FindStatement => ErrorCode::Empty,
            Error::MixStatements { .. } => ErrorCode::MixedStatements,
            Error::ChangeByQuery(_) => ErrorCode::ReadOnly,
            Error::NotReady { .. } => ErrorCode::NotReady,
            Error::NotHeld { .. } => ErrorCode::NotHeld,
            Error::StreamStopped { .. } => ErrorCode::StreamStopped,
            Error::AskWorker { .. } => ErrorCode::WorkerFailed,
            Error::TooBusy { .. } => ErrorCode::TooBusy,
            Error::Timeout { .. } => ErrorCode::Timeout,
            Error::PlanQuery { source } => engine_code(source, ErrorCode::InvalidQuery),
            Error::RunQuery { source } => engine_code(source, ErrorCode::QueryFailed),
            Error::Shared(inner) => shared_code(inner),
            Error::Call { fault, .. } => match fault {
                Fault::User => ErrorCode::Refused,
                Fault::Transient => ErrorCode::Unavailable,
                Fault::Bug => ErrorCode::Internal,
            },
            Error::Encode(_) | Error::StartThreads(_) | Error::Serve(_) => ErrorCode::Internal,
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Error::Shared(SharedError::ParseSql(diagnostic)) => Some(diagnostic.span?.start),
            Error::PlanQuery { source } => Some(Diagnostic::all(source).first()?.span?.start),
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

/// `user` is the code if the query is wrong.
fn engine_code(error: &DataFusionError, user: ErrorCode) -> ErrorCode {
    if let Some(inner) = own(error) {
        return inner.code();
    }
    if let Some(inner) = shared(error) {
        return shared_code(inner);
    }
    match (error.find_root(), plan_fault(error)) {
        (DataFusionError::ResourcesExhausted(_), _) => ErrorCode::MemoryLimit,
        // How DataFusion 55's nested-loop join says that its first batch is over the limit already.
        (DataFusionError::Internal(text), _) if text.contains("no data to spill") => ErrorCode::MemoryLimit,
        (_, Fault::User) => user,
        (_, Fault::Transient) => ErrorCode::Storage,
        (_, Fault::Bug) => ErrorCode::Internal,
    }
}

fn shared_code(error: &SharedError) -> ErrorCode {
    match error {
        SharedError::ParseSql(_) => ErrorCode::Syntax,
        SharedError::RefuseDefinition(_) | SharedError::CheckName { .. } | SharedError::PlanView { .. } => {
            ErrorCode::Refused
        }
        SharedError::FindDefinition { .. } => ErrorCode::NotFound,
        SharedError::CreateTwice { .. } | SharedError::DropStreamInUse { .. } | SharedError::WriteCatalog { .. } => {
            ErrorCode::Conflict
        }
        SharedError::NotHeld { .. } => ErrorCode::NotHeld,
        SharedError::RunPlan { source, .. } => engine_code(source, ErrorCode::QueryFailed),
        other => match other.fault() {
            Fault::User => ErrorCode::Refused,
            Fault::Transient => ErrorCode::Storage,
            Fault::Bug => ErrorCode::Internal,
        },
    }
}
