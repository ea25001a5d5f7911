//! `GET /v1/views`: the progress of views, and the outcome of their newest recomputation.
//!
//! Invariant: all values describe the served view. Its replacement appears only as `building` until it is served.

use serde::{Deserialize, Serialize};

use super::NotUnderstood;
use super::runs::RunSummary;
use super::words::words;
use crate::failure::ViewFailure;
use crate::{Frontier, StreamName, ViewId, ViewName};

/// The answer of `GET /v1/views`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewList {
    pub views: Vec<ViewStatus>,
    /// Views of the catalog that this version of the program does not understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<NotUnderstood>,
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
    /// The publication time of the newest batch version: ISO 8601, UTC. `age_seconds` is its age.
    pub published: Option<String>,
    pub age_seconds: Option<f64>,
    pub batch_version: Option<u64>,
    pub batch_files: Option<usize>,
    /// The number of groups in all batch files. A group in several files counts in each.
    pub batch_rows: Option<u64>,
    pub segments: Option<usize>,
    pub segment_bytes: Option<usize>,
    /// Why the view cannot go on. A view that serves although its newest run or rebuild failed has this too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ViewFailure>,
    /// Warnings, for example of states that grow without bound.
    pub warnings: Vec<String>,
    /// The newest recomputation by this process.
    pub last_run: Option<RunSummary>,
    pub sql: String,
}

words! {
    /// Whether a view can be queried.
    pub enum ViewPhase {
        Serving = "serving",
        /// The first batch version is not published yet.
        Building = "building",
        /// The view cannot go on, and `failure` says why. Its stream and all other views go on.
        Failed = "failed",
    }
}
