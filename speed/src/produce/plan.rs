//! What to produce, and how.
//!
//! Invariant: a plan is complete; nothing else is asked while it is carried out.

use std::path::PathBuf;
use std::time::Duration;

use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::files::FileFormat;

use crate::connections::KafkaConnections;

/// Where rows come from.
#[derive(Debug, Clone)]
pub enum RowsFrom {
    Stdin,
    File(PathBuf),
}

impl std::fmt::Display for RowsFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What to produce, and how.
#[derive(Debug, Clone)]
pub struct ProducePlan {
    pub stream: StreamDefinition,
    pub kafka: KafkaConnections,
    pub from: RowsFrom,
    pub format: FileFormat,
    /// The column whose text is the key of a message.
    pub key: Option<String>,
    /// Messages per second.
    pub rate: Option<f64>,
    /// The most rows that are read.
    pub limit: Option<u64>,
    /// Rows that do not fit are counted and left out.
    pub skip_bad: bool,
    /// All rows are one transaction.
    pub transactional: bool,
    /// Nothing is sent.
    pub dry_run: bool,
    /// How long Kafka may be away.
    pub timeout: Duration,
}
