//! As much of Rust's grammar as modules need: items, attributes, use trees and paths.
//!
//! It exists because a parser would be a dependency. Invariant: an item of a module that is not understood is a panic
//! that names file and line; what is compiled for tests only can be told from the rest.

use crate::tokens::{Kind, Token};

/// One item of a module, and where its tokens are: `head` starts behind its attributes, `body` is a module's.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    /// Whether another module can name it.
    pub(crate) is_public: bool,
    /// The text of `#[path = "…"]`.
    pub(crate) path: Option<&'a str>,
    pub(crate) tokens: &'a [Token<'a>],
    /// What is in the braces of a module that is written in its parent's file.
    pub(crate) body: Option<&'a [Token<'a>]>,
}

/// One leaf of a use tree: `a::{b, c as d, e::*}` has three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name that it gives here.
    pub(crate) name: String,
    pub(crate) is_glob: bool,
}

/// The position behind the bracket that closes the one at `open`.
pub(crate) fn close(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" if token.kind == Kind::Sign => depth += 1,
            ")" | "]" | "}" if token.kind == Kind::Sign => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    panic!("line {}: what opens here does not end", tokens[open].line)
}

fn at(tokens: &[Token<'_>], i: usize, text: &str) -> bool {
    tokens.get(i).is_some_and(|token| token.is(text))
}

fn is_path_sign(tokens: &[Token<'_>], i: usize) -> bool {
    at(tokens, i, ":") && at(tokens, i + 1, ":")
}

fn is_word(tokens: &[Token<'_>], i: usize) -> bool {
    tokens.get(i).is_some_and(|token| token.kind == Kind::Word)
}

/// The attributes of a text, each without its brackets.
pub(crate) fn attributes<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = &'a [Token<'a>]> {
    tokens.iter().enumerate().filter(|(_, token)| token.is("#")).filter_map(|(i, _)| {
        let open = if at(tokens, i + 1, "!") { i + 2 } else { i + 1 };
        at(tokens, open, "[").then(|| &tokens[open + 1..close(tokens, open) - 1])
    })
}

/// Whether an attribute takes what follows out of everything but tests. More elaborate conditions count as product.
fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let words = |expect: &[&str]| expect.iter().enumerate().all(|(i, word)| at(attribute, i, word));
    let is_test = attribute.iter().take_while(|token| !token.is("(")).last().is_some_and(|token| token.is("test"));
    is_test || words(&["cfg", "(", "test", ")"]) || words(&["cfg", "(", "all", "(", "test", ","])
}

/// The position behind the attributes at `start`, and those.
fn outer<'a>(tokens: &'a [Token<'a>], start: usize) -> (usize, Vec<&'a [Token<'a>]>) {
    let (mut i, mut found) = (start, Vec::new());
    while at(tokens, i, "#") && at(tokens, i + 1, "[") {
        let end = close(tokens, i + 1);
        found.push(&tokens[i + 2..end - 1]);
        i = end;
    }
    (i, found)
}

/// The position behind `pub`, `pub(crate)` and the like.
fn behind_visibility(tokens: &[Token<'_>], i: usize) -> usize {
    match (at(tokens, i, "pub"), at(tokens, i + 1, "(")) {
        (true, true) => close(tokens, i + 1),
        (true, false) => i + 1,
        (false, _) => i,
    }
}

/// The position behind `const`, `async` and the like of a function or a trait.
fn behind_qualifiers(tokens: &[Token<'_>], mut i: usize) -> usize {
    loop {
        let before_function = ["fn", "unsafe", "async", "extern"].iter().any(|word| at(tokens, i + 1, word));
        let is_qualifier = match tokens.get(i).map_or("", |token| token.text) {
            "const" => before_function,
            "async" | "unsafe" => true,
            "extern" => tokens.get(i + 1).is_some_and(|token| token.kind == Kind::Text) && !at(tokens, i + 2, "{"),
            _ => false,
        };
        if !is_qualifier {
            return i;
        }
        i += if at(tokens, i, "extern") { 2 } else { 1 };
    }
}

/// The position behind what starts at `i`: an item, or else a field, an arm or a statement.
fn behind(tokens: &[Token<'_>], mut i: usize) -> usize {
    let keyword = behind_qualifiers(tokens, behind_visibility(tokens, i));
    let to_semicolon = ["use", "static", "const", "type", "let"].iter().any(|word| at(tokens, keyword, word))
        || (at(tokens, keyword, "extern") && at(tokens, keyword + 1, "crate"));
    let items = ["mod", "fn", "struct", "enum", "union", "trait", "impl", "extern", "macro_rules"];
    let is_item = to_semicolon || items.iter().any(|word| at(tokens, keyword, word));
    while let Some(token) = tokens.get(i).filter(|token| !(token.is("}") || token.is(")") || token.is("]"))) {
        if token.is("(") || token.is("[") || token.is("{") {
            i = close(tokens, i);
            if token.is("{") && !to_semicolon {
                return i;
            }
            continue;
        }
        i += 1;
        if token.is(";") || (token.is(",") && !is_item) {
            return i;
        }
    }
    i
}

/// The tokens without what is compiled for tests only, at any depth.
pub(crate) fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let (mut i, mut kept) = (0, Vec::new());
    while i < tokens.len() {
        let (after, found) = outer(tokens, i);
        if found.into_iter().any(is_for_tests) {
            i = behind(tokens, after);
        } else {
            let end = after.max(i + 1);
            kept.extend_from_slice(&tokens[i..end]);
            i = end;
        }
    }
    kept
}

/// The items of a module.
pub(crate) fn items<'a>(file: &str, tokens: &'a [Token<'a>]) -> Vec<Item<'a>> {
    let (mut i, mut found) = (0, Vec::new());
    while i < tokens.len() {
        if at(tokens, i, "#") && at(tokens, i + 1, "!") {
            i = close(tokens, i + 2);
            continue;
        }
        let (start, attributes) = outer(tokens, i);
        let keyword = behind_qualifiers(tokens, behind_visibility(tokens, start));
        let Some(&Token { text: kind, line, .. }) = tokens.get(keyword) else {
            panic!("{file}: attributes of nothing at the end");
        };
        let name = match kind {
            "mod" | "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" => keyword + 1,
            "static" => keyword + if at(tokens, keyword + 1, "mut") { 2 } else { 1 },
            "macro_rules" => keyword + 2,
            "use" | "impl" | "extern" => keyword,
            _ if is_macro_call(tokens, keyword) => keyword,
            _ => panic!("{file}:{line}: an item that starts with `{kind}` is not understood"),
        };
        let end = behind(tokens, start);
        let body = (kind == "mod" && at(tokens, name + 1, "{")).then(|| &tokens[name + 2..end - 1]);
        let path = attributes.into_iter().find(|attribute| at(attribute, 0, "path") && at(attribute, 1, "="));
        found.push(Item {
            kind,
            name: if name == keyword { "" } else { tokens[name].text },
            line,
            is_public: at(tokens, start, "pub"),
            path: path.map(|attribute| attribute[2].text),
            tokens: &tokens[i..end],
            body,
        });
        i = end + usize::from(is_macro_call(tokens, keyword) && at(tokens, end, ";"));
    }
    found
}

/// Whether `a!`, or `a::b!`, is here.
fn is_macro_call(tokens: &[Token<'_>], mut i: usize) -> bool {
    while is_word(tokens, i) && is_path_sign(tokens, i + 1) {
        i += 3;
    }
    is_word(tokens, i) && at(tokens, i + 1, "!")
}

/// The leaves of the use tree behind the `use` at `start`, and the position behind it.
pub(crate) fn imports(tokens: &[Token<'_>], start: usize) -> (usize, Vec<Import>) {
    let mut found = Vec::new();
    let first = if is_path_sign(tokens, start + 1) { start + 3 } else { start + 1 };
    let end = leaves(tokens, first, &[], &mut found);
    (end, found)
}

fn leaves(tokens: &[Token<'_>], mut i: usize, prefix: &[String], found: &mut Vec<Import>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        if at(tokens, i, "{") {
            let end = close(tokens, i);
            i += 1;
            while i < end - 1 {
                i = leaves(tokens, i, &path, found) + 1;
            }
            return end;
        }
        if at(tokens, i, "*") {
            found.push(Import { path, name: String::new(), is_glob: true });
            return i + 1;
        }
        let token = tokens.get(i).filter(|token| token.kind == Kind::Word);
        let token = token.unwrap_or_else(|| panic!("line {}: this `use` is not understood", tokens[i - 1].line));
        path.push(token.text.to_owned());
        i += 1;
        if !is_path_sign(tokens, i) {
            break;
        }
        i += 2;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let mut name = path.last().unwrap().clone();
    if at(tokens, i, "as") {
        name = tokens[i + 1].text.to_owned();
        i += 2;
    }
    found.push(Import { path, name, is_glob: false });
    i
}

/// The path of two segments or more that starts at `i`, and the position behind it.
pub(crate) fn path(tokens: &[Token<'_>], i: usize) -> Option<(usize, Vec<String>)> {
    let goes_on = i >= 2 && is_path_sign(tokens, i - 2) || i >= 1 && at(tokens, i - 1, ".");
    if goes_on || !is_word(tokens, i) || !is_path_sign(tokens, i + 1) || !is_word(tokens, i + 3) {
        return None;
    }
    let (mut end, mut found) = (i + 1, vec![tokens[i].text.to_owned()]);
    while is_path_sign(tokens, end) && is_word(tokens, end + 2) {
        found.push(tokens[end + 2].text.to_owned());
        end += 3;
    }
    Some((end, found))
}

mod made_up {
    use super::*;
    use crate::tokens::scan;

    #[test]
    fn what_is_for_tests_is_left_out() {
        let check = |source: &str, expect: &str| {
            let found: Vec<&str> = without_tests(&scan(source).tokens).iter().map(|token| token.text).collect();
            assert_eq!(found.join(" "), expect, "{source}");
        };
        check("#[cfg(test)] mod tests; fn f() {}", "fn f ( ) { }");
        check("#[cfg(test)] pub(crate) mod tests { fn g() {} } fn f() {}", "fn f ( ) { }");
        check("#[cfg(test)] use a::{b, c}; use d;", "use d ;");
        check("#[cfg(test)] const A: B = B { c: 1 }; d!();", "d ! ( ) ;");
        check("#[cfg(test)] const fn a() {} b!();", "b ! ( ) ;");
        check("#[a] #[cfg(test)] #[b] struct C<D, E>(D, E); f!();", "f ! ( ) ;");
        check("#[test] fn a() {} #[tokio::test(flavor = \"x\")] async fn b() {} c!();", "c ! ( ) ;");
        check("impl A { #[cfg(test)] pub(super) fn b(&self) -> [u8; 4] { c } fn d() {} }", "impl A { fn d ( ) { } }");
        check("struct A { #[cfg(test)] b: C, d: E }", "struct A { d : E }");
        check("A { #[cfg(test)] b: c }", "A { }");
        check("f(); #[cfg(test)] g(); h();", "f ( ) ; h ( ) ;");
        check("#[cfg(all(test, unix))] mod a; #[cfg(not(test))] mod b;", "# [ cfg ( not ( test ) ) ] mod b ;");
        check("#[derive(A)] struct B;", "# [ derive ( A ) ] struct B ;");
    }

    #[test]
    fn items_have_kinds_and_names() {
        let check = |source: &str, expect: &str| {
            let tokens = scan(source).tokens;
            let show = |item: Item<'_>| format!("{}{} {}", if item.is_public { "+" } else { "" }, item.kind, item.name);
            assert_eq!(items("a.rs", &tokens).into_iter().map(show).collect::<Vec<_>>().join(", "), expect, "{source}");
        };
        check("//! A.\n#![cfg(test)]\nmod a; pub mod b { mod c; }", "mod a, +mod b");
        check("use a::{b, c}; extern crate d; pub use e;", "use , extern , +use ");
        check("pub(crate) struct A; enum B {} trait C {} union D {}", "+struct A, enum B, trait C, union D");
        check("type A = [u8; 4]; const B: C = C { d: 1 }; static mut E: F = 1;", "type A, const B, static E");
        check("const fn a() {} pub async unsafe fn b() {} extern \"C\" fn c() {}", "fn a, +fn b, fn c");
        check("unsafe impl<T> A for B<T> where T: C { type D = E; } unsafe trait F {}", "impl , trait F");
        check("macro_rules! a { () => {} } a! { b } c::d!(e); fn f() {}", "macro_rules a, a , c , fn f");
        check("#[derive(A)] #[b = \"c\"] pub struct D(E); const _: () = ();", "+struct D, const _");
        check("fn a() -> impl B<C> where D: E { struct F; }", "fn a");
        let tokens = scan("#[path = \"b.rs\"] mod a; mod c { d }").tokens;
        let found = items("a.rs", &tokens);
        assert_eq!((found[0].path, found[0].body.is_some()), (Some("b.rs"), false));
        assert_eq!((found[1].path, found[1].body.unwrap()[0].text), (None, "d"));
    }

    #[test]
    fn an_item_that_is_not_understood_is_refused() {
        let panic = std::panic::catch_unwind(|| items("a.rs", &scan("fn a() {}\nyield b;").tokens).len()).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert_eq!(message, "a.rs:2: an item that starts with `yield` is not understood");
    }

    #[test]
    fn use_trees_have_leaves() {
        let check = |source: &str, expect: &str| {
            let tokens = scan(source).tokens;
            let (end, found) = imports(&tokens, 0);
            let show = |import: &Import| match import.is_glob {
                true => format!("{}::*", import.path.join("::")),
                false => format!("{}={}", import.name, import.path.join("::")),
            };
            assert_eq!(found.iter().map(show).collect::<Vec<_>>().join(" "), expect, "{source}");
            assert!(at(&tokens, end, ";"), "{source}");
        };
        check("use a;", "a=a");
        check("use ::a::b;", "b=a::b");
        check("use a::b as c;", "c=a::b");
        check("use a::{self, b, c::{d, e as _}, f::*,};", "a=a b=a::b d=a::c::d _=a::c::e a::f::*");
        check("use {a::b, c};", "b=a::b c=c");
        check("use super::super::*;", "super::super::*");
        check("use self::a;", "a=self::a");
    }

    #[test]
    fn paths_start_where_nothing_goes_before() {
        let check = |source: &str, expect: &[&str]| {
            let tokens = scan(source).tokens;
            let found = (0..tokens.len()).filter_map(|i| path(&tokens, i));
            assert_eq!(found.map(|(_, path)| path.join("::")).collect::<Vec<_>>(), expect, "{source}");
        };
        check("a::b(c, d::e::f)", &["a::b", "d::e::f"]);
        check("crate::a::B::<c::D>::new()", &["crate::a::B", "c::D"]);
        check("::std::x; a.b::<c>(); x: y; x: A = b", &[]);
        check("$crate::a!()", &["crate::a"]);
    }
}
