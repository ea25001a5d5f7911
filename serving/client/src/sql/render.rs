//! Answers as text: as a table or with one line per column, and the summary line.
//!
//! Invariant: NULL and an empty text look different, and no value from an event can control the terminal.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use thalweg_schemas::api::sql::SqlAnswer;

use super::ask;
use crate::terminal;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Csv,
    Json,
}

/// Returns an answer as a table, or with one line per column if `expanded`.
pub(super) fn body(answer: &SqlAnswer, expanded: bool) -> String {
    if expanded {
        return records(answer);
    }
    let head: Vec<String> = answer.columns.iter().map(|c| terminal::plain(&c.name)).collect();
    let right: Vec<bool> = answer.columns.iter().map(|c| is_number(&c.data_type)).collect();
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    terminal::table(&head, &right, &rows)
}

fn records(answer: &SqlAnswer) -> String {
    let names: Vec<String> = answer.columns.iter().map(|c| terminal::plain(&c.name)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (i, row) in answer.rows.iter().enumerate() {
        lines.push(format!("-[ row {} ]{}", i + 1, "-".repeat(width)));
        for (name, value) in names.iter().zip(row) {
            let mut name = name.as_str();
            for line in cell(value).split('\n') {
                let gap = " ".repeat(width - name.chars().count());
                lines.push(format!("{name}{gap}  {line}").trim_end().to_owned());
                name = "";
            }
        }
    }
    lines.join("\n")
}

/// Returns `(3 rows)`, with the time that they took.
pub(super) fn count(rows: usize, took: Option<Duration>) -> String {
    let plural = if rows == 1 { "" } else { "s" };
    let took = took.map(|took| format!(", {}", duration(took)));
    let rows = terminal::grouped(rows as u64);
    format!("({rows} row{plural}{})", took.unwrap_or_default())
}

/// Formats a duration with about three digits: `0.42 ms`, `12.3 ms`, `340 ms`, `1.25 s`, `2m 5s`.
pub(super) fn duration(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 9.995 => format!("{ms:.2} ms"),
        ms if ms < 99.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 59_995.0 => format!("{:.2} s", ms / 1e3),
        _ => humantime::format_duration(Duration::from_secs(took.as_secs())).to_string(),
    }
}

/// Returns the upper left part of `text` that fits a screen; a last line states how much is hidden below.
pub(super) fn fit(text: &str, width: usize, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(width).collect::<String>();
    if lines.len() <= height {
        return lines.iter().map(cut).collect::<Vec<_>>().join("\n");
    }
    let kept = height.saturating_sub(1);
    let mut shown: Vec<String> = lines[..kept].iter().map(cut).collect();
    shown.push(format!("… {} more lines", lines.len() - kept));
    shown.join("\n")
}

fn is_number(kind: &str) -> bool {
    ["Int", "UInt", "Float", "Decimal"].iter().any(|prefix| kind.starts_with(prefix))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        value => terminal::plain(&ask::text(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> SqlAnswer {
        serde_json::from_value(json!({
            "columns": [
                {"name": "device", "type": "Utf8"},
                {"name": "n", "type": "Int64"},
                {"name": "cost", "type": "Decimal128(10, 2)"},
            ],
            "frontier": {},
            "rows": [["a", 1, "1.50"], ["", 100, null], ["b\u{1b}[31m\nc", -1, "0.00"]],
        }))
        .unwrap()
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|l| l.trim_end().to_owned()).collect()
    }

    #[test]
    fn tables_tell_null_from_nothing() {
        assert_eq!(
            lines(&body(&answer(), false)),
            [
                "device         n  cost",
                "a              1  1.50",
                "             100  NULL",
                "b\\u{1b}[31m   -1  0.00",
                "c"
            ]
        );
    }

    #[test]
    fn records_have_a_line_per_column() {
        assert_eq!(
            lines(&body(&answer(), true)),
            [
                "-[ row 1 ]------",
                "device  a",
                "n       1",
                "cost    1.50",
                "-[ row 2 ]------",
                "device",
                "n       100",
                "cost    NULL",
                "-[ row 3 ]------",
                "device  b\\u{1b}[31m",
                "        c",
                "n       -1",
                "cost    0.00",
            ]
        );
    }

    #[test]
    fn rows_are_counted() {
        assert_eq!(count(1, None), "(1 row)");
        assert_eq!(count(0, None), "(0 rows)");
        assert_eq!(count(12_345, Some(Duration::from_millis(12))), "(12 345 rows, 12.0 ms)");
    }

    #[test]
    fn durations_have_three_digits() {
        for (us, text) in [
            (0, "0.00 ms"),
            (420, "0.42 ms"),
            (9_999, "10.0 ms"),
            (12_340, "12.3 ms"),
            (340_400, "340 ms"),
            (999_900, "1.00 s"),
            (1_250_000, "1.25 s"),
            (125_000_000, "2m 5s"),
        ] {
            assert_eq!(duration(Duration::from_micros(us)), text);
        }
    }

    #[test]
    fn a_screen_shows_what_fits() {
        assert_eq!(fit("abc\ndef", 2, 2), "ab\nde");
        assert_eq!(fit("a\nb\nc\nd", 9, 3), "a\nb\n… 2 more lines");
        assert_eq!(fit("", 2, 2), "");
        assert_eq!(fit("a\nb", 2, 0), "… 2 more lines");
    }
}
