//! Circles of imports: files that need each other, directly or through others.
//!
//! It exists because none of the files of a circle can be understood before the others. Two may be one: a file and a
//! part that was cut from it for its length. Invariant: an arrow is part of a reported circle if it is part of any that
//! is too long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::modules::{Crate, crates};
use crate::project::fail_with;

/// From file to file, with the line of the first import.
type Arrows = BTreeMap<String, BTreeMap<String, usize>>;

fn arrows(found: &Crate) -> Arrows {
    let mut arrows = Arrows::new();
    for arrow in found.arrows() {
        let [from, to] = [&arrow.from, &arrow.to].map(|name| found.modules[name].file.clone());
        let line = arrows.entry(from).or_default().entry(to).or_insert(arrow.line);
        *line = arrow.line.min(*line);
    }
    arrows
}

/// The shortest way from one file to another that is longer than one arrow.
fn way_back<'a>(arrows: &'a Arrows, from: &'a str, to: &'a str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in arrows.get(at).into_iter().flat_map(BTreeMap::keys).map(String::as_str) {
            if next == from || before.contains_key(next) || (at, next) == (from, to) {
                continue;
            }
            before.insert(next, at);
            queue.push_back(next);
            if next == to {
                let mut way = vec![to];
                while let Some(previous) = before.get(way[way.len() - 1]) {
                    way.push(previous);
                }
                way.reverse();
                return Some(way);
            }
        }
    }
    None
}

/// The shortest circle of every arrow that is part of one of more than two files.
fn circles(arrows: &Arrows) -> Vec<String> {
    let mut found: BTreeSet<(usize, Vec<&str>)> = BTreeSet::new();
    for (from, targets) in arrows {
        for to in targets.keys() {
            let Some(mut circle) = way_back(arrows, to, from) else { continue };
            let first = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap();
            circle.rotate_left(first);
            found.insert((circle.len(), circle));
        }
    }
    let show = |(length, circle): (usize, Vec<&str>)| {
        let step = |i: usize| format!("{}:{}", circle[i], arrows[circle[i]][circle[(i + 1) % length]]);
        format!("{length} files: {} -> {}", (0..length).map(step).collect::<Vec<_>>().join(" -> "), circle[0])
    };
    found.into_iter().map(show).collect()
}

#[test]
fn imports_make_no_circles() {
    fail_with(&crates().iter().flat_map(|(_, found)| circles(&arrows(found))).collect::<Vec<_>>());
}

mod made_up {
    use super::*;
    use crate::modules::Tests;
    use crate::project::{Project, expect};

    /// `a>b b>c` as arrows, the line being the position.
    fn check(text: &str, words: &[&str]) {
        let mut arrows = Arrows::new();
        for (i, arrow) in text.split_whitespace().enumerate() {
            let (from, to) = arrow.split_once('>').unwrap();
            arrows.entry(from.to_owned()).or_default().insert(to.to_owned(), i + 1);
        }
        expect(&circles(&arrows), words);
    }

    #[test]
    fn of_more_than_two_files_are_refused() {
        check("a>b b>c a>c", &[]);
        check("a>b b>a", &[]);
        check("a>b b>a b>c c>b c>d d>c", &[]);
        check("b>c c>a a>b", &["3 files: a:3 -> b:1 -> c:2 -> a"]);
        check("a>b b>c c>d d>a", &["4 files: a:1 -> b:2 -> c:3 -> d:4 -> a"]);
        check("a>b b>a b>c c>a", &["3 files: a:1 -> b:3 -> c:4 -> a"]);
        check("a>b b>c c>a d>e e>f f>d", &["3 files: a", "3 files: d"]);
        check("a>b b>c c>a c>d d>a", &["3 files: a:1", "4 files: a:1 -> b:2 -> c:4 -> d:5 -> a"]);
    }

    #[test]
    fn run_through_modules() {
        let files = [
            ("src/lib.rs", "mod a; pub use a::A;"),
            ("src/a.rs", "mod b; mod c; pub struct A; fn f() { b::g() }"),
            ("src/a/b.rs", "use super::c;"),
            ("src/a/c.rs", "\nuse crate::A;"),
        ];
        let found = Crate::read(&Project::of(&files), "src/lib.rs", Tests::Out);
        let circle = "3 files: src/a.rs:1 -> src/a/b.rs:1 -> src/a/c.rs:2 -> src/a.rs";
        expect(&circles(&arrows(&found)), &[circle]);
    }
}
