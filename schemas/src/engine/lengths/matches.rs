//! The sizes of texts in which matches are replaced: an estimate from the lengths alone, and a count of the matches.
//!
//! Invariant: an estimate is never below the size, and a count only exceeds the size where a replacement repeats parts
//! of a match.

use std::collections::HashMap;

use datafusion::logical_expr::ColumnarValue;
use regex::Regex;

use super::arguments::TextArgument;

/// The arguments of `replace`.
pub(super) struct Replace<'a> {
    text: TextArgument<'a>,
    from: TextArgument<'a>,
    to: TextArgument<'a>,
}

impl<'a> Replace<'a> {
    pub(super) fn of(text: &'a ColumnarValue, from: &'a ColumnarValue, to: &'a ColumnarValue) -> Self {
        Self { text: TextArgument::of(text), from: TextArgument::of(from), to: TextArgument::of(to) }
    }

    /// The size of a row's result with as many occurrences as `occurrences` says. An empty text is replaced nowhere.
    fn size(&self, row: usize, occurrences: fn(&str, &str) -> usize) -> u64 {
        let (Some(text), Some(from), Some(to)) = (self.text.get(row), self.from.get(row), self.to.get(row)) else {
            return 0;
        };
        if from.is_empty() || to.len() <= from.len() {
            return text.len() as u64;
        }
        let longer = (to.len() - from.len()) as u64;
        (occurrences(text, from) as u64).saturating_mul(longer).saturating_add(text.len() as u64)
    }

    pub(super) fn estimate(&self, row: usize) -> u64 {
        self.size(row, |text, from| text.len() / from.len())
    }

    pub(super) fn count(&self, row: usize) -> u64 {
        self.size(row, |text, from| text.matches(from).count())
    }
}

/// The arguments of `regexp_replace`.
pub(super) struct ReplacePattern<'a> {
    text: TextArgument<'a>,
    pattern: TextArgument<'a>,
    by: TextArgument<'a>,
    /// No flags replace the first match only.
    flags: TextArgument<'a>,
}

impl<'a> ReplacePattern<'a> {
    pub(super) fn of(
        text: &'a ColumnarValue,
        pattern: &'a ColumnarValue,
        by: &'a ColumnarValue,
        flags: Option<&'a ColumnarValue>,
    ) -> Self {
        let flags = flags.map_or(TextArgument::One(Some("")), TextArgument::of);
        Self { text: TextArgument::of(text), pattern: TextArgument::of(pattern), by: TextArgument::of(by), flags }
    }

    pub(super) fn estimate(&self, row: usize) -> u64 {
        let (Some(text), Some(by), Some(flags)) = (self.text.get(row), self.by.get(row), self.flags.get(row)) else {
            return 0;
        };
        // A pattern may match nothing before and after every byte.
        let matches = if flags.contains('g') { text.len() + 1 } else { 1 };
        replaced(text.len(), 0, matches, by, text.len())
    }

    /// `known` holds the patterns of the rows before. A pattern that is none has no size: the engine refuses it.
    pub(super) fn count(&self, row: usize, known: &mut HashMap<String, Option<Regex>>) -> u64 {
        let (Some(text), Some(pattern)) = (self.text.get(row), self.pattern.get(row)) else { return 0 };
        let (Some(by), Some(flags)) = (self.by.get(row), self.flags.get(row)) else { return 0 };
        let others = flags.replace('g', "");
        let pattern = if others.is_empty() { pattern.to_owned() } else { format!("(?{others}){pattern}") };
        let regex = known.entry(pattern).or_insert_with_key(|pattern| Regex::new(pattern).ok());
        let Some(regex) = regex else { return 0 };
        let limit = if flags.contains('g') { usize::MAX } else { 1 };
        let lengths = regex.find_iter(text).take(limit).map(|found| found.len());
        let (matches, matched) = lengths.fold((0, 0), |(matches, all), length| (matches + 1, all + length));
        replaced(text.len(), matched, matches, by, matched)
    }
}

/// The size of a text of `length` bytes without `removed` of them, and with `matches` replacements `by`, which may
/// repeat each of the `matched` bytes as often as they refer to a group.
fn replaced(length: usize, removed: usize, matches: usize, by: &str, matched: usize) -> u64 {
    let references = by.bytes().filter(|byte| matches!(byte, b'$' | b'\\')).count();
    let times = |one: usize, other: usize| (one as u64).saturating_mul(other as u64);
    ((length - removed) as u64).saturating_add(times(matches, by.len())).saturating_add(times(references, matched))
}
