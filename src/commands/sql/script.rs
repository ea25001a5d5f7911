//! Runs the statements and commands of a file, in order.
//!
//! Invariant: no statement runs after a failed one unless the user asked for that, and every error states its
//! position.

use anyhow::Result;

use super::commands;
use super::excerpt::{self, Origin};
use super::session::{Next, Session};
use super::split::{self, ScriptPiece};
use crate::terminal;

/// A script's text, and its name in errors.
pub(super) struct SqlScript {
    name: String,
    text: String,
}

impl SqlScript {
    pub(super) fn new(name: &str, text: String) -> Self {
        let name = name.to_owned();
        Self { name, text }
    }
}

/// How a script ended.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct End {
    pub(super) failed: bool,
    /// True if the script also quits the shell.
    pub(super) quit: bool,
}

/// Errors: stdout is closed. Errors of statements are printed instead.
pub(super) async fn run(session: &mut Session, script: &SqlScript, keep_going: bool) -> Result<End> {
    let mut end = End::default();
    for piece in split::split(&script.text) {
        match run_piece(session, &piece).await {
            Ok(Next::Go) => {}
            Ok(Next::Quit) => {
                end.quit = true;
                break;
            }
            Err(error) if terminal::is_closed(&error) => return Err(error),
            // The inner script has already printed its error.
            Err(error) if error.is::<InnerScript>() => {
                end.failed = true;
            }
            Err(error) => {
                let origin = Origin { name: &script.name, line: piece.line, column: piece.column };
                terminal::err(&excerpt::explain(&error, piece.text, Some(origin)));
                end.failed = true;
            }
        }
        if end.failed && !keep_going {
            break;
        }
    }
    Ok(end)
}

/// Runs one statement or command.
///
/// Errors: the error of the server or of the command.
pub(super) async fn run_piece(session: &mut Session, piece: &ScriptPiece<'_>) -> Result<Next> {
    if piece.is_command {
        let command = commands::parse(piece.text).map_err(anyhow::Error::msg)?;
        return session.command(command).await;
    }
    session.statement(piece.text).await.map(|()| Next::Go)
}

/// The error of an included script that failed; the reason was already printed.
#[derive(Debug)]
pub(super) struct InnerScript;

impl std::fmt::Display for InnerScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file's statements failed")
    }
}

impl std::error::Error for InnerScript {}
