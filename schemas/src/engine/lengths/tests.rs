//! Sizes of results, from scalars and from columns, before the results exist.

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, FixedSizeListArray, Int64Array, IntervalMonthDayNanoArray,
    ListArray, ListBuilder, StringArray, StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, IntervalMonthDayNano};

use super::arguments::bytes_between;
use super::*;

fn texts(values: &[&str]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
}

fn text(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(value))
}

fn number(value: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
}

fn numbers(values: &[Option<i64>]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(Int64Array::from(values.to_vec())))
}

fn lists(values: &[usize]) -> ColumnarValue {
    let lists = values.iter().map(|length| Some(vec![Some(7); *length]));
    ColumnarValue::Array(Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)))
}

fn days(first: i32) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(Date32Array::from(vec![first])))
}

fn micros(first: i64, zone: Option<&str>) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(TimestampMicrosecondArray::from(vec![first]).with_timezone_opt(zone)))
}

fn interval(months: i32, days: i32, nanos: i64) -> ColumnarValue {
    let interval = IntervalMonthDayNano::new(months, days, nanos);
    ColumnarValue::Array(Arc::new(IntervalMonthDayNanoArray::from(vec![interval])))
}

fn shape(name: &str) -> Shape {
    GROWING.iter().find(|(growing, _)| *growing == name).unwrap().1
}

#[track_caller]
fn check(name: &str, arguments: &[ColumnarValue], rows: usize, expect: u64) {
    assert_eq!(shape(name).estimate(arguments, rows).unwrap().total, expect, "{name}");
}

#[track_caller]
fn check_count(name: &str, arguments: &[ColumnarValue], rows: usize, expect: u64) {
    let (estimate, count) = (shape(name).estimate(arguments, rows), shape(name).count(arguments, rows));
    let (estimate, count) = (estimate.unwrap().total, count.unwrap().unwrap().total);
    assert_eq!(count, expect, "{name}");
    assert!(estimate >= count, "{name}: {estimate}");
}

#[test]
fn elements_joined_to_a_text() {
    let long = "x".repeat(1000);
    // Numbers have 20 characters at most.
    check("array_to_string", &[lists(&[3, 0]), text(&long)], 2, (3 * 1020 + 3 * 4 + 4) + 4 + 2 * 1000);
    check("array_to_string", &[lists(&[3, 1]), texts(&[&long, ","])], 2, (3 * 1020 + 3 * 4 + 4) + (21 + 4 + 4));
    check("array_to_string", &[lists(&[2]), texts(&[","]), texts(&[&long])], 1, 2 * 1001 + 2 * 4 + 4);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("ab"), None]);
    check("array_to_string", &[ColumnarValue::Array(Arc::new(words.finish())), texts(&[","])], 1, 2 + (2 + 2 * 4) + 4);
}

#[test]
fn repeated_and_padded_texts() {
    check("repeat", &[texts(&["ab", "c"]), number(1000)], 2, 3000);
    check("repeat", &[texts(&["ab", "c"]), numbers(&[Some(2), None])], 2, 4);
    check("repeat", &[text("abc"), number(7)], 1, 21);
    check("repeat", &[texts(&["ab"]), number(-1)], 1, 0);
    check("repeat", &[texts(&["abc"]), number(i64::MAX)], 1, u64::MAX);
    // The engine writes the scalar out for every row.
    check("repeat", &[text("abc"), numbers(&[Some(0), Some(2)])], 2, 6 + 6);
    check("lpad", &[texts(&["ab", "c"]), number(10)], 2, 20);
    check("lpad", &[texts(&["äb"]), number(10)], 1, 11);
    check("rpad", &[texts(&["ab"]), number(10), texts(&["aé"])], 1, 2 + 8 * 2);
    check("rpad", &[texts(&["ab"]), number(1), texts(&["é"])], 1, 2);
    // The engine makes room for the width.
    check("rpad", &[texts(&["ab"]), number(10), texts(&[""])], 1, 10);
    check("rpad", &[ColumnarValue::Scalar(ScalarValue::Utf8(None)), number(10)], 1, 10);
    check("lpad", &[texts(&["ab"]), numbers(&[None]), texts(&["é"])], 1, 2);
}

#[test]
fn elements_of_lists() {
    check("array_repeat", &[number(7), number(100)], 1, 100 * (8 + 8));
    check("array_repeat", &[text("four"), number(100)], 1, 100 * (4 + 4 + 8));
    check("array_repeat", &[lists(&[3, 1]), numbers(&[Some(1), Some(10)])], 2, (4 + 12 + 24) + 10 * (4 + 4 + 8));
    check("array_repeat", &[lists(&[3, 1]), numbers(&[None, Some(-9)])], 2, 0);
    check("array_resize", &[lists(&[2]), number(100), number(0)], 1, 4 + 8 + 98 * 8 * 2);
    check("array_resize", &[lists(&[2]), number(100)], 1, 4 + 8 + 98 * 4 * 2);
    check("array_resize", &[lists(&[2]), number(1)], 1, 4 + 8);
    check("array_resize", &[lists(&[2]), number(100), lists(&[1000])], 1, 4 + 8 + 98 * 4004 * 2);
}

#[test]
fn bytes_of_values_are_those_of_a_copy() {
    let check = |values: ArrayRef, expect: [u64; 2]| {
        let found = [bytes_between(&values, 0, 1), bytes_between(&values, 1, 3)];
        assert_eq!(found, expect, "{}", values.data_type());
        let sliced = values.slice(1, 2);
        assert_eq!(bytes_between(&sliced, 0, 2), expect[1], "{}", values.data_type());
    };
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("c")]));
    let ColumnarValue::Array(lists) = lists(&[5, 0, 2]) else { unreachable!("a column") };
    check(Arc::clone(&numbers), [8, 16]);
    check(Arc::clone(&texts), [6, 9]);
    check(Arc::new(StringViewArray::from(vec!["ab", "", "longer than twelve bytes"])), [18, 56]);
    check(Arc::new(BinaryArray::from(vec![&b"ab"[..], b"", b"c"])), [6, 9]);
    check(Arc::new(BooleanArray::from(vec![true, false, true])), [1, 2]);
    check(Arc::clone(&lists), [4 + 20, 8 + 8]);
    let fields = [("n", numbers), ("t", texts), ("l", lists)];
    check(Arc::new(StructArray::try_from(fields.to_vec()).unwrap()), [1 + 8 + 6 + 24, 2 + 16 + 9 + 16]);
    let pairs = (0..3).map(|n| Some([Some(n), None]));
    check(Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2)), [8, 16]);
}

#[test]
fn series_of_numbers_and_times() {
    check("range", &[number(100)], 1, 101 * 8);
    check("range", &[numbers(&[Some(2), None])], 2, 3 * 8);
    check("generate_series", &[number(100), number(0), number(-2)], 1, 51 * 8);
    check("generate_series", &[number(0), number(100), number(-2)], 1, 0);
    check("range", &[number(0), number(100), number(0)], 1, 0);
    check("generate_series", &[number(i64::MIN), number(i64::MAX)], 1, u64::MAX);
    check("range", &[days(0), days(280), interval(1, 0, 0)], 1, 11 * 4);
    check("range", &[days(0), days(-280), interval(-1, 0, 0)], 1, 11 * 4);
    check("range", &[days(0), days(10), interval(0, 1, i64::MAX)], 1, 4);
    check("range", &[micros(0, None), micros(3_600_000_000, None), interval(0, 0, 1_000_000_000)], 1, 3601 * 8);
    let zone = Some("Europe/Berlin");
    check("range", &[micros(0, zone), micros(0, zone), interval(0, 1, 0)], 1, 3 * 8);
}

#[test]
fn a_step_that_may_stand_still_is_refused() {
    let check = |step: ColumnarValue| {
        for bounds in [[days(0), days(9)], [micros(0, None), micros(9, None)]] {
            let [start, stop] = bounds;
            let error = shape("range").estimate(&[start, stop, step.clone()], 1).unwrap_err().to_string();
            assert!(error.contains("one sign"), "{error}");
        }
    };
    check(interval(1, -29, 0));
    check(interval(1, -28, 0));
    check(interval(0, -1, 86_400_000_000_000));
    check(interval(i32::MIN, 0, i64::MAX));
}

#[test]
fn replaced_matches() {
    check_count("replace", &[texts(&["ab"]), texts(&[""]), texts(&["xyz"])], 1, 2);
    check_count("replace", &[texts(&["abab"]), text("ab"), text("xyz")], 1, 6);
    check_count("replace", &[texts(&["abab"]), text("ab"), text("x")], 1, 4);
    check_count("replace", &[texts(&["aaaaa"]), text("x"), text("xyz")], 1, 5);
    let regexp = |text: &str, pattern: &str, by: &str, flags: &str, expect| {
        check_count(
            "regexp_replace",
            &[texts(&[text]), self::text(pattern), self::text(by), self::text(flags)],
            1,
            expect,
        );
    };
    check_count("regexp_replace", &[texts(&["aaaa"]), text("a"), text("xyz")], 1, 6);
    regexp("aaaa", "a", "xyz", "g", 12);
    regexp("aaaa", "A", "xyz", "g", 4);
    regexp("aaaa", "A", "xyz", "gi", 12);
    regexp("aaaa", "A", "xyz", "i", 6);
    regexp("aa", "", "xyz", "g", 2 + 9);
    // Text of the replacement is counted beside what the reference becomes.
    regexp("aaaa", "(.*)", r"\1", "", 2 + 4);
    regexp("aaaa", "(a)", r"$1$1$1", "g", 4 * 6 + 12);
    // The engine refuses the pattern.
    regexp("aaaa", "(", "xyz", "g", 0);
}
