//! Places in the text that a user wrote.
//!
//! Parser and planner each have their own type for a place, and neither type serialises. Invariant: lines and columns
//! are counted from 1, columns in characters, and a span does not include its end.

use datafusion::common as planner;
use datafusion::sql::sqlparser::tokenizer as parser;

/// A position in SQL text; line and column are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A range of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSpan {
    pub start: Place,
    /// The first position behind the range.
    pub end: Place,
}

impl TextSpan {
    /// A span with an unknown end.
    pub fn starting_at(start: Place) -> Self {
        Self { start, end: start }
    }

    /// `None` if the parser keeps no place of this part.
    pub fn of_parser(span: parser::Span) -> Option<Self> {
        (span.start.line > 0).then(|| Self { start: span.start.into(), end: span.end.into() })
    }

    /// `None` if the planner does not keep places.
    pub(crate) fn of_planner(span: planner::Span) -> Option<Self> {
        let place = |at: planner::Location| Place { line: at.line, column: at.column };
        (span.start.line > 0).then(|| Self { start: place(span.start), end: place(span.end) })
    }

    /// The number of characters, at least 1. A span over several lines counts as 1.
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
