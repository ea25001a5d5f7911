//! Statements and commands of a file, one after the other.
//!
//! Invariant: nothing after a failed statement runs unless that was asked for, and every error says where it stands.

use anyhow::Result;

use super::commands;
use super::excerpt::{self, Origin};
use super::session::{Next, Session};
use super::split::{self, ScriptPiece};
use crate::terminal;

/// A text and what errors call it.
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
    /// It left the shell, too.
    pub(super) quit: bool,
}

/// Errors: stdout is closed. Whatever a statement fails of is printed.
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
            // What it names was told when it happened.
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

/// One statement or command.
///
/// Errors: as the server or the command says.
pub(super) async fn run_piece(session: &mut Session, piece: &ScriptPiece<'_>) -> Result<Next> {
    if piece.is_command {
        let command = commands::parse(piece.text).map_err(anyhow::Error::msg)?;
        return session.command(command).await;
    }
    session.statement(piece.text).await.map(|()| Next::Go)
}

/// A script that another one has run failed, and said why.
#[derive(Debug)]
pub(super) struct InnerScript;

impl std::fmt::Display for InnerScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file's statements failed")
    }
}

impl std::error::Error for InnerScript {}
