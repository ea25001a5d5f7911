//! The rows of a pinned version of a master dataset, as a plan.
//!
//! Invariant: rows are selected by `_partition` and `_offset` alone.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use thalweg_schemas::Frontier;
use thalweg_schemas::algebra::{between, scan};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::MasterVersion;

use crate::Result;

/// Rows of a pinned version, as a plan.
pub(crate) struct Rows {
    pub(crate) plan: LogicalPlan,
    pub(crate) expected: Option<u64>,
}

/// The rows and rejects of `[from, to)` in `master`.
pub(crate) fn rows(stream: &StreamDefinition, master: &MasterVersion, from: &Frontier, to: &Frontier) -> Result<Rows> {
    let files: Vec<_> = master.files.iter().filter(|file| file.touches(from, to)).cloned().collect();
    let expected = files.iter().map(|file| file.rows).sum();
    let table = Arc::new(ParquetFiles::new(stream.row_schema(), files));
    let plan = between(scan(stream.name.as_str(), table)?, from, to)?;
    Ok(Rows { plan, expected })
}
