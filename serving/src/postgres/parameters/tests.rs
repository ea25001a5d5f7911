//! Values in both formats.

use super::*;

fn bytes(digits: &str) -> Bytes {
    Bytes::from(hex(&digits.replace(' ', "")).unwrap())
}

#[track_caller]
fn check_text(given: Type, text: &str, expect: Result<&str, &str>) {
    let read = read(Some(&given), false, &Bytes::from(text.to_owned()));
    check(read, expect, text);
}

#[track_caller]
fn check_binary(given: Type, digits: &str, expect: Result<&str, &str>) {
    check(read(Some(&given), true, &bytes(digits)), expect, digits);
}

#[track_caller]
fn check(read: Result<Parameter, String>, expect: Result<&str, &str>, shown: &str) {
    match (read, expect) {
        (Ok(Parameter::Typed(value)), Ok(expect)) => {
            assert_eq!(format!("{}: {value}", value.data_type()), expect, "{shown}");
        }
        (Err(reason), Err(expect)) => assert!(reason.contains(expect), "{shown}: {reason}"),
        (read, expect) => panic!("{shown}: {read:?}, not {expect:?}"),
    }
}

#[test]
fn texts_are_values_of_their_types() {
    check_text(Type::BOOL, "t", Ok("Boolean: true"));
    check_text(Type::BOOL, " Off ", Ok("Boolean: false"));
    check_text(Type::BOOL, "perhaps", Err("not a boolean"));
    check_text(Type::INT2, "-7", Ok("Int16: -7"));
    check_text(Type::INT4, "99999999999", Err("not a value of the type int4"));
    check_text(Type::INT8, " 5 ", Ok("Int64: 5"));
    check_text(Type::FLOAT8, "1.5e3", Ok("Float64: 1500"));
    check_text(Type::FLOAT8, "NaN", Ok("Float64: NaN"));
    check_text(Type::NUMERIC, "-12.340", Ok("Decimal128(5, 3): -12.340"));
    check_text(Type::NUMERIC, "1e3", Ok("Decimal128(4, 0): 1000"));
    check_text(Type::NUMERIC, "1e-3", Ok("Decimal128(3, 3): 0.001"));
    check_text(Type::NUMERIC, ".5", Ok("Decimal128(1, 1): 0.5"));
    check_text(Type::NUMERIC, &"9".repeat(39), Ok(&format!("Decimal256(39, 0): {}", "9".repeat(39))));
    check_text(Type::NUMERIC, &"9".repeat(77), Err("more than 76 digits"));
    check_text(Type::NUMERIC, "1e999999999", Err("more than 76 digits"));
    check_text(Type::NUMERIC, "NaN", Err("not a number"));
    check_text(Type::NUMERIC, "", Err("not a number"));
    check_text(Type::TEXT, " as it is ", Ok("Utf8:  as it is "));
    check_text(Type::VARCHAR, "", Ok("Utf8: "));
    check_text(Type::DATE, "2026-02-28", Ok("Date32: 2026-02-28"));
    check_text(Type::DATE, "2026-02-30", Err("not a value of the type date"));
    check_text(Type::TIMESTAMP, "2026-01-01 00:00:00.25", Ok("Timestamp(µs): 1767225600250000"));
    check_text(Type::BYTEA, "\\x00ff", Ok("Binary: 00FF"));
    check_text(Type::BYTEA, "\\x0", Err("hexadecimal"));
    check_text(Type::BYTEA, "\\xzz", Err("hexadecimal"));
    check_text(Type::UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", Ok("Utf8: a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
    check_text(Type::INT4_ARRAY, "{1,NULL,-3}", Ok("List(Int32): [1, , -3]"));
    check_text(Type::TEXT_ARRAY, "{}", Ok("List(Utf8): []"));
    check_text(Type::TEXT_ARRAY, r#"{a,"b c","NULL","q\"\\",ü}"#, Ok(r#"List(Utf8): [a, b c, NULL, q"\, ü]"#));
    check_text(Type::TEXT_ARRAY, "{a,}", Err("not an array"));
    check_text(Type::TEXT_ARRAY, "{{1}}", Err("not an array"));
    check_text(Type::TEXT_ARRAY, "{\"a}", Err("not an array"));
    check_text(Type::INT4_ARRAY, "{ 1 , 2 }", Ok("List(Int32): [1, 2]"));
    check_text(Type::TEXT_ARRAY, "{\"a\", \"b\"}", Ok("List(Utf8): [a, b]"));
    check_text(Type::TIMESTAMP, "2026-01-01 00:00:00.25+01", Ok("Timestamp(µs): 1767225600250000"));
    check_text(Type::TIMESTAMPTZ, "2026-01-01 01:00:00+01", Ok("Timestamp(µs, \"UTC\"): 1767225600000000"));
    check_text(Type::TIMESTAMP, "2026-01-01 25:00:00+01", Err("not a value of the type timestamp"));
    check_text(Type::TIMESTAMP, "infinity", Err("infinite"));
    check_text(Type::DATE, "2026-02-28 +01", Ok("Date32: 2026-02-28"));
    check_text(Type::TIME, "04:05:06.5+01", Ok("Time64(ns): 14706500000000"));
    check_text(Type::NUMERIC_ARRAY, "{1.5,100,NULL}", Ok("List(Decimal128(4, 1)): [1.5, 100.0, ]"));
    check_text(Type::POINT, "(1,2)", Err("not supported"));
}

#[test]
fn bytes_are_values_of_their_types() {
    check_binary(Type::BOOL, "01", Ok("Boolean: true"));
    check_binary(Type::INT2, "fff9", Ok("Int16: -7"));
    check_binary(Type::INT4, "0000", Err("not a value of the type int4"));
    check_binary(Type::INT8, "0000000000000005", Ok("Int64: 5"));
    check_binary(Type::OID, "ffffffff", Ok("Int64: 4294967295"));
    check_binary(Type::FLOAT4, "3fc00000", Ok("Float32: 1.5"));
    check_binary(Type::FLOAT8, "3ff8000000000000", Ok("Float64: 1.5"));
    check_binary(Type::TEXT, "c3bc", Ok("Utf8: ü"));
    check_binary(Type::TEXT, "ff", Err("not UTF-8"));
    check_binary(Type::BYTEA, "00ff", Ok("Binary: 00FF"));
    check_binary(Type::DATE, "00000000", Ok("Date32: 2000-01-01"));
    check_binary(Type::DATE, "7fffffff", Err("infinite"));
    check_binary(Type::TIME, "000000000000000a", Ok("Time64(ns): 10000"));
    check_binary(Type::TIMESTAMP, "0000000000000000", Ok("Timestamp(µs): 946684800000000"));
    check_binary(Type::TIMESTAMPTZ, "0000000000000000", Ok("Timestamp(µs, \"UTC\"): 946684800000000"));
    check_binary(Type::TIMESTAMP, "7fffffffffffffff", Err("infinite"));
    check_binary(Type::TIMESTAMP, "8000000000000000", Err("infinite"));
    check_binary(Type::DATE, "80000000", Err("infinite"));
    check_binary(Type::NUMERIC, "0003 0001 4000 0004 0001 0929 0258", Ok("Decimal128(9, 4): -12345.0600"));
    check_binary(Type::NUMERIC, "0000 0000 0000 0002", Ok("Decimal128(2, 2): 0.00"));
    check_binary(Type::NUMERIC, "0001 0001 0000 0000 0001", Ok("Decimal128(5, 0): 10000"));
    check_binary(Type::NUMERIC, "0001 ffff 0000 0003 04d2", Ok("Decimal128(3, 3): 0.123"));
    check_binary(Type::NUMERIC, "0000 0000 c000 0000", Err("NaN"));
    check_binary(Type::NUMERIC, "0001 7fff 0000 0000 0001", Err("more than 76 digits"));
    check_binary(Type::NUMERIC, "ffff 0000 0000 0000", Err("not a value"));
    check_binary(Type::NUMERIC, "0001 0000 0000 0000 7fff", Err("not a value"));
    check_binary(Type::NUMERIC, "0002 0000 0000 0000 0001", Err("not a value"));
    check_binary(Type::UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a11", Ok("Utf8: a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
    check_binary(Type::JSONB, "01 7b7d", Ok("Utf8: {}"));
    check_binary(Type::JSONB, "02 7b7d", Err("not a value"));
    let ints = "00000001 00000001 00000017 00000002 00000001 00000004 00000005 ffffffff";
    check_binary(Type::INT4_ARRAY, ints, Ok("List(Int32): [5, ]"));
    check_binary(Type::INT4_ARRAY, "00000000 00000000 00000017", Ok("List(Int32): []"));
    check_binary(Type::INT4_ARRAY, "00000002 00000000 00000017", Err("several dimensions"));
    check_binary(Type::INT4_ARRAY, "00000001 00000000 00000017 7fffffff 00000001", Err("more than 250000 items"));
    check_binary(Type::INT4_ARRAY, "00000001 00000000 00000017 0000ffff 00000001", Err("not a value"));
    check_binary(Type::INT4_ARRAY, "00000001 00000000 00000017 00000001 00000001 7fffffff 00", Err("not a value"));
    check_binary(Type::INT4_ARRAY, "", Err("not a value"));
    check_binary(Type::POINT, "00", Err("not supported"));
}

#[test]
fn without_a_type_only_text_is_a_value() {
    let text = Bytes::from_static(b"5");
    assert_eq!(read(None, false, &text), Ok(Parameter::Text("5".into())));
    assert!(read(None, true, &text).is_err());
}
