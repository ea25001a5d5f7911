//! Comments on streams, views and their columns, by name.
//!
//! A comment stays while the name does: CREATE OR REPLACE keeps the comments, DROP takes them away. A process that does
//! not know comments keeps them in the file as a key of a newer version.
//!
//! Invariant: the map holds no empty entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The comments on one stream or view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comments {
    #[serde(default, rename = "comment", skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}
