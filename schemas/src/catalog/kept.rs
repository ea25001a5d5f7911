//! Entries of a catalog file that this process writes back as it read them.
//!
//! ```text
//!  file ──▶ entry ──┬─▶ understood: compiled, and written from the compiled definition
//!                   └─▶ kept: the text of the entry, and the reason why it is not understood
//! ```
//!
//! Invariant: a kept entry is never changed. It is written byte for byte until a statement replaces or drops it. Keys
//! of a newer version beside the entries are kept as JSON values, in which a number of more than 64 bits may lose
//! digits.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// An entry as the file holds it.
#[derive(Debug, Clone)]
pub struct KeptEntry {
    pub(super) text: Box<RawValue>,
    /// Why this process does not understand the entry; `None` if it does.
    pub reason: Option<String>,
}

impl KeptEntry {
    /// True if the entry may refer to `name`: what is not understood is only text.
    pub(super) fn mentions(&self, name: &str) -> bool {
        // A line break inside a JSON text is written as `\n`, which would join the next word.
        let text =
            ["\\n", "\\r", "\\t"].iter().fold(self.text.get().to_owned(), |text, space| text.replace(space, " "));
        let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        self.reason.is_some() && words.any(|word| word.eq_ignore_ascii_case(name))
    }
}

/// The parts of a file that have no name here: entries with names of another form, and keys of a newer version.
#[derive(Debug, Clone, Default)]
pub struct RestOfFile {
    pub(super) streams: BTreeMap<String, Box<RawValue>>,
    pub(super) views: BTreeMap<String, Box<RawValue>>,
    pub(super) dropped: BTreeMap<String, Box<RawValue>>,
    pub(super) keys: BTreeMap<String, serde_json::Value>,
}

/// One entry of a file.
#[derive(Debug)]
pub(super) enum Entry<T> {
    /// Written by this process.
    New(T),
    /// The text that was read, or that is written back.
    Text(Box<RawValue>),
}

impl<T: DeserializeOwned> Entry<T> {
    /// The entry's value.
    ///
    /// Errors: the reason why the text is not such a value. An unknown key is a reason, because it may change the
    /// meaning of the others.
    pub(super) fn parse(text: &RawValue) -> Result<T, String> {
        serde_json::from_str(text.get()).map_err(|e| e.to_string())
    }
}

impl<T: Serialize> Serialize for Entry<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Entry::New(value) => value.serialize(to),
            Entry::Text(text) => text.serialize(to),
        }
    }
}

impl<'de, T> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(from).map(Entry::Text)
    }
}

#[cfg(test)]
mod tests;
