//! What is wrong with definitions, all of it and with places, without a warehouse.
//!
//! Statements are applied in order to a catalog in memory, by the rules that apply to a real one. What fails is
//! reported and left out; what fails only because of that is not reported. Invariant: without errors among the
//! findings, an empty warehouse takes all statements.

mod locate;

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use crate::algebra::diagnose;
use crate::catalog::Catalog;
use crate::catalog::change::{Change, Facts};
use crate::definition::Statement;
use crate::definition::parse;
use crate::definition::pieces::{self, Piece};
use crate::definition::view::ViewDefinition;
use crate::error::Place;
use crate::error::complaint::Complaint;
use crate::error::nearest::nearest;
use crate::{Error, Result};

use self::locate::locate;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The statement would not be applied.
    Error,
    /// It would be, and its author should know something.
    Warning,
}

/// One thing that is wrong, or may become so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which of the texts, counted from 0.
    pub text: usize,
    pub place: Place,
    /// How many characters from there on it is about, on one line; at least 1.
    pub width: u64,
    pub severity: Severity,
    pub message: String,
    pub help: Option<String>,
}

/// What was found, in the order of the texts, and what a warehouse would hold.
#[derive(Debug, Default)]
pub struct Checked {
    pub findings: Vec<Finding>,
    pub streams: usize,
    pub views: usize,
}

/// Checks all statements of all texts against each other.
pub async fn check(texts: &[String]) -> Checked {
    let mut check = Check::default();
    for (text, sql) in texts.iter().enumerate() {
        check.text = text;
        match pieces::split(sql) {
            Ok(pieces) => {
                for piece in &pieces {
                    check.piece(piece).await;
                }
            }
            Err(error) => {
                check.unread = true;
                let at = place_of(&error).unwrap_or(Place { line: 1, column: 1 });
                let (message, help) = explain(&error);
                check.report(at, 1, Severity::Error, message, help);
            }
        }
    }
    Checked { findings: check.findings, streams: check.catalog.streams.len(), views: check.catalog.views.len() }
}

#[derive(Default)]
struct Check {
    catalog: Catalog,
    /// Names whose definition failed: what needs them is not judged.
    broken: BTreeSet<String>,
    /// A whole text could not be read, and nobody knows what it defines.
    unread: bool,
    text: usize,
    findings: Vec<Finding>,
}

impl Check {
    async fn piece(&mut self, piece: &Piece<'_>) {
        let words = piece.words();
        let statements = match parse::read(piece) {
            Ok(statements) => statements,
            Err(error) => {
                self.broken.extend(defined(&words));
                return self.refuse(piece, &words, &error);
            }
        };
        for statement in statements {
            match self.apply(&statement).await {
                Ok(warnings) => {
                    for warning in warnings {
                        let span = locate(&warning, &words).unwrap_or(words[0].span);
                        let (at, width) = extent(span);
                        self.report(at, width, Severity::Warning, warning, None);
                    }
                }
                Err(error) => {
                    // What a DROP names was never expected to be defined here.
                    if matches!(statement, Statement::CreateStream { .. } | Statement::CreateView { .. }) {
                        self.broken.extend(defined(&words));
                    }
                    self.failed(piece, &words, &statement, &error).await;
                }
            }
        }
    }

    /// Makes the statement's change in memory; gives its warnings.
    async fn apply(&mut self, statement: &Statement) -> Result<Vec<String>> {
        let change = Change::Statements(vec![statement.clone()]);
        let decision = change.decide(&self.catalog, &Facts::default()).await?;
        if let Some(next) = decision.catalog {
            self.catalog = next;
        }
        let unqualified = |warning: String| match statement {
            // A column is written without its stream more often than not.
            Statement::CreateView { definition, .. } => warning.replace(&format!("{}.", definition.stream), ""),
            _ => warning,
        };
        let warnings = decision.applied.into_iter().flat_map(|a| a.warnings);
        Ok(warnings.map(unqualified).collect())
    }

    async fn failed(&mut self, piece: &Piece<'_>, words: &[&TokenWithSpan], statement: &Statement, error: &Error) {
        match (statement, error) {
            (_, Error::FindDefinition { name, .. }) if self.unread || self.broken.contains(name) => {}
            (Statement::CreateView { .. }, Error::FindDefinition { name, .. }) => {
                let known = self.catalog.streams.keys().map(|name| name.as_str());
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it before this view, or name the file that does as well".into(),
                };
                let at = locate_last(name, words).unwrap_or(definition_start(piece, words));
                let (at, width) = extent(at);
                let message = format!("the stream `{name}` is not defined in these files");
                self.report(at, width, Severity::Error, message, Some(help));
            }
            (_, Error::FindDefinition { kind, name }) => {
                let span = locate_last(name, words).unwrap_or(words[0].span);
                let (at, width) = extent(span);
                let message = format!("the {kind} `{name}` is not defined in these files");
                let help = "IF EXISTS makes it right whether or not the warehouse has it";
                self.report(at, width, Severity::Warning, message, Some(help.into()));
            }
            (Statement::CreateView { definition, .. }, Error::PlanView { .. }) => {
                if !self.diagnosed(piece, words, definition).await {
                    self.refuse(piece, words, error);
                }
            }
            _ => self.refuse(piece, words, error),
        }
    }

    /// Reports everything that the planner has against the view's query; false if that is nothing.
    async fn diagnosed(&mut self, piece: &Piece<'_>, words: &[&TokenWithSpan], view: &ViewDefinition) -> bool {
        let Some((query, _)) = piece.query_in_place() else {
            return false;
        };
        let Some(stream) = self.catalog.streams.get(&view.stream).cloned() else {
            return false;
        };
        let Ok(complaints) = diagnose(&query, &stream.definition).await else {
            return false;
        };
        for complaint in &complaints {
            let (at, width) = match complaint.span {
                Some((from, to)) if from.line == to.line => (from, to.column.saturating_sub(from.column).max(1)),
                Some((from, _)) => (from, 1),
                None => {
                    let known = locate(&complaint.message, words);
                    extent(known.unwrap_or(definition_start(piece, words)))
                }
            };
            let (message, help) = (complaint.message.clone(), complaint.help.clone());
            self.report(at, width, Severity::Error, message, help);
        }
        !complaints.is_empty()
    }

    fn refuse(&mut self, piece: &Piece<'_>, words: &[&TokenWithSpan], error: &Error) {
        let (message, help) = explain(error);
        let (at, width) = match place_of(error) {
            Some(at) => {
                let there = |t: &&&TokenWithSpan| position(t.span.start) == at;
                let width = words.iter().find(there).map_or(1, |t| extent(t.span).1);
                (at, width)
            }
            None => {
                let span = locate(&message, words);
                extent(span.unwrap_or(definition_start(piece, words)))
            }
        };
        self.report(at, width, Severity::Error, message, help);
    }

    fn report(&mut self, place: Place, width: u64, severity: Severity, message: String, help: Option<String>) {
        self.findings.push(Finding { text: self.text, place, width, severity, message, help });
    }
}

/// A sentence and what to do, apart.
fn explain(error: &Error) -> (String, Option<String>) {
    match error {
        Error::RefuseDefinition { reason, instead } => (reason.trim_end_matches('.').to_owned(), Some(instead.clone())),
        Error::PlanView { source, .. } => (Complaint::sentence(source), None),
        other => match other.to_string().split_once("; ") {
            Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
            None => (other.to_string(), None),
        },
    }
}

fn place_of(error: &Error) -> Option<Place> {
    match error {
        Error::ParseSql { place, .. } => *place,
        _ => None,
    }
}

/// The name that a CREATE gives, as SQL understands it.
fn defined(words: &[&TokenWithSpan]) -> Option<String> {
    let keyword = |t: &TokenWithSpan| match &t.token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let kind = |t: &&TokenWithSpan| matches!(keyword(t), Keyword::TABLE | Keyword::VIEW);
    let at = words.iter().position(kind)?;
    let condition = [Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    let name = words[at + 1..].iter().find(|t| !condition.contains(&keyword(t)))?;
    match &name.token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    }
}

/// The last place at which `name` stands: in a view, FROM comes after the columns.
fn locate_last(name: &str, words: &[&TokenWithSpan]) -> Option<Span> {
    let is = |t: &&&TokenWithSpan| matches!(&t.token, Token::Word(w) if w.value.eq_ignore_ascii_case(name));
    words.iter().rev().find(is).map(|t| t.span)
}

/// A view's query, any other statement's first word: where to look if nothing more is known.
fn definition_start(piece: &Piece<'_>, words: &[&TokenWithSpan]) -> Span {
    let query = piece.query_in_place().and_then(|(_, start)| {
        let there = |t: &&&TokenWithSpan| t.span.start == start;
        words.iter().find(there).map(|t| t.span)
    });
    query.unwrap_or(words[0].span)
}

fn position(at: Location) -> Place {
    Place { line: at.line, column: at.column }
}

fn extent(span: Span) -> (Place, u64) {
    let width = match span.start.line == span.end.line {
        true => span.end.column.saturating_sub(span.start.column).max(1),
        false => 1,
    };
    (position(span.start), width)
}

#[cfg(test)]
mod tests;
