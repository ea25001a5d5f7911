//! The spellings of a time that are taken, the ranges, and the units of numbers.

use super::*;

const NOON: i64 = 1_714_564_800_000_000;
const MIDNIGHT: i64 = NOON - 12 * 3_600_000_000;

#[track_caller]
fn check(text: &str, expect: Option<i64>) {
    assert_eq!(micros_of_text(text), expect.ok_or(TimeError::Form), "{text}");
}

#[test]
fn one_instant_has_many_spellings() {
    for noon in [
        "2024-05-01T12:00:00Z",
        "2024-05-01t12:00:00z",
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00",
        "2024-05-01T12:00Z",
        "2024-05-01T12:00",
        "2024-05-01T12Z",
        "2024-05-01T12",
        "2024-05-01 120000",
        "2024-05-01T1200",
        "20240501T120000Z",
        "20240501T1200+0000",
        "20240501T12Z",
        "2024-05-01T12:00:00.000000000Z",
        "2024-05-01T12:00:00,0Z",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T14:00:00+0200",
        "2024-05-01T14:00:00+02",
        "2024-05-01T14:00+02:00",
        "2024-05-01T14:00:00 +0200",
        "2024-05-01T06:30:00-05:30",
        "2024-05-01T06:30:00\u{2212}05:30",
        "2024-05-01T12:00:00-00:00",
        "2024-W18-3T12:00:00Z",
        "2024W183T120000Z",
        "2024-122T12:00:00Z",
        "2024-05-02T00:00+12:00",
        "2024-04-30T23:00-13",
    ] {
        check(noon, Some(NOON));
    }
    for midnight in ["2024-05-01", "2024-W18-3", "2024-122", "2024-05-01T00"] {
        check(midnight, Some(MIDNIGHT));
    }
    check("2024-05-01T12:00:00.000001Z", Some(NOON + 1));
    check("2024-05-01T12:00:00.000001999Z", Some(NOON + 1));
    check("2024-05-01T12:00:00.5", Some(NOON + 500_000));
    check("1969-12-31T23:59:59.9999999Z", Some(-1));
    check("2020-W53-7", Some(1_609_632_000_000_000));
    check("2024-366", Some(1_735_603_200_000_000));
}

#[test]
fn other_texts_are_no_times() {
    for other in [
        "2024-02-30T12:00:00Z",
        "2024-05-01T24:00:00Z",
        "2024-05-01T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5Z",
        "2024-05-01T12:00:00+02:60",
        "2024-05-01T12:00:00+02:99",
        "2024-05-01T12:00:00+0299",
        "2024-05-01T12:00:00+99",
        "2024-05-01T12:00:00+2",
        "2024-05-01T12:00:00 Europe/Berlin",
        "2024-05-01T12:00:00 UTC",
        "2024-05-01T12:00:00.Z",
        "2024-05-01T12:00.5Z",
        "2024-05-01T12:00:00Z ",
        " 2024-05-01T12:00:00Z",
        "2024-05-01T12:00:00é",
        "2024-05-01T1:00",
        "2024-05-01T12:0",
        "2024-05-01T",
        "2024-05-01Z",
        "2024-05-01+02:00",
        "2024-05",
        "2024-5-1",
        "2024-05-1T12:00",
        "2024-W54-1",
        "2023-W53-1",
        "2024-W18-8",
        "2024-W18-0",
        "2024-W18",
        "2023-366",
        "2024-000",
        "20240501",
        "2024122",
        "1714564800",
        "1714564800000",
        "+02024-05-01",
        "-0001-05-01",
        "",
        "T12:00",
    ] {
        check(other, None);
    }
}

#[test]
fn times_outside_the_years_1_to_9999_are_out_of_range() {
    assert_eq!(micros_of_text("0001-01-01T00:00:00Z"), Ok(-62_135_596_800_000_000));
    assert_eq!(micros_of_text("9999-12-31T23:59:59.999999Z"), Ok(253_402_300_799_999_999));
    for far in ["0000-12-31", "0001-01-01T00:00+00:01", "9999-12-31T23:59:59-00:01"] {
        assert_eq!(micros_of_text(far), Err(RANGE), "{far}");
    }
    assert_eq!(days_of_text("9999-12-31"), Ok(2_932_896));
    assert_eq!(days_of_text("0001-01-01"), Ok(-719_162));
    assert_eq!(days_of_text("0000-12-31"), Err(RANGE));
    assert_eq!(days_of_number("2932896"), Ok(2_932_896));
    for far in ["2932897", "-719163", "20240501", "2147483648"] {
        assert_eq!(days_of_number(far), Err(RANGE), "{far}");
    }
}

#[test]
fn a_date_has_one_form() {
    assert_eq!(days_of_text("1970-01-02"), Ok(1));
    for odd in [
        "2024-5-1",
        "20240501",
        "2024-122",
        "2024-W18-3",
        "2024-13-01",
        "2024-02-30",
        "+02024-05-1",
        "2024-05-01T00:00:00Z",
        "2024-05-0é",
        "",
    ] {
        assert_eq!(days_of_text(odd), Err(TimeError::Form), "{odd}");
    }
}

#[test]
fn numbers_are_in_their_unit() {
    use TimestampUnit::{Microseconds as Us, Milliseconds as Ms, Nanoseconds as Ns, Seconds as S};
    let check = |number: &str, unit, expect| assert_eq!(micros_of_number(number, unit), expect, "{number} {unit:?}");
    check("1714564800", S, Ok(NOON));
    check("1714564800000", Ms, Ok(NOON));
    check("1714564800000000", Us, Ok(NOON));
    check("1714564800000000000", Ns, Ok(NOON));
    check("1714564800.25", S, Ok(NOON + 250_000));
    check("1714564800.1234567", S, Ok(NOON + 123_456));
    check("1.7145648e9", S, Ok(NOON));
    check("1714564800.1234567890123456789012345678901234567890", S, Ok(NOON + 123_456));
    check("1714564800000.99999999999999999999999999", Ms, Ok(NOON + 999));
    check("17145648001234567.89e-7", S, Ok(NOON + 123_456));
    check("1e-20", S, Ok(0));
    check("-1e-999999999999", S, Ok(-1));
    check("-1714564800.0000001", S, Ok(-NOON - 1));
    check("123456789012345678901234567890123456789012345.5", S, Err(RANGE));
    check("1714564800000.5", Ms, Ok(NOON + 500));
    check("-0.0000001", S, Ok(-1));
    check("1714564800000000999", Ns, Ok(NOON));
    check("1714564800000000.5", Us, Err(TimeError::Number(NumberError::Fraction)));
    for unit in [S, Ms, Us, Ns] {
        check("0", unit, Ok(0));
        check("1e30", unit, Err(RANGE));
        check("-1e30", unit, Err(RANGE));
    }
    // Too many digits for the unit are years that no calendar has.
    check("1714564800000", S, Err(RANGE));
    check("1714564800000000", Ms, Err(RANGE));
    check("1714564800000000000", Us, Err(RANGE));
    // Too few digits would be a time of early 1970.
    check("1714564800", Ms, Err(TimeError::Unit(S)));
    check("1714564800", Us, Err(TimeError::Unit(S)));
    check("1714564800000", Us, Err(TimeError::Unit(Ms)));
    check("1714564800", Ns, Err(TimeError::Unit(S)));
    check("1714564800000", Ns, Err(TimeError::Unit(Ms)));
    check("1714564800000000", Ns, Err(TimeError::Unit(Us)));
    // Times of the seventies stay what they are.
    check("86400000000000", Us, Ok(86_400_000_000_000));
    check("1000001", Us, Ok(1_000_001));
    check("-1714564800", Us, Ok(-1_714_564_800));
}
