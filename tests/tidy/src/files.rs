//! Each file by itself: how it opens, how long it is.
//!
//! It exists because a reader meets files one at a time. Invariant: no check here looks at two files.

use crate::project::{Project, fail_with};

/// Lines that a file may have, and a file of tests.
const LINES: usize = 450;
const TEST_LINES: usize = 800;

fn head(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") { Vec::new() } else { vec![format!("{path} does not open with `//! `")] }
}

fn size(path: &str, text: &str) -> Vec<String> {
    let is_test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let limit = if is_test { TEST_LINES } else { LINES };
    let lines = text.lines().count();
    if lines > limit { vec![format!("{path} has {lines} lines, more than {limit}")] } else { Vec::new() }
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
}
