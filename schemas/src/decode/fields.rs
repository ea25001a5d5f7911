//! Matches the keys of JSON objects with the names of columns.
//!
//! A name without upper-case letters, as every unquoted name is, takes a key in any case, and prefers the key that is
//! written like the name. A name with an upper-case letter was quoted, and takes that key alone.
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
    /// False for names with an upper-case letter, which take no key in another case.
    any_case: Vec<bool>,
}

/// How a key matches a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    None,
    /// Upper and lower case differ.
    Alike,
    /// Two keys match, and upper and lower case differ in both.
    AlikeTwice,
    Exact,
}

impl FieldNames {
    pub(super) fn new(fields: &Fields) -> Self {
        let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        let places = names.iter().enumerate().map(|(at, n)| (n.clone(), at));
        let any_case = names.iter().map(|name| name.to_lowercase() == *name);
        Self { places: places.collect(), any_case: any_case.collect(), names }
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.names[at]
    }

    /// The index of the name that `key` matches, and whether it is written like the name.
    pub(super) fn place(&self, key: &str) -> Option<(usize, bool)> {
        self.find(key, 0).map(|(at, found)| (at, found == Match::Exact))
    }

    /// The index of the name that `key` matches. `guess` is the index if the object's keys are in the order of the
    /// columns.
    fn find(&self, key: &str, guess: usize) -> Option<(usize, Match)> {
        let guessed = self.names.get(guess);
        if guessed.is_some_and(|name| name == key) {
            return Some((guess, Match::Exact));
        }
        if let Some(at) = self.places.get(key) {
            return Some((*at, Match::Exact));
        }
        if guessed.is_some_and(|name| self.any_case[guess] && name.eq_ignore_ascii_case(key)) {
            return Some((guess, Match::Alike));
        }
        if key.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
            return None;
        }
        self.places.get(&key.to_lowercase()).map(|at| (*at, Match::Alike))
    }
}

/// The values of one object as raw text, one entry per column, and how each was found.
#[derive(Debug)]
pub(super) struct FieldValues<'a> {
    raw: Vec<Option<&'a str>>,
    matches: Vec<Match>,
}

impl<'a> FieldValues<'a> {
    /// `count` columns without values.
    pub(super) fn new(count: usize) -> Self {
        Self { raw: vec![None; count], matches: vec![Match::None; count] }
    }

    /// Reads `object`, one JSON object and nothing else. Returns the first column whose key occurs twice.
    ///
    /// Errors: `object` is not exactly one valid JSON object.
    pub(super) fn fill(&mut self, names: &FieldNames, object: &'a str) -> Result<Option<usize>, serde_json::Error> {
        self.raw.fill(None);
        self.matches.fill(Match::None);
        let mut json = serde_json::Deserializer::from_str(object);
        let twice = json.deserialize_map(Fill { names, values: self })?;
        json.end()?;
        Ok(twice.or_else(|| self.matches.iter().position(|found| *found == Match::AlikeTwice)))
    }

    /// The value of column `at`, if the object has the key.
    pub(super) fn raw(&self, at: usize) -> Option<&'a str> {
        self.raw[at]
    }

    /// Takes the value of a key. Returns true if the key of the column occurs twice.
    fn take(&mut self, at: usize, found: Match, raw: &'a str) -> bool {
        let before = self.matches[at];
        match (before, found) {
            (Match::Exact, Match::Exact) => return true,
            (Match::Exact, _) => {}
            (Match::Alike | Match::AlikeTwice, Match::Alike) => self.matches[at] = Match::AlikeTwice,
            _ => {
                self.matches[at] = found;
                self.raw[at] = Some(raw);
            }
        }
        false
    }
}

struct Fill<'s, 'a> {
    names: &'s FieldNames,
    values: &'s mut FieldValues<'a>,
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
            let Some((at, found)) = found else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &'a RawValue = object.next_value()?;
            if self.values.take(at, found, raw.get()) {
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
    type Value = Option<(usize, Match)>;

    fn deserialize<D: Deserializer<'a>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<(usize, Match)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.find(key, self.guess))
    }
}
