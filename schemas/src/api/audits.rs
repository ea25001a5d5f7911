//! `POST /v1/audit`: what the comparison of both layers found.
//!
//! Invariant: a report without parts has compared nothing, which is not the same as having found everything equal.

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::algebra::Difference;
use crate::realtime::segment::Provenance;
use crate::{Frontier, ViewId, ViewName};

/// The parameters of `POST /v1/audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// All views, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
}

/// The answer of `POST /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    pub audits: Vec<AuditReport>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    pub view: ViewName,
    pub id: ViewId,
    /// The published cut.
    pub cut: Frontier,
    /// The range that was compared: from the first held segment to the newest mark that is archived.
    pub from: Frontier,
    pub to: Frontier,
    pub parts: Vec<AuditPart>,
}

/// The segments of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPart {
    pub provenance: Provenance,
    pub against: Against,
    pub segments: usize,
    /// Offsets covered, gaps included.
    pub offsets: i64,
    /// Groups, per partition, that the other side has in the range.
    pub groups: usize,
    /// `left` is what the segments say, `right` what the other side says.
    pub differences: Vec<Difference>,
}

words! {
    /// What segments were compared with.
    pub enum Against {
        /// States computed again from the rows of the master dataset.
        Archive = "archive",
        /// The batch states that readers are given.
        Published = "published",
    }
}

impl AuditReport {
    /// True if nothing differs.
    pub fn is_equal(&self) -> bool {
        self.parts.iter().all(|part| part.differences.is_empty())
    }
}
