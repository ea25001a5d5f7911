//! Sizes that are said before, against what the encoder writes.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array,
    IntervalMonthDayNanoArray, ListArray, NullArray, StringArray, StructArray, Time64NanosecondArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Int32Type, IntervalMonthDayNano};

use super::*;
use crate::http::encode::Encoder;

/// Checks the size of `column`, of a part of it, of lists of it, of objects of it, and of lists of objects.
#[track_caller]
fn check(column: ArrayRef) {
    let lists = |values: &ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let ends = OffsetBuffer::from_lengths(vec![values.len()]);
        Arc::new(ListArray::new(field, ends, Arc::clone(values), None))
    };
    let objects = |values: &ArrayRef, name: &str| -> ArrayRef {
        let field = Arc::new(Field::new(name, values.data_type().clone(), true));
        Arc::new(StructArray::from(vec![(field, Arc::clone(values))]))
    };
    let long = objects(&column, &"\u{1}\"x".repeat(300));
    for values in [
        Arc::clone(&column),
        column.slice(column.len() / 2, column.len() - column.len() / 2),
        lists(&column),
        objects(&column, ""),
        lists(&lists(&column)),
        lists(&long).slice(0, 1),
        long,
    ] {
        for format in [AnswerFormat::Json, AnswerFormat::Csv, AnswerFormat::Ndjson] {
            let name = values.data_type().to_string();
            let batch = RecordBatch::try_from_iter_with_nullable([("x", Arc::clone(&values), true)]).unwrap();
            let mut out = Vec::new();
            Encoder::new(format, batch.schema(), None).unwrap().batch(&batch, &mut out).unwrap();
            let said = encoded_bytes(&batch, format);
            assert!(said >= out.len(), "{said} for {} bytes of {name}", out.len());
        }
    }
}

#[test]
fn nothing_is_longer_than_said() {
    check(Arc::new(BooleanArray::from(vec![Some(false); 100])));
    check(Arc::new(NullArray::new(100)));
    check(Arc::new(Int8Array::from(vec![Some(i8::MIN), None])));
    check(Arc::new(UInt64Array::from(vec![u64::MAX; 10])));
    check(Arc::new(Float64Array::from(vec![-f64::MIN_POSITIVE.next_down(), f64::NEG_INFINITY, f64::MIN])));
    check(Arc::new(StringArray::from(vec![Some("a\"\\\n\u{0}ü"), None, Some("")])));
    check(Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""])));
    for scale in [-10, 0, 38] {
        let decimals = Decimal128Array::from(vec![-(10_i128.pow(38) - 1), 0]);
        check(Arc::new(decimals.with_precision_and_scale(38, scale).unwrap()));
    }
    check(Arc::new(Date32Array::from(vec![i32::MIN, -90_000_000, 0])));
    let times = TimestampMicrosecondArray::from(vec![i64::MIN, -8_000_000_000_000_000_000, 1]);
    check(Arc::new(times.clone().with_timezone("+05:30")));
    check(Arc::new(times));
    check(Arc::new(Time64NanosecondArray::from(vec![i64::MIN, 1])));
    let interval = IntervalMonthDayNano::new(i32::MIN, i32::MIN, i64::MIN);
    check(Arc::new(IntervalMonthDayNanoArray::from(vec![interval])));
    let texts = vec![Some("a long text \n\n\n"), None, Some("a long text \n\n\n")];
    check(Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 4]));
    let field = Arc::new(Field::new("flag", DataType::Boolean, true));
    let nulls = NullBuffer::from(vec![true, false, true, false]);
    check(Arc::new(StructArray::new(vec![field].into(), vec![flags], Some(nulls))));
}
