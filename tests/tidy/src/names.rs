//! One name, one thing: no two types of the product share a name.
//!
//! It exists because a reader who searches for a name wants to find what it is, once. Invariant: an exception has a
//! reason, and is needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{Crate, Name, crates};
use crate::project::fail_with;

/// Names that several types may have, and why.
const SHARED: [(&str, &str); 3] = [
    ("Error", "each crate has one"),
    ("Result", "the crate's, with its own error"),
    ("Arguments", "each command has its own"),
];

/// Names, with the modules that have a type of this name, and where.
#[derive(Default)]
struct Types(BTreeMap<String, BTreeMap<(String, Name), String>>);

impl Types {
    fn add(&mut self, root: &str, found: &Crate) {
        for (name, module) in &found.modules {
            for (declared, line) in &module.types {
                let place = format!("{}:{line}", module.file);
                self.0.entry(declared.clone()).or_default().insert((root.to_owned(), name.clone()), place);
            }
        }
    }

    fn problems(&self, shared: &[(&str, &str)]) -> Vec<String> {
        let twice = || self.0.iter().filter(|(_, places)| places.len() > 1);
        let allowed: BTreeSet<&str> = shared.iter().map(|(name, _)| *name).collect();
        let wrong = twice().filter(|(name, _)| !allowed.contains(name.as_str()));
        let wrong = wrong.map(|(name, places)| {
            let places: Vec<&str> = places.values().map(String::as_str).collect();
            format!("`{name}` is {} types: {}", places.len(), places.join(", "))
        });
        let needless = allowed.iter().filter(|allowed| !twice().any(|(name, _)| name == *allowed));
        let needless = needless.map(|name| format!("`{name}` is one type at most and needs no exception"));
        wrong.chain(needless).collect()
    }
}

#[test]
fn a_name_is_one_type() {
    let mut types = Types::default();
    for (root, found) in crates().iter().filter(|(root, _)| !root.starts_with("tests/")) {
        types.add(root, found);
    }
    fail_with(&types.problems(&SHARED));
}

mod made_up {
    use super::*;
    use crate::modules::Tests;
    use crate::project::{Project, expect};

    fn check(a: &str, b: &str, shared: &[(&str, &str)], words: &[&str]) {
        let mut types = Types::default();
        for (root, text) in [("a/src/lib.rs", a), ("b/src/main.rs", b)] {
            types.add(root, &Crate::read(&Project::of(&[(root, text)]), root, Tests::Out));
        }
        expect(&types.problems(shared), words);
    }

    #[test]
    fn shared_by_two_types() {
        check("struct A;", "struct B;", &[], &[]);
        check("struct A;", "\npub enum A {}", &[], &["`A` is 2 types: a/src/lib.rs:1, b/src/main.rs:2"]);
        check("trait A {} type B = u8;", "type A = u8; fn f() { enum B {} }", &[], &["`A` is 2", "`B` is 2"]);
        check("struct A; mod c { struct A; }", "", &[], &["`A` is 2 types"]);
        check("#[cfg(unix)] struct A; #[cfg(windows)] struct A;", "", &[], &[]);
        check("struct A;", "#[cfg(test)] mod tests { struct A; }", &[], &[]);
        check("impl C for D { type A = u8; }", "impl C for E { type A = u8; }", &[], &[]);
        check("struct A;", "// struct A;\nconst A: &str = \"struct A;\";", &[], &[]);
    }

    #[test]
    fn exceptions() {
        check("struct A;", "struct A;", &[("A", "each crate has one")], &[]);
        check("struct A;", "", &[("A", "each crate has one")], &["`A` is one type at most and needs no exception"]);
    }
}
