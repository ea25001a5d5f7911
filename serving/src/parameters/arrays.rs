//! Arrays as texts: `{1,NULL,"a b"}`.

use std::iter::Peekable;
use std::str::Chars;

use super::decimals::beginning;

/// Items of an array: while they are read, each takes many times its bytes.
const MOST_ITEMS: usize = 250_000;

/// Errors: a sentence for more items than an array may have.
pub(crate) fn check_count(count: usize) -> Result<(), String> {
    match count <= MOST_ITEMS {
        true => Ok(()),
        false => Err(format!("an array has more than {MOST_ITEMS} items; send it in parts")),
    }
}

/// The texts of the items of an array; `None` is NULL.
///
/// Errors: a sentence for a text that is no array of one dimension.
pub(crate) fn items(text: &str) -> Result<Vec<Option<String>>, String> {
    let wrong = || format!("`{}` is not an array of one dimension, such as {{a,\"b c\",NULL}}", beginning(text));
    let mut letters = text.trim().chars().peekable();
    let mut items = Vec::new();
    if letters.next() != Some('{') {
        return Err(wrong());
    }
    skip_blanks(&mut letters);
    if letters.next_if_eq(&'}').is_some() {
        return if letters.next().is_none() { Ok(items) } else { Err(wrong()) };
    }
    loop {
        skip_blanks(&mut letters);
        let item = match letters.next_if_eq(&'"') {
            Some(_) => Some(quoted(&mut letters).ok_or_else(wrong)?),
            None => plain(&mut letters).ok_or_else(wrong)?,
        };
        items.push(item);
        check_count(items.len())?;
        skip_blanks(&mut letters);
        match letters.next() {
            Some(',') => {}
            Some('}') if letters.next().is_none() => return Ok(items),
            _ => return Err(wrong()),
        }
    }
}

fn skip_blanks(letters: &mut Peekable<Chars<'_>>) {
    while letters.next_if(|letter| is_blank(*letter)).is_some() {}
}

fn is_blank(letter: char) -> bool {
    letter.is_ascii_whitespace() || letter == '\u{b}'
}

/// The item up to the closing quotes; `None` if there are none.
fn quoted(letters: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut item = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(item),
            '\\' => item.push(letters.next()?),
            letter => item.push(letter),
        }
    }
}

/// The item up to a comma or the end, without the blanks behind it. `None` for an item that is wrong, and `Some(None)`
/// for NULL.
fn plain(letters: &mut Peekable<Chars<'_>>) -> Option<Option<String>> {
    let (mut item, mut end, mut is_escaped) = (String::new(), 0, false);
    while let Some(letter) = letters.next_if(|letter| !matches!(letter, ',' | '}')) {
        match letter {
            '{' | '"' => return None,
            '\\' => {
                item.push(letters.next()?);
                (end, is_escaped) = (item.len(), true);
            }
            letter => {
                item.push(letter);
                if !is_blank(letter) {
                    end = item.len();
                }
            }
        }
    }
    item.truncate(end);
    match item.as_str() {
        "" => None,
        _ if !is_escaped && item.eq_ignore_ascii_case("null") => Some(None),
        _ => Some(Some(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_as_postgresql_reads_them() {
        let check = |text: &str, expect: &[Option<&str>]| {
            let found = items(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expect, "{text}");
        };
        check("{}", &[]);
        check(" { } ", &[]);
        check("{1,2}", &[Some("1"), Some("2")]);
        check("{ 1 , 2 }", &[Some("1"), Some("2")]);
        check(r#"{"a", "b"}"#, &[Some("a"), Some("b")]);
        check(r#"{ "a" ,b c , "" }"#, &[Some("a"), Some("b c"), Some("")]);
        check(r#"{NULL,null,"NULL",\null}"#, &[None, None, Some("NULL"), Some("null")]);
        check(r#"{"q\"\\",a\,b,\ }"#, &[Some("q\"\\"), Some("a,b"), Some(" ")]);
        check(r#"{"{a}","b,c"," d "}"#, &[Some("{a}"), Some("b,c"), Some(" d ")]);
        check("{ü,\t1\n}", &[Some("ü"), Some("1")]);
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in [
            "",
            "1",
            "{",
            "{1",
            "{1,}",
            "{,1}",
            "{1,,2}",
            "{1}2",
            "{}{}",
            "{{1},{2}}",
            "{\"a",
            "{\"a\"b}",
            "{a\"b\"}",
            "{a\\",
        ] {
            assert!(items(text).is_err_and(|error| error.contains("is not an array")), "{text}");
        }
        let long = format!("{{{}1}}", "1,".repeat(MOST_ITEMS));
        assert!(items(&long).unwrap_err().contains("more than 250000 items"));
        assert!(items(&"x".repeat(1 << 20)).unwrap_err().len() < 300);
    }
}
