//! Every type that clients do not read becomes one that they do, with the same values, at any depth and in slices.

use arrow::array::{
    BinaryViewArray, BooleanArray, Decimal64Array, DictionaryArray, Float16Array, Int32Array, Int64Array, ListArray,
    NullArray, PrimitiveArray, RunArray, StringArray, StringViewArray, new_empty_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float16Type, Int32Type};
use arrow::util::display::array_value_to_string;

use super::*;
use crate::limits::slices;

fn texts(column: &ArrayRef) -> Vec<String> {
    (0..column.len()).map(|row| array_value_to_string(column, row).unwrap()).collect()
}

/// Checks the sent type, and that values are the same, in the whole column and in a part of it.
#[track_caller]
fn check(column: ArrayRef, expect: &DataType) {
    let field: FieldRef = Arc::new(Field::new("c", column.data_type().clone(), false));
    let schema = Arc::new(Schema::new(vec![Arc::clone(&field)]));
    let to = sent_schema(&schema);
    assert_eq!(to.field(0).data_type(), expect);
    assert!(to.field(0).is_nullable());
    let part = column.slice(1, column.len() - 2);
    for column in [column, part, new_empty_array(field.data_type())] {
        let nullable = Arc::new(Schema::new(vec![field.as_ref().clone().with_nullable(true)]));
        let batch = RecordBatch::try_new(nullable, vec![Arc::clone(&column)]).unwrap();
        let sent = sent(&batch, &to).unwrap();
        assert_eq!(texts(sent.column(0)), texts(&column));
        assert_eq!(sent.column(0).data_type(), expect);
        let (said, is) = (row_bytes(&batch).total(), slices::bytes(&sent));
        assert!(said + 64 >= is, "{said} for {is} bytes of {expect}");
        // What is sent is sent as it is.
        assert_eq!(sent_schema(&sent.schema()), to);
    }
}

fn words() -> ArrayRef {
    Arc::new(StringViewArray::from(vec![Some("a"), None, Some("a longer text than fits"), Some(""), Some("d")]))
}

fn item(of: DataType) -> FieldRef {
    Arc::new(Field::new("item", of, true))
}

#[test]
fn flat_types() {
    check(words(), &DataType::Utf8);
    check(Arc::new(BinaryViewArray::from(vec![Some(b"\xff\x00".as_ref()), None, Some(b""), None])), &DataType::Binary);
    check(Arc::new(StringArray::from(vec!["x", "y", "z"])), &DataType::Utf8);
    check(Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(3)])), &DataType::Int64);
    check(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), &DataType::Boolean);
    check(Arc::new(NullArray::new(4)), &DataType::Null);
    let halves = [1.5, -2.5, 0.25].map(half);
    check(Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(halves)), &DataType::Float32);
    let decimals = Decimal64Array::from(vec![125, -5, 0]).with_precision_and_scale(9, 2).unwrap();
    check(Arc::new(decimals), &DataType::Decimal128(9, 2));
}

fn half(value: f32) -> <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native {
    let wide: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![value]));
    let narrow = cast(&wide, &DataType::Float16).unwrap();
    narrow.as_any().downcast_ref::<Float16Array>().unwrap().value(0)
}

#[test]
fn encodings_of_values() {
    let dictionary =
        DictionaryArray::<Int32Type>::new(Int32Array::from(vec![Some(4), None, Some(2), Some(2)]), words());
    check(Arc::new(dictionary), &DataType::Utf8);
    let runs =
        RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3, 7]), &StringArray::from(vec!["a", "b", "c"]));
    check(Arc::new(runs.unwrap()), &DataType::Utf8);
}

#[test]
fn nested_types() {
    let offsets = OffsetBuffer::from_lengths([2, 0, 1, 2]);
    let valid = NullBuffer::from(vec![true, true, false, true]);
    let field = Arc::new(Field::new("item", DataType::Utf8View, true));
    let lists: ArrayRef = Arc::new(ListArray::try_new(field, offsets.clone(), words(), Some(valid.clone())).unwrap());
    check(Arc::clone(&lists), &DataType::List(item(DataType::Utf8)));
    let views = cast(&lists, &DataType::ListView(item(DataType::Utf8View))).unwrap();
    check(views, &DataType::List(item(DataType::Utf8)));
    let large = cast(&lists, &DataType::LargeList(item(DataType::Utf8View))).unwrap();
    check(large, &DataType::LargeList(item(DataType::Utf8)));

    let fields = Fields::from(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("l", DataType::List(item(DataType::Utf8View)), true),
    ]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let structures = StructArray::try_new(fields, vec![numbers, lists], Some(valid.clone())).unwrap();
    let sent = Fields::from(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("l", DataType::List(item(DataType::Utf8)), true),
    ]);
    check(Arc::new(structures), &DataType::Struct(sent));

    let entries =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8View, false)]);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k", "l", "m", "n"]));
    let values = words().slice(2, 3);
    let values = arrow::compute::concat(&[&values, &values.slice(0, 1)]).unwrap();
    let pairs = StructArray::try_new(entries.clone(), vec![keys, values], None).unwrap();
    let entries = Arc::new(Field::new("entries", DataType::Struct(entries), false));
    let offsets = OffsetBuffer::from_lengths([1, 0, 3]);
    let maps = MapArray::try_new(entries, offsets, pairs, Some(valid.slice(1, 3)), false).unwrap();
    let sent =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)]);
    let sent = Arc::new(Field::new("entries", DataType::Struct(sent), false));
    check(Arc::new(maps), &DataType::Map(sent, false));
}

#[test]
fn bytes_are_those_of_the_rows() {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..8_000));
    let offsets = OffsetBuffer::from_lengths(vec![80; 100]);
    let lists: ArrayRef = Arc::new(ListArray::try_new(item(DataType::Int64), offsets, values, None).unwrap());
    let batch = RecordBatch::try_from_iter([("l", lists)]).unwrap();
    let (whole, part) = (row_bytes(&batch).total(), row_bytes(&batch.slice(50, 10)).total());
    assert!((64_000..66_000).contains(&whole) && (6_400..6_800).contains(&part), "{whole} {part}");
}

#[test]
fn shared_values_count_once_for_each_row() {
    let long: ArrayRef = Arc::new(StringViewArray::from(vec!["x".repeat(1_000)]));
    let keys = Int32Array::from(vec![0; 1_000]);
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::clone(&long)));
    let views = arrow::compute::take(&long, &Int32Array::from(vec![0; 1_000]), None).unwrap();
    let texts = StringArray::from(vec!["x".repeat(1_000)]);
    let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![1_000]), &texts).unwrap();
    for column in [dictionary, views, Arc::new(runs)] {
        let batch = RecordBatch::try_from_iter([("c", Arc::clone(&column))]).unwrap();
        assert!((1_000_000..1_020_000).contains(&row_bytes(&batch).total()), "{}", column.data_type());
    }
}
