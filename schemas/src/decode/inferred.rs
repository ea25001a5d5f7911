//! Proposed columns, and the statement that creates a stream of them.
//!
//! Invariant: the statement is valid, and what has no column is in a comment.

use crate::definition::pieces;
use crate::definition::types::NOT_IN_NAMES;

/// A column and its type in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredColumn {
    pub name: String,
    pub sql: String,
}

/// The columns, and what has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InferredColumns {
    pub columns: Vec<InferredColumn>,
    /// Fields without a column, with the reason.
    pub left_out: Vec<String>,
}

impl InferredColumns {
    /// Adds a column, unless a stream cannot have it.
    pub(super) fn add(&mut self, name: &str, sql: String) {
        let is_same = |column: &InferredColumn| column.name.eq_ignore_ascii_case(name);
        if name.starts_with('_') {
            self.left_out.push(format!("{name}: names that begin with an underscore are the platform's"));
        } else if name.is_empty() || name.contains(|c| NOT_IN_NAMES.contains(c)) {
            self.left_out.push(format!("{name}: no column can have this name"));
        } else if let Some(other) = self.columns.iter().find(|column| is_same(column)) {
            self.left_out.push(format!("{name}: it differs from {} in case only", other.name));
        } else {
            self.columns.push(InferredColumn { name: name.to_owned(), sql });
        }
    }

    /// The columns with their brackets.
    pub fn list(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("{} {}", quoted(&column.name), column.sql)).collect();
        format!("({})", columns.join(", "))
    }

    /// The statement that creates a stream of these columns. `options` are written as they are.
    pub fn statement(&self, stream: &str, topic: &str, options: &[(&str, &str)]) -> String {
        let width = self.columns.iter().map(|column| quoted(&column.name).len()).max().unwrap_or(0);
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("  {:width$} {}", quoted(&column.name), column.sql)).collect();
        let notes: String = self.left_out.iter().map(|note| format!("  -- {}\n", note.replace('\n', " "))).collect();
        let options: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("'{}' '{}'", key.replace('\'', "''"), value.replace('\'', "''")))
            .collect();
        format!(
            "CREATE EXTERNAL TABLE {} (\n{}\n{notes})\nSTORED AS KAFKA LOCATION '{topic}'\nOPTIONS ({});\n",
            quoted(stream),
            columns.join(",\n"),
            options.join(", ")
        )
    }
}

/// A name, in quotes if it is no word. An unquoted name takes keys in any case.
pub(super) fn quoted(name: &str) -> String {
    match is_word(name) && !RESERVED.contains(&name.to_ascii_lowercase().as_str()) && names_a_column(name) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Whether the parser takes an unquoted word for a column. In a list of columns, `key` begins a constraint.
fn names_a_column(word: &str) -> bool {
    let sql = format!("CREATE EXTERNAL TABLE t ({word} INT) STORED AS KAFKA LOCATION 't'");
    pieces::split(&sql).is_ok_and(|pieces| pieces.iter().all(|piece| piece.parse().is_ok()))
}

pub(super) fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Words that queries cannot name a column by without quotes.
const RESERVED: [&str; 12] = [
    "check",
    "constraint",
    "end",
    "foreign",
    "from",
    "group",
    "order",
    "primary",
    "select",
    "table",
    "unique",
    "where",
];
