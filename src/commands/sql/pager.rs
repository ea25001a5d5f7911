//! Long answers through the user's pager.
//!
//! Invariant: what is shown is shown once, whether or not there is a pager and whether or not it was left early.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Result;
use ratatui::crossterm::terminal::size;

use crate::terminal;

/// What a shell answers when there is no such command.
const NOT_FOUND: i32 = 127;

/// Columns and rows of the terminal.
pub(super) fn screen() -> (usize, usize) {
    let (width, height) = size().unwrap_or((80, 24));
    (usize::from(width), usize::from(height))
}

/// Shows `text`; if `paging`, through the pager when the screen is too small for it.
pub(super) fn show(text: &str, paging: bool) -> Result<()> {
    if paging && exceeds(text, screen()) && through_pager(text) {
        return Ok(());
    }
    terminal::out(text)
}

/// Lines are counted without the two that follow every answer, and the prompt.
fn exceeds(text: &str, (width, height): (usize, usize)) -> bool {
    text.lines().count() + 3 > height || text.lines().any(|line| line.trim_end().chars().count() > width)
}

/// False if nothing was shown.
fn through_pager(text: &str) -> bool {
    let Some(mut command) = pager(std::env::var("PAGER").ok().as_deref()) else {
        return false;
    };
    let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A pager that is left early closes its end.
        let _ = writeln!(stdin, "{text}");
    }
    match child.wait() {
        Ok(status) => status.code() != Some(NOT_FOUND),
        Err(_) => true,
    }
}

/// The command that `$PAGER` names; none if it is set to nothing.
fn pager(variable: Option<&str>) -> Option<Command> {
    match variable.map(str::trim) {
        None => {
            let mut less = Command::new("less");
            less.arg("-S");
            Some(less)
        }
        Some("") => None,
        Some(line) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]);
            Some(shell)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_wide_texts_exceed_a_screen() {
        for (text, screen, exceeds_it) in [
            ("", (1, 3), false),
            ("abc", (3, 4), false),
            ("abc  ", (3, 4), false),
            ("abcd", (3, 4), true),
            ("a\nb", (9, 4), true),
            ("a\nb", (9, 5), false),
        ] {
            assert_eq!(exceeds(text, screen), exceeds_it, "{text:?} on {screen:?}");
        }
    }

    #[test]
    fn the_variable_names_the_pager() {
        let line = |variable| {
            pager(variable).map(|command| {
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(line(None).unwrap(), ["less", "-S"]);
        assert_eq!(line(Some("more -f")).unwrap(), ["sh", "-c", "more -f"]);
        assert_eq!(line(Some(" ")), None);
    }
}
