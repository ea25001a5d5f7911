//! `/v1/sql`: SQL and its options in, columns and rows out.
//!
//! Invariant: the frontier comes before the rows, so a client knows the frontier of every row that it reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::certificate::Certificate;
use super::parameters::SqlValue;
use crate::{Frontier, Partition, StreamName};

/// Frontiers of several streams: `{"sensor_data": {"0": 123}}`.
pub type Frontiers = BTreeMap<StreamName, Frontier>;

/// Partitions that an answer leaves to the batch layer, by stream: `{"sensor_data": [3]}`.
pub type Partial = BTreeMap<StreamName, BTreeSet<Partition>>;

/// The body of a request, if it is JSON. Otherwise the body is the SQL, and headers hold the options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    pub sql: String,
    /// The values of `$1`, `$2`, … in the SQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<SqlValue>,
    /// True if the answer may be below earlier answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<bool>,
    /// [`Frontiers`] that the answer must cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_frontier: Option<Value>,
    /// `allow` or `refuse`: whether the batch layer alone may answer for partitions that no worker holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// `merged`, `batch` or `speed`: the schema of views that are named without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// True if the answer brings its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<bool>,
    /// False if aggregates of streams are computed from rows, also where states of a view answer them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollups: Option<bool>,
}

/// An answer as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SqlAnswer {
    pub columns: Vec<AnswerColumn>,
    /// The frontier at which the rows are exact, for every stream that the query reads.
    pub frontier: Frontiers,
    /// True if the answer may be below earlier answers, which the client has allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The partitions left to the batch layer. Empty unless the client allowed this and it was needed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partial: Partial,
    /// What the answer was computed from, if the client has asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Each row has a value for each column. Decimals, NaN and infinities are strings; binary values are hexadecimal.
    pub rows: Vec<Vec<Value>>,
}

/// A column of an answer. Names may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerColumn {
    pub name: String,
    /// The type's name in Arrow.
    #[serde(rename = "type")]
    pub data_type: String,
}
