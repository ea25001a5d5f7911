//! As much of TOML as Cargo's manifests and its lock file need: tables, keys and the text of the values.
//!
//! It exists because a TOML reader would be a dependency. Invariant: what is not understood is a panic that names file
//! and line; a dependency is never overlooked.

use std::collections::BTreeSet;

/// `[name]` or `[[name]]`, with what stands below it.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) entries: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

pub(crate) fn tables(path: &str, text: &str) -> Vec<Table> {
    let mut tables = vec![Table { name: String::new(), entries: Vec::new() }];
    let mut open = 0;
    for (i, line) in text.lines().enumerate() {
        let place = format!("{path}:{}: `{line}`", i + 1);
        let Line { code, depth, equals } = read(line, &place);
        let entries = &mut tables.last_mut().unwrap().entries;
        if open > 0 {
            let (_, value) = entries.last_mut().unwrap();
            value.push_str(code);
            open += depth;
        } else if code.starts_with('[') {
            let name = code.trim_start_matches('[').trim_end_matches(']');
            tables.push(Table { name: unquoted(name), entries: Vec::new() });
        } else if !code.is_empty() {
            let equals = equals.unwrap_or_else(|| panic!("{place}: no `=`"));
            entries.push((unquoted(&code[..equals]), code[equals + 1..].trim().to_owned()));
            open = depth;
        }
        assert!(open >= 0, "{place}: closes what is not open");
    }
    assert_eq!(open, 0, "{path}: a value does not end");
    tables
}

struct Line<'a> {
    /// The line without spaces around it and without its comment.
    code: &'a str,
    /// Brackets that it opens, less those that it closes.
    depth: i32,
    /// Where the first `=` outside of a string is.
    equals: Option<usize>,
}

fn read<'a>(line: &'a str, place: &str) -> Line<'a> {
    let line = line.trim();
    assert!(!line.contains("\"\"\"") && !line.contains("'''"), "{place}: strings of several lines are not understood");
    let (mut quote, mut escaped) = (None, false);
    let mut found = Line { code: line, depth: 0, equals: None };
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => found.depth += 1,
            (None, ']' | '}') => found.depth -= 1,
            (None, '=') => found.equals = found.equals.or(Some(i)),
            (None, '#') => {
                found.code = line[..i].trim_end();
                return found;
            }
            (None, _) => {}
        }
    }
    assert!(quote.is_none(), "{place}: a string does not end");
    found
}

fn unquoted(name: &str) -> String {
    name.replace(['"', '\''], "").trim().to_owned()
}

/// The strings of an array.
pub(crate) fn strings(array: &str) -> Vec<&str> {
    array.split('"').skip(1).step_by(2).collect()
}

/// What a crate's own code may use: its dependencies, without those of its tests.
pub(crate) fn dependencies(path: &str, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for table in tables(path, text) {
        let of_platform = table.name.starts_with("target.") && table.name.ends_with(".dependencies");
        let of_one = table.name.split_once("dependencies.");
        let renamed = table.entries.iter().any(|(key, value)| {
            let of_all = table.name.ends_with("dependencies") && value.contains("package");
            of_all || key.ends_with(".package") || (of_one.is_some() && key == "package")
        });
        assert!(!renamed, "{path}: [{}] gives a dependency another name, which is not understood", table.name);
        if table.name == "dependencies" || of_platform {
            found.extend(table.entries.iter().map(|(key, _)| key.split('.').next().unwrap().to_owned()));
        } else if let Some((before, name)) = of_one
            && (before.is_empty() || before.starts_with("target."))
        {
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn tables_keys_and_values_are_read() {
    fn check(text: &str, expect: &[(&str, &[(&str, &str)])]) {
        let entries = |entries: &[(&str, &str)]| entries.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let table = |(name, pairs): &(&str, &[(&str, &str)])| Table { name: (*name).into(), entries: entries(pairs) };
        let expect: Vec<Table> = expect.iter().map(table).collect();
        assert_eq!(tables("x", text), expect, "{text}");
    }
    check("", &[("", &[])]);
    check("a = 1 # b = 2", &[("", &[("a", "1")])]);
    check("[a.b]\nc.d = true\n\n# e\n[[f]]", &[("", &[]), ("a.b", &[("c.d", "true")]), ("f", &[])]);
    check("a = [\n  \"b\", # ]\n  \"c\",\n]\nd = 1", &[("", &[("a", "[\"b\",\"c\",]"), ("d", "1")])]);
    check("a = { b = \"=#]\" }", &[("", &[("a", "{ b = \"=#]\" }")])]);
    check("\"a\" = '\\'", &[("", &[("a", "'\\'")])]);
    check("[target.'cfg(unix)'.dependencies]", &[("", &[]), ("target.cfg(unix).dependencies", &[])]);
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, expect) in [
        ("a", "x:1: `a`: no `=`"),
        ("\na = \"b", "x:2: `a = \"b`: a string does not end"),
        ("a = '''", "x:1: `a = '''`: strings of several lines are not understood"),
        ("a = [", "a value does not end"),
        ("a = ]", "closes what is not open"),
        ("[dependencies]\na = { package = \"b\" }", "[dependencies] gives a dependency another name"),
        ("[dependencies]\na.package = \"b\"", "[dependencies] gives a dependency another name"),
        ("[dependencies.a]\npackage = \"b\"", "[dependencies.a] gives a dependency another name"),
        ("[workspace.dependencies]\na = { package = \"b\" }", "gives a dependency another name"),
    ] {
        let panic = std::panic::catch_unwind(|| dependencies("x", text)).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains(expect), "{text}: {message}");
    }
}

#[test]
fn dependencies_of_tests_do_not_count() {
    fn check(text: &str, expect: &[&str]) {
        let found = dependencies("x", text);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expect, "{text}");
    }
    check("[package]\nname = \"a\"", &[]);
    check("[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = \"1\"", &["a", "b"]);
    check("[dependencies.a]\nfeatures = []\n[dev-dependencies.b]\nversion = \"1\"", &["a"]);
    check("[target.'cfg(unix)'.dependencies]\na = \"1\"", &["a"]);
    check("[workspace.dependencies]\na = \"1\"", &[]);
    assert_eq!(strings("[\"a\", \"b/c\"]"), ["a", "b/c"]);
}
