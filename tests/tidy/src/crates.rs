//! What crates may know: each other, the outside world, `anyhow`; and what all of them share.
//!
//! It exists because an arrow between layers is drawn in a manifest long before anybody sees it in code. Invariant: a
//! new member of the workspace is under these checks or under `tests/`.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{dependencies, strings, tables};
use crate::project::{CRATES, Project, fail_with};

/// The outside world, and who speaks to it. The demo is no layer: it stands before Kafka, as any producer does.
const HOMES: [(&str, &[&str]); 4] = [
    ("rdkafka", &["infra/demo", "speed"]),
    ("deltalake-core", &["batch"]),
    ("axum", &["serving"]),
    ("kafka-protocol", &["infra/demo"]),
];

/// Libraries whose types cross layers.
const SHARED: [&str; 5] = ["arrow-array", "arrow-schema", "datafusion", "object_store", "parquet"];

/// Folders of crates, with what their own code may use.
type Known = BTreeMap<String, BTreeSet<String>>;

fn siblings(known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, known) in known {
        let forbidden: &[&str] = match folder.as_str() {
            "" => &[],
            "schemas" => &["thalweg"],
            _ => &["thalweg-speed", "thalweg-batch", "thalweg-serving"],
        };
        let wrong = known.iter().filter(|name| forbidden.iter().any(|forbidden| name.starts_with(forbidden)));
        problems.extend(wrong.map(|name| format!("{folder} depends on {name}")));
        if !["", "schemas"].contains(&folder.as_str()) && !known.contains("thalweg-schemas") {
            problems.push(format!("{folder} does not use schemas"));
        }
    }
    problems
}

fn homes(known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    for (library, homes) in HOMES {
        let knowing = known.iter().filter(|(_, known)| known.contains(library));
        let knowing: Vec<&str> = knowing.map(|(folder, _)| folder.as_str()).collect();
        if knowing != homes {
            problems.push(format!("{library} is known to {knowing:?}, and its home is {homes:?}"));
        }
    }
    problems
}

fn anyhow(known: &Known) -> Vec<String> {
    let person = |folder: &str| ["", "serving/client"].contains(&folder);
    let wrong = known.iter().filter(|(folder, known)| !person(folder) && known.contains("anyhow"));
    wrong.map(|(folder, _)| format!("{folder} depends on anyhow, which is for what a person runs")).collect()
}

fn versions(lock: &str) -> Vec<String> {
    let tables = tables("Cargo.lock", lock);
    let count = |library: &str| {
        let name = format!("\"{library}\"");
        tables.iter().filter(|table| table.name == "package" && table.value("name") == Some(&name)).count()
    };
    let wrong = SHARED.into_iter().filter(|library| count(library) != 1);
    wrong.map(|library| format!("{library} has {} versions", count(library))).collect()
}

fn lints(path: &str, manifest: &str) -> Vec<String> {
    let tables = tables(path, manifest);
    let shared = tables.iter().any(|table| table.name == "lints" && table.value("workspace") == Some("true"));
    if shared { Vec::new() } else { vec![format!("{path} does not take the lints of the workspace")] }
}

fn members(manifest: &str) -> Vec<String> {
    let tables = tables("Cargo.toml", manifest);
    let workspace = tables.iter().find(|table| table.name == "workspace").expect("Cargo.toml has no [workspace]");
    let members = strings(workspace.value("members").expect("[workspace] has no members"));
    let unknown = members.iter().filter(|folder| !CRATES.contains(folder) && !folder.starts_with("tests/"));
    let unknown = unknown.map(|folder| format!("{folder} is a member of the workspace that the checks do not know"));
    let lost = CRATES.iter().filter(|folder| !members.contains(folder));
    unknown.chain(lost.map(|folder| format!("{folder} is no member of the workspace"))).collect()
}

/// Problems of the manifest of this crate.
fn alone(manifest: &str) -> Vec<String> {
    let tables = tables("tests/tidy/Cargo.toml", manifest);
    let wrong = tables.iter().filter(|table| table.name.contains("dependencies"));
    wrong.map(|table| format!("tests/tidy has [{}], and is to need nothing", table.name)).collect()
}

/// The path of the manifest of a folder; the root package's folder is empty.
fn path(folder: &str) -> String {
    if folder.is_empty() { "Cargo.toml".to_owned() } else { format!("{folder}/Cargo.toml") }
}

fn known(project: &Project) -> Known {
    let all = CRATES.into_iter().chain([""]);
    all.map(|folder| (folder.to_owned(), dependencies(&path(folder), project.text(&path(folder)).unwrap()))).collect()
}

#[test]
fn siblings_do_not_know_each_other() {
    fail_with(&siblings(&known(&Project::load())));
}

#[test]
fn each_outside_world_is_known_to_its_home() {
    fail_with(&homes(&known(&Project::load())));
}

#[test]
fn only_what_a_person_runs_uses_anyhow() {
    fail_with(&anyhow(&known(&Project::load())));
}

#[test]
fn what_crosses_layers_has_one_version() {
    fail_with(&versions(Project::load().text("Cargo.lock").unwrap()));
}

#[test]
fn every_crate_has_the_same_lints() {
    let project = Project::load();
    fail_with(&project.ending("Cargo.toml").flat_map(|(path, text)| lints(path, text)).collect::<Vec<_>>());
}

#[test]
fn every_crate_is_checked() {
    fail_with(&members(Project::load().text("Cargo.toml").unwrap()));
}

#[test]
fn tidy_needs_nothing() {
    fail_with(&alone(Project::load().text("tests/tidy/Cargo.toml").unwrap()));
}

mod made_up {
    use super::*;
    use crate::project::expect;

    /// `a: b c, d:` as crates and what they depend on.
    fn crates(text: &str) -> Known {
        let one = |part: &str| {
            let (folder, names) = part.split_once(':').unwrap();
            (folder.trim().to_owned(), names.split_whitespace().map(str::to_owned).collect())
        };
        text.split(',').map(one).collect()
    }

    #[test]
    fn arrows() {
        let check = |text: &str, words: &[&str]| expect(&siblings(&crates(text)), words);
        check("schemas: serde, speed: thalweg-schemas, : thalweg-speed thalweg-batch", &[]);
        check("schemas: thalweg-demo", &["schemas depends on thalweg-demo"]);
        check("speed: thalweg-schemas thalweg-batch", &["speed depends on thalweg-batch"]);
        check("infra/demo: thalweg-serving thalweg-schemas", &["infra/demo depends on thalweg-serving"]);
        check("batch:", &["batch does not use schemas"]);
    }

    #[test]
    fn outside_worlds() {
        let check = |text: &str, words: &[&str]| expect(&homes(&crates(text)), words);
        let rest = "batch: deltalake-core, infra/demo: rdkafka kafka-protocol";
        check(&format!("{rest}, speed: rdkafka, serving: axum"), &[]);
        check(&format!("{rest}, speed: rdkafka, serving: axum rdkafka"), &["rdkafka is known to"]);
        check(&format!("{rest}, speed: rdkafka kafka-protocol, serving:"), &["axum is known to []", "kafka-protocol"]);
        let check = |text: &str, words: &[&str]| expect(&anyhow(&crates(text)), words);
        check(": anyhow, serving/client: anyhow, batch: thiserror", &[]);
        check(": anyhow, batch: anyhow", &["batch depends on anyhow"]);
    }

    #[test]
    fn manifests() {
        let once: String = SHARED.iter().map(|name| format!("[[package]]\nname = \"{name}\"\n")).collect();
        expect(&versions(&once), &[]);
        expect(&versions(&format!("{once}[[package]]\nname = \"parquet\"")), &["parquet has 2 versions"]);
        expect(&versions(&once.replace("datafusion", "x")), &["datafusion has 0 versions"]);

        expect(&lints("a", "[lints]\nworkspace = true"), &[]);
        expect(&lints("a", "[lints]\nworkspace = false"), &["a does not take"]);
        expect(&lints("a", "[package]\nworkspace = true"), &["a does not take"]);

        let list = |folders: &[&str]| format!("[workspace]\nmembers = {folders:?}");
        expect(&members(&list(&[&CRATES[..], &["tests/tidy"]].concat())), &[]);
        expect(&members(&list(&[&CRATES[..], &["tools"]].concat())), &["tools is a member"]);
        expect(&members(&list(&CRATES[1..])), &["schemas is no member"]);

        expect(&alone("[package]\nname = \"a\""), &[]);
        expect(&alone("[dev-dependencies]"), &["[dev-dependencies]"]);
    }
}
