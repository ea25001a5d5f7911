//! Matches the keys of JSON objects with the names of columns.
//!
//! Invariant: an object whose values are used is valid JSON to its last byte, including values without a column.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::Fields;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The names of columns or fields, and the index of each.
#[derive(Debug)]
pub(super) struct FieldNames {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl FieldNames {
    pub(super) fn new(fields: &Fields) -> Self {
        let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        let places = names.iter().enumerate().map(|(at, n)| (n.clone(), at));
        Self { places: places.collect(), names }
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.names[at]
    }

    /// The index of `key`. `guess` is the index if the object's keys are in the order of the columns.
    fn find(&self, key: &str, guess: usize) -> Option<usize> {
        match self.names.get(guess) {
            Some(name) if name == key => Some(guess),
            _ => self.places.get(key).copied(),
        }
    }
}

/// The values of one object as raw text, one entry per column.
#[derive(Debug)]
pub(super) struct FieldValues<'a>(Vec<Option<&'a str>>);

impl<'a> FieldValues<'a> {
    /// `count` columns without values.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// Reads `object`, one JSON object and nothing else. Returns the first column whose key occurs twice.
    ///
    /// Errors: `object` is not exactly one valid JSON object.
    pub(super) fn fill(&mut self, names: &FieldNames, object: &'a str) -> Result<Option<usize>, serde_json::Error> {
        self.0.fill(None);
        let mut json = serde_json::Deserializer::from_str(object);
        let twice = json.deserialize_map(Fill { names, values: &mut self.0 })?;
        json.end()?;
        Ok(twice)
    }

    /// The value of column `at`, if the object has the key.
    pub(super) fn raw(&self, at: usize) -> Option<&'a str> {
        self.0[at]
    }
}

struct Fill<'s, 'a> {
    names: &'s FieldNames,
    values: &'s mut [Option<&'a str>],
}

impl<'a> Visitor<'a> for Fill<'_, 'a> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut twice, mut guess) = (None, 0);
        let key = |guess| Key { names: self.names, guess };
        while let Some(found) = object.next_key_seed(key(guess))? {
            let Some(at) = found else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &'a RawValue = object.next_value()?;
            if self.values[at].replace(raw.get()).is_some() {
                twice.get_or_insert(at);
            }
            guess = at + 1;
        }
        Ok(twice)
    }
}

/// Finds the index of a key without allocating the key.
struct Key<'s> {
    names: &'s FieldNames,
    guess: usize,
}

impl<'a> DeserializeSeed<'a> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.find(key, self.guess))
    }
}
