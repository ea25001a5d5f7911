//! The crate's error: the action that failed for a client, and the code, status and message that the client gets.
//!
//! Invariant: [`Error::code`] and [`Error::status`] alone choose a code and an HTTP status.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use thalweg_schemas::api::error::{ErrorBody, ErrorCode};
use thalweg_schemas::error::{Diagnostic, Place, plan_fault};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::{Error as SharedError, Fault, StreamName, ViewName};

use crate::access::AccessDenied;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the engine's error calls the sum of all queries: no query can mend by itself that the sum is used up.
pub(crate) const TOGETHER: &str = "all queries together";

/// The action that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is nothing at {path}; SQL goes to POST /v1/sql")]
    FindPath { path: String },
    #[error("{path} does not take {method}")]
    FindMethod { path: String, method: String },
    #[error("the request comes from a page of another site")]
    AskFromOtherSite,
    #[error(
        "the request asks for the host `{host}`, which is not a name of this server; ask for localhost, or name it in \
         the setting http_hosts"
    )]
    AskOtherHost { host: String },
    #[error("{0}")]
    Deny(AccessDenied),
    #[error("the request did not arrive within {seconds} s; send it faster, or raise the setting http_timeout")]
    ReadSlowRequest { seconds: f64 },
    #[error("{running} audits and runs are under way, which is the limit; try again in a moment")]
    TooManyCalls { running: usize },
    #[error("{listening} clients listen to changes, which is the limit; try again in a moment")]
    TooManyListeners { listening: usize },
    #[error("{running} calls read or save dashboards, which is the limit; try again in a moment")]
    TooManyDashboards { running: usize },
    #[error("{reason}")]
    ReadRequest { reason: String },
    #[error("{reason}")]
    ReadLongRequest { reason: String },
    #[error(
        "answers are application/json, text/csv, application/x-ndjson, application/vnd.apache.arrow.stream or \
         application/vnd.apache.parquet, not {accept}"
    )]
    ChooseFormat { accept: String },
    /// The format has no way to say what the answer says.
    #[error("{reason}")]
    RefuseFormat { reason: String },
    #[error("{reason}")]
    SetOption { reason: String },
    #[error("{reason}")]
    BindParameters { reason: String },
    #[error("the request holds no SQL statement")]
    FindStatement,
    #[error(
        "a request holds either definitions or exactly one query; this one has {definitions} definitions and {queries} queries"
    )]
    MixStatements { definitions: usize, queries: usize },
    /// A call of Flight SQL that this server does not have.
    #[error("{reason}")]
    RefuseCall { reason: String },
    #[error(
        "the ticket is not one of this server's for this caller; ask for the query's flight again, on the same connection"
    )]
    OpenTicket,
    #[error("the prepared statement is gone: it was closed, or not used for an hour; prepare it again")]
    FindStatementHandle,
    #[error("the call names no session that exists; set an option, and send the cookie that comes back")]
    FindSession,
    /// The client is slower than the limit.
    #[error(
        "the client took nothing of the answer for {seconds} s, so the query was ended; read faster, or raise the \
         setting http_timeout"
    )]
    TakeAnswer { seconds: f64 },
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
    /// Not answerable yet; `reason` names the missing part.
    #[error("{what} is not ready: {reason}")]
    NotReady { what: String, reason: String },
    /// The segments and rows in memory do not tile the ranges that the query needs.
    #[error("stream `{stream}` cannot be answered at one frontier at the moment: {reason}")]
    NotHeld { stream: StreamName, reason: String },
    #[error("stream `{stream}` has stopped: {reason}")]
    StreamStopped { stream: StreamName, reason: String },
    #[error("view `{view}` has failed: {}. {}", .failure.sentence(), .failure.advice())]
    ViewFailed { view: ViewName, failure: Arc<ViewFailure> },
    #[error(
        "the definition of `{name}` is not understood by this version of the program ({reason}); ask a process of the \
         version that defined it, or replace or drop the definition"
    )]
    NotUnderstood { name: String, reason: String },
    /// A worker failed while it served a part of the answer. If the query runs again, another worker may serve the
    /// part.
    #[error("a speed worker failed while the query read from it: {worker} {reason}; try again")]
    AskWorker { worker: String, reason: String },
    #[error("{running} queries are running, which is the limit; try again in a moment")]
    TooBusy { running: usize },
    #[error("too many queries are being planned or wait for their plan; try again in a moment")]
    TooManyPlans,
    #[error(
        "{planned} long texts are being planned, which is the limit; try again in a moment, or write a shorter one"
    )]
    TooManyTexts { planned: usize },
    /// Work whose time is over does not return and holds the machine.
    #[error("{lost} queries do not end although their time is over; only light queries are answered until they do")]
    Overloaded { lost: usize },
    /// So much work does not return that nothing further is planned.
    #[error("{lost} queries do not end although their time is over; no query is planned until some do")]
    TooManyLost { lost: usize },
    #[error("the bodies of the requests under way take {mib} MiB, which is the limit; try again in a moment")]
    TooManyBytes { mib: usize },
    #[error("the query was cancelled on request")]
    Cancelled,
    #[error("the query took longer than its limit of {seconds} s")]
    Timeout { seconds: f64 },
    #[error("the client did not take the answer in time; ask for less at once, or raise the setting query_timeout")]
    SendInTime,
    #[error("planning the query took longer than {seconds} s; write shorter expressions, or several queries")]
    PlanInTime { seconds: f64 },
    /// The catalog may have been written before the time was over.
    #[error(
        "the definitions took longer than {seconds} s, and it is not known whether they hold; look at the streams and \
         views before you send them again"
    )]
    ApplyInTime { seconds: f64 },
    /// The rows are too wide for batches of the usual size; the query starts again with batches of `rows` rows, or with
    /// such batches of one join alone.
    #[error("the query's rows are too wide for its memory; ask for fewer or shorter values")]
    WideRows { rows: usize, join: Option<usize> },
    #[error(
        "a join without an equality would compare {pairs} pairs of rows, more than max_join_pairs ({limit}); join on equal columns, filter first, or raise the setting"
    )]
    RefusePairs { pairs: u64, limit: u64 },
    #[error(
        "the query has {count} {what} (once WITH clauses and views are written out), more than {limit}; ask for less at once"
    )]
    RefuseSize { what: &'static str, count: u64, limit: u64 },
    /// A panic within a query; the log has the rest under `id`.
    #[error("the query failed by a fault of the server; the log says more under {id}")]
    Panic { id: String },
    /// An error of the catalog or the algebra.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// An error of another layer, returned by a callback.
    #[error("{message}")]
    Call { fault: Fault, message: String },
    #[error(
        "`{name}` is no name for a dashboard; take small letters, digits, - and _, a letter or digit first, at most {longest}"
    )]
    NameDashboard { name: String, longest: usize },
    #[error("there is no dashboard `{name}`")]
    FindDashboard { name: String },
    #[error(
        "dashboard `{name}` is not at version {version}: another client has changed it meanwhile; read it again before \
         you save"
    )]
    SaveDashboard { name: String, version: u64 },
    #[error("the warehouse has {most} dashboards, which is the limit; save under a name that there was before")]
    CountDashboards { most: usize },
    #[error(
        "version {version} of dashboard `{name}` is not understood by this version of the program ({reason}); delete or \
         replace it, or ask a newer process"
    )]
    UnderstandDashboard { name: String, version: u64, reason: String },
    #[error("dashboard `{name}` in the object store: {source}")]
    StoreDashboard {
        name: String,
        #[source]
        source: datafusion::object_store::Error,
    },
    #[error("encoding an answer: {0}")]
    Encode(#[source] arrow::error::ArrowError),
    #[error("starting the threads for queries: {0}")]
    StartThreads(#[source] std::io::Error),
    #[error("the certificate or its key cannot be used: {0}")]
    ServeTls(String),
    #[error("serving HTTP: {0}")]
    Serve(#[source] std::io::Error),
}

impl Error {
    /// Returns the fault, which decides between retry, refusal and exit.
    pub fn fault(&self) -> Fault {
        match self {
            Error::FindPath { .. }
            | Error::FindMethod { .. }
            | Error::AskFromOtherSite
            | Error::AskOtherHost { .. }
            | Error::Deny(_)
            | Error::ReadSlowRequest { .. }
            | Error::ReadRequest { .. }
            | Error::ReadLongRequest { .. }
            | Error::ChooseFormat { .. }
            | Error::RefuseFormat { .. }
            | Error::SetOption { .. }
            | Error::BindParameters { .. }
            | Error::FindStatement
            | Error::RefuseCall { .. }
            | Error::OpenTicket
            | Error::FindStatementHandle
            | Error::FindSession
            | Error::TakeAnswer { .. }
            | Error::MixStatements { .. }
            | Error::ChangeByQuery(_)
            | Error::RefusePairs { .. }
            | Error::RefuseSize { .. }
            | Error::PlanInTime { .. }
            | Error::SendInTime
            | Error::ServeTls(_)
            | Error::Cancelled
            | Error::NameDashboard { .. }
            | Error::FindDashboard { .. }
            | Error::SaveDashboard { .. }
            | Error::CountDashboards { .. }
            | Error::Timeout { .. } => Fault::User,
            Error::PlanQuery { source } | Error::RunQuery { source } => match (own(source), shared(source)) {
                (Some(inner), _) => inner.fault(),
                (_, Some(inner)) => inner.fault(),
                _ => plan_fault(source),
            },
            Error::NotReady { .. }
            | Error::NotHeld { .. }
            | Error::StreamStopped { .. }
            | Error::ViewFailed { .. }
            | Error::NotUnderstood { .. }
            | Error::AskWorker { .. }
            | Error::TooBusy { .. }
            | Error::TooManyPlans
            | Error::TooManyTexts { .. }
            | Error::TooManyCalls { .. }
            | Error::TooManyListeners { .. }
            | Error::TooManyDashboards { .. }
            | Error::Overloaded { .. }
            | Error::TooManyLost { .. }
            | Error::TooManyBytes { .. }
            | Error::ApplyInTime { .. }
            | Error::WideRows { .. }
            | Error::UnderstandDashboard { .. }
            | Error::StoreDashboard { .. }
            | Error::StartThreads(_)
            | Error::Serve(_) => Fault::Transient,
            Error::Shared(inner) => inner.fault(),
            Error::Call { fault, .. } => *fault,
            Error::Encode(_) | Error::Panic { .. } => Fault::Bug,
        }
    }

    /// True if a worker failed while it served a part of the answer; after a new pin, another worker may serve the
    /// part.
    pub(crate) fn is_worker_lost(&self) -> bool {
        match self {
            Error::AskWorker { .. } => true,
            Error::RunQuery { source } | Error::PlanQuery { source } => own(source).is_some_and(Self::is_worker_lost),
            _ => false,
        }
    }

    /// True if a sort found no memory of its query, which it needs for two batches at least although it spills.
    pub(crate) fn is_sort_without_memory(&self) -> bool {
        let Error::RunQuery { source } = self else {
            return false;
        };
        let sorts = ["ExternalSorter", "SortPreservingMerge"];
        match source.find_root() {
            DataFusionError::ResourcesExhausted(text) => {
                sorts.iter().any(|sort| text.contains(sort)) && !text.contains(TOGETHER)
            }
            _ => false,
        }
    }

    /// The error of a query that the engine ended while it was planned (`planning`) or ran. Limits end a query from
    /// within the engine, which wraps their errors.
    pub(crate) fn of_engine(source: DataFusionError, planning: bool) -> Self {
        match own(&source) {
            Some(Error::Timeout { seconds }) => Error::Timeout { seconds: *seconds },
            Some(Error::WideRows { rows, join }) => Error::WideRows { rows: *rows, join: *join },
            _ if planning => Error::PlanQuery { source },
            _ => Error::RunQuery { source },
        }
    }

    /// Returns the code, message, line and column that the client sees.
    pub fn body(&self) -> ErrorBody {
        let (line, column) = self.place().map(|place| (place.line, place.column)).unzip();
        ErrorBody { code: self.code(), message: self.to_string(), line, column }
    }

    /// Returns the HTTP status: the status of the code, with two exceptions.
    pub fn status(&self) -> u16 {
        match self {
            Error::ReadLongRequest { .. } => 413,
            Error::ReadSlowRequest { .. } => 408,
            // The client lost a race with another writer; a retry may succeed.
            Error::Shared(SharedError::WriteCatalog { .. }) => 503,
            _ => self.code().status(),
        }
    }

    /// Returns the error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::FindPath { .. } => ErrorCode::NoSuchPath,
            Error::FindMethod { .. } | Error::RefuseCall { .. } => ErrorCode::NoSuchMethod,
            Error::FindStatementHandle | Error::FindSession => ErrorCode::NotFound,
            Error::AskFromOtherSite | Error::AskOtherHost { .. } => ErrorCode::OtherSite,
            Error::Deny(AccessDenied::NoToken | AccessDenied::WrongToken) => ErrorCode::Unauthorized,
            Error::Deny(
                AccessDenied::NotAdmin
                | AccessDenied::NobodyChanges
                | AccessDenied::ReadOnly
                | AccessDenied::ReadingMethod
                | AccessDenied::AnyOrigin,
            ) => ErrorCode::Forbidden,
            Error::ReadRequest { .. }
            | Error::ReadLongRequest { .. }
            | Error::ReadSlowRequest { .. }
            | Error::OpenTicket => ErrorCode::BadRequest,
            Error::ChooseFormat { .. } => ErrorCode::NotAcceptable,
            Error::RefuseFormat { .. } => ErrorCode::Refused,
            Error::SetOption { .. } => ErrorCode::BadOption,
            Error::BindParameters { .. } => ErrorCode::BadParameter,
            Error::FindStatement => ErrorCode::Empty,
            Error::MixStatements { .. } => ErrorCode::MixedStatements,
            Error::ChangeByQuery(_) => ErrorCode::ReadOnly,
            Error::NotReady { .. } => ErrorCode::NotReady,
            Error::NotHeld { .. } => ErrorCode::NotHeld,
            Error::StreamStopped { .. } => ErrorCode::StreamStopped,
            Error::ViewFailed { .. } => ErrorCode::ViewFailed,
            Error::NotUnderstood { .. } => ErrorCode::NotUnderstood,
            Error::AskWorker { .. } => ErrorCode::WorkerFailed,
            Error::TooBusy { .. }
            | Error::TooManyPlans
            | Error::TooManyTexts { .. }
            | Error::TooManyCalls { .. }
            | Error::TooManyListeners { .. }
            | Error::TooManyDashboards { .. }
            | Error::TooManyBytes { .. }
            | Error::TooManyLost { .. }
            | Error::Overloaded { .. } => ErrorCode::TooBusy,
            Error::WideRows { .. } => ErrorCode::MemoryLimit,
            Error::RefusePairs { .. } | Error::RefuseSize { .. } => ErrorCode::TooLarge,
            Error::Timeout { .. } | Error::PlanInTime { .. } | Error::SendInTime | Error::TakeAnswer { .. } => {
                ErrorCode::Timeout
            }
            Error::Cancelled => ErrorCode::Cancelled,
            Error::ApplyInTime { .. } => ErrorCode::Unavailable,
            Error::PlanQuery { source } => engine_code(source, ErrorCode::InvalidQuery),
            Error::RunQuery { source } => engine_code(source, ErrorCode::QueryFailed),
            Error::Shared(inner) => shared_code(inner),
            Error::NameDashboard { .. } | Error::CountDashboards { .. } => ErrorCode::Refused,
            Error::FindDashboard { .. } => ErrorCode::NotFound,
            Error::SaveDashboard { .. } => ErrorCode::Conflict,
            Error::UnderstandDashboard { .. } => ErrorCode::NotUnderstood,
            Error::StoreDashboard { .. } => ErrorCode::Storage,
            Error::Call { fault, .. } => match fault {
                Fault::User => ErrorCode::Refused,
                Fault::Transient => ErrorCode::Unavailable,
                Fault::Engine | Fault::Bug => ErrorCode::Internal,
            },
            Error::Encode(_) | Error::StartThreads(_) | Error::ServeTls(_) | Error::Serve(_) | Error::Panic { .. } => {
                ErrorCode::Internal
            }
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

/// Returns the shared crate's error that DataFusion has wrapped.
fn shared(error: &DataFusionError) -> Option<&SharedError> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// Returns this crate's error that DataFusion has wrapped.
fn own(error: &DataFusionError) -> Option<&Error> {
    match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// Returns the code of an engine error; `user` is the code for a query that is itself wrong.
fn engine_code(error: &DataFusionError, user: ErrorCode) -> ErrorCode {
    if let Some(inner) = own(error) {
        return inner.code();
    }
    if let Some(inner) = shared(error) {
        return shared_code(inner);
    }
    match (error.find_root(), plan_fault(error)) {
        (DataFusionError::ResourcesExhausted(_), _) => ErrorCode::MemoryLimit,
        // DataFusion 55's nested-loop join reports a first batch above the memory limit in these words.
        (DataFusionError::Internal(text), _) if text.contains("no data to spill") => ErrorCode::MemoryLimit,
        (_, Fault::User) => user,
        (_, Fault::Transient) => ErrorCode::Storage,
        (_, Fault::Engine | Fault::Bug) => ErrorCode::Internal,
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
        SharedError::ReadCatalog { .. } => ErrorCode::Storage,
        other => match other.fault() {
            Fault::User => ErrorCode::Refused,
            Fault::Transient => ErrorCode::Storage,
            Fault::Engine | Fault::Bug => ErrorCode::Internal,
        },
    }
}
