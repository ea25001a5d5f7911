//! Shows long answers in the user's pager.
//!
//! Invariant: every text is shown exactly once, with or without a pager, even if the user leaves the pager early.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Result;
use ratatui::crossterm::terminal::size;

use crate::terminal;

/// The exit code of a shell for an unknown command.
const NOT_FOUND: i32 = 127;

/// Returns the columns and rows of the terminal.
pub(super) fn screen() -> (usize, usize) {
    let (width, height) = size().unwrap_or((80, 24));
    (usize::from(width), usize::from(height))
}

/// Shows `text`; with `paging`, in the pager if the text does not fit the screen.
pub(super) fn show(text: &str, paging: bool) -> Result<()> {
    if paging && exceeds(text, screen()) && through_pager(text) {
        return Ok(());
    }
    terminal::out(text)
}

/// True if `text` does not fit; three lines are reserved: two follow every answer, and one is the prompt.
fn exceeds(text: &str, (width, height): (usize, usize)) -> bool {
    text.lines().count() + 3 > height || text.lines().any(|line| line.trim_end().chars().count() > width)
}

/// Shows `text` in the pager; returns false if nothing was shown.
fn through_pager(text: &str) -> bool {
    let Some(mut command) = pager(std::env::var("PAGER").ok().as_deref()) else {
        return false;
    };
    let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A pager that the user leaves early closes its stdin; this is no error.
        let _ = writeln!(stdin, "{text}");
    }
    match child.wait() {
        Ok(status) => status.code() != Some(NOT_FOUND),
        Err(_) => true,
    }
}

/// Returns the command in `$PAGER`; `None` if the variable is empty.
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
