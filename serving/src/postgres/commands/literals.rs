//! The texts that constants stand for: `'…'`, `E'…'`, `U&'…'`, `N'…'` and `$$…$$`.

use std::iter::Peekable;
use std::str::Chars;

/// The text of a constant; what is none stands for itself.
pub(super) fn literal(text: &str) -> String {
    text_of(text).unwrap_or_else(|| text.to_owned())
}

/// The text of a constant; `None` for a string of bits and for an escape that stands for no character.
pub(super) fn text_of(text: &str) -> Option<String> {
    if let Some((tag, _)) = text.strip_prefix('$').and_then(|rest| rest.split_once('$')) {
        let inner = text.get(tag.len() + 2..)?.strip_suffix(&format!("${tag}$"))?;
        return Some(inner.to_owned());
    }
    let (prefix, rest) = text.split_once('\'')?;
    let inner = rest.strip_suffix('\'')?;
    match prefix {
        "" | "N" | "n" => Some(inner.replace("''", "'")),
        "E" | "e" => escaped(inner),
        "U&" | "u&" => unicode(&inner.replace("''", "'")),
        _ => None,
    }
}

/// The text of `E'…'`.
fn escaped(text: &str) -> Option<String> {
    let mut plain = Vec::new();
    let mut letters = text.chars().peekable();
    let put = |letter: char, plain: &mut Vec<u8>| plain.extend(letter.encode_utf8(&mut [0; 4]).bytes());
    while let Some(letter) = letters.next() {
        match letter {
            // A quote within is doubled.
            '\'' => put(letters.next()?, &mut plain),
            '\\' => match letters.next()? {
                'b' => plain.push(8),
                'f' => plain.push(12),
                'n' => plain.push(b'\n'),
                'r' => plain.push(b'\r'),
                't' => plain.push(b'\t'),
                // The bytes of characters; together they are UTF-8.
                'x' if letters.peek().is_some_and(char::is_ascii_hexdigit) => {
                    plain.push(u8::try_from(digits(&mut letters, 16, 1, 2)?).ok()?);
                }
                first @ '0'..='7' => {
                    let mut value = first.to_digit(8)?;
                    for _ in 0..2 {
                        if let Some(digit) = letters.next_if(|letter| letter.is_digit(8)) {
                            value = value * 8 + digit.to_digit(8)?;
                        }
                    }
                    plain.push((value & 0xff) as u8);
                }
                'u' => put(point(digits(&mut letters, 16, 4, 4)?, &mut letters, "\\u", 4)?, &mut plain),
                'U' => put(point(digits(&mut letters, 16, 8, 8)?, &mut letters, "\\U", 8)?, &mut plain),
                other => put(other, &mut plain),
            },
            other => put(other, &mut plain),
        }
    }
    String::from_utf8(plain).ok().filter(|text| !text.contains('\0'))
}

/// The text of `U&'…'`.
fn unicode(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' if letters.next_if_eq(&'\\').is_some() => '\\',
            '\\' if letters.next_if_eq(&'+').is_some() => {
                point(digits(&mut letters, 16, 6, 6)?, &mut letters, "\\+", 6)?
            }
            '\\' => point(digits(&mut letters, 16, 4, 4)?, &mut letters, "\\", 4)?,
            other => other,
        });
    }
    (!plain.contains('\0')).then_some(plain)
}

/// The value of `least` to `most` digits.
fn digits(letters: &mut Peekable<Chars<'_>>, base: u32, least: usize, most: usize) -> Option<u32> {
    let mut text = String::new();
    while text.len() < most
        && let Some(digit) = letters.next_if(|letter| letter.is_digit(base))
    {
        text.push(digit);
    }
    (text.len() >= least).then(|| u32::from_str_radix(&text, base).ok())?
}

/// The character of a code, or of the first half of a pair, whose second half is written behind it.
fn point(code: u32, letters: &mut Peekable<Chars<'_>>, mark: &str, width: usize) -> Option<char> {
    if !(0xd800..0xdc00).contains(&code) {
        return char::from_u32(code);
    }
    for expected in mark.chars() {
        letters.next_if_eq(&expected)?;
    }
    let low = digits(letters, 16, width, width).filter(|low| (0xdc00..0xe000).contains(low))?;
    char::from_u32(0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_stand_for_texts() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(text_of(text).as_deref(), expect, "{text}");
        check("'it''s'", Some("it's"));
        check(r"'a\nb'", Some(r"a\nb"));
        check("N'a'", Some("a"));
        check(r"E'a\nb\\c\'d''e'", Some("a\nb\\c'd'e"));
        check(r"e'\x41\101\u0042\U00000043\q'", Some("AABCq"));
        check(r"E'\xc3\xbc'", Some("ü"));
        check(r"E'\ud83d\ude00'", Some("😀"));
        check(r"E'\xff'", None);
        check(r"E'\u00'", None);
        check(r"E'\ud83d'", None);
        check(r"E'\000'", None);
        check(r"U&'\0041\+01f600 \\'", Some("A😀 \\"));
        check(r"U&'\00'", None);
        check("$$it's$$", Some("it's"));
        check("$a$ $$ $a$", Some(" $$ "));
        check("X'1f'", None);
        check("B'101'", None);
    }
}
