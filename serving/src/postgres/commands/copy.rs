//! COPY of a query or of a table to the client.

use super::super::failure::Failure;
use super::super::rows::{CopyFormat, CopyLayout};
use super::ClientCommand;
use super::literals::literal;
use super::words::StatementWords;

impl CopyLayout {
    fn new(format: CopyFormat) -> Self {
        let (delimiter, null) = match format {
            CopyFormat::Csv => (b',', ""),
            _ => (b'\t', "\\N"),
        };
        Self { format, delimiter, null: null.to_owned(), header: false, quote: b'"', escape: b'"', force_quote: false }
    }
}

/// `COPY … TO STDOUT`; `None` for a COPY between a table and files of the server, which the engine reads or refuses.
pub(super) fn read(words: &StatementWords<'_>) -> Option<ClientCommand> {
    let end = source_end(words);
    if words.keyword(end) == "FROM" && matches!(words.keyword(end + 1).as_str(), "STDIN" | "PROGRAM") {
        return Some(ClientCommand::Refuse(
            Failure::unsupported(
                "COPY FROM STDIN is not supported: tables are filled by Kafka, and history from files",
            )
            .hint(
                "Send messages to the stream's topic, or name files that the server reaches: COPY stream FROM 'URL'.",
            ),
        ));
    }
    if words.keyword(end) != "TO" || words.keyword(end + 1) != "STDOUT" {
        return None;
    }
    Some(match options(words, end + 2) {
        Ok(layout) => ClientCommand::Copy(layout),
        Err(failure) => ClientCommand::Refuse(failure),
    })
}

/// True for a COPY from files that the engine has loaded.
pub(super) fn reads_files(words: &StatementWords<'_>) -> bool {
    words.keyword(0) == "COPY" && words.keyword(source_end(words)) == "FROM"
}

/// The number of the word behind the query or the table.
fn source_end(words: &StatementWords<'_>) -> usize {
    let mut depth = 0_usize;
    let outside = |at: &usize| {
        match words.text(*at) {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(words.keyword(*at).as_str(), "TO" | "FROM")
    };
    (1..words.len()).find(outside).unwrap_or(words.len())
}

/// The range of the query in the text; for a table, the range of its name and columns.
pub(super) fn query_of(words: &StatementWords<'_>) -> (usize, usize) {
    let (first, last) = (1, source_end(words) - 1);
    let is_query = words.text(first) == "(" && words.text(last) == ")";
    let (first, last) = if is_query { (first + 1, last - 1) } else { (first, last) };
    match (words.at(first), words.at(last)) {
        (Some(from), Some(to)) if from.start < to.end => (from.start, to.end),
        _ => (words.end(), words.end()),
    }
}

/// The query that reads a table: `name` or `name (columns)`. A query is itself.
pub(in crate::postgres) fn query(source: &str) -> String {
    let is_query = |word: &str| {
        ["select", "with", "values", "table", "explain", "("].iter().any(|first| word.eq_ignore_ascii_case(first))
    };
    let source = source.trim();
    let first = source.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(source.len());
    if is_query(&source[..first]) || source.starts_with('(') || source.starts_with("--") || source.starts_with("/*") {
        return source.to_owned();
    }
    match source.split_once('(') {
        Some((name, columns)) => format!("SELECT {} FROM {name}", columns.trim_end().trim_end_matches(')')),
        None => format!("SELECT * FROM {source}"),
    }
}

fn options(words: &StatementWords<'_>, mut at: usize) -> Result<CopyLayout, Failure> {
    if words.keyword(at) == "WITH" {
        at += 1;
    }
    let given = match words.text(at) {
        "(" => words
            .list(at + 1)
            .into_iter()
            .map(|range| (words.keyword(range.start), range.start + 1, range.end))
            .collect(),
        _ => old_options(words, at)?,
    };
    let format =
        given.iter().find(|(name, _, _)| name == "FORMAT").map(|(_, at, _)| words.value_at(*at).to_lowercase());
    let mut layout = CopyLayout::new(match format.as_deref() {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => return Err(Failure::new("22023", format!("COPY format \"{other}\" not recognized"))),
    });
    let is_given = |name: &str| given.iter().any(|(known, _, _)| known == name);
    for (name, at, end) in &given {
        let value = if at < end { words.value_at(*at) } else { String::new() };
        if given.iter().filter(|(known, _, _)| known == name).count() > 1 {
            return Err(Failure::syntax("conflicting or redundant options"));
        }
        match name.as_str() {
            "FORMAT" => {}
            "HEADER" => layout.header = truth(&value)?,
            "NULL" => layout.null = value,
            "DELIMITER" => layout.delimiter = character("delimiter", &value)?,
            "QUOTE" => layout.quote = character("quote", &value)?,
            "ESCAPE" => layout.escape = character("escape", &value)?,
            "FORCE_QUOTE" if value == "*" => layout.force_quote = true,
            "ENCODING" if value.to_lowercase().replace('-', "") == "utf8" => {}
            other => {
                return Err(Failure::unsupported(format!("COPY does not know the option {other} with this value")));
            }
        }
    }
    if !is_given("ESCAPE") {
        layout.escape = layout.quote;
    }
    for name in ["QUOTE", "ESCAPE", "FORCE_QUOTE"] {
        if is_given(name) && layout.format != CopyFormat::Csv {
            return Err(Failure::unsupported(format!("COPY {name} requires CSV mode")));
        }
    }
    for name in ["DELIMITER", "NULL", "HEADER"] {
        if is_given(name) && layout.format == CopyFormat::Binary {
            return Err(Failure::syntax(format!("cannot specify {name} in BINARY mode")));
        }
    }
    check(&layout)?;
    Ok(layout)
}

/// Errors: a failure for options of which no client could tell values, NULLs and rows apart.
fn check(layout: &CopyLayout) -> Result<(), Failure> {
    let delimiter = char::from(layout.delimiter);
    let wrong = if matches!(delimiter, '\n' | '\r') {
        "COPY delimiter cannot be newline or carriage return"
    } else if layout.null.contains(['\n', '\r']) {
        "COPY null representation cannot use newline or carriage return"
    } else if layout.null.contains(delimiter) {
        "COPY delimiter character must not appear in the NULL specification"
    } else if layout.format == CopyFormat::Text && "\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(delimiter) {
        "COPY delimiter cannot be a backslash, a point, a small letter or a digit"
    } else if layout.format == CopyFormat::Csv && layout.delimiter == layout.quote {
        "COPY delimiter and quote must be different"
    } else if layout.format == CopyFormat::Csv && layout.null.contains(char::from(layout.quote)) {
        "CSV quote character must not appear in the NULL specification"
    } else {
        return Ok(());
    };
    Err(Failure::new("22023", wrong))
}

/// The value of a switch; one without a value is on.
fn truth(value: &str) -> Result<bool, Failure> {
    match value.to_lowercase().as_str() {
        "" | "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(Failure::syntax("header requires a Boolean value")),
    }
}

/// Name, first word of the value, and the word behind it.
type WrittenOption = (String, usize, usize);

/// The options without brackets, as in `CSV HEADER DELIMITER ';'`.
fn old_options(words: &StatementWords<'_>, mut at: usize) -> Result<Vec<WrittenOption>, Failure> {
    let mut given = Vec::new();
    while at < words.len() {
        let name = words.keyword(at);
        match name.as_str() {
            "CSV" | "BINARY" | "TEXT" => given.push(("FORMAT".to_owned(), at, at + 1)),
            "HEADER" => given.push((name, at, at)),
            "DELIMITER" | "NULL" | "QUOTE" | "ESCAPE" | "ENCODING" => {
                let value = if words.keyword(at + 1) == "AS" { at + 2 } else { at + 1 };
                given.push((name, value, value + 1));
                at = value;
            }
            _ => return Err(Failure::syntax(format!("COPY … TO STDOUT does not go on with `{}`", words.text(at)))),
        }
        at += 1;
    }
    Ok(given)
}

impl StatementWords<'_> {
    /// The value of an option: a constant or a word.
    fn value_at(&self, at: usize) -> String {
        let text = self.text(at);
        if text.ends_with(['\'', '$']) { literal(text) } else { text.to_owned() }
    }
}

fn character(name: &str, text: &str) -> Result<u8, Failure> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(Failure::new("22023", format!("COPY {name} must be a single one-byte character"))),
    }
}
