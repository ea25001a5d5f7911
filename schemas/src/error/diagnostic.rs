//! Diagnostics: an error in a text, for the text's author, as a message, a help and a place.
//!
//! This file also turns the engine's errors into diagnostics. Invariant: labels, traces and internal names of the
//! engine never reach a user.

use std::fmt;

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use crate::error::nearest::nearest;
use crate::error::span::TextSpan;

/// How many columns the help lists when no column has a similar name.
const LISTED: usize = 12;
const NO_MATCH: &str = "No function matches the given name";
const GROUP_IT: &str = "add it to GROUP BY, or take max(…), min(…) or first_value(… ORDER BY …) of it";

/// One error in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The error, without a full stop.
    pub message: String,
    /// Advice for the author.
    pub help: Option<String>,
    /// The part of the text that has the error, if it is known.
    pub span: Option<TextSpan>,
}

impl Diagnostic {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, span: None }
    }

    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Sets the place, unless the diagnostic has one already.
    pub fn at(self, span: Option<TextSpan>) -> Self {
        Self { span: self.span.or(span), ..self }
    }

    /// One diagnostic per error in `error`: the planner may report several at once.
    pub fn all(error: &DataFusionError) -> Vec<Self> {
        error.iter().map(Self::of).collect()
    }

    /// [`Diagnostic::all`] in one sentence.
    pub fn sentence(error: &DataFusionError) -> String {
        let said: Vec<String> = Self::all(error).iter().map(Self::to_string).collect();
        said.join("; also: ")
    }

    fn of(error: &DataFusionError) -> Self {
        let diagnostic = error.diagnostic();
        let (message, help) = match (error.find_root(), diagnostic) {
            (DataFusionError::SchemaError(schema, _), _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => missing_column(field, valid_fields),
                other => (other.to_string(), None),
            },
            (_, Some(diagnostic)) => (diagnostic.message.clone(), None),
            (root, None) => plain(root),
        };
        let more: Vec<String> = diagnostic
            .iter()
            .flat_map(|d| {
                let notes = d.notes.iter().map(|note| &note.message);
                notes.chain(d.helps.iter().map(|help| &help.message))
            })
            // The engine recommends ANY_VALUE, which no view can use.
            .map(|more| match more.contains("ANY_VALUE") {
                true => GROUP_IT.to_owned(),
                false => more.clone(),
            })
            .collect();
        Self {
            help: help.or((!more.is_empty()).then(|| more.join("; "))),
            message,
            span: diagnostic.and_then(|d| d.span).and_then(TextSpan::of_planner),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.help {
            None => f.write_str(&self.message),
            Some(help) => write!(f, "{}; {help}", self.message),
        }
    }
}

fn missing_column(field: &Column, valid: &[Column]) -> (String, Option<String>) {
    let message = format!("there is no column `{}`", field.flat_name());
    // Authors seldom mean the platform's own columns (`_offset`, …).
    let mut names: Vec<&str> = valid.iter().map(|column| column.name()).filter(|name| !name.starts_with('_')).collect();
    names.dedup();
    let help = match nearest(field.name(), names.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if names.is_empty() => None,
        None => {
            let more = if names.len() > LISTED { ", …" } else { "" };
            names.truncate(LISTED);
            Some(format!("columns are {}{more}", names.join(", ")))
        }
    };
    (message, help)
}

/// The message of `root` without label and trace, and the help in it.
fn plain(root: &DataFusionError) -> (String, Option<String>) {
    let text = match root {
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::ResourcesExhausted(text) => text.clone(),
        DataFusionError::SQL(inner, _) => inner.to_string(),
        DataFusionError::ArrowError(inner, _) => inner.to_string(),
        other => other.to_string(),
    };
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next();
    let text = text.unwrap_or_default();
    // The text in front describes the engine's failed attempts, each with advice to report a bug.
    let text = text.find(NO_MATCH).map_or(text, |at| &text[at..]);
    let (message, help) = match text.split_once("Candidate functions:") {
        Some((message, candidates)) => (message, Some(candidates)),
        None => (text, None),
    };
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    (
        one_line(message).trim_end_matches('.').to_owned(),
        help.map(|candidates| format!("there are {}", one_line(candidates))),
    )
}

#[cfg(test)]
mod tests {
    use datafusion::common::{self as planner, Location};

    use super::*;
    use crate::error::span::Place;

    fn missing(name: &str, valid: &[&str]) -> DataFusionError {
        let column = |name: &&str| Column::new(Some("s"), *name);
        DataFusionError::SchemaError(
            Box::new(SchemaError::FieldNotFound {
                field: Box::new(Column::new_unqualified(name)),
                valid_fields: valid.iter().map(column).collect(),
            }),
            Box::new(None),
        )
    }

    #[track_caller]
    fn check(error: DataFusionError, expect: &[&str]) {
        let said: Vec<String> = Diagnostic::all(&error).iter().map(Diagnostic::to_string).collect();
        assert_eq!(said, expect);
    }

    #[test]
    fn sentences_help() {
        check(
            missing("temprature", &["device", "temperature"]),
            &["there is no column `temprature`; did you mean `temperature`?"],
        );
        check(missing("x", &["device", "ts"]), &["there is no column `x`; columns are device, ts"]);
        check(missing("x", &["c"; 40]), &["there is no column `x`; columns are c"]);
        check(missing("x", &[]), &["there is no column `x`"]);
        check(DataFusionError::Plan("no".into()).context("outer"), &["no"]);
        let signature = "Internal error: tried.\nFile a bug. No function matches the given name and argument types \
            'sum(Utf8)'.\n\tCandidate functions:\n\tsum(Int64)\n\tsum(Float64)";
        check(
            DataFusionError::Plan(signature.into()),
            &["No function matches the given name and argument types 'sum(Utf8)'; \
              there are sum(Int64) sum(Float64)"],
        );
    }

    #[test]
    fn several_errors_are_separate_and_keep_their_places() {
        let span = planner::Span::new(Location { line: 2, column: 3 }, Location { line: 2, column: 7 });
        let placed = DataFusionError::Plan("bad".into())
            .with_diagnostic(planner::Diagnostic::new_error("bad", Some(span)).with_help("do that", None));
        let ungrouped = DataFusionError::Plan("long".into()).with_diagnostic(
            planner::Diagnostic::new_error("'a' must be grouped", None).with_help("use ANY_VALUE(a)", None),
        );
        check(ungrouped, &[&format!("'a' must be grouped; {GROUP_IT}")]);
        let both = DataFusionError::Collection(vec![placed, missing("y", &[])]);
        let place = |line, column| Place { line, column };
        assert_eq!(Diagnostic::all(&both)[0].span, Some(TextSpan { start: place(2, 3), end: place(2, 7) }));
        check(both, &["bad; do that", "there is no column `y`"]);
    }
}
