//! Recomputations of views: `POST /v1/batch/run`, and the newest run in `/v1/views`.
//!
//! Invariant: a [`RunSummary`] holds values of a [`RunReport`] and the end time, nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::failure::ViewFailure;
use crate::{Frontier, ViewId, ViewName};

/// The parameters of `POST /v1/batch/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// The view; all views, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// True to compute from the origin instead of the last cut.
    #[serde(default)]
    pub full: bool,
}

/// The answer of `POST /v1/batch/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    pub runs: Vec<RunReport>,
}

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    pub view: ViewName,
    pub id: ViewId,
    pub mode: RunMode,
    /// The start of the rows that the run read.
    pub from: Frontier,
    /// The cut.
    pub to: Frontier,
    /// Rows and rejects read from the master dataset.
    pub rows_read: u64,
    /// Rows of state written, one per group and partition.
    pub groups: u64,
    pub files: usize,
    pub bytes: u64,
    #[serde(rename = "elapsed_ms", with = "millis")]
    pub elapsed: Duration,
    pub outcome: RunOutcome,
}

/// The requested kind of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// Computes only the rows between the published cut and the newest mark, or all rows if nothing is published.
    Incremental,
    /// Computes all rows below the newest mark.
    Full,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Published,
    /// The published cut is the newest mark, or the stream has no partition yet.
    NothingNew,
    /// Another run published first, so the result of this run is dropped.
    Fenced,
    /// Another process computes the view. Its lease lasts until `until_ms` (milliseconds since 1970) unless it is
    /// renewed.
    Busy {
        holder: String,
        until_ms: i64,
    },
    /// The view could not be computed and stays at its cut.
    Failed(ViewFailure),
}

words! {
    /// A [`RunOutcome`] in one word.
    pub enum RunEnd {
        Published = "published",
        NothingNew = "nothing_new",
        Fenced = "fenced",
        Busy = "busy",
        Failed = "failed",
    }
}

/// The newest run of a view, as `/v1/views` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub mode: RunMode,
    pub outcome: RunEnd,
    /// Rows of the master dataset that were read.
    pub rows: u64,
    /// Groups that were written.
    pub groups: u64,
    pub seconds: f64,
    /// The end of the run, in milliseconds since 1970.
    pub finished_ms: i64,
    /// The reason why nothing was published, if the run failed or another process computes the view.
    pub error: Option<String>,
}

impl RunMode {
    pub fn as_str(self) -> &'static str {
        match self {
            RunMode::Incremental => "incremental",
            RunMode::Full => "full",
        }
    }
}

impl RunSummary {
    /// Summarises a run that ended at `finished_ms`.
    pub fn of(report: &RunReport, finished_ms: i64) -> Self {
        let (outcome, error) = match &report.outcome {
            RunOutcome::Published => (RunEnd::Published, None),
            RunOutcome::NothingNew => (RunEnd::NothingNew, None),
            RunOutcome::Fenced => (RunEnd::Fenced, None),
            RunOutcome::Busy { holder, .. } => (RunEnd::Busy, Some(format!("computed by {holder}"))),
            RunOutcome::Failed(failure) => (RunEnd::Failed, Some(failure.sentence())),
        };
        Self {
            mode: report.mode,
            outcome,
            rows: report.rows_read,
            groups: report.groups,
            seconds: report.elapsed.as_secs_f64(),
            finished_ms,
            error,
        }
    }
}

/// Reads and writes a duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u128(duration.as_millis())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
