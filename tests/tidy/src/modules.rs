//! The modules of a crate, as its `mod` lines build them, and what each of them imports from the others.
//!
//! It exists for the checks of order, circles and names. An import is an arrow to the module that defines what is
//! imported, whatever re-exports lie between. Invariant: code for tests is not part of it, unless it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::project::{CRATES, Project};
use crate::syntax::{Import, close, imports, items, path, without_tests};
use crate::tokens::{Kind, Token, scan};

/// Re-exports of re-exports are followed this far: more is a circle.
const DEPTH: usize = 16;

/// The names from the root of the crate to a module; none for the root.
pub(crate) type Name = Vec<String>;

#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: String,
    /// In the order of the `mod` lines.
    pub(crate) children: Vec<String>,
    /// Each `struct`, `enum`, `trait` and `type`, with its line; those inside of functions too.
    pub(crate) types: Vec<(String, usize)>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    mentions: Vec<Mention>,
    /// Words outside of `use` that may be names of this module: no field, and nothing of another path.
    words: BTreeSet<String>,
}

/// A path that code names, by `use` or in place.
#[derive(Debug)]
struct Mention {
    path: Vec<String>,
    line: usize,
    by: By,
}

#[derive(Debug, PartialEq)]
enum By {
    Use,
    /// A `use` that only gives the name to others, unless the module itself uses it.
    ReExport(String),
    Place,
}

/// One module imports from another file.
#[derive(Debug, PartialEq)]
pub(crate) struct Arrow {
    pub(crate) from: Name,
    pub(crate) to: Name,
    pub(crate) line: usize,
    /// As the code has it.
    pub(crate) path: String,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tests {
    In,
    Out,
}

#[derive(Debug)]
pub(crate) struct Crate {
    pub(crate) modules: BTreeMap<Name, Module>,
}

impl Crate {
    /// Reads all modules below the file of the root.
    pub(crate) fn read(project: &Project, root: &str, tests: Tests) -> Self {
        let mut found = Self { modules: BTreeMap::new() };
        let folder = root.rsplit_once('/').unwrap().0;
        found.read_file(project, Vec::new(), root, folder, tests);
        found
    }

    /// Reads a module from its file; `folder` is where the files of its children are.
    fn read_file(&mut self, project: &Project, name: Name, file: &str, folder: &str, tests: Tests) {
        let text = project.text(file).unwrap_or_else(|| panic!("{file} is a module and no file"));
        let mut tokens = scan(text).tokens;
        if tests == Tests::Out {
            tokens = without_tests(&tokens);
        }
        self.read_module(project, name, file, folder, &tokens, tests);
    }

    fn read_module(
        &mut self,
        project: &Project,
        name: Name,
        file: &str,
        folder: &str,
        tokens: &[Token<'_>],
        tests: Tests,
    ) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items(file, tokens) {
            if item.kind != "mod" {
                module.read_code(item.tokens, item.is_public);
                if !item.name.is_empty() {
                    module.items.insert(item.name.to_owned());
                }
                if item.kind == "type" {
                    module.types.push((item.name.to_owned(), item.line));
                } else if item.kind == "use" {
                    let start = item.tokens.iter().position(|token| token.is("use")).unwrap();
                    module.imports.extend(imports(item.tokens, start).1);
                }
                continue;
            }
            module.children.push(item.name.to_owned());
            let child = [&name[..], &[item.name.to_owned()]].concat();
            let base = format!("{folder}/{}", item.name);
            match (item.body, item.path) {
                (Some(body), _) => self.read_module(project, child, file, &base, body, tests),
                (None, Some(path)) => {
                    let beside = file.rsplit_once('/').unwrap().0;
                    self.read_file(project, child, &format!("{beside}/{path}"), beside, tests);
                }
                (None, None) => {
                    let files = [format!("{base}.rs"), format!("{base}/mod.rs")];
                    let found = files.iter().find(|file| project.text(file).is_some());
                    let found = found.unwrap_or_else(|| panic!("{file}:{}: no file {}", item.line, files[0]));
                    self.read_file(project, child, found, &base, tests);
                }
            }
        }
        self.modules.insert(name, module);
    }

    /// What modules import from other files, each once, in the order of modules and lines.
    pub(crate) fn arrows(&self) -> Vec<Arrow> {
        let mut found = Vec::new();
        for (from, module) in &self.modules {
            for mention in &module.mentions {
                if !module.needs(mention) {
                    continue;
                }
                let Some(to) = self.resolve(from, &mention.path, DEPTH) else { continue };
                if self.modules[&to].file != module.file {
                    let path = mention.path.join("::");
                    found.push(Arrow { from: from.clone(), to, line: mention.line, path });
                }
            }
        }
        found
    }

    /// The module that defines what a path leads to; none for what is not of this crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Name> {
        let mut at = from;
        let mut rest = path;
        let mut is_ours = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => at = &[],
                "self" => {}
                "super" => at = at.split_last()?.1,
                _ => break,
            }
            is_ours = true;
            rest = after;
        }
        let found = self.descend(at, rest, depth);
        found.or_else(|| is_ours.then(|| at.to_vec()))
    }

    /// The module that defines what `rest` is in a module; none if nothing there has the first name.
    fn descend(&self, at: &[String], rest: &[String], depth: usize) -> Option<Name> {
        let Some((first, after)) = rest.split_first() else { return Some(at.to_vec()) };
        let module = &self.modules[at];
        if module.children.contains(first) {
            let child = [at, &rest[..1]].concat();
            return Some(self.descend(&child, after, depth).unwrap_or(child));
        }
        if module.items.contains(first) {
            return Some(at.to_vec());
        }
        let depth = depth.checked_sub(1)?;
        if let Some(import) = module.imports.iter().find(|import| !import.is_glob && import.name == *first) {
            return self.resolve(at, &[&import.path[..], after].concat(), depth);
        }
        let globs = module.imports.iter().filter(|import| import.is_glob);
        globs.filter_map(|glob| self.resolve(at, &glob.path, depth)).find_map(|of| {
            let is_other = of != at;
            is_other.then(|| self.descend(&of, rest, depth)).flatten()
        })
    }
}

impl Module {
    fn needs(&self, mention: &Mention) -> bool {
        match &mention.by {
            By::Use => true,
            By::ReExport(name) => self.words.contains(name),
            // The `use` that made this name known is a mention itself.
            By::Place => !self.imports.iter().any(|import| import.name == mention.path[0]),
        }
    }

    fn read_code(&mut self, tokens: &[Token<'_>], is_public: bool) {
        let is_use = |i: usize| tokens[i].is("use") && !tokens.get(i + 1).is_some_and(|token| token.is("<"));
        let mut i = 0;
        while i < tokens.len() {
            let token = &tokens[i];
            if is_use(i) {
                let (end, found) = imports(tokens, i);
                self.mentions.extend(found.into_iter().map(|import| Mention {
                    line: token.line,
                    by: if is_public { By::ReExport(import.name) } else { By::Use },
                    path: import.path,
                }));
                i = end;
                continue;
            }
            let is_of_other = i > 0 && (tokens[i - 1].is(".") || tokens[i - 1].is(":") && tokens[i - 2].is(":"));
            if token.kind == Kind::Word && !is_of_other {
                self.words.insert(token.text.to_owned());
            }
            let declares = ["struct", "enum", "trait"].iter().any(|word| token.is(word));
            if let Some(name) = tokens.get(i + 1).filter(|name| declares && name.kind == Kind::Word) {
                self.types.push((name.text.to_owned(), name.line));
            }
            if token.is("pub") && tokens.get(i + 1).is_some_and(|next| next.is("(")) {
                i = close(tokens, i + 1);
                continue;
            }
            if let Some((_, path)) = path(tokens, i) {
                self.mentions.push(Mention { path, line: token.line, by: By::Place });
            }
            i += 1;
        }
    }
}

/// The folders of the product's packages, the root package's being empty, and of this one.
pub(crate) fn packages() -> impl Iterator<Item = &'static str> {
    CRATES.into_iter().chain(["", "tests/kit", "tests/tidy"])
}

/// The files that are the roots of crates in the folder of a package.
pub(crate) fn roots(project: &Project, folder: &str) -> Vec<String> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let files = ["lib.rs", "main.rs"].map(|file| format!("{prefix}src/{file}"));
    let found: Vec<String> = files.into_iter().filter(|file| project.text(file).is_some()).collect();
    assert!(!found.is_empty(), "{prefix}src has neither lib.rs nor main.rs");
    found
}

/// Every crate of these packages by its root, without tests: read once for all checks.
pub(crate) fn crates() -> &'static [(String, Crate)] {
    static READ: LazyLock<Vec<(String, Crate)>> = LazyLock::new(|| {
        let project = Project::load();
        let roots = packages().flat_map(|folder| roots(&project, folder));
        roots.map(|root| (root.clone(), Crate::read(&project, &root, Tests::Out))).collect()
    });
    &READ
}

mod made_up {
    use super::*;

    fn check(files: &[(&str, &str)], expect: &[&str]) {
        let found = Crate::read(&Project::of(files), "src/lib.rs", Tests::Out);
        let name = |name: &Name| if name.is_empty() { "root".to_owned() } else { name.join("::") };
        let arrows = found.arrows();
        let show = |arrow: &Arrow| format!("{}:{} -> {}", name(&arrow.from), arrow.line, name(&arrow.to));
        assert_eq!(arrows.iter().map(show).collect::<Vec<_>>(), expect, "{files:#?}");
    }

    /// Two modules `a` and `b`, with this text in `a`.
    fn in_a(text: &str, expect: &[&str]) {
        let lib = ("src/lib.rs", "mod a; mod b; pub use b::{B, inner::C as D}; pub use serde::E;");
        let b = ("src/b.rs", "mod inner; pub struct B; pub use inner::*; pub enum F { G }");
        check(&[lib, ("src/a.rs", text), b, ("src/b/inner.rs", "pub struct C;")], expect);
    }

    #[test]
    fn imports_lead_to_where_names_are_defined() {
        in_a("use crate::b::B;", &["a:1 -> b"]);
        in_a("\nuse super::b;", &["a:2 -> b"]);
        in_a("use crate::B;", &["a:1 -> b"]);
        in_a("use crate::D;", &["a:1 -> b::inner"]);
        in_a("use crate::b::C;", &["a:1 -> b::inner"]);
        in_a("use crate::b::{self, C};", &["a:1 -> b", "a:1 -> b::inner"]);
        in_a("use crate::b::F::G;", &["a:1 -> b"]);
        in_a("use crate::b::made_by_a_macro;", &["a:1 -> b"]);
        in_a("use crate::E;", &["a:1 -> root"]);
        in_a("use crate::b::*;", &["a:1 -> b"]);
        in_a("use serde::b; use std::{a, b}; use ::b::c;", &[]);
    }

    #[test]
    fn paths_in_code_are_imports() {
        in_a("fn f() { crate::b::g() }", &["a:1 -> b"]);
        in_a("fn f() {\n use crate::B;\n }", &["a:2 -> b"]);
        in_a("fn f(b: super::B) -> crate::D {}", &["a:1 -> b", "a:1 -> b::inner"]);
        in_a("fn f() { self::f(); b::g(); Vec::new() }", &[]);
        in_a("fn f() { /* crate::b::g() */ \"crate::b::g()\" }", &[]);
        in_a("pub(in crate::b) fn f() -> impl A + use<> {}", &[]);
        in_a("#[cfg(test)] mod tests { use crate::B; }", &[]);
        in_a("impl A { #[cfg(test)] fn f(b: crate::B) {} }", &[]);
    }

    #[test]
    fn a_parent_imports_what_it_uses_of_its_children() {
        let in_root =
            |text: &str, expect: &[&str]| check(&[("src/lib.rs", text), ("src/a.rs", "pub struct A;")], expect);
        in_root("mod a;", &[]);
        in_root("mod a; pub use a::A;", &[]);
        in_root("mod a; pub use a::A; fn f(a: A) {}", &["root:1 -> a"]);
        in_root("mod a; pub use a::A; fn f(b: B) { b.A() + C::A }", &[]);
        in_root("mod a; use a::A;", &["root:1 -> a"]);
        in_root("mod a; fn f() { a::g() }", &["root:1 -> a"]);
        in_root("mod a; use self::a::A;", &["root:1 -> a"]);
        in_root("mod a; mod c { fn f(a: super::a::A) {} }", &["c:1 -> a"]);
        in_root("mod a; mod c { use super::*; fn f() { a::g() } }", &["c:1 -> a"]);
        in_root("mod a; pub use a::*;", &[]);
    }

    #[test]
    fn re_exports_in_a_circle_lead_nowhere() {
        let lib = ("src/lib.rs", "mod a; pub use a::B;");
        check(&[lib, ("src/a.rs", "pub use crate::B; fn f(b: B) {}")], &["a:1 -> root"]);
    }

    #[test]
    fn modules_are_found_as_rustc_finds_them() {
        let files = [
            ("src/lib.rs", "mod a; mod b { mod c; } #[path = \"e.rs\"] mod d; #[cfg(test)] mod tests;"),
            ("src/a.rs", "mod f; enum A {} fn g() { struct B; } impl C for D { type E = F; } type G = H;"),
            ("src/a/f/mod.rs", "mod g;"),
            ("src/a/f/g.rs", ""),
            ("src/b/c.rs", ""),
            ("src/e.rs", "mod h;"),
            ("src/h.rs", ""),
            ("src/tests.rs", ""),
        ];
        let project = Project::of(&files);
        let files = |tests| {
            let found = Crate::read(&project, "src/lib.rs", tests);
            let show = |(name, module): (&Name, &Module)| format!("{}={}", name.join("::"), module.file);
            found.modules.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        let expect = "=src/lib.rs a=src/a.rs a::f=src/a/f/mod.rs a::f::g=src/a/f/g.rs \
                      b=src/lib.rs b::c=src/b/c.rs d=src/e.rs d::h=src/h.rs";
        assert_eq!(files(Tests::Out), expect);
        assert_eq!(files(Tests::In), format!("{expect} tests=src/tests.rs"));
        let found = Crate::read(&project, "src/lib.rs", Tests::Out);
        let types = &found.modules[&vec!["a".to_owned()]].types;
        assert_eq!(types.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["A", "B", "G"]);
        assert_eq!(found.modules[&Vec::new()].children, ["a", "b", "d"]);
    }
}
