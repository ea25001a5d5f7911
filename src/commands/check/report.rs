//! Findings as text, with the source line and a mark below it, and as JSON.
//!
//! Invariant: pure functions; the mark is exactly below its text, even after tabs and wide characters.

use clap::builder::styling::{AnsiColor, Style};
use ratatui::text::Span;
use serde_json::json;
use thalweg_schemas::check::{Checked, Finding, Severity};
use thalweg_schemas::error::Place;

/// Returns all findings and a summary line.
pub(super) fn text(names: &[String], texts: &[String], checked: &Checked, coloured: bool) -> String {
    let mut shown = String::new();
    for finding in &checked.findings {
        let text = &texts[finding.text];
        shown.push_str(&render(&names[finding.text], text, finding, coloured));
        shown.push_str("\n\n");
    }
    shown + summary(checked).as_str()
}

/// Returns an object with all findings; lines and columns count from 1, `end_column` is the first column after the
/// mark.
pub(super) fn json(names: &[String], checked: &Checked) -> String {
    let findings: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| {
            let Place { line, column } = finding.span.start;
            json!({
                "file": names[finding.text],
                "line": line,
                "column": column,
                "end_column": column + finding.span.width(),
                "severity": finding.severity,
                "message": finding.message,
                "help": finding.help,
            })
        })
        .collect();
    let (errors, warnings) = counts(checked);
    let all = json!({
        "findings": findings,
        "errors": errors,
        "warnings": warnings,
        "streams": checked.streams,
        "views": checked.views,
    });
    format!("{all:#}")
}

fn render(name: &str, text: &str, finding: &Finding, coloured: bool) -> String {
    let (word, colour) = match finding.severity {
        Severity::Error => ("error", AnsiColor::BrightRed),
        Severity::Warning => ("warning", AnsiColor::BrightYellow),
    };
    let style = |style: Style| if coloured { style } else { Style::new() };
    let strong = style(colour.on_default().bold());
    let bold = style(Style::new().bold());
    let frame = style(AnsiColor::BrightBlue.on_default().bold());

    let Place { line, column } = finding.span.start;
    let source = nth_line(text, line);
    let before: String = source.chars().take(skipped(column)).collect();
    let width = usize::try_from(finding.span.width()).unwrap_or(usize::MAX);
    let marked: String = source.chars().skip(skipped(column)).take(width).collect();
    // The terminal chooses a tab's width; a tab in the line below has the same width.
    let indent: String = before
        .split_inclusive('\t')
        .map(|part| {
            let (words, tab) = match part.strip_suffix('\t') {
                Some(words) => (words, "\t"),
                None => (part, ""),
            };
            " ".repeat(Span::raw(words).width()) + tab
        })
        .collect();
    let mark = "^".repeat(Span::raw(&marked).width().max(1));

    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let mut lines = vec![
        format!("{strong}{word}{strong:#}{bold}: {}{bold:#}", finding.message),
        format!("{gutter}{frame}-->{frame:#} {name}:{line}:{column}"),
        format!("{gutter} {frame}|{frame:#}"),
        format!("{frame}{number} |{frame:#} {source}"),
        format!("{gutter} {frame}|{frame:#} {indent}{strong}{mark}{strong:#}"),
    ];
    if let Some(help) = &finding.help {
        lines.push(format!("{gutter} {frame}={frame:#} {bold}help{bold:#}: {help}"));
    }
    lines.join("\n")
}

fn nth_line(text: &str, line: u64) -> &str {
    let number = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.split('\n').nth(number).unwrap_or_default();
    line.strip_suffix('\r').unwrap_or(line)
}

/// The number of characters before a column.
fn skipped(column: u64) -> usize {
    usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX)
}

fn counts(checked: &Checked) -> (usize, usize) {
    let of = |severity| {
        let findings = checked.findings.iter();
        findings.filter(|f| f.severity == severity).count()
    };
    (of(Severity::Error), of(Severity::Warning))
}

fn summary(checked: &Checked) -> String {
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let (errors, warnings) = counts(checked);
    let warned = match warnings {
        0 => String::new(),
        n => format!(", {}", count(n, "warning")),
    };
    if errors > 0 {
        return format!("{}{warned}; nothing of this would be applied", count(errors, "error"));
    }
    format!("ok: {} and {}{warned}", count(checked.streams, "stream"), count(checked.views, "view"))
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::error::TextSpan;

    use super::*;

    fn finding(severity: Severity, line: u64, column: u64, width: u64) -> Finding {
        Finding {
            text: 0,
            span: TextSpan { start: Place { line, column }, end: Place { line, column: column + width } },
            severity,
            message: "no".into(),
            help: (severity == Severity::Error).then(|| "do that".into()),
        }
    }

    fn checked(findings: Vec<Finding>) -> Checked {
        Checked { findings, streams: 1, views: 2 }
    }

    #[track_caller]
    fn check(source: &str, finding: Finding, expect: &[&str]) {
        let shown = render("a.sql", source, &finding, false);
        assert_eq!(shown.lines().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn the_mark_stands_below_what_it_is_about() {
        check(
            "one\n  two three\r\nfour",
            finding(Severity::Error, 2, 7, 5),
            &["error: no", " --> a.sql:2:7", "  |", "2 |   two three", "  |       ^^^^^", "  = help: do that"],
        );
        check(
            "\tü漢x",
            finding(Severity::Warning, 1, 4, 1),
            &["warning: no", " --> a.sql:1:4", "  |", "1 | \tü漢x", "  | \t   ^"],
        );
    }

    #[test]
    fn places_beyond_the_text_are_shown_at_its_end() {
        check(
            "ab",
            finding(Severity::Warning, 12, 3, 9),
            &["warning: no", "  --> a.sql:12:3", "   |", "12 | ", "   | ^"],
        );
        check(
            "ab",
            finding(Severity::Warning, 1, 3, 1),
            &["warning: no", " --> a.sql:1:3", "  |", "1 | ab", "  |   ^"],
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let finding = finding(Severity::Error, 1, 1, 1);
        assert!(!render("a", "x", &finding, false).contains('\x1b'));
        assert!(render("a", "x", &finding, true).contains("\x1b[91m"));
    }

    #[test]
    fn findings_are_summed_up() {
        let warning = || finding(Severity::Warning, 1, 1, 1);
        let error = || finding(Severity::Error, 1, 1, 1);
        for (findings, expect) in [
            (vec![], "ok: 1 stream and 2 views"),
            (vec![warning()], "ok: 1 stream and 2 views, 1 warning"),
            (vec![error(), warning(), error(), warning()], "2 errors, 2 warnings; nothing of this would be applied"),
        ] {
            assert_eq!(summary(&checked(findings)), expect);
        }
    }

    #[test]
    fn json_has_everything() {
        let names = ["a.sql".to_owned()];
        let checked = checked(vec![finding(Severity::Error, 2, 7, 5)]);
        let shown: serde_json::Value = serde_json::from_str(&json(&names, &checked)).unwrap();
        assert_eq!(
            shown,
            json!({
                "findings": [{"file": "a.sql", "line": 2, "column": 7, "end_column": 12, "severity": "error",
                    "message": "no", "help": "do that"}],
                "errors": 1, "warnings": 0, "streams": 1, "views": 2
            })
        );
    }
}
