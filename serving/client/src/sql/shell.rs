//! The shell: prompts for one input after the other, until Ctrl-D.
//!
//! Invariant: neither an error nor Ctrl-C ends the shell, and work that Ctrl-C interrupts also ends on the server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::signal::unix::{SignalKind, signal};

use super::commands::{self, ShellCommand};
use super::editor::Editing;
use super::excerpt;
use super::names::{PUBLIC, Table};
use super::script::InnerScript;
use super::session::{Next, Session};
use super::split;
use crate::terminal;

const PROMPT: &str = "thalweg> ";

/// The number of inputs in the history.
const REMEMBERED: usize = 10_000;

/// The maximum age of the names for completion when a prompt appears.
const NAMES_AGE: Duration = Duration::from_secs(5);

type Prompt = Editor<Editing, FileHistory>;

/// Prompts until Ctrl-D; the history is kept in a file if `with_history`.
///
/// Errors: the server does not answer at first; the terminal cannot be used.
pub async fn run(mut session: Session, with_history: bool) -> Result<ExitCode> {
    session.timing = true;
    session.paging = true;
    session.names.refresh_tables(&session.client).await?;
    session.names.refresh_functions(&session.client).await?;
    let is_public = |table: &&Table| table.schema == PUBLIC;
    let tables = session.names.read(|names| names.tables.iter().filter(is_public).count());
    let plural = if tables == 1 { "" } else { "s" };
    terminal::out(&format!(
        "thalweg {} at {}, {tables} table{plural}. \\? helps, TAB completes, Ctrl-D leaves.",
        env!("CARGO_PKG_VERSION"),
        session.url,
    ))?;
    let history = if with_history { history_file() } else { None };
    let mut prompt = editor(&session, history.as_ref())?;
    // From here on, Ctrl-C interrupts the running work instead of ending the shell.
    let _heard = signal(SignalKind::interrupt()).context("Ctrl-C cannot be heard")?;
    let mut refreshed = Instant::now();
    loop {
        if refreshed.elapsed() > NAMES_AGE {
            refreshed = Instant::now();
            let (names, client) = (session.names.clone(), session.client.clone());
            // The prompt does not wait for the refresh; if it fails, completion is only less helpful.
            tokio::spawn(async move { names.refresh_tables(&client).await });
        }
        let line = match tokio::task::block_in_place(|| prompt.readline(PROMPT)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error).context("the terminal cannot be read"),
        };
        remember(&mut prompt, &line, history.as_ref());
        if input(&mut session, &line).await? == Next::Quit {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Runs the statements and commands of an input, up to the first error or Ctrl-C.
async fn input(session: &mut Session, line: &str) -> Result<Next> {
    if let Some(command) = commands::bare(line) {
        return session.command(command).await;
    }
    for piece in split::split(line) {
        // A new listener per piece: an earlier Ctrl-C, for example in the pager, must not interrupt this piece.
        let mut interrupts = signal(SignalKind::interrupt()).context("Ctrl-C cannot be heard")?;
        let outcome = tokio::select! {
            biased;
            outcome = session.piece(&piece) => outcome,
            _ = interrupts.recv() => {
                session.reset();
                let stopped = matches!(commands::parse(piece.text), Ok(ShellCommand::Watch(_)));
                terminal::err(if stopped { "\nstopped" } else { "\ncancelled" });
                return Ok(Next::Go);
            }
        };
        match outcome {
            Ok(Next::Go) => {}
            Ok(Next::Quit) => return Ok(Next::Quit),
            Err(error) if terminal::is_closed(&error) => return Err(error),
            Err(error) if error.is::<InnerScript>() => break,
            Err(error) => {
                terminal::err(&excerpt::explain(&error, piece.text, None));
                break;
            }
        }
    }
    Ok(Next::Go)
}

fn editor(session: &Session, history: Option<&PathBuf>) -> Result<Prompt> {
    let config = Config::builder()
        .max_history_size(REMEMBERED)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .build();
    let mut prompt = Prompt::with_config(config).context("the terminal cannot be used")?;
    prompt.set_helper(Some(Editing::new(session.names.clone())));
    if let Some(file) = history.filter(|file| file.exists())
        && let Err(error) = prompt.load_history(file)
    {
        let file = file.display();
        terminal::err(&format!("warning: the history in {file} cannot be read: {error}"));
    }
    Ok(prompt)
}

/// Appends the input to the history at once, so that parallel shells lose nothing.
fn remember(prompt: &mut Prompt, line: &str, history: Option<&PathBuf>) {
    if line.trim().is_empty() {
        return;
    }
    let added = prompt.add_history_entry(line.trim_end());
    if let (Ok(true), Some(file)) = (added, history)
        && let Err(error) = prompt.append_history(file)
    {
        let file = file.display();
        terminal::err(&format!("warning: {file} cannot be written: {error}; --no-history goes without"));
    }
}

/// Returns the history file; `None` without a home folder, or if the folder cannot be created.
fn history_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = state_folder(variable("XDG_STATE_HOME"), variable("HOME"))?;
    if let Err(error) = std::fs::create_dir_all(&folder) {
        let folder = folder.display();
        terminal::err(&format!("warning: no history: {folder} cannot be made: {error}"));
        return None;
    }
    Some(folder.join("sql_history"))
}

fn state_folder(state: Option<std::ffi::OsString>, home: Option<std::ffi::OsString>) -> Option<PathBuf> {
    // The XDG specification says to ignore a relative path.
    let state = state.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(home?).join(".local/state")))?;
    Some(state.join("thalweg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_in_the_state_folder() {
        for (state, home, expect) in [
            (Some("/s"), Some("/h"), Some("/s/thalweg")),
            (None, Some("/h"), Some("/h/.local/state/thalweg")),
            (Some("s"), Some("/h"), Some("/h/.local/state/thalweg")),
            (Some("s"), None, None),
        ] {
            let found = state_folder(state.map(Into::into), home.map(Into::into));
            assert_eq!(found, expect.map(PathBuf::from), "{state:?} {home:?}");
        }
    }
}
