//! The files of the project, read at the edge: the checks see (path, text) pairs only.
//!
//! It exists so that a check can be run on a made-up project as well as on this one. Invariant: paths are relative to
//! the root and separated by `/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The crates that make up the product, beside the root package.
pub(crate) const CRATES: [&str; 6] = ["schemas", "speed", "batch", "serving", "serving/client", "infra/demo"];

/// Endings of the files whose text is checked; of others only the path is.
const READ: [&str; 4] = [".rs", ".md", ".toml", ".lock"];

#[derive(Default)]
pub(crate) struct Project {
    texts: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Project {
    pub(crate) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let mut project = Self::default();
        project.walk(root, "");
        project
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            texts: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let entry = entry.unwrap().path();
            let name = entry.file_name().unwrap().to_str().unwrap();
            let path = format!("{prefix}{name}");
            if entry.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    self.walk(&entry, &format!("{path}/"));
                }
                continue;
            }
            if READ.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&entry).unwrap_or_else(|e| panic!("{path}: {e}"));
                self.texts.insert(path.clone(), text);
            }
            self.paths.insert(path);
        }
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Every file that was read and has this ending, in the order of the paths.
    pub(crate) fn ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.texts.iter().filter(move |(path, _)| path.ends_with(ending));
        files.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file has this path or stands under it.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.paths.contains(path) || self.paths.range(folder.clone()..).next().is_some_and(|p| p.starts_with(&folder))
    }
}

#[track_caller]
pub(crate) fn fail_with(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems\n{}\n", problems.len(), problems.join("\n"));
}

/// Fails where a check does not find in a made-up input exactly the problems that contain these words, in this order.
#[track_caller]
pub(crate) fn expect(problems: &[String], words: &[&str]) {
    let same = problems.len() == words.len() && problems.iter().zip(words).all(|(p, word)| p.contains(word));
    assert!(same, "expected {words:#?}, found {problems:#?}");
}

#[test]
fn paths_are_files_and_their_folders() {
    let project = Project::of(&[("a/b.rs", ""), ("a-c/d.md", "")]);
    for (path, exists) in [("a", true), ("a/", true), ("a/b.rs", true), ("a/b", false), ("a-c", true), ("a-", false)] {
        assert_eq!(project.has(path), exists, "{path}");
    }
    assert_eq!(project.ending(".rs").collect::<Vec<_>>(), [("a/b.rs", "")]);
}

#[test]
fn the_project_is_found() {
    let project = Project::load();
    assert!(project.has("Makefile") && project.has("infra/install") && !project.has("target"));
    for folder in CRATES {
        assert!(project.text(&format!("{folder}/src/lib.rs")).is_some(), "{folder}");
    }
}
