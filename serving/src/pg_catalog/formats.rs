//! `format('%s: %I', value, name)`: `%s` is a value, `%I` a name, `%L` a literal.
//!
//! A specifier is `%[position$][-][width]type`; the width may be `*` or `*position$`, which take an argument.

use std::iter::Peekable;
use std::str::Chars;

use super::snapshot::quoted;

/// Characters of the widest value.
const WIDEST: usize = 10_000;

/// The arguments behind the pattern: `None` for one that is not given, `Some(None)` for NULL.
type Arguments<'a> = &'a dyn Fn(usize) -> Option<Option<String>>;

/// Errors: a sentence for a specifier that is not known, or has no argument.
pub(super) fn formatted(pattern: &str, arguments: Arguments<'_>) -> Result<String, String> {
    let (mut result, mut letters, mut next) = (String::new(), pattern.chars().peekable(), 0);
    while let Some(letter) = letters.next() {
        if letter != '%' {
            result.push(letter);
        } else if letters.next_if_eq(&'%').is_some() {
            result.push('%');
        } else {
            let specifier = Specifier::read(&mut letters, &mut next, arguments)?;
            result.push_str(&specifier.write(&mut next, arguments)?);
        }
    }
    Ok(result)
}

struct Specifier {
    position: Option<usize>,
    is_left: bool,
    width: usize,
    kind: char,
}

impl Specifier {
    fn read(letters: &mut Peekable<Chars<'_>>, next: &mut usize, arguments: Arguments<'_>) -> Result<Self, String> {
        let mut found = Self { position: None, is_left: false, width: 0, kind: 's' };
        let mut count = number(letters)?;
        if count.is_some() && letters.next_if_eq(&'$').is_some() {
            found.position = count.take();
        }
        if count.is_none() {
            found.is_left = letters.next_if_eq(&'-').is_some();
            count = number(letters)?;
        }
        if count.is_none() && letters.next_if_eq(&'*').is_some() {
            let position = number(letters)?;
            if position.is_some() && letters.next_if_eq(&'$').is_none() {
                return Err("width argument position must be ended by \"$\"".to_owned());
            }
            let width = argument(position, next, arguments)?.unwrap_or_default();
            let width: i64 = if width.is_empty() { 0 } else { width.parse().map_err(|_| "the width is no number")? };
            found.is_left |= width < 0;
            count = Some(usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX));
        }
        found.width = count.unwrap_or(0);
        if found.width > WIDEST {
            return Err(format!("a value of format() is at most {WIDEST} characters wide"));
        }
        found.kind = letters.next().ok_or("unterminated format() type specifier")?;
        match found.kind {
            's' | 'I' | 'L' => Ok(found),
            other => Err(format!("unrecognized format() type specifier \"{other}\"; write %% for a percent sign")),
        }
    }

    fn write(&self, next: &mut usize, arguments: Arguments<'_>) -> Result<String, String> {
        let text = match (self.kind, argument(self.position, next, arguments)?) {
            ('s', value) => value.unwrap_or_default(),
            ('I', Some(name)) => quoted(&name),
            ('I', None) => return Err("null values cannot be formatted as an SQL identifier".to_owned()),
            (_, Some(value)) if value.contains('\\') => {
                format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
            }
            (_, Some(value)) => format!("'{}'", value.replace('\'', "''")),
            (_, None) => "NULL".to_owned(),
        };
        let width = self.width;
        Ok(if self.is_left { format!("{text:<width$}") } else { format!("{text:>width$}") })
    }
}

/// The argument at a position, or the next one. One after a position goes on behind that.
fn argument(position: Option<usize>, next: &mut usize, arguments: Arguments<'_>) -> Result<Option<String>, String> {
    let at = match position {
        Some(0) => return Err("format specifies argument 0, but arguments are numbered from 1".to_owned()),
        Some(position) => position - 1,
        None => *next,
    };
    *next = at + 1;
    arguments(at).ok_or_else(|| "too few arguments for format()".to_owned())
}

fn number(letters: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
    let mut digits = String::new();
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.as_str() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| "number is out of range".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_have_positions_and_widths() {
        let check = |pattern: &str, values: &[Option<&str>], expect: Result<&str, &str>| {
            let arguments = |at: usize| values.get(at).map(|value| value.map(str::to_owned));
            let found = formatted(pattern, &arguments);
            assert_eq!(found.as_deref().map_err(String::as_str), expect, "{pattern}");
        };
        let two = &[Some("a"), Some("b")];
        check("%s-%s %%", two, Ok("a-b %"));
        check("%2$s-%1$s", two, Ok("b-a"));
        check("%2$s", two, Ok("b"));
        check("%1$s %s", two, Ok("a b"));
        check("|%3s|%-3s|", two, Ok("|  a|b  |"));
        check("|%1$-3s|%1$3s|", two, Ok("|a  |  a|"));
        check("|%*s|", &[Some("3"), Some("x")], Ok("|  x|"));
        check("|%*s|", &[Some("-3"), Some("x")], Ok("|x  |"));
        check("|%1$*2$s|", &[Some("x"), Some("4")], Ok("|   x|"));
        check("%I %L %L", &[Some("Two words"), Some("it's"), None], Ok("\"Two words\" 'it''s' NULL"));
        check("%L", &[Some("a\\b")], Ok("E'a\\\\b'"));
        check("%s|", &[None], Ok("|"));
        check("%I", &[None], Err("null values cannot be formatted as an SQL identifier"));
        check("%s", &[], Err("too few arguments for format()"));
        check("%3$s", two, Err("too few arguments for format()"));
        check("%0$s", two, Err("format specifies argument 0, but arguments are numbered from 1"));
        check("%", two, Err("unterminated format() type specifier"));
        check("%d", two, Err("unrecognized format() type specifier \"d\"; write %% for a percent sign"));
        check("%99999s", two, Err("a value of format() is at most 10000 characters wide"));
        check("%99999999999999999999s", two, Err("number is out of range"));
    }
}
