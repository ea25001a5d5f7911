//! Dates, times and intervals. PostgreSQL counts from the year 2000, and Arrow from 1970.

use arrow::array::PrimitiveArray;
use arrow::datatypes::{Date32Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType};
use bytes::{BufMut, BytesMut};

use super::numbers::write;
use super::value::EncodedValues;

/// Days from 1970 to 2000.
pub(in crate::postgres) const EPOCH_DAYS: i32 = 10_957;

/// Microseconds from 1970 to 2000.
pub(in crate::postgres) const EPOCH_MICROS: i64 = 10_957 * DAY;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

pub(super) struct Dates(pub(super) PrimitiveArray<Date32Type>);

impl EncodedValues for Dates {
    fn text(&self, row: usize, out: &mut BytesMut) {
        if let Some(era) = write_date(self.0.value(row).into(), out) {
            out.put_slice(era.as_bytes());
        }
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let days = self.0.value(row);
        out.put_i32(days.checked_sub(EPOCH_DAYS).ok_or_else(|| format!("day {days} is too early"))?);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        quoted(out, |out| self.text(row, out));
    }
}

pub(super) struct ClockTimes(pub(super) PrimitiveArray<Time64MicrosecondType>);

impl EncodedValues for ClockTimes {
    fn text(&self, row: usize, out: &mut BytesMut) {
        write_clock(self.0.value(row), out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        out.put_i64(self.0.value(row));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        quoted(out, |out| self.text(row, out));
    }
}

pub(super) struct Timestamps {
    pub(super) values: PrimitiveArray<TimestampMicrosecondType>,
    pub(super) has_zone: bool,
}

impl Timestamps {
    fn write(&self, row: usize, between: &str, zone: &str, out: &mut BytesMut) {
        let micros = self.values.value(row);
        let era = write_date(micros.div_euclid(DAY), out);
        out.put_slice(between.as_bytes());
        write_clock(micros.rem_euclid(DAY), out);
        if self.has_zone {
            out.put_slice(zone.as_bytes());
        }
        if let Some(era) = era {
            out.put_slice(era.as_bytes());
        }
    }
}

impl EncodedValues for Timestamps {
    fn text(&self, row: usize, out: &mut BytesMut) {
        self.write(row, " ", "+00", out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let micros = self.values.value(row);
        out.put_i64(micros.checked_sub(EPOCH_MICROS).ok_or_else(|| format!("microsecond {micros} is too early"))?);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        quoted(out, |out| self.write(row, "T", "Z", out));
    }
}

pub(super) struct Intervals(pub(super) PrimitiveArray<IntervalMonthDayNanoType>);

impl EncodedValues for Intervals {
    fn text(&self, row: usize, out: &mut BytesMut) {
        let value = self.0.value(row);
        let micros = value.nanoseconds / 1000;
        let (years, months) = (value.months / 12, value.months % 12);
        let mut first = true;
        let mut negative = false;
        for (count, unit) in [(years, "year"), (months, "mon"), (value.days, "day")] {
            if count == 0 {
                continue;
            }
            let space = if first { "" } else { " " };
            // A positive part behind a negative one has its sign.
            let sign = if negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            write(out, format_args!("{space}{sign}{count} {unit}{plural}"));
            (first, negative) = (false, count < 0);
        }
        if micros != 0 || first {
            let space = if first { "" } else { " " };
            let sign = match micros {
                ..0 => "-",
                _ if negative => "+",
                _ => "",
            };
            write(out, format_args!("{space}{sign}"));
            let micros = micros.unsigned_abs();
            let seconds = micros / SECOND.unsigned_abs();
            write(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
            write_fraction(micros % SECOND.unsigned_abs(), out);
        }
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let value = self.0.value(row);
        out.put_i64(value.nanoseconds / 1000);
        out.put_i32(value.days);
        out.put_i32(value.months);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        quoted(out, |out| self.text(row, out));
    }
}

fn quoted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'"');
    write(out);
    out.put_u8(b'"');
}

/// Writes the date of a day since 1970, and returns the era that stands behind the time of a year before 1.
fn write_date(days: i64, out: &mut BytesMut) -> Option<&'static str> {
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    write(out, format_args!("{shown:04}-{month:02}-{day:02}"));
    (year <= 0).then_some(" BC")
}

fn write_clock(micros: i64, out: &mut BytesMut) {
    let seconds = micros / SECOND;
    write(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    write_fraction((micros % SECOND).unsigned_abs(), out);
}

/// Writes the digits of a part of a second without the zeros at their end.
fn write_fraction(micros: u64, out: &mut BytesMut) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        write(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

/// Year, month and day of a day since 1970, in the calendar that has no gap (Hinnant's algorithm: years begin in March,
/// eras have 400 years).
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + days.div_euclid(ERA) * 400 + i64::from(month <= 2);
    (year, month, day)
}
