//! The line editor: the callbacks of rustyline, implemented by the pure modules.
//!
//! Invariant: Enter ends the input only where a statement or command ends.

use std::borrow::Cow;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use thalweg_schemas::definition::tokens::{TokenKind, tokens};

use super::commands;
use super::complete::{self, Candidates};
use super::names::SharedNames;
use super::{split, words};

pub(super) struct Editing {
    names: SharedNames,
    files: FilenameCompleter,
    earlier: HistoryHinter,
}

impl Editing {
    pub(super) fn new(names: SharedNames) -> Self {
        Self { names, files: FilenameCompleter::new(), earlier: HistoryHinter::new() }
    }
}

/// True if no statement still needs its semicolon.
fn is_whole(text: &str) -> bool {
    commands::bare(text).is_some() || split::split(text).iter().all(|piece| piece.ended)
}

impl Helper for Editing {}

impl Completer for Editing {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let found = self.names.read(|names| complete::complete(line, pos, names));
        match found.candidates {
            Candidates::Files => self.files.complete_path(line, pos),
            Candidates::Words(words) => {
                let pair = |word: String| Pair { display: word.clone(), replacement: word };
                Ok((found.start, words.into_iter().map(pair).collect()))
            }
        }
    }
}

impl Validator for Editing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Editing {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        // The hint is the rest of an earlier statement, cut at the end of its first line.
        let hint = self.earlier.hint(line, pos, context)?;
        let first = hint.lines().next().unwrap_or_default();
        (!first.is_empty()).then(|| first.to_owned())
    }
}

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Highlighter for Editing {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Owned(coloured(line))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("{FAINT}{hint}{PLAIN}"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

/// Colours a line: keywords bold, literals green, comments faint.
fn coloured(line: &str) -> String {
    let mut text = String::new();
    for token in tokens(line, 0) {
        let colour = match token.kind {
            TokenKind::Word if words::is_keyword(token.text) => BOLD,
            TokenKind::Literal => GREEN,
            TokenKind::Comment => FAINT,
            _ => "",
        };
        text.push_str(colour);
        text.push_str(token.text);
        if !colour.is_empty() {
            text.push_str(PLAIN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_ends_what_is_whole() {
        for (text, whole) in [
            ("", true),
            ("  ", true),
            ("help", true),
            ("\\d x", true),
            ("SELECT 1", false),
            ("SELECT 1;", true),
            ("SELECT ';", false),
            ("SELECT 1; SELECT", false),
            ("SELECT 1; \\watch", true),
            ("/* x", false),
            ("-- x", true),
        ] {
            assert_eq!(is_whole(text), whole, "{text}");
        }
    }

    #[test]
    fn colours_leave_the_text_as_it_is() {
        let line = "select 'x' -- y";
        let found = coloured(line);
        assert_eq!(found, format!("{BOLD}select{PLAIN} {GREEN}'x'{PLAIN} {FAINT}-- y{PLAIN}"));
        assert_eq!(coloured("a ü \"b\";"), "a ü \"b\";");
    }
}
