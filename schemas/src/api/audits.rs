//! `POST /v1/audit`: the result of comparing both layers.
//!
//! Invariant: a report without parts means that nothing was compared, not that everything was equal.

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::algebra::Difference;
use crate::realtime::segment::Provenance;
use crate::{Frontier, ViewId, ViewName};

/// The parameters of `POST /v1/audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// The view; all views, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
}

/// The answer of `POST /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    pub audits: Vec<AuditReport>,
    /// The views of an audit of all views that could not be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedAudit>,
}

/// A view that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAudit {
    pub view: ViewName,
    /// One sentence.
    pub reason: String,
}

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    pub view: ViewName,
    pub id: ViewId,
    /// The published cut.
    pub cut: Frontier,
    /// The compared range: from the first held segment to the newest archived mark.
    pub from: Frontier,
    pub to: Frontier,
    pub parts: Vec<AuditPart>,
}

/// The comparison of the segments of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPart {
    pub provenance: Provenance,
    pub against: Against,
    pub segments: usize,
    /// The offsets of the compared segments, gaps included.
    pub offsets: i64,
    /// The number of groups, counted per partition, that the other side has in the range.
    pub groups: usize,
    /// The differences. `left` is the value of the segments, `right` the value of the other side.
    pub differences: Vec<Difference>,
    /// The number of differences beyond those, which are not told one by one.
    #[serde(default)]
    pub more: u64,
}

words! {
    /// The states with which segments were compared.
    pub enum Against {
        /// States computed again from the rows of the master dataset.
        Archive = "archive",
        /// The published batch states.
        Published = "published",
    }
}

impl AuditReport {
    /// True if no part has a difference.
    pub fn is_equal(&self) -> bool {
        self.parts.iter().all(|part| part.differences.is_empty() && part.more == 0)
    }
}
