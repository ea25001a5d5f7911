//! Rust text as words, signs and literals, with the comments apart.
//!
//! It exists so that a check finds `todo!` in code and not in a string or a comment. Invariant: text that is not
//! understood is a panic that names the line, never a token less.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or a name, without `r#`.
    Word,
    /// One character.
    Sign,
    /// What stands between the quotes of a string.
    Text,
    /// A number, a character or a lifetime.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, Kind::Word | Kind::Sign)
    }
}

/// A comment, of several lines if it is a block, and the line it starts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comment<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Scan<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    pub(crate) comments: Vec<Comment<'a>>,
}

pub(crate) fn scan(source: &str) -> Scan<'_> {
    let mut found = Scan::default();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let mut token = |kind, length, text| {
            found.tokens.push(Token { kind, text, line });
            length
        };
        let length = if first.is_whitespace() {
            rest.len() - rest.trim_start().len()
        } else if let Some(length) = comment(rest) {
            found.comments.push(Comment { text: rest.get(..length).unwrap_or(rest), line });
            length
        } else if let Some((length, text)) = string(rest) {
            token(Kind::Text, length, text)
        } else if let Some(length) = character(rest) {
            token(Kind::Other, length, &rest[..length])
        } else if let Some(name) = rest.strip_prefix("r#").filter(|name| name.starts_with(is_word)) {
            let length = while_word(name);
            token(Kind::Word, length + 2, &name[..length])
        } else if first.is_ascii_digit() {
            let length = number(rest);
            token(Kind::Other, length, &rest[..length])
        } else if is_word(first) {
            let length = while_word(rest);
            token(Kind::Word, length, &rest[..length])
        } else {
            token(Kind::Sign, first.len_utf8(), &rest[..first.len_utf8()])
        };
        assert!(length <= rest.len(), "line {line}: what opens here does not end");
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn while_word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The length of the comment that `text` starts with; more than there is if the comment does not end.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut at = text.strip_prefix("/*").map(|_| 2)?;
    let mut depth = 1;
    while depth > 0 {
        let Some(next) = text[at..].find("/*").into_iter().chain(text[at..].find("*/")).min() else {
            return Some(text.len() + 1);
        };
        depth = if text[at + next..].starts_with("/*") { depth + 1 } else { depth - 1 };
        at += next + 2;
    }
    Some(at)
}

/// The length of the string that `text` starts with, and what is in the string.
fn string(text: &str) -> Option<(usize, &str)> {
    if !text.starts_with(['"', 'b', 'c', 'r']) {
        return None;
    }
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = text.strip_prefix(prefix).map(|after| after.trim_start_matches('#'));
        after.is_some_and(|after| after.starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].find('"')?;
    let start = prefix.len() + hashes + 1;
    let raw = prefix.ends_with('r');
    if hashes > 0 && !raw {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let mut escaped = false;
    for (i, c) in text[start..].char_indices() {
        if !escaped && text[start + i..].starts_with(&end) {
            return Some((start + i + end.len(), &text[start..start + i]));
        }
        escaped = !raw && c == '\\' && !escaped;
    }
    Some((text.len() + 1, ""))
}

/// The length of the character or lifetime that `text` starts with.
fn character(text: &str) -> Option<usize> {
    let start = if text.starts_with("b'") { 2 } else { usize::from(text.starts_with('\'')) };
    let first = text.get(start..).filter(|_| start > 0)?.chars().next()?;
    let after = start + first.len_utf8();
    if first == '\\' {
        let escaped = after + text[after..].chars().next()?.len_utf8();
        return Some(escaped + text[escaped..].find('\'')? + 1);
    }
    Some(if text[after..].starts_with('\'') { after + 1 } else { start + while_word(&text[start..]) })
}

/// The length of the number that `text` starts with: `1_000`, `0xff`, `1.5e3`, but only the `0` of `0..5`.
fn number(text: &str) -> usize {
    let whole = while_word(text);
    let fraction = text[whole..].strip_prefix('.').filter(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    whole + fraction.map_or(0, |digits| 1 + while_word(digits))
}

#[test]
fn words_signs_and_literals_are_told_apart() {
    fn check(source: &str, expect: &str) {
        let show = |token: &Token<'_>| match token.kind {
            Kind::Word | Kind::Sign => token.text.to_owned(),
            Kind::Text => format!("<{}>", token.text),
            Kind::Other => format!("({})", token.text),
        };
        let found: Vec<String> = scan(source).tokens.iter().map(show).collect();
        assert_eq!(found.join(" "), expect, "{source}");
    }
    check("use a::b;", "use a : : b ;");
    check("r#type rust bring", "type rust bring");
    check(r#"f("a // b", "c\"d", "\\")"#, r#"f ( <a // b> , <c\"d> , <\\> )"#);
    check(r####"r#"a"b"# br##"c"#d"## b"e" c"f" r"\""####, r##"<a"b> <c"#d> <e> <f> <\>"##);
    check(r"'a' '\'' '\u{1F600}' b'x' b'\\' 'ä' '\n'", r"('a') ('\'') ('\u{1F600}') (b'x') (b'\\') ('ä') ('\n')");
    check("&'a str + 'static", "& ('a) str + ('static)");
    check("0..5 1.5e3 0xff_u8 t.0", "(0) . . (5) (1.5e3) (0xff_u8) t . (0)");
    check("a // todo!\n/* b /* c */ \" */ d", "a d");
    check("größe_1", "größe_1");
}

#[test]
fn lines_and_comments_are_kept() {
    let found = scan("a /* b\n c */ d\n\"e\nf\" // g\nh");
    let lines: Vec<(&str, usize)> = found.tokens.iter().map(|t| (t.text, t.line)).collect();
    assert_eq!(lines, [("a", 1), ("d", 2), ("e\nf", 3), ("h", 5)]);
    let comments: Vec<(&str, usize)> = found.comments.iter().map(|c| (c.text, c.line)).collect();
    assert_eq!(comments, [("/* b\n c */", 1), ("// g", 4)]);
}

#[test]
fn what_does_not_end_is_refused() {
    for source in ["a\n\"b", "\n/* c /* */", "\nr#\"d\""] {
        let panic = std::panic::catch_unwind(|| scan(source)).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.starts_with("line 2:"), "{source}: {message}");
    }
}
