//! Terminal output: lines on stdout and stderr, tables, and errors as one sentence.
//!
//! Invariant: stdout contains only the requested output; all other messages go to stderr. What a server says cannot
//! control the terminal.

use std::error::Error;
use std::io::{IsTerminal, Write};

use comfy_table::{CellAlignment, Table, presets};

/// Prints a line to stdout.
///
/// Errors: stdout is closed, for example by `head`.
pub fn out(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// True if stdout shows colours: it is a terminal, and NO_COLOR (https://no-color.org) is not set.
pub fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && is_terminal()
}

pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Escapes control characters, so that no cell moves the cursor; line breaks stay.
pub fn plain(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Prints a line to stderr; ignores a closed stderr, because no other output is left.
pub fn err(line: &str) {
    let line: Vec<String> = line.split('\t').map(plain).collect();
    let _ = writeln!(std::io::stderr().lock(), "{}", line.join("\t"));
}

/// Replaces the last line of a terminal's stderr.
pub fn err_again(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}");
    let _ = stderr.flush();
}

/// Formats `rows` under `head` as a table; columns in `right` are right-aligned.
pub fn table(head: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| plain(cell))));
    for (i, right) in right.iter().enumerate() {
        if let Some(column) = table.column_mut(i) {
            column.set_padding((if i == 0 { 0 } else { 1 }, 1));
            if *right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// True if the error means that stdout is closed, for example by `head` or a pager.
pub fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

/// Returns an error and its causes in one line; leaves out causes that an outer message already quotes.
pub fn sentence<'a>(causes: impl IntoIterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut text = String::new();
    for cause in causes {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Formats a whole number with spaces between thousands: 1 234 567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn errors_become_one_line() {
        let inner = Err::<(), _>(anyhow::anyhow!("no\n route"));
        let error = inner.context("asking x").unwrap_err();
        assert_eq!(sentence(error.chain()), "asking x: no route");
        let quoted = Err::<(), _>(anyhow::anyhow!("no route")).context("asking x: no route");
        assert_eq!(sentence(quoted.unwrap_err().chain()), "asking x: no route");
    }

    #[test]
    fn thousands_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let head = ["name".to_owned(), "n".to_owned()];
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcdef".to_owned(), "100".to_owned()]];
        let lines: Vec<String> = table(&head, &[false, true], &rows).lines().map(|l| l.trim_end().to_owned()).collect();
        assert_eq!(lines, ["name     n", "a        1", "bcdef  100"]);
    }
}
