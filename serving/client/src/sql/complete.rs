//! Completion by TAB: commands and their arguments; tables where SQL expects a table; elsewhere the columns of the
//! statement's tables, functions and keywords.
//!
//! Invariant: a pure function of the text, the cursor and the names; it completes nothing inside literals and
//! comments.

use thalweg_schemas::definition::tokens::{SqlToken, TokenKind, tokens};

use super::commands::COMMANDS;
use super::names::{CompletionNames, PUBLIC, Table};
use super::{split, words};

/// The possible replacements of the text from `start` up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) start: usize,
    pub(super) candidates: Candidates,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    Words(Vec<String>),
    /// The editor's own file completion.
    Files,
}

/// Returns the completion of `text` at byte `at`.
pub(super) fn complete(text: &str, at: usize, names: &CompletionNames) -> Completion {
    let tokens = statement_at(text, at);
    if let Some(first) = tokens.first().filter(|t| t.text == "\\") {
        return command(text, first.at, at, names);
    }
    let mut completion = Completion { start: at, candidates: Candidates::Words(Vec::new()) };
    let inside = |t: &SqlToken<'_>| t.at < at && (at < t.end() || (t.open && at == t.end()));
    let silent = tokens.iter().any(|t| match t.kind {
        TokenKind::Literal => inside(t),
        // A character typed at the end of a line comment still belongs to the comment.
        TokenKind::Comment => inside(t) || (at == t.end() && t.text.starts_with("--")),
        _ => false,
    });
    if silent {
        return completion;
    }
    let word = typed(text, at);
    let (qualifier, partial) = match word.rsplit_once('.') {
        Some((qualifier, partial)) => (Some(qualifier), partial),
        None => (None, word),
    };
    completion.start = at - partial.len();
    let word_start = at - word.len();
    let solid = || {
        let tokens = tokens.iter().cloned();
        tokens.filter(|t| !matches!(t.kind, TokenKind::Space | TokenKind::Comment))
    };
    let before: Vec<SqlToken<'_>> = solid().filter(|t| t.end() <= word_start).collect();
    // The unfinished word is not a table name yet.
    let others: Vec<SqlToken<'_>> = solid().filter(|t| t.end() <= word_start || t.at >= at).collect();
    let sources = sources(&others, names);
    let found = match qualifier {
        Some(qualifier) => of_qualifier(qualifier, &sources, names),
        None => unqualified(&before, partial, &sources, names),
    };
    completion.candidates = Candidates::Words(matching(found, partial));
    completion
}

/// Returns the tokens of the statement or command around the cursor.
fn statement_at(text: &str, at: usize) -> Vec<SqlToken<'_>> {
    let mut from = 0;
    loop {
        let mut statement = Vec::new();
        let mut command_end = None;
        for token in tokens(text, from) {
            if token.is(";") {
                if token.end() > at {
                    return statement;
                }
                statement.clear();
            } else if token.is("\\") {
                if at <= token.at {
                    return statement;
                }
                let end = split::line_end(text, token.at);
                if at <= end {
                    return vec![token];
                }
                command_end = Some(end);
                break;
            } else {
                statement.push(token);
            }
        }
        match command_end {
            Some(end) => from = end,
            None => return statement,
        }
    }
}

/// Returns the name, or the start of a name, that ends at the cursor.
fn typed(text: &str, at: usize) -> &str {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"');
    let start = text[..at].char_indices().rev().take_while(|(_, c)| part(*c)).last().map_or(at, |(i, _)| i);
    &text[start..at]
}

fn command(text: &str, start: usize, at: usize, names: &CompletionNames) -> Completion {
    let line = &text[start..at];
    let Some((name, rest)) = line.split_once(char::is_whitespace) else {
        let found = COMMANDS.iter().map(|(name, ..)| (*name).to_owned());
        return Completion {
            start,
            candidates: Candidates::Words(found.filter(|name| name.starts_with(line)).collect()),
        };
    };
    if name == "\\i" {
        return Completion { start: at, candidates: Candidates::Files };
    }
    let word = typed(text, at);
    let partial = word.rsplit('.').next().unwrap_or(word);
    let found: Vec<String> = match (name, word.rsplit_once('.')) {
        _ if rest.trim().len() > word.len() => Vec::new(),
        ("\\d", Some((schema, _))) => tables_of(schema, names),
        ("\\d", None) => tables_and_schemas(names),
        ("\\format", _) => ["table", "csv", "json"].map(str::to_owned).into(),
        ("\\x" | "\\timing" | "\\pager", _) => ["on", "off"].map(str::to_owned).into(),
        _ => Vec::new(),
    };
    Completion { start: at - partial.len(), candidates: Candidates::Words(matching(found, partial)) }
}

/// A table that the statement reads, and its alias or name there.
struct CompletionSource<'a> {
    called: String,
    table: &'a Table,
}

/// Returns the tables after FROM and JOIN; `solid` has no spaces and comments.
fn sources<'a>(solid: &[SqlToken<'_>], names: &'a CompletionNames) -> Vec<CompletionSource<'a>> {
    let is_name = |t: &&SqlToken<'_>| matches!(t.kind, TokenKind::Word | TokenKind::QuotedName);
    let mut found = Vec::new();
    for (i, pair) in solid.windows(2).enumerate() {
        if !["from", "join", ",", "describe"].iter().any(|w| pair[0].is(w)) {
            continue;
        }
        let first = unquoted(pair[1].text);
        let dotted = solid.get(i + 2).is_some_and(|t| t.text == ".");
        let second = solid.get(i + 3).filter(is_name).filter(|_| dotted);
        let (schema, name, next) = match second {
            Some(second) => (first, unquoted(second.text), i + 4),
            None => (PUBLIC.to_owned(), first, i + 2),
        };
        let table = names.tables.iter().find(|t| t.schema == schema && t.name == name);
        let Some(table) = table else { continue };
        let alias_at = next + usize::from(solid.get(next).is_some_and(|t| t.is("as")));
        let alias =
            solid.get(alias_at).filter(is_name).filter(|t| !words::is_keyword(t.text)).map(|t| unquoted(t.text));
        found.push(CompletionSource { called: alias.unwrap_or(name), table });
    }
    found
}

/// Returns the columns of a table or alias, or the tables of a schema.
fn of_qualifier(qualifier: &str, sources: &[CompletionSource<'_>], names: &CompletionNames) -> Vec<String> {
    let called = unquoted(qualifier.rsplit('.').next().unwrap_or(qualifier));
    if let Some(source) = sources.iter().find(|s| s.called == called) {
        return source.table.columns.iter().map(|c| quoted(c)).collect();
    }
    let mut found = tables_of(qualifier, names);
    let schema = qualifier.split_once('.').map_or(PUBLIC, |(schema, _)| schema);
    let table = names.tables.iter().find(|t| t.name == called && t.schema == schema);
    found.extend(table.iter().flat_map(|t| t.columns.iter().map(|c| quoted(c))));
    found
}

fn unqualified(
    before: &[SqlToken<'_>],
    partial: &str,
    sources: &[CompletionSource<'_>],
    names: &CompletionNames,
) -> Vec<String> {
    let lower = partial.chars().any(char::is_lowercase);
    let cased = |words: &[&str]| -> Vec<String> {
        let case = |w: &&str| {
            if lower { w.to_lowercase() } else { (*w).to_owned() }
        };
        words.iter().map(case).collect()
    };
    let Some(last) = before.last() else {
        return cased(&words::FIRST);
    };
    if let Some(following) = words::following(last.text) {
        return cased(following);
    }
    if expects_table(before) {
        return tables_and_schemas(names);
    }
    let mut found: Vec<String> = match sources {
        // Without a FROM clause, any table may be the source.
        [] => names.tables.iter().filter(|t| t.schema == PUBLIC).flat_map(|t| &t.columns).map(|c| quoted(c)).collect(),
        sources => sources.iter().flat_map(|s| s.table.columns.iter().map(|c| quoted(c))).collect(),
    };
    // Without a first letter, the list would have hundreds of entries.
    if !partial.is_empty() {
        found.extend(sources.iter().map(|s| quoted(&s.called)));
        found.extend(names.functions.iter().map(|f| format!("{f}(")));
        found.extend(cased(&words::KEYWORDS));
    }
    found
}

fn expects_table(before: &[SqlToken<'_>]) -> bool {
    let Some(last) = before.last() else {
        return false;
    };
    if words::BEFORE_TABLE.iter().any(|w| last.is(w)) {
        return true;
    }
    let clause = before.iter().rev().find(|t| words::CLAUSES.iter().any(|w| t.is(w)));
    last.text == "," && clause.is_some_and(|t| t.is("from"))
}

fn tables_of(schema: &str, names: &CompletionNames) -> Vec<String> {
    let schema = unquoted(schema);
    let of_schema = names.tables.iter().filter(|t| t.schema == schema);
    of_schema.map(|t| quoted(&t.name)).collect()
}

fn tables_and_schemas(names: &CompletionNames) -> Vec<String> {
    let mut found = tables_of(PUBLIC, names);
    let schemas = names.tables.iter().map(|t| &t.schema);
    found.extend(schemas.filter(|s| *s != PUBLIC).map(|s| format!("{s}.")));
    found
}

/// Returns the words that begin with `partial`, ignoring case, sorted and without duplicates.
fn matching(mut found: Vec<String>, partial: &str) -> Vec<String> {
    let wanted = partial.trim_start_matches('"').to_lowercase();
    found.retain(|word| word.trim_start_matches('"').to_lowercase().starts_with(&wanted));
    found.sort();
    found.dedup();
    found
}

/// Returns a name as SQL reads it: without quotes, or in lower case.
pub(super) fn unquoted(name: &str) -> String {
    match name.strip_prefix(['"', '`']) {
        Some(inside) => inside.trim_end_matches(['"', '`']).replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

/// Returns a name as SQL must spell it, quoted if necessary.
fn quoted(name: &str) -> String {
    let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && name.chars().all(simple) && !digit_first && !words::is_reserved(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
