//! Values in both formats, and in JSON.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, IntervalMonthDayNano, TimeUnit, i256};

use super::*;

fn written(array: &ArrayRef) -> (String, String, String) {
    let column = Column::new(array).unwrap();
    let (mut text, mut binary, mut json) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    column.values().text(0, &mut text);
    column.values().binary(0, &mut binary).unwrap();
    column.json(0, &mut json);
    let plain = |bytes: &BytesMut| String::from_utf8(bytes.to_vec()).unwrap();
    (plain(&text), binary.iter().map(|byte| format!("{byte:02x}")).collect(), plain(&json))
}

#[track_caller]
fn check(array: impl Array + 'static, text: &str, binary: &str, json: &str) {
    let array: ArrayRef = Arc::new(array);
    let written = written(&array);
    let expect = (text.to_owned(), binary.replace(' ', ""), json.to_owned());
    assert_eq!(written, expect, "{}", array.data_type());
}

#[track_caller]
fn check_text(array: impl Array + 'static, text: &str) {
    let array: ArrayRef = Arc::new(array);
    assert_eq!(written(&array).0, text, "{}", array.data_type());
}

#[test]
fn integers() {
    check(Int8Array::from(vec![-7]), "-7", "fff9", "-7");
    check(Int16Array::from(vec![-7]), "-7", "fff9", "-7");
    check(Int32Array::from(vec![i32::MIN]), "-2147483648", "80000000", "-2147483648");
    check(Int64Array::from(vec![i64::MAX]), "9223372036854775807", "7fffffffffffffff", "9223372036854775807");
    check(UInt8Array::from(vec![200]), "200", "00c8", "200");
    check(UInt16Array::from(vec![40_000]), "40000", "00009c40", "40000");
    check(UInt32Array::from(vec![3_000_000_000]), "3000000000", "00000000b2d05e00", "3000000000");
    let binary = "0005 0004 0000 0000 0734 1a58 02e1 03bb 064f";
    check(UInt64Array::from(vec![u64::MAX]), "18446744073709551615", binary, "\"18446744073709551615\"");
}

#[test]
fn floats_have_the_digits_that_postgresql_writes() {
    check(Float64Array::from(vec![1.5]), "1.5", "3ff8000000000000", "1.5");
    check(Float32Array::from(vec![1.5]), "1.5", "3fc00000", "1.5");
    check(Float64Array::from(vec![f64::INFINITY]), "Infinity", "7ff0000000000000", "\"Infinity\"");
    check(Float64Array::from(vec![f64::NEG_INFINITY]), "-Infinity", "fff0000000000000", "\"-Infinity\"");
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.0, "-1"),
        (0.1, "0.1"),
        (100.0, "100"),
        (123.456, "123.456"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.000_015, "1.5e-05"),
        (123_456_789_012_345.0, "123456789012345"),
        (1e14, "100000000000000"),
        (1e15, "1e+15"),
        (1.25e15, "1.25e+15"),
        (1e100, "1e+100"),
        (-1.5e-300, "-1.5e-300"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (73.357_142_857_142_86, "73.35714285714286"),
        (f64::NAN, "NaN"),
    ] {
        check_text(Float64Array::from(vec![value]), text);
    }
    for (value, text) in
        [(0.1, "0.1"), (1e5, "100000"), (1e6, "1e+06"), (16_777_216.0, "1.6777216e+07"), (0.0001, "0.0001")]
    {
        check_text(Float32Array::from(vec![value]), text);
    }
}

#[test]
fn decimals() {
    let decimal = |value: i128, precision: u8, scale: i8| {
        Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale).unwrap()
    };
    check(decimal(-123_450_600, 12, 4), "-12345.0600", "0003 0001 4000 0004 0001 0929 0258", "\"-12345.0600\"");
    check(decimal(0, 5, 2), "0.00", "0000 0000 0000 0002", "\"0.00\"");
    check(decimal(5, 5, 3), "0.005", "0001 ffff 0000 0003 0032", "\"0.005\"");
    check(decimal(10_000, 5, 0), "10000", "0001 0001 0000 0000 0001", "\"10000\"");
    check(decimal(100_000_000, 9, 0), "100000000", "0001 0002 0000 0000 0001", "\"100000000\"");
    check_text(decimal(12, 5, -2), "1200");
    check_text(decimal(0, 5, -2), "0");
    check_text(decimal(-1, 38, 38), "-0.00000000000000000000000000000000000001");
    let wide: i256 = "1234567890123456789012345678901234567890125".parse().unwrap();
    let wide = Decimal256Array::from(vec![wide]).with_precision_and_scale(50, 1).unwrap();
    check_text(wide, "123456789012345678901234567890123456789012.5");
    check_text(Decimal32Array::from(vec![-5]).with_precision_and_scale(4, 1).unwrap(), "-0.5");
    check_text(Decimal64Array::from(vec![15]).with_precision_and_scale(4, 1).unwrap(), "1.5");
}

#[test]
fn texts_and_bytes() {
    check(StringArray::from(vec!["a\"\\\n\u{1}ü"]), "a\"\\\n\u{1}ü", "61225c0a01c3bc", r#""a\"\\\n\u0001ü""#);
    check_text(LargeStringArray::from(vec!["x"]), "x");
    check_text(StringViewArray::from(vec!["a longer text than twelve bytes"]), "a longer text than twelve bytes");
    let words: DictionaryArray<Int32Type> = vec!["word"].into_iter().collect();
    check_text(words, "word");
    check(BinaryArray::from_vec(vec![[0_u8, 255].as_slice()]), "\\x00ff", "00ff", "\"00ff\"");
    check_text(LargeBinaryArray::from_vec(vec![[1_u8].as_slice()]), "\\x01");
    check_text(BinaryViewArray::from(vec![&[2_u8] as &[u8]]), "\\x02");
    check_text(FixedSizeBinaryArray::try_from_iter([[3_u8, 4]].iter()).unwrap(), "\\x0304");
    check(BooleanArray::from(vec![true]), "t", "01", "true");
    check(BooleanArray::from(vec![false]), "f", "00", "false");
}

#[test]
fn times_from_the_first_year_to_the_last() {
    check(Date32Array::from(vec![10_957]), "2000-01-01", "00000000", "\"2000-01-01\"");
    check_text(Date32Array::from(vec![0]), "1970-01-01");
    check_text(Date32Array::from(vec![-1]), "1969-12-31");
    check_text(Date32Array::from(vec![-719_162]), "0001-01-01");
    check_text(Date32Array::from(vec![-719_163]), "0001-12-31 BC");
    check_text(Date32Array::from(vec![2_932_896]), "9999-12-31");
    check_text(Date32Array::from(vec![11_016]), "2000-02-29");
    check_text(Date64Array::from(vec![86_400_000]), "1970-01-02");
    let noon = 43_200_000_000_i64;
    check(Time64MicrosecondArray::from(vec![noon + 500_000]), "12:00:00.5", "0000000a0ef35120", "\"12:00:00.5\"");
    check_text(Time32SecondArray::from(vec![1]), "00:00:01");
    let new_year = 1_767_225_600_000_000;
    check(
        TimestampMicrosecondArray::from(vec![new_year + 250_000]),
        "2026-01-01 00:00:00.25",
        "0002ea470aec3090",
        "\"2026-01-01T00:00:00.25\"",
    );
    let zoned = TimestampMicrosecondArray::from(vec![new_year]).with_timezone("UTC");
    check(zoned, "2026-01-01 00:00:00+00", "0002ea470ae86000", "\"2026-01-01T00:00:00Z\"");
    check_text(TimestampMillisecondArray::from(vec![-1]), "1969-12-31 23:59:59.999");
    check_text(TimestampNanosecondArray::from(vec![1_500]), "1970-01-01 00:00:00.000001");
    check_text(TimestampMicrosecondArray::from(vec![-62_135_596_800_000_000]), "0001-01-01 00:00:00");
    check_text(TimestampMicrosecondArray::from(vec![253_402_300_799_999_999]), "9999-12-31 23:59:59.999999");
    check_text(TimestampMicrosecondArray::from(vec![i64::MAX]), "294247-01-10 04:00:54.775807");
    let column = Column::new(&(Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN])) as ArrayRef)).unwrap();
    assert!(column.values().binary(0, &mut BytesMut::new()).is_err());
}

#[test]
fn intervals_are_written_as_postgresql_does() {
    let interval = |months, days, nanoseconds| {
        IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano { months, days, nanoseconds }])
    };
    let second = 1_000_000_000;
    check(
        interval(14, 3, 14_706 * second + 500_000_000),
        "1 year 2 mons 3 days 04:05:06.5",
        "000000036c9361a0 00000003 0000000e",
        "\"1 year 2 mons 3 days 04:05:06.5\"",
    );
    for (months, days, nanoseconds, text) in [
        (0, 0, 0, "00:00:00"),
        (1, 0, 0, "1 mon"),
        (12, 1, 0, "1 year 1 day"),
        (-1, 0, 0, "-1 mons"),
        (-13, 2, 0, "-1 years -1 mons +2 days"),
        (0, 0, -second, "-00:00:01"),
        (0, -1, second, "-1 days +00:00:01"),
        (0, 0, 100 * 3600 * second, "100:00:00"),
    ] {
        check_text(interval(months, days, nanoseconds), text);
    }
    check_text(IntervalYearMonthArray::from(vec![14]), "1 year 2 mons");
    check_text(DurationMicrosecondArray::from(vec![1_500_000]), "00:00:01.5");
}

#[test]
fn lists_of_scalars_are_arrays_and_the_rest_is_json() {
    let ints = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(5), None])]);
    check(ints, "{5,NULL}", "00000001 00000001 00000017 00000002 00000001 00000004 00000005 ffffffff", "[5,null]");
    let empty = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(Vec::<Option<i32>>::new())]);
    check(empty, "{}", "00000000 00000000 00000017", "[]");
    let mut words = ListBuilder::new(StringBuilder::new());
    let items = ["a", "", "null", "b c", "d\"e", "f\\g", "{", "h,i", "ü", "\u{b}"];
    words.append_value(items.map(Some));
    check_text(words.finish(), "{a,\"\",\"null\",\"b c\",\"d\\\"e\",\"f\\\\g\",\"{\",\"h,i\",ü,\"\u{b}\"}");
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)])], 2);
    check_text(fixed, "{1,2}");
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    check_text(large, "{1}");

    let mut nested = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    nested.values().append_value([Some(1)]);
    nested.values().append_value([Some(2), None]);
    nested.append(true);
    let nested = nested.finish();
    assert_eq!(crate::postgres::types::shown(nested.data_type()).name(), "json");
    check(nested, "[[1],[2,null]]", "5b5b315d2c5b322c6e756c6c5d5d", "[[1],[2,null]]");

    let fields = vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        (
            Arc::new(Field::new("b\"", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef,
        ),
    ];
    check_text(StructArray::from(fields), r#"{"a":1,"b\"":null}"#);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(f64::NAN);
    map.append(true).unwrap();
    check_text(map.finish(), r#"{"k":"NaN"}"#);
}

#[test]
fn columns_have_the_types_of_postgresql() {
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    for (arrow, name) in [
        (DataType::Null, "text"),
        (DataType::UInt64, "numeric"),
        (DataType::Float16, "float4"),
        (DataType::Decimal256(50, 2), "numeric"),
        (DataType::Utf8View, "text"),
        (DataType::FixedSizeBinary(3), "bytea"),
        (DataType::Time32(TimeUnit::Second), "time"),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("+01:00".into())), "timestamptz"),
        (DataType::Duration(TimeUnit::Second), "interval"),
        (list(DataType::Utf8), "_text"),
        (list(DataType::UInt64), "_numeric"),
        (list(DataType::Timestamp(TimeUnit::Second, None)), "_timestamp"),
        (list(list(DataType::Int32)), "json"),
        (DataType::Struct(Default::default()), "json"),
        (list(DataType::Struct(Default::default())), "json"),
        (DataType::new_list(list(DataType::Struct(Default::default())), true), "json"),
        (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "text"),
        (list(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64))), "_int8"),
        (list(DataType::Decimal128(10, 2)), "_numeric"),
        (list(DataType::Null), "_text"),
        (DataType::Decimal128(10, 2), "numeric"),
        (list(DataType::Binary), "_bytea"),
    ] {
        let shown = crate::postgres::types::shown(&arrow);
        assert_eq!(shown.name(), name, "{arrow}");
        let listed = crate::pg_catalog::pg_type(&arrow);
        assert_eq!(
            (listed.oid as u32, listed.modifier),
            (shown.oid(), crate::postgres::types::modifier(&arrow)),
            "{arrow}"
        );
    }
}

#[test]
fn nulls_are_seen_through_all_types() {
    for array in [
        Arc::new(NullArray::new(1)) as ArrayRef,
        Arc::new(Int8Array::from(vec![None])),
        Arc::new(StringArray::from(vec![None::<&str>])),
        Arc::new(vec![None::<&str>].into_iter().collect::<DictionaryArray<Int32Type>>()),
    ] {
        assert!(Column::new(&array).unwrap().is_null(0), "{}", array.data_type());
    }
}

#[test]
fn values_that_rows_share_are_encoded_through_their_keys() {
    let dictionary: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b")].into_iter().collect();
    let array = Arc::new(dictionary.slice(1, 3)) as ArrayRef;
    let column = Column::new(&array).unwrap();
    let text = |column: &Column, row: usize| {
        let mut out = BytesMut::new();
        column.values().text(row, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert!(column.is_null(0));
    assert_eq!([1, 2].map(|row| text(&column, row)), ["a", "b"]);
    // The NULL is a value of the dictionary.
    let nulls = DictionaryArray::new(Int8Array::from(vec![1, 0]), Arc::new(StringArray::from(vec![None, Some("x")])));
    let column = Column::new(&(Arc::new(nulls) as ArrayRef)).unwrap();
    assert_eq!([column.is_null(0), column.is_null(1)], [false, true]);
    let none = DictionaryArray::new(Int8Array::from(vec![None, None]), Arc::new(StringArray::from(Vec::<&str>::new())));
    assert!(Column::new(&(Arc::new(none) as ArrayRef)).unwrap().is_null(1));
    let runs = RunArray::try_new(&Int32Array::from(vec![2, 5]), &StringArray::from(vec!["x", "y"])).unwrap();
    let column = Column::new(&(Arc::new(runs.slice(1, 3)) as ArrayRef)).unwrap();
    assert_eq!([0, 1, 2].map(|row| text(&column, row)), ["x", "y", "y"]);

    let long = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
    let items = DictionaryArray::new(Int32Array::from(vec![0; 1000]), long);
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let lists = ListArray::new(field, OffsetBuffer::from_lengths([1000]), Arc::new(items), None);
    assert!(Column::new(&(Arc::new(lists) as ArrayRef)).is_err());
}
