//! Finds every error in definitions, with its place, without a warehouse.
//!
//! Statements are applied in order to a catalog in memory, by the rules of a real one. A statement that fails is
//! reported and skipped. Errors that only follow from an earlier one are not reported.
//!
//! Invariant: if no finding is an error, an empty warehouse accepts all statements.

use std::collections::BTreeSet;

use crate::algebra::diagnose;
use crate::catalog::Catalog;
use crate::catalog::change::{Change, Facts};
use crate::definition::Statement;
use crate::definition::parse;
use crate::definition::pieces::{self, Piece};
use crate::definition::statement::PlacedStatement;
use crate::definition::view::ViewDefinition;
use crate::error::nearest::nearest;
use crate::error::{Diagnostic, Place, TextSpan};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The statement would not be applied.
    Error,
    /// The statement would be applied, but its author should read the message.
    Warning,
}

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The index of the text, counted from 0.
    pub text: usize,
    pub span: TextSpan,
    pub severity: Severity,
    pub message: String,
    pub help: Option<String>,
}

/// The findings in the order of the texts, and the number of streams and views that a warehouse would hold.
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
                check.report(Severity::Error, error.diagnostics(), None);
            }
        }
    }
    Checked { findings: check.findings, streams: check.catalog.streams.len(), views: check.catalog.views.len() }
}

#[derive(Default)]
struct Check {
    catalog: Catalog,
    /// Names whose definition failed. Statements that need such a name are not reported.
    broken: BTreeSet<String>,
    /// True if a whole text could not be read, so its definitions are unknown.
    unread: bool,
    text: usize,
    findings: Vec<Finding>,
}

impl Check {
    async fn piece(&mut self, piece: &Piece<'_>) {
        let statements = match parse::read(piece) {
            Ok(statements) => statements,
            Err(error) => {
                self.broken.extend(piece.created_name());
                return self.report(Severity::Error, error.diagnostics(), piece.focus());
            }
        };
        for placed in statements {
            match self.apply(&placed.statement).await {
                Ok(false) => {}
                Ok(true) => {
                    let warnings = self.warnings(piece, &placed.statement).await;
                    self.report(Severity::Warning, warnings, placed.subject);
                }
                Err(error) => {
                    // A name in a DROP need not be defined in these texts.
                    if matches!(
                        placed.statement,
                        Statement::CreateStream { .. } | Statement::CreateOpenStream(_) | Statement::CreateView { .. }
                    ) {
                        self.broken.extend(piece.created_name());
                    }
                    self.failed(piece, &placed, &error).await;
                }
            }
        }
    }

    /// Applies the statement in memory. Returns true if there are warnings.
    async fn apply(&mut self, statement: &Statement) -> Result<bool> {
        let change = Change::Statements { statements: vec![statement.clone()], repeated: false };
        let decision = change.decide(&self.catalog, &Facts::default()).await?;
        if let Some(next) = decision.catalog {
            self.catalog = next;
        }
        Ok(decision.applied.iter().any(|applied| !applied.warnings.is_empty()))
    }

    /// Returns the warnings for an accepted statement.
    async fn warnings(&self, piece: &Piece<'_>, statement: &Statement) -> Vec<Diagnostic> {
        match statement {
            Statement::CreateView { definition, .. } => self.diagnosed(piece, definition).await.unwrap_or_default(),
            Statement::CreateStream { .. }
            | Statement::CreateOpenStream(_)
            | Statement::AddColumns { .. }
            | Statement::DropStream { .. }
            | Statement::DropView { .. }
            | Statement::Comment { .. }
            | Statement::CopyFrom(_)
            | Statement::Query(_) => Vec::new(),
        }
    }

    async fn failed(&mut self, piece: &Piece<'_>, placed: &PlacedStatement, error: &Error) {
        let (found, fallback) = match (&placed.statement, error) {
            (_, Error::FindDefinition { name, .. }) if self.unread || self.broken.contains(name) => return,
            (Statement::CreateView { .. }, Error::FindDefinition { name, .. }) => {
                let known = self.catalog.streams.keys().map(|name| name.as_str());
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it before this view, or name the file that does as well".into(),
                };
                let message = format!("the stream `{name}` is not defined in these files");
                (vec![Diagnostic::new(message).with_help(help).at(placed.stream)], piece.focus())
            }
            (_, Error::FindDefinition { kind, name }) => {
                let message = format!("the {kind} `{name}` is not defined in these files");
                let help = "IF EXISTS makes it right whether or not the warehouse has it";
                let warning = Diagnostic::new(message).with_help(help);
                return self.report(Severity::Warning, vec![warning], placed.subject);
            }
            (Statement::CreateView { definition, .. }, Error::PlanView { .. } | Error::RefuseDefinition(_)) => {
                let found = self.diagnosed(piece, definition).await.err();
                (found.unwrap_or_else(|| error.diagnostics()), piece.focus())
            }
            _ => (error.diagnostics(), placed.subject),
        };
        self.report(Severity::Error, found, fallback);
    }

    /// Returns the warnings of a view that compiles.
    ///
    /// Errors: everything that is wrong with the view.
    async fn diagnosed(&self, piece: &Piece<'_>, view: &ViewDefinition) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        match self.catalog.streams.get(&view.stream) {
            Some(stream) => diagnose(piece, view, &stream.definition).await,
            None => Ok(Vec::new()),
        }
    }

    /// Records findings. `fallback` is the place of a finding without its own.
    fn report(&mut self, severity: Severity, found: Vec<Diagnostic>, fallback: Option<TextSpan>) {
        let start = TextSpan::starting_at(Place { line: 1, column: 1 });
        for Diagnostic { message, help, span } in found {
            let span = span.or(fallback).unwrap_or(start);
            self.findings.push(Finding { text: self.text, span, severity, message, help });
        }
    }
}

#[cfg(test)]
mod tests;
