//! Dates and times as texts with an offset, as drivers send them. PostgreSQL drops the offset where the type has no
//! zone.

use pgwire::api::Type;

/// Said of the times that are before and after all others.
pub(super) const INFINITE: &str = "infinite times are not supported; leave the bound out, or use the years 1 to 9999";

/// Letters of a date: `2026-01-31`.
const DATE: usize = 10;

/// True for a text that may be a date or a time with more behind it.
pub(super) fn may_have_zone(text: &[u8]) -> bool {
    let is_date = begins(text, b"0000-00-00") && text.len() > DATE;
    let is_clock = (begins(text, b"00:00") || begins(text, b"0:00")) && text.iter().any(|byte| b"+-Zz".contains(byte));
    is_date || is_clock
}

/// True if `text` has digits where `form` has zeros, and the same letters elsewhere.
fn begins(text: &[u8], form: &[u8]) -> bool {
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    text.len() >= form.len() && text.iter().zip(form).all(fits)
}

/// The text of a date or time in one form; `None` for what is none, and for another type.
///
/// Errors: a sentence for an infinite time.
pub(super) fn plain(given: &Type, text: &str) -> Result<Option<String>, String> {
    if ![Type::DATE, Type::TIME, Type::TIMESTAMP, Type::TIMESTAMPTZ].contains(given) {
        return Ok(None);
    }
    if ["infinity", "-infinity", "+infinity"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Err(INFINITE.to_owned());
    }
    Ok(match *given {
        Type::TIME => clock_and_zone(text).map(|(clock, _)| clock),
        _ if !begins(text.as_bytes(), b"0000-00-00") => None,
        _ => {
            let (date, rest) = text.split_at(DATE);
            let rest = rest.strip_prefix(['T', 't']).unwrap_or(rest).trim_start();
            let Some((clock, zone)) = clock_and_zone(rest) else { return Ok(None) };
            let clock = if clock.is_empty() { "00:00:00".to_owned() } else { clock };
            Some(match *given {
                Type::DATE => date.to_owned(),
                Type::TIMESTAMP => format!("{date} {clock}"),
                _ => format!("{date} {clock}{zone}"),
            })
        }
    })
}

/// The clock and the offset of `10:00:00.5 +01`; both may be missing.
fn clock_and_zone(text: &str) -> Option<(String, String)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(text.len());
    let (clock, zone) = (&text[..end], text[end..].trim_start());
    let clock = match clock.bytes().filter(|byte| *byte == b':').count() {
        0 if clock.is_empty() => String::new(),
        1 => format!("{clock}:00"),
        2 => clock.to_owned(),
        _ => return None,
    };
    Some((clock, offset(zone)?))
}

/// `+01:00` for `+1`, `+01`, `+0100` and `+01:00`.
fn offset(zone: &str) -> Option<String> {
    if ["", "z", "utc", "gmt"].iter().any(|word| zone.eq_ignore_ascii_case(word)) {
        return Some("+00:00".to_owned());
    }
    let sign = zone.chars().next().filter(|sign| matches!(sign, '+' | '-'))?;
    let digits = &zone[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes.strip_suffix(":00").unwrap_or(minutes)),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "00"),
    };
    let number = |text: &str, most: u32| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| is_number && *number <= most)
    };
    Some(format!("{sign}{:02}:{:02}", number(hours, 15)?, number(minutes, 59)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_only_where_the_type_has_a_zone() {
        let check = |given: Type, text: &str, expect: Option<&str>| {
            assert_eq!(plain(&given, text).unwrap().as_deref(), expect, "{given} {text}");
        };
        check(Type::TIMESTAMP, "2026-01-31 10:00:00+01", Some("2026-01-31 10:00:00"));
        check(Type::TIMESTAMP, "2026-01-31 10:00:00.25 -03:30", Some("2026-01-31 10:00:00.25"));
        check(Type::TIMESTAMP, "2026-01-31T10:00Z", Some("2026-01-31 10:00:00"));
        check(Type::TIMESTAMP, "2026-01-31", Some("2026-01-31 00:00:00"));
        check(Type::TIMESTAMP, "2026-01-31 +01", Some("2026-01-31 00:00:00"));
        check(Type::TIMESTAMP, "2026-01-31 10:00:00 Berlin", None);
        check(Type::TIMESTAMP, "2026-01-31 10:00:00+99", None);
        check(Type::TIMESTAMP, "soon", None);
        check(Type::TIMESTAMPTZ, "2026-01-31 10:00:00+01", Some("2026-01-31 10:00:00+01:00"));
        check(Type::TIMESTAMPTZ, "2026-01-31 10:00:00+0530", Some("2026-01-31 10:00:00+05:30"));
        check(Type::TIMESTAMPTZ, "2026-01-31 10:00:00 utc", Some("2026-01-31 10:00:00+00:00"));
        check(Type::DATE, "2026-01-31 +01", Some("2026-01-31"));
        check(Type::DATE, "2026-01-31 23:59:59.9", Some("2026-01-31"));
        check(Type::DATE, "2026-01-31 BC", None);
        check(Type::TIME, "10:00:00+01", Some("10:00:00"));
        check(Type::TIME, "10:00", Some("10:00:00"));
        check(Type::TEXT, "2026-01-31 +01", None);
        for text in ["infinity", "-Infinity"] {
            assert_eq!(plain(&Type::DATE, text), Err(INFINITE.to_owned()));
        }
    }

    #[test]
    fn texts_that_cannot_be_times_are_not_asked_about() {
        for (text, expect) in [
            ("2026-01-31", false),
            ("2026-01-31 +01", true),
            ("10:00:00+01", true),
            ("10:00:00", false),
            ("5", false),
            ("2026-1-31 00:00", false),
            ("d0", false),
        ] {
            assert_eq!(may_have_zone(text.as_bytes()), expect, "{text}");
        }
    }
}
