//! Times and dates: ISO 8601 texts, and numbers in a declared unit.
//!
//! Invariant: no part of a text is skipped, and a value lies in the years 1 to 9999. Only the digits of a time below a
//! microsecond are cut, like the digits of a float beyond its precision.

use std::borrow::Cow;

use chrono::{Datelike, NaiveDate};

use super::numbers::{self, NumberError};
use crate::definition::message::TimestampUnit;

/// Why a text or a number is not a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// The text is not written as a time.
    Form,
    Number(NumberError),
    /// The number is a time of early 1970 in its unit, and a plausible time in this unit.
    Unit(TimestampUnit),
}

const RANGE: TimeError = TimeError::Number(NumberError::Range);

const DAY_SECONDS: i64 = 86_400;
/// Midnight of 1980-01-01 and of 2100-01-01, in microseconds since 1970.
const PLAUSIBLE: std::ops::Range<i128> = 315_532_800_000_000..4_102_444_800_000_000;
/// The first and the last microsecond of the years 1 to 9999.
pub(crate) const TIMES: std::ops::RangeInclusive<i128> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// The first and the last day of the years 1 to 9999.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// The reason for a user, as the end of a sentence.
pub(super) fn explain(error: TimeError, unit: TimestampUnit) -> Cow<'static, str> {
    match error {
        TimeError::Form => "it is not a time as in ISO 8601".into(),
        TimeError::Number(error) => numbers::explain(error).into(),
        TimeError::Unit(other) => format!(
            "in {} it would be a time of early 1970, and it looks like {}: see the option 'timestamp_unit'",
            unit.plural(),
            other.plural()
        )
        .into(),
    }
}

/// Microseconds since 1970 of `number`, a number by JSON's grammar, in `unit`. Digits below a microsecond are cut.
/// Numbers of microseconds and nanoseconds must be whole.
pub(crate) fn micros_of_number(number: &str, unit: TimestampUnit) -> Result<i64, TimeError> {
    let micros = match unit {
        TimestampUnit::Seconds => numbers::floored(number, 6),
        TimestampUnit::Milliseconds => numbers::floored(number, 3),
        TimestampUnit::Microseconds => numbers::scaled(number, 0),
        TimestampUnit::Nanoseconds => numbers::scaled(number, 0).map(|nanos| nanos.div_euclid(1000)),
    }
    .map_err(TimeError::Number)?;
    plausible(micros, unit)
}

/// Microseconds since 1970 of `value` in `unit`, which a number without a declared unit has by assumption.
pub(super) fn micros_of_whole(value: i64, unit: TimestampUnit) -> Result<i64, TimeError> {
    plausible(micros_in(value, unit), unit)
}

/// Microseconds since 1970 of `value` in `unit`. Nanoseconds are cut.
pub(super) fn micros_of_declared(value: i64, unit: TimestampUnit) -> Result<i64, TimeError> {
    Some(micros_in(value, unit))
        .filter(|micros| TIMES.contains(micros))
        .and_then(|m| i64::try_from(m).ok())
        .ok_or(RANGE)
}

fn micros_in(value: i64, unit: TimestampUnit) -> i128 {
    let value = i128::from(value);
    match unit {
        TimestampUnit::Seconds => value * 1_000_000,
        TimestampUnit::Milliseconds => value * 1000,
        TimestampUnit::Microseconds => value,
        TimestampUnit::Nanoseconds => value.div_euclid(1000),
    }
}

/// Refuses a time outside the calendar, and one that looks like a number in a coarser unit than `unit`.
fn plausible(micros: i128, unit: TimestampUnit) -> Result<i64, TimeError> {
    if !TIMES.contains(&micros) {
        return Err(RANGE);
    }
    let coarser = unit.coarser().find(|(_, factor)| PLAUSIBLE.contains(&(micros * i128::from(*factor))));
    match coarser {
        Some((other, _)) => Err(TimeError::Unit(other)),
        None => i64::try_from(micros).map_err(|_| RANGE),
    }
}

/// Days since 1970 of `number`, a number by JSON's grammar.
pub(super) fn days_of_number(number: &str) -> Result<i32, TimeError> {
    in_range(numbers::whole(number).map_err(TimeError::Number)?)
}

/// Days since 1970, within the calendar.
pub(crate) fn in_range(days: i64) -> Result<i32, TimeError> {
    if !DAYS.contains(&days) {
        return Err(RANGE);
    }
    i32::try_from(days).map_err(|_| RANGE)
}

/// Days since 1970 of a date in the only accepted form, `2024-05-01`.
pub(super) fn days_of_text(text: &str) -> Result<i32, TimeError> {
    match Scanner::new(text).date() {
        Some((date, Style::Calendar)) if text.len() == 10 => in_range(since_1970(date)),
        _ => Err(TimeError::Form),
    }
}

fn since_1970(date: NaiveDate) -> i64 {
    /// Days from the first day of year 1, which is day 1, to 1970-01-01.
    const UNIX_EPOCH: i64 = 719_163;
    i64::from(date.num_days_from_ce()) - UNIX_EPOCH
}

/// Microseconds since 1970 of a date, or of a date and time with or without a UTC offset, in a form of ISO 8601 that
/// docs/definitions.md lists. Without an offset the time is in UTC.
pub(super) fn micros_of_text(text: &str) -> Result<i64, TimeError> {
    let mut scanner = Scanner::new(text);
    let read = |scanner: &mut Scanner<'_>| {
        let (date, style) = scanner.date()?;
        // Eight digits alone could be anything.
        let time = if scanner.is_at_end() && style != Style::Basic { 0 } else { scanner.time()? };
        let offset = scanner.offset()?;
        scanner.is_at_end().then_some((since_1970(date), time, offset))
    };
    let (days, time, offset) = read(&mut scanner).ok_or(TimeError::Form)?;
    let micros = i128::from(days * DAY_SECONDS - offset) * 1_000_000 + i128::from(time);
    if !TIMES.contains(&micros) {
        return Err(RANGE);
    }
    i64::try_from(micros).map_err(|_| RANGE)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `2024-05-01`
    Calendar,
    /// `2024-W18-3`, `2024-122`
    Other,
    /// `20240501`, `2024W183`
    Basic,
}

/// Reads a text from left to right. Every method returns `None` if the text goes on in another way.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips one of `marks`. Returns false if the text goes on with something else.
    fn skip(&mut self, marks: &[u8]) -> bool {
        let found = self.rest.first().is_some_and(|b| marks.contains(b));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.rest.get(..count)?;
        let mut value = 0;
        for digit in digits {
            value = value * 10 + char::from(*digit).to_digit(10)?;
        }
        self.rest = &self.rest[count..];
        Some(value)
    }

    /// Two digits that are at most `limit`.
    fn two(&mut self, limit: u32) -> Option<u32> {
        self.digits(2).filter(|value| *value <= limit)
    }

    fn date(&mut self) -> Option<(NaiveDate, Style)> {
        let year = i32::try_from(self.digits(4)?).ok()?;
        let extended = self.skip(b"-");
        let style = if extended { Style::Other } else { Style::Basic };
        if self.skip(b"W") {
            let week = self.digits(2)?;
            if extended && !self.skip(b"-") {
                return None;
            }
            let day = chrono::Weekday::try_from(u8::try_from(self.digits(1)?.checked_sub(1)?).ok()?).ok()?;
            return Some((NaiveDate::from_isoywd_opt(year, week, day)?, style));
        }
        // A day of the year has three digits, with nothing behind that belongs to a date.
        let ordinal = self.rest.len() == 3 || self.rest.get(3).is_some_and(|b| matches!(b, b'T' | b't' | b' '));
        if extended && ordinal {
            return Some((NaiveDate::from_yo_opt(year, self.digits(3)?)?, style));
        }
        let month = self.digits(2)?;
        if extended && !self.skip(b"-") {
            return None;
        }
        let date = NaiveDate::from_ymd_opt(year, month, self.digits(2)?)?;
        Some((date, if extended { Style::Calendar } else { style }))
    }

    /// Microseconds since midnight. Minutes and seconds may be missing.
    fn time(&mut self) -> Option<i64> {
        if !self.skip(b"Tt ") {
            return None;
        }
        let hour = self.two(23)?;
        let minute = self.part()?;
        let second = if minute.is_some() { self.part()? } else { None };
        let mut micros = 0;
        if second.is_some() && self.skip(b".,") {
            let count = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            let kept = count.min(6);
            let shift = 10_u32.pow(6 - u32::try_from(kept).ok()?);
            micros = self.digits(kept)? * shift;
            self.rest = &self.rest[count - kept..];
        }
        let seconds = hour * 3600 + minute.unwrap_or(0) * 60 + second.unwrap_or(0);
        Some(i64::from(seconds) * 1_000_000 + i64::from(micros))
    }

    /// The minutes behind an hour, or the seconds behind minutes; `None` inside if there are none.
    fn part(&mut self) -> Option<Option<u32>> {
        if self.skip(b":") || self.rest.first().is_some_and(u8::is_ascii_digit) {
            return self.two(59).map(Some);
        }
        Some(None)
    }

    /// Seconds ahead of UTC. The meaning of a time zone's name depends on the version of a time zone database, so
    /// names are not read.
    fn offset(&mut self) -> Option<i64> {
        if self.is_at_end() || self.skip(b"Zz") {
            return Some(0);
        }
        self.skip(b" ");
        let sign = if self.skip(b"+") {
            1
        } else if self.skip(b"-") || self.minus() {
            -1
        } else {
            return None;
        };
        let hours = self.two(23)?;
        let minutes = self.part()?.unwrap_or(0);
        Some(sign * i64::from(hours * 3600 + minutes * 60))
    }

    /// Skips the sign U+2212, which ISO 8601 prefers to the hyphen.
    fn minus(&mut self) -> bool {
        match self.rest.strip_prefix("\u{2212}".as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
