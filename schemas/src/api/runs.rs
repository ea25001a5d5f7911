//! Recomputations of views: `POST /v1/batch/run`, and the newest run in `/v1/views`.
//!
//! Invariant: a [`RunSummary`] is made from a [`RunReport`] and says nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::{Fault, Frontier, ViewId, ViewName};

/// The parameters of `POST /v1/batch/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// All views, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// From the origin instead of from the last cut.
    #[serde(default)]
    pub full: bool,
}

/// The answer of `POST /v1/batch/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    pub runs: Vec<RunReport>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    pub view: ViewName,
    pub id: ViewId,
    pub mode: RunMode,
    /// Where the rows that were read begin.
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

/// How a run was asked to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// Only the rows between the published cut and the newest mark; everything, if nothing is published.
    Incremental,
    /// Everything below the newest mark.
    Full,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Published,
    /// The published cut is the newest mark, or the stream has no partition yet.
    NothingNew,
    /// Another run published first; this one's work is dropped.
    Fenced,
    /// Another process computes the view, at least until then unless its lease is renewed (milliseconds since 1970).
    Busy {
        holder: String,
        until_ms: i64,
    },
    /// The view could not be computed; it stays at its cut.
    Failed {
        reason: String,
        fault: Fault,
    },
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
    /// When it ended, milliseconds since 1970.
    pub finished_ms: i64,
    /// Why nothing was published, if it failed or another process computes the view.
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
    /// Of a run that ended at `finished_ms`.
    pub fn of(report: &RunReport, finished_ms: i64) -> Self {
        let (outcome, error) = match &report.outcome {
            RunOutcome::Published => (RunEnd::Published, None),
            RunOutcome::NothingNew => (RunEnd::NothingNew, None),
            RunOutcome::Fenced => (RunEnd::Fenced, None),
            RunOutcome::Busy { holder, .. } => (RunEnd::Busy, Some(format!("computed by {holder}"))),
            RunOutcome::Failed { reason, .. } => (RunEnd::Failed, Some(reason.clone())),
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

/// A duration as whole milliseconds.
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
