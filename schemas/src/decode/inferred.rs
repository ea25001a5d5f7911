//! Proposed columns, and the statement that creates a stream of them.
//!
//! Invariant: the statement is valid, and what has no column is in a comment.

use std::collections::HashSet;

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

    /// Adds the column of a record's field, or why it has none.
    pub(super) fn add_written<T: PartialEq>(&mut self, name: &str, sql: Result<String, String>, nesting: &Nesting<T>) {
        match sql {
            Ok(sql) => {
                self.add(name, sql);
                if nesting.is_cut() {
                    self.left_out
                        .push(format!("some fields of {name}: it has more than {MOST_FIELDS}, or too deep ones"));
                }
            }
            Err(why) => self.left_out.push(format!("{name}: {why}")),
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

/// The records around a type while its column is written. Records may hold each other in so many ways that all of
/// their fields would fill any memory.
#[derive(Debug)]
pub(super) struct Nesting<T> {
    around: Vec<T>,
    /// The fields that the column may still get.
    left: usize,
    is_cut: bool,
}

/// The most fields of a column, with all that they hold.
const MOST_FIELDS: usize = 500;
/// The most records around a field.
const DEEPEST: usize = 20;

impl<T: PartialEq> Nesting<T> {
    /// Within the record whose fields are columns.
    pub(super) fn within(root: T) -> Self {
        Self { around: vec![root], left: MOST_FIELDS, is_cut: false }
    }

    /// Errors: the record cannot be written here, and why.
    pub(super) fn enter(&mut self, record: T) -> Result<(), String> {
        if self.around.contains(&record) {
            return Err("it holds itself".to_owned());
        }
        if self.around.len() > DEEPEST || self.left == 0 {
            self.is_cut = true;
            return Err(format!("it has more than {MOST_FIELDS} fields, or some more than {DEEPEST} deep"));
        }
        self.around.push(record);
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.around.pop();
    }

    /// The fields of a STRUCT in SQL. Those that differ from another one in case only are left out, as Delta ignores
    /// case, and so are those that no column can have.
    pub(super) fn fields<'f, F: 'f>(
        &mut self,
        fields: impl Iterator<Item = (&'f str, F)>,
        mut sql: impl FnMut(F, &mut Self) -> Option<String>,
    ) -> Vec<String> {
        let mut names = HashSet::new();
        let mut written = Vec::new();
        for (name, field) in fields {
            if self.left == 0 {
                self.is_cut = true;
                break;
            }
            if !names.insert(name.to_lowercase()) {
                continue;
            }
            self.left -= 1;
            written.extend(sql(field, self).map(|sql| format!("{name} {sql}")));
        }
        written
    }

    /// True if fields are missing, because there are too many.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
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

/// The JSON name that a field of Protobuf has unless its schema gives it another one.
pub(super) fn camel_case(name: &str) -> String {
    let mut after_line = false;
    let mut found = String::with_capacity(name.len());
    for c in name.chars() {
        match (c, after_line) {
            ('_', _) => after_line = true,
            (c, true) => {
                found.push(c.to_ascii_uppercase());
                after_line = false;
            }
            (c, false) => found.push(c),
        }
    }
    found
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
