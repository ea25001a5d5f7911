//! The crate's error: what was being done when it failed, and whose fault that is.
//!
//! Invariant: [`Error::fault`] is the only place where retry, reject or exit is decided.

pub mod nearest;
pub mod restart;

pub mod complaint;

use crate::error::complaint::Complaint;
use crate::frontier::Frontier;
use crate::names::{InvalidName, StreamName, ViewName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is, and therefore what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request or the definition is wrong: reject it, say why, do not retry.
    User,
    /// The surroundings failed (network, storage, a lost race): retry.
    Transient,
    /// A promise of this program does not hold: stop.
    Bug,
}

/// A position in SQL text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// What was being done when it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    ParseSql { message: String, place: Option<Place> },
    /// A definition that is understood but not accepted: why, and what to do instead.
    #[error("{reason} {instead}")]
    RefuseDefinition { reason: String, instead: String },
    #[error(transparent)]
    CheckName(#[from] InvalidName),
    #[error("the {kind} `{name}` does not exist; `SHOW TABLES` lists what does")]
    FindDefinition { kind: &'static str, name: String },
    #[error("the {kind} `{name}` exists already; use CREATE OR REPLACE, or IF NOT EXISTS")]
    CreateTwice { kind: &'static str, name: String },
    #[error("stream `{stream}` is read by the views {views}; drop them first")]
    DropStreamInUse { stream: StreamName, views: String },
    #[error("the catalog changed while it was being written (version {version}); try again")]
    WriteCatalog { version: u64 },
    #[error("the catalog file {path} cannot be understood: {reason}")]
    ReadCatalog { path: String, reason: String },
    #[error("the warehouse `{url}` cannot be opened: {reason}")]
    OpenWarehouse { url: String, reason: String },
    /// As [`Error::OpenWarehouse`]: the folder that it names cannot be used.
    #[error("the warehouse `{url}` cannot be opened: {reason}")]
    OpenFolder { url: String, reason: String },
    #[error("reading or writing {path}: {source}")]
    Store {
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("view `{view}`: {}", Complaint::sentence(.source))]
    PlanView {
        view: ViewName,
        #[source]
        source: datafusion::error::DataFusionError,
    },
    #[error("{what}: {source}")]
    RunPlan {
        what: &'static str,
        #[source]
        source: datafusion::error::DataFusionError,
    },
    #[error("decoding stream `{stream}`: {reason}")]
    Decode { stream: StreamName, reason: String },
    /// The segments held do not tile what was asked for. The reader pins again.
    #[error("realtime state of {what} is not held from {from} to {to}: {reason}")]
    NotHeld { what: String, from: Box<Frontier>, to: Box<Frontier>, reason: String },
    #[error("broken promise: {0}")]
    Broken(String),
}

impl Error {
    /// Decides what becomes of the failed work.
    pub fn fault(&self) -> Fault {
        match self {
            Error::ParseSql { .. }
            | Error::RefuseDefinition { .. }
            | Error::CheckName(_)
            | Error::FindDefinition { .. }
            | Error::CreateTwice { .. }
            | Error::DropStreamInUse { .. }
            | Error::OpenWarehouse { .. }
            | Error::OpenFolder { .. }
            | Error::PlanView { .. } => Fault::User,
            Error::Store { source, .. } => store_fault(source),
            Error::WriteCatalog { .. } | Error::NotHeld { .. } => Fault::Transient,
            Error::RunPlan { source, .. } => plan_fault(source),
            Error::ReadCatalog { .. } | Error::Decode { .. } | Error::Broken(_) => Fault::Bug,
        }
    }

    /// A refusal: `reason` says why, `instead` what to do.
    pub fn refuse(reason: impl Into<String>, instead: impl Into<String>) -> Self {
        Error::RefuseDefinition { reason: reason.into(), instead: instead.into() }
    }
}

/// The cause that says most: what lies around it is often called only `transport error`.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Storage that refuses us will go on refusing; anything else may pass.
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

/// Of an engine error: storage and resource limits pass, a wrong query is its user's, the rest is ours.
pub fn plan_fault(error: &datafusion::error::DataFusionError) -> Fault {
    use datafusion::error::DataFusionError as E;
    match error.find_root() {
        E::ObjectStore(source) => store_fault(source),
        E::ResourcesExhausted(_) | E::IoError(_) => Fault::Transient,
        E::SQL(..) | E::Plan(_) | E::SchemaError(..) | E::NotImplemented(_) | E::Execution(_) => Fault::User,
        E::ArrowError(..) => Fault::User,
        E::ParquetError(_) => Fault::Transient,
        _ => Fault::Bug,
    }
}
