//! `to_char(time, 'YYYY-MM-DD')`: patterns of PostgreSQL, as the engine's patterns.
//!
//! The engine's `to_char` takes patterns of `strftime`, and gives the letters of any other text back. A text without
//! `%` can therefore only be meant as PostgreSQL's. Invariant: a pattern is translated whole or refused; no letter that
//! means something in PostgreSQL is taken for itself.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Value,
};

use crate::{Error, Result};

/// Patterns whose case does not matter, longest first.
const NUMBERS: [(&str, char, &str); 14] = [
    ("HH24", 'H', ""),
    ("HH12", 'I', ""),
    ("YYYY", 'Y', ""),
    ("IYYY", 'G', ""),
    ("DDD", 'j', ""),
    ("HH", 'I', ""),
    ("MI", 'M', ""),
    ("SS", 'S', ""),
    ("MS", 'f', "3"),
    ("US", 'f', "6"),
    ("MM", 'm', ""),
    ("DD", 'd', ""),
    ("YY", 'y', ""),
    ("IW", 'V', ""),
];

/// Patterns whose case is the case of the words.
const WORDS: [(&str, &str); 8] = [
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("Mon", "%b"),
    ("Dy", "%a"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("am", "%P"),
    ("pm", "%P"),
];

/// Translates the pattern of a call of `to_char`.
///
/// Errors: [`Error::RefuseDefinition`] for a pattern without a translation.
pub(super) fn translate_call(function: &mut Function) -> Result<()> {
    let name = function.name.0.last().and_then(ObjectNamePart::as_ident);
    if !name.is_some_and(|name| name.value.eq_ignore_ascii_case("to_char")) {
        return Ok(());
    }
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    if let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_mut_slice()
        && let Value::SingleQuotedString(pattern) = &mut value.value
        && !pattern.contains('%')
    {
        *pattern = translate(pattern)?;
    }
    Ok(())
}

/// Errors: [`Error::RefuseDefinition`].
fn translate(pattern: &str) -> Result<String> {
    let mut translated = String::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
            translated.push_str(text);
            rest = behind;
            continue;
        }
        if let Some((word, means)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            translated.push_str(means);
            rest = &rest[word.len()..];
            continue;
        }
        let (bare, unpadded) = match rest.get(..2) {
            Some("FM" | "fm") => (&rest[2..], true),
            _ => (rest, false),
        };
        let known = |word: &str| bare.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        match NUMBERS.iter().find(|(word, ..)| known(word)) {
            Some((word, means, digits)) if digits.is_empty() || !unpadded => {
                translated.push('%');
                translated.push_str(digits);
                if unpadded {
                    translated.push('-');
                }
                translated.push(*means);
                rest = &bare[word.len()..];
            }
            _ if letter.is_alphabetic() => {
                let word: String = rest.chars().take_while(|letter| letter.is_alphanumeric()).collect();
                return Err(Error::refuse(
                    format!("to_char: `{word}` in the pattern `{pattern}` has no translation"),
                    "Patterns are YYYY, YY, MM, DD, DDD, HH24, HH12, MI, SS, MS, US, IYYY, IW, Mon, FMMonth, Dy, FMDay, \
                     AM and PM; letters that stand for themselves are in double quotes. A text with % is a pattern of \
                     strftime.",
                ));
            }
            _ => {
                translated.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    Ok(translated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expect: &str) {
        assert_eq!(translate(pattern).unwrap(), expect, "{pattern}");
    }

    #[test]
    fn patterns_of_postgres() {
        check("YYYY-MM-DD HH24:MI:SS.MS", "%Y-%m-%d %H:%M:%S.%3f");
        check("yyyy/mm/dd hh24-mi-ss.us", "%Y/%m/%d %H-%M-%S.%6f");
        check("IYYY-IW DDD", "%G-%V %j");
        check("FMDD.FMMM.YY HH12 AM", "%-d.%-m.%y %I %p");
        check("Dy, DD Mon YYYY", "%a, %d %b %Y");
        check("FMDay FMMonth", "%A %B");
        check("YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"", "%Y-%m-%dT%H:%M:%SZ");
        check("999.99", "999.99");
        check("", "");
    }

    #[test]
    fn what_has_no_translation_is_refused() {
        for pattern in ["Month", "YYYY-MM-DDTHH24", "Q", "J", "MON", "DDth", "TZ", "FMMS", "é"] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
