//! The crate's error: the action that failed, and its table or file.
//!
//! Invariant: an error does not say whether a commit landed; only the log does.

use deltalake_core::DeltaTableError;
use parquet::errors::ParquetError;
use thalweg_schemas::error::{Diagnostic, plan_fault, store_fault};
use thalweg_schemas::{Fault, Frontier, StreamName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The action that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the log of {table}: {source}")]
    ReadLog {
        table: String,
        #[source]
        source: Box<DeltaTableError>,
    },
    #[error("writing version {version} of {table}: {source}")]
    WriteLog {
        table: String,
        version: u64,
        #[source]
        source: Box<DeltaTableError>,
    },
    /// The log holds an entry that this program does not write.
    #[error("version {version} of {table} cannot be understood: {reason}")]
    UnderstandLog { table: String, version: u64, reason: String },
    #[error(
        "the table {table} holds {found}, but is defined as {defined}; \
         give the stream another name, or remove its folder if its rows are no longer wanted"
    )]
    MatchSchema { table: String, found: String, defined: String },
    #[error("the types of {table} cannot be stored in a Delta table: {reason}")]
    MapSchema { table: String, reason: String },
    #[error("reading or writing {path}: {source}")]
    Store {
        path: String,
        #[source]
        source: object_store::Error,
    },
    #[error("writing {path}: {source}")]
    WriteFile {
        path: String,
        #[source]
        source: ParquetError,
    },
    #[error("the epoch of stream `{stream}` from {from} to {to} is not one: {reason}")]
    AcceptEpoch { stream: StreamName, from: Box<Frontier>, to: Box<Frontier>, reason: String },
    #[error("{what}: {source}")]
    RunPlan {
        what: String,
        #[source]
        source: datafusion::error::DataFusionError,
    },
    #[error("the lease in {path} was not taken: {reason}")]
    Lease { path: String, reason: String },
    #[error("stream `{stream}` was changed or dropped meanwhile; if it is still there, run the command again")]
    Outgrown { stream: StreamName },
    #[error("{pattern} cannot be loaded: {reason}")]
    FindFiles { pattern: String, reason: String },
    #[error(
        "{file} is in stream `{stream}`, and has changed since; give what is new in it another name, because rows that \
         have entered stay"
    )]
    FileChanged { stream: StreamName, file: String },
    #[error("the condition `{condition}` cannot choose rejects: {reason}")]
    ChooseRejects { condition: String, reason: String },
    #[error("reading rejects of stream `{stream}` again: {reason}")]
    ReadAgain { stream: StreamName, fault: Fault, reason: String },
    #[error("{holder} changes stream `{stream}` in the same way at the moment; wait until it has ended")]
    Amending { stream: StreamName, holder: String },
    #[error(transparent)]
    Schemas(#[from] thalweg_schemas::Error),
    #[error("broken promise: {0}")]
    Broken(String),
}

impl Error {
    /// The reason alone, without the action that failed, if the engine failed.
    pub(crate) fn reason(&self) -> String {
        match self {
            Error::RunPlan { source, .. } => Diagnostic::sentence(source),
            Error::Schemas(source) => source.reason(),
            other => other.to_string(),
        }
    }

    /// The error of the algebra or the engine, if it is one.
    pub(crate) fn into_shared(self) -> Result<thalweg_schemas::Error> {
        match self {
            Error::Schemas(source) => Ok(source),
            Error::RunPlan { source, .. } => Ok(thalweg_schemas::Error::RunPlan { what: "computing states", source }),
            other => Err(other),
        }
    }

    /// Decides between retry, refusal and exit.
    pub fn fault(&self) -> Fault {
        match self {
            Error::ReadLog { source, .. } | Error::WriteLog { source, .. } => delta_fault(source),
            Error::AcceptEpoch { .. } | Error::Broken(_) => Fault::Bug,
            // Another program has written to the table, which concerns its stream or its view alone.
            Error::UnderstandLog { .. } => Fault::User,
            Error::MatchSchema { .. } | Error::MapSchema { .. } | Error::ChooseRejects { .. } => Fault::User,
            Error::FindFiles { .. } | Error::FileChanged { .. } => Fault::User,
            Error::Store { source, .. } => store_fault(source),
            Error::Lease { .. } | Error::Amending { .. } | Error::Outgrown { .. } => Fault::Transient,
            Error::ReadAgain { fault, .. } => *fault,
            Error::WriteFile { source, .. } => root_fault(source).unwrap_or(Fault::Engine),
            Error::RunPlan { source, .. } => plan_fault(source),
            Error::Schemas(source) => source.fault(),
        }
    }
}

fn delta_fault(error: &DeltaTableError) -> Fault {
    match error {
        DeltaTableError::ObjectStore { source } => store_fault(source),
        // The kernel flattens storage errors into text. The crate uses the kernel only to read, so a retry is
        // harmless.
        DeltaTableError::VersionAlreadyExists(_) | DeltaTableError::KernelError(_) => Fault::Transient,
        other => root_fault(other).unwrap_or(Fault::Engine),
    }
}

/// The fault of the storage error at the root of `error`, if there is one.
fn root_fault(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return Some(store_fault(store));
        }
        if error.is::<std::io::Error>() {
            return Some(Fault::Transient);
        }
        at = error.source();
    }
    None
}
