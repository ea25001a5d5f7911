//! `GET /v1/views`: how far views are, and how their newest recomputation ended.
//!
//! Invariant: what is shown is of the view that is served; a replacement shows as `building` until it is served.

use serde::{Deserialize, Serialize};

use super::runs::RunSummary;
use super::words::words;
use crate::{Frontier, StreamName, ViewId, ViewName};

/// The answer of `GET /v1/views`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewList {
    pub views: Vec<ViewStatus>,
}

/// One view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewStatus {
    pub name: ViewName,
    pub stream: StreamName,
    pub status: ViewPhase,
    pub id: ViewId,
    /// The id that will replace `id` once it is built.
    pub building: Option<ViewId>,
    /// B: the frontier of the newest batch version.
    pub cut: Option<Frontier>,
    /// F of the stream.
    pub frontier: Option<Frontier>,
    /// When the newest batch version was published: ISO 8601, UTC, and its age.
    pub published: Option<String>,
    pub age_seconds: Option<f64>,
    pub batch_version: Option<u64>,
    pub batch_files: Option<usize>,
    /// Groups over all batch files; a group that is in several files counts in each.
    pub batch_rows: Option<u64>,
    pub segments: Option<usize>,
    pub segment_bytes: Option<usize>,
    /// What may grow without bound, for example.
    pub warnings: Vec<String>,
    /// The newest recomputation that this process has run.
    pub last_run: Option<RunSummary>,
    pub sql: String,
}

words! {
    /// Whether a view can be asked.
    pub enum ViewPhase {
        Serving = "serving",
        /// The first batch version is not published yet.
        Building = "building",
    }
}
