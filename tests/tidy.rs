//! What the project says of itself, checked: file heads and sizes, the arrows between crates, paths in the documents.
//!
//! It exists because such rules hold only while something fails when they do not. Invariant: it reads, and builds
//! nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["schemas", "speed", "batch", "serving", "infra/demo"];
/// Lines that a file may have, and a `tests.rs`.
const LINES: usize = 450;
const TEST_LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file of ours with this ending, relative to the root.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no *{ending} under {}", root().display());
    found
}

fn manifest(folder: &str) -> toml::Table {
    read(Path::new(folder).join("Cargo.toml")).parse().unwrap()
}

/// What a crate's own code may use: its dependencies, without those of its tests.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = manifest(folder);
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

fn fail_with(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = files(".rs").into_iter().filter(|path| !read(path).starts_with("//! "));
    fail_with(&silent.map(|path| format!("{} does not open with `//!`", path.display())).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for path in files(".rs") {
        let lines = read(&path).lines().count();
        let is_test =
            path.ends_with("tests.rs") || path.starts_with("tests") || path.iter().any(|part| part == "tests");
        let limit = if is_test { TEST_LINES } else { LINES };
        if lines > limit {
            problems.push(format!("{} has {lines} lines, more than {limit}", path.display()));
        }
    }
    fail_with(&problems);
}

#[test]
fn siblings_do_not_know_each_other() {
    for layer in ["speed", "batch", "serving", "infra/demo"] {
        let known = dependencies(layer);
        for other in ["speed", "batch", "serving"] {
            let other = format!("thalweg-{other}");
            assert!(!known.contains(&other), "{layer} depends on {other}");
        }
        assert!(known.contains("thalweg-schemas"), "{layer} does not use schemas");
    }
    let below = dependencies("schemas");
    assert!(!below.iter().any(|d| d.starts_with("thalweg-")), "schemas depends on {below:?}");
}

#[test]
fn each_outside_world_is_known_to_one_layer() {
    // The demo is no layer: it stands before Kafka, as any producer does.
    let homes: [(&str, &[&str]); 4] = [
        ("rdkafka", &["speed", "infra/demo"]),
        ("deltalake-core", &["batch"]),
        ("axum", &["serving"]),
        ("kafka-protocol", &["infra/demo"]),
    ];
    for (library, home) in homes {
        let knowing = CRATES.iter().chain(&["."]).filter(|c| dependencies(c).contains(library));
        let knowing: Vec<&str> = knowing.copied().collect();
        assert_eq!(knowing, home, "{library}");
    }
}

#[test]
fn what_crosses_layers_has_one_version() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    for library in ["arrow-array", "arrow-schema", "datafusion", "object_store", "parquet"] {
        let versions = packages.iter().filter(|p| p["name"].as_str() == Some(library));
        assert_eq!(versions.count(), 1, "versions of {library}");
    }
}

#[test]
fn only_the_binary_uses_anyhow() {
    for folder in CRATES {
        assert!(!dependencies(folder).contains("anyhow"), "{folder} depends on anyhow");
    }
}

#[test]
fn every_crate_has_the_same_lints() {
    for folder in CRATES.iter().chain(&["."]) {
        let lints = &manifest(folder)["lints"]["workspace"];
        assert_eq!(lints.as_bool(), Some(true), "{folder}");
    }
}

/// Words in backticks that look like paths of the repository.
fn named_paths(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let path = |word: &&str| {
        let in_folder = CRATES
            .iter()
            .chain(&["src", "tests", "docs", "infra", "benches"])
            .any(|folder| word.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        in_folder && !word.contains(['*', ' ', '<', '{', '$', '('])
    };
    quoted.filter(path).map(str::to_owned).collect()
}

#[test]
fn documents_name_what_exists() {
    let mut problems = Vec::new();
    for document in files(".md") {
        for named in named_paths(&read(&document)) {
            if !root().join(named.trim_end_matches('/')).exists() {
                problems.push(format!("{} names `{named}`, which does not exist", document.display()));
            }
        }
    }
    assert!(!named_paths(&read("docs/ARCHITECTURE.md")).is_empty());
    fail_with(&problems);
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for (i, name) in names.iter().enumerate() {
        let number = format!("{:04}-", i + 1);
        assert!(name.starts_with(&number) && name.ends_with(".md"), "{name} should start with {number}");
        let text = read(Path::new("docs/decisions").join(name));
        let title = text.lines().next().unwrap_or_default();
        assert!(title.starts_with(&format!("# {}. ", i + 1)), "{name} is titled `{title}`");
    }
}
