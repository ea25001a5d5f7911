//! The order in which modules are listed: a module imports only what is listed above it, at the root and in folders.
//!
//! It exists so that a crate can be read from its first `mod` line to the last, and each file finds the words it needs
//! already explained. Invariant: a name that a module re-exports counts as the module it comes from.

use std::collections::BTreeSet;

use crate::modules::{Crate, Name, Tests, crates, packages, roots};
use crate::project::{Project, fail_with};

/// What the children of a module import, with all below them, against the order in which the module lists them.
fn against_order(found: &Crate, parent: &Name) -> Vec<String> {
    let module = &found.modules[parent];
    let place = |name: &Name| {
        let child = name.strip_prefix(&parent[..])?.first()?;
        module.children.iter().position(|listed| listed == child)
    };
    let mut wrong: Vec<(&str, usize, usize, usize, Vec<String>)> = Vec::new();
    for arrow in found.arrows() {
        let (Some(from), Some(to)) = (place(&arrow.from), place(&arrow.to)) else { continue };
        let file = found.modules[&arrow.from].file.as_str();
        if from < to {
            match wrong.iter_mut().find(|(other, _, _, other_to, _)| (*other, *other_to) == (file, to)) {
                Some((.., paths)) => paths.push(arrow.path),
                None => wrong.push((file, arrow.line, from, to, vec![arrow.path])),
            }
        }
    }
    let show = |(file, line, from, to, paths): (&str, usize, usize, usize, Vec<String>)| {
        let (list, from, to) = (&module.file, &module.children[from], &module.children[to]);
        format!("{file}:{line} imports {}: {list} lists `{to}` below `{from}`", paths.join(", "))
    };
    wrong.into_iter().map(show).collect()
}

/// The same for every module of a crate.
fn against_any_order(found: &Crate) -> Vec<String> {
    found.modules.keys().flat_map(|parent| against_order(found, parent)).collect()
}

/// Files of a package's source that no `mod` line leads to.
fn unreached(project: &Project, folder: &str) -> Vec<String> {
    let roots = roots(project, folder);
    let crates = roots.iter().map(|root| Crate::read(project, root, Tests::In));
    let reached: BTreeSet<String> =
        crates.flat_map(|found| found.modules.into_values().map(|module| module.file)).collect();
    let source = format!("{}/", roots[0].rsplit_once('/').unwrap().0);
    let files = project.ending(".rs").map(|(path, _)| path).filter(|path| path.starts_with(&source));
    files.filter(|path| !reached.contains(*path)).map(|path| format!("no `mod` line leads to {path}")).collect()
}

#[test]
fn modules_are_listed_in_reading_order() {
    fail_with(&crates().iter().flat_map(|(_, found)| against_any_order(found)).collect::<Vec<_>>());
}

#[test]
fn every_file_is_a_module() {
    let project = Project::load();
    fail_with(&packages().flat_map(|folder| unreached(&project, folder)).collect::<Vec<_>>());
}

mod made_up {
    use super::*;
    use crate::project::expect;

    #[test]
    fn of_the_root() {
        let check = |lib: &str, a: &str, b: &str, words: &[&str]| {
            let files =
                [("src/lib.rs", lib), ("src/a.rs", a), ("src/b.rs", b), ("src/a/d.rs", "\nuse super::super::b;")];
            let found = Crate::read(&Project::of(&files), "src/lib.rs", Tests::Out);
            expect(&against_order(&found, &Name::new()), words);
        };
        let (lib, swapped) = ("mod a; mod b; pub use b::{C, D};", "mod b; mod a; pub use b::{C, D};");
        check(lib, "", "use crate::a;", &[]);
        check(lib, "use crate::b;", "", &["src/a.rs:1 imports crate::b: src/lib.rs lists `b` below `a`"]);
        check(lib, "\nuse crate::C;", "pub struct C;", &["src/a.rs:2 imports crate::C: src/lib.rs lists `b` below"]);
        let both = &["src/a.rs:1 imports super::C, super::D: "];
        check(lib, "use super::{C, D};", "pub struct C; pub struct D;", both);
        check(lib, "fn f() { crate::b::g() }", "", &["imports crate::b::g"]);
        check(lib, "mod c { use crate::b; }", "", &["src/a.rs:1 imports crate::b"]);
        check(lib, "mod d;", "", &["src/a/d.rs:2 imports super::super::b"]);
        check(lib, "mod c { use super::E; } mod e { pub struct E; } use e::E;", "", &[]);
        check(lib, "#[cfg(test)] mod tests { use crate::b; }", "", &[]);
        check(lib, "use std::b; use b;", "", &[]);
        check(swapped, "use crate::b; use crate::C; mod d;", "pub struct C;", &[]);
        check("#[cfg(test)] mod tests { use crate::b; } mod b;", "", "", &[]);
    }

    #[test]
    fn of_a_folder() {
        let check = |a: &str, c: &str, words: &[&str]| {
            let files = [
                ("src/lib.rs", "mod b; mod a;"),
                ("src/b.rs", ""),
                ("src/a.rs", a),
                ("src/a/c.rs", c),
                ("src/a/d.rs", ""),
            ];
            let found = Crate::read(&Project::of(&files), "src/lib.rs", Tests::Out);
            expect(&against_any_order(&found), words);
        };
        let below = "src/a/c.rs:1 imports super::d: src/a.rs lists `d` below `c`";
        check("mod c; mod d;", "use super::d;", &[below]);
        check("mod d; mod c;", "use super::d;", &[]);
        check("mod c; mod d; use c::E; struct F;", "use super::F; use crate::b;", &[]);
        check("mod c; mod d; pub use d::E;", "use crate::a::E;", &["src/a/c.rs:1 imports crate::a::E"]);
    }

    #[test]
    fn files_without_a_mod_line() {
        let check = |lib: &str, words: &[&str]| {
            expect(
                &unreached(&Project::of(&[("x/src/lib.rs", lib), ("x/src/a.rs", ""), ("src/b.rs", "")]), "x"),
                words,
            );
        };
        check("mod a;", &[]);
        check("#[cfg(test)] mod a;", &[]);
        check("", &["no `mod` line leads to x/src/a.rs"]);
    }
}
