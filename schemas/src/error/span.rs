//! Places in the text that a user wrote.
//!
//! Parser and planner each have a type for them, and neither serialises. Invariant: lines and columns are counted from
//! 1, columns in characters; a span ends before its end.

use datafusion::common as planner;
use datafusion::sql::sqlparser::tokenizer as parser;

/// A position in SQL text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// From a position up to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSpan {
    pub start: Place,
    /// The first position behind it.
    pub end: Place,
}

impl TextSpan {
    /// A span of which no more than its start is known.
    pub fn starting_at(start: Place) -> Self {
        Self { start, end: start }
    }

    /// None for a part of the text whose place the parser does not keep.
    pub fn of_parser(span: parser::Span) -> Option<Self> {
        (span.start.line > 0).then(|| Self { start: span.start.into(), end: span.end.into() })
    }

    /// None if the planner was not asked to keep places.
    pub(crate) fn of_planner(span: planner::Span) -> Option<Self> {
        let place = |at: planner::Location| Place { line: at.line, column: at.column };
        (span.start.line > 0).then(|| Self { start: place(span.start), end: place(span.end) })
    }

    /// The characters on its first line, at least 1; a span over several lines has 1.
    pub fn width(&self) -> u64 {
        match self.start.line == self.end.line {
            true => self.end.column.saturating_sub(self.start.column).max(1),
            false => 1,
        }
    }

    pub(crate) fn contains(&self, place: Place) -> bool {
        self.start <= place && place < self.end
    }
}

impl From<parser::Location> for Place {
    fn from(at: parser::Location) -> Self {
        Self { line: at.line, column: at.column }
    }
}
