//! The process itself: `/v1/process`, and the probes `/healthz` and `/readyz`.
//!
//! Invariant: these answers contain nothing about the data.

use serde::{Deserialize, Serialize};

use super::words::words;

/// The answer of `GET /v1/process`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub version: String,
    pub uptime_seconds: f64,
    pub queries_running: i64,
    /// The count since the process started. Definitions count too.
    pub queries_answered: u64,
    pub queries_failed: u64,
}

/// The answer of a probe that succeeds. A probe that fails returns an error with the code `not_ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    pub status: ProbeState,
}

words! {
    /// The result of a probe.
    pub enum ProbeState {
        /// The process answers.
        Ok = "ok",
        /// The process can do its work.
        Ready = "ready",
    }
}
