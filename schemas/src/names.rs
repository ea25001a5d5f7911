//! Names of streams and views, and the id of what a view computes.
//!
//! Invariant: every value of a name type is a valid lower-case SQL identifier and a safe path segment.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names that would shadow a schema or a system table.
const RESERVED: [&str; 6] = ["batch", "speed", "rejects", "public", "information_schema", "thalweg"];

fn check(name: &str) -> Result<String, InvalidName> {
    let refuse = |reason| Err(InvalidName { name: name.to_owned(), reason });
    if name.is_empty() || name.len() > 63 {
        return refuse("it must have 1 to 63 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        || !name.as_bytes()[0].is_ascii_lowercase()
    {
        return refuse("use lower-case letters, digits and underscores, a letter first");
    }
    if RESERVED.contains(&name) {
        return refuse("the name is reserved");
    }
    Ok(name.to_owned())
}

/// An invalid name, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid name: {reason}")]
pub struct InvalidName {
    pub name: String,
    pub reason: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Errors: [`InvalidName`], with the reason.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check(name).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A stream: a topic with a schema.
    StreamName
);
name!(
    /// The name that users give a view; the catalog maps it to a [`ViewId`].
    ViewName
);

/// The id of what a view computes: a hash of the analysed plan, used columns, state schema, engine version and
/// settings, as 32 lower-case hexadecimal digits. States of different ids are never merged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewId(String);

impl ViewId {
    /// The hash of `parts`. The length of each part is hashed too, so that `ab, c` and `a, bc` differ.
    pub fn of(parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        ViewId(hasher.finalize().to_hex()[..32].to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_identifiers() {
        for good in ["a", "sensor_data", "v2"] {
            assert!(StreamName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "1a", "_a", "Sensor", "a-b", "a/b", "a b", "batch", "ü", &long] {
            assert!(ViewName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_separate_their_parts() {
        assert_ne!(ViewId::of(&["ab", "c"]), ViewId::of(&["a", "bc"]));
        assert_eq!(ViewId::of(&["ab"]).as_str().len(), 32);
    }
}
