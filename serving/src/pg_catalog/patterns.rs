//! Patterns of LIKE with an escape of their own, as patterns that are escaped by a backslash.

/// The pattern of LIKE, escaped by a letter (by nothing if it is empty), as one that is escaped by a backslash.
///
/// Errors: a sentence for an escape of several letters, or one behind which the pattern ends.
pub(super) fn like_escape(pattern: &str, escape: &str) -> Result<String, &'static str> {
    let mut letters = escape.chars();
    let escape = letters.next();
    if letters.next().is_some() {
        return Err("invalid escape string: it must be empty or one character");
    }
    let mut result = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let (letter, is_plain) = match Some(letter) == escape {
            true => (letters.next().ok_or("LIKE pattern must not end with escape character")?, true),
            false => (letter, letter == '\\'),
        };
        if is_plain && matches!(letter, '%' | '_' | '\\') {
            result.push('\\');
        }
        result.push(letter);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_escaped_by_a_backslash() {
        let check = |pattern: &str, escape: &str, expect: Result<&str, &str>| {
            let found = like_escape(pattern, escape);
            assert_eq!(found.as_deref(), expect.as_deref(), "{pattern} {escape}");
        };
        check("a//b", "/", Ok("a/b"));
        check("a/%b%", "/", Ok(r"a\%b%"));
        check("a/_b_", "/", Ok(r"a\_b_"));
        check("a/bc", "/", Ok("abc"));
        check(r"a\b", "/", Ok(r"a\\b"));
        check(r"a/\b", "/", Ok(r"a\\b"));
        check(r"a\_b\\c\d", r"\", Ok(r"a\_b\\cd"));
        check(r"a\_", "", Ok(r"a\\_"));
        check("a%%b", "%", Ok(r"a\%b"));
        check("ü_ü", "ü", Err("LIKE pattern must not end with escape character"));
        check("ü_", "ü", Ok(r"\_"));
        check("a", "ab", Err("invalid escape string: it must be empty or one character"));
    }
}
