//! The calendar: years 1 to 9999, in microseconds, and the local time of a time zone.
//!
//! The engine's own functions of time compute in nanoseconds, which end in the year 2262. The functions here are right
//! over the whole range of TIMESTAMP.
//!
//! Invariant: a start of a local day, week or month is one instant, whatever the clock does on that day. Time zones
//! change between instants, so two instants of one local day have the same start.

use std::ops::RangeInclusive;
use std::str::FromStr;

use arrow::array::timezone::Tz;
use arrow::error::ArrowError;
use chrono::{
    DateTime, Datelike, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
};

pub(super) const MILLISECOND: i64 = 1_000;
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// The days of the calendar since 1970-01-01: from 0001-01-01 to 9999-12-31.
pub(super) const DAYS: RangeInclusive<i32> = -719_162..=2_932_896;

/// The microseconds of the calendar since 1970-01-01.
pub(super) const MICROS: RangeInclusive<i64> = -719_162 * DAY..=2_932_897 * DAY - 1;

/// The unit to which a time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    /// A whole number of microseconds, counted from midnight.
    Fixed(i64),
    Week,
    /// A whole number of months that divides a year, counted from January.
    Months(u32),
    /// A whole number of years. Decades start in a year that ends in 0, centuries and millennia in one that ends in 1.
    Years(i32),
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name.to_lowercase().as_str() {
            "microsecond" | "microseconds" => Unit::Fixed(1),
            "millisecond" | "milliseconds" => Unit::Fixed(MILLISECOND),
            "second" => Unit::Fixed(SECOND),
            "minute" => Unit::Fixed(MINUTE),
            "hour" => Unit::Fixed(HOUR),
            "day" => Unit::Fixed(DAY),
            "week" => Unit::Week,
            "month" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" => Unit::Months(12),
            "decade" => Unit::Years(10),
            "century" => Unit::Years(100),
            "millennium" => Unit::Years(1000),
            _ => {
                return Err(format!(
                    "date_trunc knows no unit '{name}'. Use microsecond, millisecond, second, minute, hour, day, week, \
                     month, quarter, year, decade, century or millennium"
                ));
            }
        })
    }
}

impl Unit {
    /// True if the unit is at most an hour long.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Unit::Fixed(unit) if unit <= HOUR)
    }

    /// The start of the unit that contains a local time. `None` if the start is outside of what chrono can represent.
    pub(super) fn start(self, local: i64) -> Option<i64> {
        let first = |year: i32, month: u32| Some(micros_of(NaiveDate::from_ymd_opt(year, month, 1)?));
        match self {
            Unit::Fixed(unit) => local.checked_sub(local.rem_euclid(unit)),
            Unit::Week => {
                // 1970-01-01 is a Thursday.
                let days = local.div_euclid(DAY);
                (days - (days + 3).rem_euclid(7)).checked_mul(DAY)
            }
            Unit::Months(unit) => {
                let date = date_of(local)?;
                first(date.year(), date.month0() / unit * unit + 1)
            }
            Unit::Years(10) => first(date_of(local)?.year().div_euclid(10) * 10, 1),
            Unit::Years(unit) => first((date_of(local)?.year() - 1).div_euclid(unit) * unit + 1, 1),
        }
    }
}

/// The width of a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stride {
    Micros(i64),
    Months(i64),
}

impl Stride {
    /// True if the bins are at most an hour long.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Stride::Micros(width) if width <= HOUR)
    }

    /// The start of the bin that contains `time`, where one bin starts at `origin`. `None` if the start cannot be
    /// represented.
    pub(super) fn start(self, time: i64, origin: i64) -> Option<i64> {
        match self {
            Stride::Micros(width) => {
                let distance = i128::from(time) - i128::from(origin);
                let start = distance - distance.rem_euclid(i128::from(width)) + i128::from(origin);
                i64::try_from(start).ok()
            }
            Stride::Months(width) => {
                let (date, from) = (date_of(time)?, date_of(origin)?);
                let months =
                    i64::from(date.year() - from.year()) * 12 + i64::from(date.month()) - i64::from(from.month());
                let bin = months.div_euclid(width) * width;
                let start = add_months(origin, bin)?;
                if start > time { add_months(origin, bin - width) } else { Some(start) }
            }
        }
    }
}

/// A later or earlier local time at the same day of the month, or at the last day of a shorter month.
fn add_months(local: i64, months: i64) -> Option<i64> {
    let time = DateTime::from_timestamp_micros(local)?.naive_utc();
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let moved = if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) };
    Some(moved?.and_utc().timestamp_micros())
}

fn date_of(local: i64) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(local.div_euclid(DAY))?)
}

fn micros_of(date: NaiveDate) -> i64 {
    date.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
}

/// The clock of a time zone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// Every local time is an instant at a fixed distance, in microseconds.
    Fixed(i64),
    Zone(Tz),
}

impl Clock {
    /// The clock of a timestamp's time zone; a timestamp without a time zone has the clock of UTC.
    pub(super) fn of(zone: Option<&str>) -> Result<Self, ArrowError> {
        let Some(name) = zone else { return Ok(Clock::Fixed(0)) };
        if matches!(name, "UTC" | "Z" | "+00:00" | "Etc/UTC" | "GMT") {
            return Ok(Clock::Fixed(0));
        }
        let zone: Tz = name.parse()?;
        // Only names of places change their offset.
        Ok(if name.starts_with(['+', '-']) {
            let offset = zone.offset_from_utc_datetime(&NaiveDateTime::default()).fix().local_minus_utc();
            Clock::Fixed(i64::from(offset) * SECOND)
        } else {
            Clock::Zone(zone)
        })
    }

    /// The local time at an instant. `None` outside of what chrono can represent.
    pub(super) fn local(&self, instant: i64) -> Option<i64> {
        instant.checked_add(self.offset(instant)?)
    }

    fn offset(&self, instant: i64) -> Option<i64> {
        Some(match self {
            Clock::Fixed(offset) => *offset,
            Clock::Zone(zone) => {
                let utc = DateTime::from_timestamp_micros(instant)?.naive_utc();
                i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * SECOND
            }
        })
    }

    /// The instant at which the clock shows `local`. Of two, the first; but if `near` is given, the one with the offset
    /// at `near`, unless it is later than `near`. A time that the clock skips is the instant of the skip.
    fn instant(&self, local: i64, near: Option<i64>) -> Option<i64> {
        let zone = match self {
            Clock::Fixed(offset) => return local.checked_sub(*offset),
            Clock::Zone(zone) => zone,
        };
        let time = DateTime::from_timestamp_micros(local)?.naive_utc();
        let at = |offset: i64| local.checked_sub(offset);
        match zone.offset_from_local_datetime(&time) {
            LocalResult::Single(offset) => at(micros(offset.fix())),
            LocalResult::Ambiguous(one, other) => {
                let (one, other) = (at(micros(one.fix()))?, at(micros(other.fix()))?);
                let (first, second) = (one.min(other), one.max(other));
                let same = near.is_some_and(|near| second <= near && self.offset(near).and_then(at) == Some(second));
                Some(if same { second } else { first })
            }
            LocalResult::None => self.skip(local),
        }
    }

    /// The instant of a local time: of two, the first. A time that the clock skips is moved on by what was skipped.
    pub(super) fn convert(&self, local: i64) -> Option<i64> {
        let instant = self.instant(local, None)?;
        if self.local(instant)? == local {
            return Some(instant);
        }
        local.checked_sub(self.offset(instant - 1)?)
    }

    /// The instant at which the clock skips the local time `local`: the first instant whose local time is later.
    fn skip(&self, local: i64) -> Option<i64> {
        // No zone is more than a day from UTC, and no other change is as near.
        let (mut before, mut after) = (local.checked_sub(DAY)?, local.checked_add(DAY)?);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.local(middle)? > local {
                after = middle;
            } else {
                before = middle;
            }
        }
        Some(after)
    }

    /// The instant at which the unit or bin of `instant` starts. `start` computes on local times. `short` says that the
    /// unit is at most an hour long: of an hour that the clock shows twice, each is a unit of its own.
    pub(super) fn start(&self, instant: i64, short: bool, start: impl Fn(i64) -> Option<i64>) -> Option<i64> {
        self.instant(start(self.local(instant)?)?, short.then_some(instant))
    }
}

fn micros(offset: chrono::FixedOffset) -> i64 {
    i64::from(offset.local_minus_utc()) * SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> i64 {
        let text = text.trim_end_matches('Z');
        let text = if text.starts_with("10000") { format!("+{text}") } else { text.to_owned() };
        let format = if text.contains('.') { "%Y-%m-%dT%H:%M:%S%.f" } else { "%Y-%m-%dT%H:%M:%S" };
        NaiveDateTime::parse_from_str(&text, format).unwrap().and_utc().timestamp_micros()
    }

    #[track_caller]
    fn check_unit(unit: &str, at: &str, expect: &str) {
        assert_eq!(unit.parse::<Unit>().unwrap().start(time(at)), Some(time(expect)), "{unit} {at}");
    }

    #[test]
    fn units_start_right_over_the_whole_calendar() {
        assert_eq!(time("0001-01-01T00:00:00"), *MICROS.start());
        assert_eq!(time("9999-12-31T23:59:59.999999"), *MICROS.end());
        for (unit, expect) in [
            ("microsecond", "9999-12-31T23:59:59.999999"),
            ("millisecond", "9999-12-31T23:59:59.999"),
            ("SECOND", "9999-12-31T23:59:59"),
            ("minute", "9999-12-31T23:59:00"),
            ("hour", "9999-12-31T23:00:00"),
            ("day", "9999-12-31T00:00:00"),
            ("week", "9999-12-27T00:00:00"),
            ("month", "9999-12-01T00:00:00"),
            ("quarter", "9999-10-01T00:00:00"),
            ("year", "9999-01-01T00:00:00"),
            ("decade", "9990-01-01T00:00:00"),
            ("century", "9901-01-01T00:00:00"),
            ("millennium", "9001-01-01T00:00:00"),
        ] {
            check_unit(unit, "9999-12-31T23:59:59.999999", expect);
        }
        for unit in ["second", "minute", "hour", "day", "week", "month", "quarter", "year"] {
            check_unit(unit, "0001-01-01T00:00:00.000001", "0001-01-01T00:00:00");
        }
        check_unit("week", "1969-12-31T23:59:59", "1969-12-29T00:00:00");
        check_unit("month", "1582-10-31T01:00:00", "1582-10-01T00:00:00");
        assert!("fortnight".parse::<Unit>().is_err());
    }

    #[track_caller]
    fn check_start(zone: &str, minutes: i64, at: &str, expect: &str) {
        let clock = Clock::of(Some(zone)).unwrap();
        let start = clock.start(time(at), minutes <= 60, |local| Unit::Fixed(minutes * MINUTE).start(local));
        assert_eq!(start, Some(time(expect)), "{zone} {minutes} {at}");
    }

    #[test]
    fn a_local_day_has_one_start() {
        // 23 hours long.
        check_start("Europe/Berlin", 1440, "2026-03-28T23:00:00Z", "2026-03-28T23:00:00Z");
        check_start("Europe/Berlin", 1440, "2026-03-29T21:59:59Z", "2026-03-28T23:00:00Z");
        check_start("Europe/Berlin", 1440, "2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z");
        // 25 hours long.
        check_start("Europe/Berlin", 1440, "2026-10-24T22:00:00Z", "2026-10-24T22:00:00Z");
        check_start("Europe/Berlin", 1440, "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z");
        check_start("Europe/Berlin", 1440, "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z");
        // The clock skips midnight: the day starts at one o'clock.
        check_start("America/Sao_Paulo", 1440, "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z");
        check_start("America/Sao_Paulo", 1440, "2018-11-04T20:00:00Z", "2018-11-04T03:00:00Z");
        check_start("America/Sao_Paulo", 1440, "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z");
        // The clock shows midnight twice: the day starts at the first.
        check_start("America/Havana", 1440, "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z");
        check_start("America/Havana", 1440, "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z");
        check_start("+05:30", 1440, "9999-12-31T23:59:59Z", "9999-12-31T18:30:00Z");
        check_start("Asia/Tokyo", 1440, "0001-01-02T00:00:00Z", "0001-01-01T14:41:01Z");
        check_start("America/New_York", 1440, "9999-12-31T23:59:59Z", "9999-12-31T05:00:00Z");
    }

    #[track_caller]
    fn check_convert(zone: &str, local: &str, expect: &str) {
        assert_eq!(Clock::of(Some(zone)).unwrap().convert(time(local)), Some(time(expect)), "{zone} {local}");
    }

    #[test]
    fn every_local_time_is_an_instant() {
        check_convert("Europe/Berlin", "2026-01-01T12:00:00", "2026-01-01T11:00:00Z");
        check_convert("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00Z");
        check_convert("Europe/Berlin", "2026-03-29T03:30:00", "2026-03-29T01:30:00Z");
        check_convert("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z");
        check_convert("-03:00", "9999-12-31T23:00:00", "10000-01-01T02:00:00Z");
    }

    #[test]
    fn hours_that_the_clock_shows_twice_are_two() {
        check_start("Europe/Berlin", 15, "2026-10-25T00:20:00Z", "2026-10-25T00:15:00Z");
        check_start("Europe/Berlin", 15, "2026-10-25T01:20:00Z", "2026-10-25T01:15:00Z");
        check_start("Europe/Berlin", 60, "2026-10-25T00:20:00Z", "2026-10-25T00:00:00Z");
        check_start("Europe/Berlin", 60, "2026-10-25T01:20:00Z", "2026-10-25T01:00:00Z");
        check_start("Europe/Berlin", 360, "2026-03-29T02:00:00Z", "2026-03-28T23:00:00Z");
    }

    #[track_caller]
    fn check_bin(stride: Stride, origin: &str, at: &str, expect: &str) {
        assert_eq!(stride.start(time(at), time(origin)), Some(time(expect)), "{stride:?} {at}");
    }

    #[test]
    fn bins_start_at_the_origin_and_its_multiples() {
        let epoch = "1970-01-01T00:00:00";
        check_bin(Stride::Micros(3 * SECOND), epoch, "1969-12-31T23:59:58", "1969-12-31T23:59:57");
        check_bin(Stride::Micros(DAY), epoch, "9999-12-31T23:00:00", "9999-12-31T00:00:00");
        check_bin(Stride::Micros(DAY), "2020-01-01T06:00:00", "0001-01-03T05:00:00", "0001-01-02T06:00:00");
        check_bin(Stride::Months(1), epoch, "9999-12-31T23:00:00", "9999-12-01T00:00:00");
        check_bin(Stride::Months(3), "2020-02-15T00:00:00", "2020-08-14T00:00:00", "2020-05-15T00:00:00");
        check_bin(Stride::Months(1), "2020-01-31T00:00:00", "2020-03-01T00:00:00", "2020-02-29T00:00:00");
        check_bin(Stride::Months(12), epoch, "0001-07-01T00:00:00", "0001-01-01T00:00:00");
        assert_eq!(Stride::Micros(i64::MAX).start(i64::MIN, 0), None);
    }
}
