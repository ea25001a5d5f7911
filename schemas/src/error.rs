//! The crate's error: the action that failed, and whose fault the failure is.
//!
//! Invariant: only [`Error::fault`] decides between retry, refusal and exit.

pub mod nearest;
mod span;

pub mod restart;

pub mod diagnostic;

use crate::frontier::Frontier;
use crate::names::{InvalidName, StreamName, ViewName};

pub use diagnostic::Diagnostic;
pub use span::{Place, TextSpan};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is. The fault decides the reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request or the definition is wrong: refuse it with the reason, and do not retry.
    User,
    /// Network or storage failed, or a race was lost: retry.
    Transient,
    /// The engine panicked, or failed in a way that it calls internal: refuse the work that asked for it, as
    /// [`Fault::User`]. Nothing else ends.
    Engine,
    /// An invariant of this program's own state is violated: stop.
    Bug,
}

/// A failed action, one variant for each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    ParseSql(Diagnostic),
    /// A definition is understood but not accepted. The diagnostic says why, and what to do instead.
    #[error("{}. {}", .0.message, .0.help.as_deref().unwrap_or_default())]
    RefuseDefinition(Diagnostic),
    #[error("{invalid}")]
    CheckName { invalid: InvalidName, span: Option<TextSpan> },
    #[error("{}", not_found(.kind, .name))]
    FindDefinition { kind: &'static str, name: String },
    #[error("{}", exists(.kind, .name))]
    CreateTwice { kind: &'static str, name: String },
    #[error("{}", in_use(.stream, .views))]
    DropStreamInUse { stream: StreamName, views: String },
    #[error("the catalog changed while it was being written (version {version}); try again")]
    WriteCatalog { version: u64 },
    #[error("the catalog file {path} cannot be understood: {reason}")]
    ReadCatalog { path: String, reason: String },
    #[error("the warehouse `{url}` cannot be opened: {reason}")]
    OpenWarehouse { url: String, reason: String },
    /// The warehouse is a local folder that cannot be used; otherwise as [`Error::OpenWarehouse`].
    #[error("the warehouse `{url}` cannot be opened: {reason}")]
    OpenFolder { url: String, reason: String },
    #[error("reading or writing {path}: {source}")]
    Store {
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("view `{view}`: {}", Diagnostic::sentence(.source))]
    PlanView {
        view: ViewName,
        #[source]
        source: datafusion::error::DataFusionError,
        /// The place of the planned text. It counts only for diagnostics to which the planner gives no place.
        span: Option<TextSpan>,
    },
    #[error("{what}: {source}")]
    RunPlan {
        what: &'static str,
        #[source]
        source: datafusion::error::DataFusionError,
    },
    /// The engine panicked; `message` is the panic's own.
    #[error("{what}: the engine panicked: {message}")]
    Panicked { what: &'static str, message: String },
    #[error("decoding stream `{stream}`: {reason}")]
    Decode { stream: StreamName, reason: String },
    #[error("messages of stream `{stream}` cannot be written: {reason}")]
    Encode { stream: StreamName, reason: String },
    #[error("{file} cannot be read: {source}")]
    OpenRows {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} does not fit: {reason}")]
    MatchRows { file: String, reason: String },
    #[error("{file}, {place} {number}: {reason}")]
    ReadRow {
        file: String,
        /// What is counted: rows or lines.
        place: &'static str,
        number: u64,
        reason: String,
    },
    /// The segments in memory do not tile the requested range. The reader pins again.
    #[error("realtime state of {what} is not held from {from} to {to}: {reason}")]
    NotHeld { what: String, from: Box<Frontier>, to: Box<Frontier>, reason: String },
    #[error("broken promise: {0}")]
    Broken(String),
}

impl Error {
    /// Decides what happens to the failed work.
    pub fn fault(&self) -> Fault {
        match self {
            Error::ParseSql(_)
            | Error::RefuseDefinition(_)
            | Error::CheckName { .. }
            | Error::FindDefinition { .. }
            | Error::CreateTwice { .. }
            | Error::DropStreamInUse { .. }
            | Error::OpenWarehouse { .. }
            | Error::OpenFolder { .. }
            | Error::ReadCatalog { .. }
            | Error::Encode { .. }
            | Error::OpenRows { .. }
            | Error::MatchRows { .. }
            | Error::ReadRow { .. }
            | Error::PlanView { .. } => Fault::User,
            Error::Store { source, .. } => store_fault(source),
            Error::WriteCatalog { .. } | Error::NotHeld { .. } => Fault::Transient,
            Error::RunPlan { source, .. } => plan_fault(source),
            Error::Panicked { .. } | Error::Decode { .. } => Fault::Engine,
            Error::Broken(_) => Fault::Bug,
        }
    }

    /// A refusal. `message` is the reason, without a full stop; `help` is a sentence that says what to do.
    pub fn refuse(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::RefuseDefinition(Diagnostic::new(message).with_help(help))
    }

    /// The reason alone, without the action that failed: the engine's own sentence, if the engine failed.
    pub fn reason(&self) -> String {
        match self {
            Error::PlanView { source, .. } | Error::RunPlan { source, .. } => Diagnostic::sentence(source),
            Error::Panicked { message, .. } => format!("the engine panicked: {message}"),
            other => other.to_string(),
        }
    }

    /// Sets the place of an error about a part of a text, unless the error has a place already.
    pub fn at(mut self, place: Option<TextSpan>) -> Self {
        match &mut self {
            Error::ParseSql(Diagnostic { span, .. })
            | Error::RefuseDefinition(Diagnostic { span, .. })
            | Error::CheckName { span, .. }
            | Error::PlanView { span, .. } => *span = span.or(place),
            _ => {}
        }
        self
    }

    /// The message, help and place of each problem that the error reports.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Error::ParseSql(diagnostic) | Error::RefuseDefinition(diagnostic) => vec![diagnostic.clone()],
            Error::CheckName { invalid, span } => vec![Diagnostic::new(invalid.to_string()).at(*span)],
            Error::FindDefinition { kind, name } => vec![not_found(kind, name)],
            Error::CreateTwice { kind, name } => vec![exists(kind, name)],
            Error::DropStreamInUse { stream, views } => vec![in_use(stream, views)],
            Error::PlanView { source, span, .. } => Diagnostic::all(source).into_iter().map(|d| d.at(*span)).collect(),
            other => vec![Diagnostic::new(other.to_string())],
        }
    }
}

impl From<InvalidName> for Error {
    fn from(invalid: InvalidName) -> Self {
        Error::CheckName { invalid, span: None }
    }
}

fn not_found(kind: &str, name: &str) -> Diagnostic {
    Diagnostic::new(format!("the {kind} `{name}` does not exist")).with_help("`SHOW TABLES` lists what does")
}

fn exists(kind: &str, name: &str) -> Diagnostic {
    let message = format!("the {kind} `{name}` exists already");
    Diagnostic::new(message).with_help("use CREATE OR REPLACE, or IF NOT EXISTS")
}

fn in_use(stream: &StreamName, views: &str) -> Diagnostic {
    Diagnostic::new(format!("stream `{stream}` is read by the views {views}")).with_help("drop them first")
}

/// The innermost cause: the errors around it often say only `transport error`.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The fault of a storage error. A refusal by the store is permanent; any other error may pass.
pub fn store_fault(error: &object_store::Error) -> Fault {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::UnknownConfigurationKey { .. } => Fault::User,
        _ => Fault::Transient,
    }
}

/// The fault of an engine error. Storage errors and resource limits may pass, and a wrong query or a value that the
/// query cannot compute is its user's fault. An error of this program that passed through the engine keeps its fault.
pub fn plan_fault(error: &datafusion::error::DataFusionError) -> Fault {
    use datafusion::error::DataFusionError as E;
    match error.find_root() {
        E::ObjectStore(source) => store_fault(source),
        E::ResourcesExhausted(_) | E::IoError(_) => Fault::Transient,
        E::SQL(..) | E::Plan(_) | E::SchemaError(..) | E::NotImplemented(_) | E::Execution(_) => Fault::User,
        // What is spilled is written through Arrow, which wraps a full disk in this error.
        E::ArrowError(source, _) if matches!(**source, arrow::error::ArrowError::IoError(..)) => Fault::Transient,
        E::ArrowError(..) => Fault::User,
        E::ParquetError(_) => Fault::Transient,
        E::External(source) => source.downcast_ref().map_or(Fault::Engine, Error::fault),
        _ => Fault::Engine,
    }
}
