//! A definition of the catalog that this version of the program does not understand.
//!
//! Invariant: such a definition stays in the catalog as it is, and nothing else depends on it.

use serde::{Deserialize, Serialize};

/// One such definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotUnderstood {
    pub name: String,
    /// Why it is not understood, with advice.
    pub reason: String,
}
