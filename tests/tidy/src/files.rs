//! Each Rust file by itself: its head, size, width and name, what it leaves undone, and the lints it turns off.
//!
//! It exists because a reader meets files one at a time. Invariant: no check here looks at two files.

use crate::project::{Project, fail_with};
use crate::syntax::attributes;
use crate::tokens::{Token, scan};

/// Lines that a file may have, and a file of tests.
const LINES: usize = 450;
const TEST_LINES: usize = 800;

/// Columns that a line with a comment may have. Of code, rustfmt takes care.
const COLUMNS: usize = 120;

fn head(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") { Vec::new() } else { vec![format!("{path} does not open with `//! `")] }
}

fn size(path: &str, text: &str) -> Vec<String> {
    let is_test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let limit = if is_test { TEST_LINES } else { LINES };
    let lines = text.lines().count();
    if lines > limit { vec![format!("{path} has {lines} lines, more than {limit}")] } else { Vec::new() }
}

fn width(path: &str, text: &str) -> Vec<String> {
    // A row of a table cannot be broken.
    let is_row = |line: &str| line.trim_start().trim_start_matches(['/', '!']).starts_with(" |");
    let lines = text.lines().zip(1..).map(|(text, line)| (line, text.chars().count(), text));
    let wide = lines.filter(|(_, columns, text)| *columns > COLUMNS && !is_row(text)).collect::<Vec<_>>();
    if wide.is_empty() {
        return Vec::new();
    }
    let comments = scan(text).comments;
    let has_comment = |line: usize| {
        comments.iter().any(|comment| (0..=comment.text.matches('\n').count()).any(|i| comment.line + i == line))
    };
    let wide = wide.into_iter().filter(|(line, ..)| has_comment(*line));
    wide.map(|(line, columns, _)| format!("{path}:{line} has {columns} columns, more than {COLUMNS}")).collect()
}

fn style(path: &str, _: &str) -> Vec<String> {
    let folder = path.strip_suffix("/mod.rs");
    folder.map(|folder| format!("{path} should be {folder}.rs: one style of modules")).into_iter().collect()
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    if !["todo", "unimplemented", "FIXME", "ignore"].iter().any(|word| text.contains(word)) {
        return Vec::new();
    }
    let found = scan(text);
    let is = |i: usize, text: &str| found.tokens.get(i).is_some_and(|token: &Token<'_>| token.is(text));
    let calls = found.tokens.iter().enumerate().filter(|(i, token)| {
        let name = ["todo", "unimplemented"].iter().any(|name| token.is(name));
        name && is(i + 1, "!") && !is(i + 2, "=")
    });
    let mut problems: Vec<String> =
        calls.map(|(_, token)| format!("{path}:{} has `{}!`", token.line, token.text)).collect();
    for comment in found.comments {
        let fixme = comment.text.lines().zip(comment.line..).filter(|(line, _)| line.contains("FIXME"));
        problems.extend(fixme.map(|(_, line)| format!("{path}:{line} has a FIXME")));
    }
    for attribute in attributes(&found.tokens) {
        let is_conditional = attribute.first().is_some_and(|token| token.is("cfg_attr"));
        let considered = if is_conditional { attribute } else { &attribute[..attribute.len().min(1)] };
        let ignore = considered.iter().find(|token| token.is("ignore"));
        problems.extend(ignore.map(|token| format!("{path}:{} has a test that does not run", token.line)));
    }
    problems
}

/// Lints that are turned off without a word on why. Where that is possible, `expect` is: it ends with its cause.
fn lints(path: &str, text: &str) -> Vec<String> {
    let tokens = scan(text).tokens;
    let mut problems = Vec::new();
    for attribute in attributes(&tokens) {
        let levels = attribute.iter().enumerate().filter(|(i, token)| {
            let is_called = attribute.get(i + 1).is_some_and(|next| next.is("("));
            is_called && (token.is("allow") || token.is("expect"))
        });
        let unexplained = levels.filter(|_| !attribute.iter().any(|token| token.is("reason")));
        problems.extend(unexplained.map(|(_, token)| {
            format!("{path}:{} has `{}` without a reason: #[expect(…, reason = \"…\")]", token.line, token.text)
        }));
    }
    problems
}

#[track_caller]
fn every_file(check: fn(&str, &str) -> Vec<String>) {
    fail_with(&Project::load().ending(".rs").flat_map(|(path, text)| check(path, text)).collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    every_file(head);
}

#[test]
fn files_are_short() {
    every_file(size);
}

#[test]
fn comments_are_narrow() {
    every_file(width);
}

#[test]
fn modules_have_one_style() {
    every_file(style);
}

#[test]
fn nothing_is_left_undone() {
    every_file(unfinished);
}

#[test]
fn lints_are_turned_off_for_a_reason() {
    every_file(lints);
}

mod made_up {
    use super::*;
    use crate::project::expect;

    #[test]
    fn heads() {
        expect(&head("a.rs", "//! What it is.\nmod a;"), &[]);
        for text in ["", "// What it is.", "\n//! What it is.", "//!"] {
            expect(&head("a.rs", text), &["a.rs does not open"]);
        }
    }

    #[test]
    fn sizes() {
        let check = |path: &str, lines: usize, words: &[&str]| expect(&size(path, &"\n".repeat(lines)), words);
        check("src/a.rs", LINES, &[]);
        check("src/a.rs", LINES + 1, &["src/a.rs has 451 lines, more than 450"]);
        check("src/protests.rs", LINES + 1, &["more than 450"]);
        for path in ["src/a/tests.rs", "src/a/tests/b.rs", "tests/it/main.rs"] {
            check(path, TEST_LINES, &[]);
            check(path, TEST_LINES + 1, &["more than 800"]);
        }
    }

    #[test]
    fn widths() {
        let check = |text: &str, words: &[&str]| expect(&width("a.rs", text), words);
        let (fits, wide) = ("ä".repeat(COLUMNS - 4), "ä".repeat(COLUMNS - 3));
        check(&format!("//! {fits}\n/// {fits}\n"), &[]);
        check(&format!("\n/// {wide}"), &["a.rs:2 has 121 columns, more than 120"]);
        check(&format!("a(); // {fits}"), &["a.rs:1 has 124 columns"]);
        check(&format!("/* a\n{wide} ab\n{wide} abc */"), &["a.rs:3 has 124 columns"]);
        check(&format!("a(\"// {wide}\");"), &[]);
        check(&format!("//! | {wide} |"), &[]);
        check(&format!("//! a | {wide}"), &["a.rs:1 has"]);
    }

    #[test]
    fn styles() {
        let check = |path: &str, words: &[&str]| expect(&style(path, ""), words);
        check("src/a.rs", &[]);
        check("src/amod.rs", &[]);
        check("src/a/mod.rs", &["src/a/mod.rs should be src/a.rs"]);
        check("tests/it/kit/mod.rs", &["should be tests/it/kit.rs"]);
    }

    #[test]
    fn what_is_undone() {
        let check = |text: &str, words: &[&str]| expect(&unfinished("a.rs", text), words);
        check("todo(); let todo = ignore; if todo != 1 {} \"FIXME todo!()\" /* todo!() */", &[]);
        check("#[test] fn ignore() {} #[serde(ignore)] struct A;", &[]);
        check("\ntodo!()", &["a.rs:2 has `todo!`"]);
        check("fn f() { unimplemented!(\"a\") }", &["a.rs:1 has `unimplemented!`"]);
        check("// a\n/* b\nFIXME: c */", &["a.rs:3 has a FIXME"]);
        check("#[test]\n#[ignore] fn a() {}", &["a.rs:2 has a test that does not run"]);
        check("#[ignore = \"slow\"] fn a() {}", &["a test that does not run"]);
        check("#[cfg_attr(windows, ignore)] fn a() {}", &["a test that does not run"]);
    }

    #[test]
    fn reasons() {
        let check = |text: &str, words: &[&str]| expect(&lints("a.rs", text), words);
        check("#[expect(dead_code, reason = \"b\")] fn a() {}", &[]);
        check("#![allow(dead_code, reason = \"b\")]", &[]);
        check("fn allow() {} a.expect(\"b\"); #[derive(A)] struct B; // #[allow(a)]", &[]);
        check("\n#[allow(clippy::a, b)] fn a() {}", &["a.rs:2 has `allow` without a reason"]);
        check("#![allow(a)]", &["`allow` without a reason"]);
        check("#[expect(a)] fn a() {}", &["`expect` without a reason"]);
        check("#[cfg_attr(unix, allow(a))] fn a() {}", &["`allow` without a reason"]);
    }
}
