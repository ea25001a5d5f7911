//! A value for a placeholder, as a client has written it.
//!
//! Invariant: the text is kept, so no digit of a number is lost on the way.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON value with its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SqlValue(Box<RawValue>);

impl SqlValue {
    /// Errors: the text is not JSON.
    pub fn new(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for SqlValue {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
