//! What the documents say of the tree: the paths they name and the numbers they carry.
//!
//! It exists because a document is read long after what it speaks of was moved. Invariant: a path in backticks that
//! starts with a folder of the project is a path of the project.

use std::collections::BTreeSet;

use crate::project::{CRATES, Project, fail_with};

const FOLDERS: [&str; 6] = ["src", "tests", "docs", "infra", "benches", "notebooks"];

/// Words in backticks that look like paths of the project.
fn named_paths(text: &str) -> BTreeSet<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let mut folders = CRATES.iter().chain(&FOLDERS);
        let in_folder = folders.any(|folder| word.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        in_folder && !word.contains(['*', ' ', '\n', '<', '{', '$', '('])
    };
    quoted.filter(is_path).collect()
}

fn missing(project: &Project) -> Vec<String> {
    let named =
        project.ending(".md").flat_map(|(document, text)| named_paths(text).into_iter().map(move |p| (document, p)));
    let missing = named.filter(|(_, path)| !project.has(path));
    missing.map(|(document, path)| format!("{document} names `{path}`, which does not exist")).collect()
}

/// Where documents name a folder of the machine they were written on.
fn of_a_machine(document: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for folder in ["/work", "/root", "/tmp"] {
            let found = line.match_indices(folder).any(|(at, _)| {
                let goes_on = |c: char| c.is_alphanumeric() || "_-.".contains(c);
                let (before, after) = (&line[..at], &line[at + folder.len()..]);
                !before.ends_with(|c| goes_on(c) || c == '}') && !after.starts_with(|c| goes_on(c) && c != '.')
            });
            if found {
                problems.push(format!("{document}:{} names {folder}, which is of one machine", i + 1));
            }
        }
    }
    problems
}

/// Problems of the decisions, given by name and text in the order of their names.
fn decisions(files: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (i, (name, text)) in files.iter().enumerate() {
        let number = format!("{:04}-", i + 1);
        if !name.starts_with(&number) {
            problems.push(format!("{name} should start with {number}"));
        }
        let title = text.lines().next().unwrap_or_default();
        if !title.starts_with(&format!("# {}. ", i + 1)) {
            problems.push(format!("{name} is titled `{title}`, which should start with `# {}. `", i + 1));
        }
    }
    problems
}

#[test]
fn documents_name_what_exists() {
    let project = Project::load();
    assert!(!named_paths(project.text("docs/ARCHITECTURE.md").unwrap()).is_empty());
    fail_with(&missing(&project));
}

#[test]
fn documents_name_no_machine() {
    let project = Project::load();
    fail_with(&project.ending(".md").flat_map(|(path, text)| of_a_machine(path, text)).collect::<Vec<_>>());
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let project = Project::load();
    let files = project.ending("").filter_map(|(path, text)| Some((path.strip_prefix("docs/decisions/")?, text)));
    let files: Vec<(&str, &str)> = files.collect();
    assert!(!files.is_empty());
    fail_with(&decisions(&files));
}

mod made_up {
    use super::*;
    use crate::project::expect;

    #[test]
    fn paths() {
        let check = |text: &str, words: &[&str]| {
            let project = Project::of(&[("README.md", text), ("docs/x.md", ""), ("speed/src/run.rs", "")]);
            expect(&missing(&project), words);
        };
        check("`docs/x.md`, `speed/src/`, `speed/src` and docs/y.md", &[]);
        check("`docs/*.md`, `src/<name>`, `cargo test`, `documents/a`", &[]);
        check("`docs/y.md` and `speed/src/ru`", &["`docs/y.md`", "`speed/src/ru`"]);
        check("`infra/demo/src/a.rs`", &["README.md names `infra/demo/src/a.rs`"]);
    }

    #[test]
    fn machines() {
        let check = |text: &str, words: &[&str]| expect(&of_a_machine("a.md", text), words);
        check("serving/workers/root.rs, `target/tmp/`, $HOME/work, ${HOME}/tmp", &[]);
        check("/workers, /roots, /tmpfs and `s3://bucket/a`", &[]);
        check("\nIn /work/main.", &["a.md:2 names /work,"]);
        check("`/root`, (/tmp/x)", &["a.md:1 names /root,", "a.md:1 names /tmp,"]);
        check("file:///tmp/x; see /work.", &["names /work,", "names /tmp,"]);
    }

    #[test]
    fn numbers() {
        let check = |files: &[(&str, &str)], words: &[&str]| expect(&decisions(files), words);
        check(&[("0001-a.md", "# 1. A"), ("0002-b.md", "# 2. B\nrest")], &[]);
        check(&[("0001-a.md", "# 1. A"), ("0003-b.md", "# 3. B")], &["start with 0002-", "`# 3. B`"]);
        check(&[("0001-a.md", "# A")], &["titled `# A`"]);
        check(&[("0001-a.md", "")], &["titled ``"]);
    }
}
