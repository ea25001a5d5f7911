//! The identity of an answer: one hash of everything that the answer depends on.
//!
//! Invariant: parts are hashed with their lengths, so different parts are different bytes.

use arrow::array::Array;
use datafusion::common::ScalarValue;

/// The hash of everything that an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AnswerIdentity([u8; 32]);

impl AnswerIdentity {
    /// The hash of this identity and of what a door adds to it, such as a format.
    pub(crate) fn with(self, more: &str) -> Self {
        let mut hash = IdentityParts::new();
        hash.part(&self.0);
        hash.part(more.as_bytes());
        hash.end()
    }

    /// 32 hexadecimal digits.
    pub(crate) fn text(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex()[..32].to_owned()
    }
}

/// Parts that are hashed with their lengths, so that no two lists of parts are the same bytes.
pub(crate) struct IdentityParts(blake3::Hasher);

impl IdentityParts {
    pub(crate) fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn value(&mut self, value: &impl serde::Serialize) {
        // Frontiers and sets of partitions have keys that are texts, so they are always written.
        self.part(&serde_json::to_vec(value).unwrap_or_default());
    }

    pub(crate) fn scalar(&mut self, value: &ScalarValue) {
        match value {
            // The text of a list does not tell where its texts end.
            ScalarValue::List(list) => {
                self.part(list.data_type().to_string().as_bytes());
                let items = list.values();
                for item in 0..items.len() {
                    match ScalarValue::try_from_array(items, item) {
                        Ok(item) => self.scalar(&item),
                        Err(error) => self.part(error.to_string().as_bytes()),
                    }
                }
                self.part(b"end");
            }
            other => self.part(format!("{other:?}").as_bytes()),
        }
    }

    pub(crate) fn end(self) -> AnswerIdentity {
        AnswerIdentity(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut hash = IdentityParts::new();
            parts.iter().for_each(|part| hash.part(part.as_bytes()));
            hash.end()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        assert_eq!(of(&["ab"]), of(&["ab"]));
        assert_ne!(of(&["ab"]).with("json"), of(&["ab"]).with("csv"));
        assert_eq!(of(&["ab"]).text().len(), 32);
        let list = |items: &[&str]| {
            let items: Vec<ScalarValue> = items.iter().map(|item| ScalarValue::from(*item)).collect();
            let mut hash = IdentityParts::new();
            hash.scalar(&ScalarValue::List(ScalarValue::new_list_nullable(&items, &arrow::datatypes::DataType::Utf8)));
            hash.end()
        };
        assert_ne!(list(&["a, b"]), list(&["a", "b"]));
    }
}
