//! Every type that a state may have is converted and converted back; every other type is refused.

use arrow::array::{
    Int64Array, ListBuilder, StringBuilder, StringViewArray, StructArray, TimestampNanosecondArray, UInt8Array,
    UInt64Array,
};
use arrow::datatypes::{Fields, IntervalUnit};

use super::*;

#[track_caller]
fn check_round_trip(array: ArrayRef) {
    let stored = to_stored(&array).unwrap();
    assert_eq!(stored.data_type(), &stored_type(array.data_type()).unwrap());
    let back = from_stored(&stored, array.data_type()).unwrap();
    assert_eq!(&back, &array);
}

#[test]
fn states_come_back_bit_for_bit() {
    check_round_trip(Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX), Some(1 << 63)])));
    check_round_trip(Arc::new(UInt8Array::from(vec![Some(0), None, Some(255)])));
    check_round_trip(Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])));
    check_round_trip(Arc::new(TimestampNanosecondArray::from(vec![Some(i64::MIN), None, Some(1)])));
    check_round_trip(Arc::new(TimestampNanosecondArray::from(vec![1, 2]).with_timezone("Europe/Vienna")));
    check_round_trip(Arc::new(StringViewArray::from(vec![Some(""), None, Some("longer than twelve bytes")])));
    let wide = Decimal256Array::from(vec![Some(i256::MIN), None, Some(i256::MAX), Some(i256::from(-1))]);
    check_round_trip(Arc::new(wide.with_precision_and_scale(76, 4).unwrap()));
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a"), None]);
    list.append_null();
    list.append_value::<_, &str>([]);
    check_round_trip(Arc::new(list.finish()));
    let fields: Fields = vec![
        Field::new("a[x, y]", DataType::UInt64, true),
        Field::new("b=c", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
    ]
    .into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])),
        Arc::new(TimestampNanosecondArray::from(vec![None, Some(-1)])),
    ];
    check_round_trip(Arc::new(StructArray::new(fields, columns, None)));
}

#[test]
fn types_that_cannot_be_stored_are_named() {
    for refused in [DataType::Interval(IntervalUnit::MonthDayNano), DataType::Null, DataType::Float16] {
        let reason = stored_type(&refused).unwrap_err();
        assert!(reason.contains(&refused.to_string()), "{reason}");
    }
}
