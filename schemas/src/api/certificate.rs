//! The certificate of an answer: what it was computed from, so that anybody can ask for the same answer again.
//!
//! Invariant: a certificate names every stream and view that the query reads, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Frontier, StreamName, ViewId, ViewName};

/// What an answer was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The BLAKE3 hash of the query's text, 64 hexadecimal digits.
    pub sql: String,
    /// The frontier at which the answer is exact, for every stream that the query reads.
    pub streams: BTreeMap<StreamName, Frontier>,
    pub views: BTreeMap<ViewName, CertifiedView>,
}

/// A view that the query reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedView {
    /// The hash of what the view computes.
    pub id: ViewId,
    /// The batch version whose states were merged with those of the speed layer.
    pub batch_version: u64,
    /// B: the batch version has everything below.
    pub cut: Frontier,
}
