//! Widths against the lengths of texts, one by one.

use arrow::array::{
    BooleanArray, DictionaryArray, FixedSizeListArray, Int8Array, Int32Array, LargeListArray, ListArray, ListViewArray,
    MapArray, NullArray, StringArray, StructArray,
};
use arrow::datatypes::{Field, Int8Type};

use super::*;

/// A text has its length and a NULL 1; around lists stand 10, around structs 100, and between key and value 1000.
struct Lengths;

impl WidthOf for Lengths {
    fn plain(&self, values: &ArrayRef) -> Widths {
        match values.data_type() {
            DataType::Utf8 => Widths::of(values.as_string::<i32>().iter().map(|text| text.map_or(1, str::len))),
            _ => Widths::Same { width: 1, rows: values.len() },
        }
    }

    fn around(&self) -> usize {
        10
    }

    fn between(&self) -> usize {
        1000
    }

    fn names(&self, _: &Fields) -> usize {
        100
    }
}

fn texts() -> ArrayRef {
    Arc::new(StringArray::from(vec![Some("a"), None, Some("four"), Some(""), Some("seventy")]))
}

fn item(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new("item", values.data_type().clone(), true))
}

#[track_caller]
fn check(values: ArrayRef, expect: &[usize]) {
    let all = widths(&values, &Lengths);
    let found: Vec<usize> = (0..values.len()).map(|row| all.at(row)).collect();
    assert_eq!(found, expect, "{}", values.data_type());
    assert_eq!((all.rows(), all.total()), (expect.len(), expect.iter().sum()));
    for (from, to) in [(0, 1), (1, expect.len()), (expect.len(), expect.len())] {
        assert_eq!(all.between(from, to), expect[from..to].iter().sum::<usize>());
        let part = widths(&values.slice(from, to - from), &Lengths);
        assert_eq!(part.total(), expect[from..to].iter().sum::<usize>(), "{} {from} {to}", values.data_type());
    }
    let parts = all.parts(12);
    assert_eq!(parts.iter().map(|(from, to)| to - from).sum::<usize>(), values.len());
    assert!(parts.iter().all(|(from, to)| to - from == 1 || all.between(*from, *to) <= 12), "{parts:?}");
    let more = all.clone().map(|width| width + 1).and(&Widths::Same { width: 1, rows: values.len() });
    assert_eq!(more.total(), all.total() + 2 * values.len());
    assert_eq!(all.and(&more).total(), more.total() * 2 - 2 * values.len());
}

#[test]
fn every_row_has_what_it_becomes() {
    check(texts(), &[1, 1, 4, 0, 7]);
    check(Arc::new(BooleanArray::from(vec![true; 3])), &[1, 1, 1]);
    let keys = Int8Array::from(vec![Some(4), None, Some(2), Some(4), Some(1), Some(4)]);
    check(Arc::new(DictionaryArray::<Int8Type>::new(keys, texts())), &[7, 10, 4, 7, 1, 7]);
    let few = Int8Array::from(vec![Some(4), None]);
    check(Arc::new(DictionaryArray::<Int8Type>::new(few, texts())), &[7, 10]);
    let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    check(Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![None, None]), none)), &[10, 10]);
    let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3, 6]), &texts().slice(2, 3)).unwrap();
    check(Arc::new(runs), &[4, 4, 0, 7, 7, 7]);
}

#[test]
fn nested_values_have_what_their_elements_become() {
    let ends = OffsetBuffer::from_lengths([2, 0, 3]);
    let lists = ListArray::new(item(&texts()), ends.clone(), texts(), None);
    check(Arc::new(lists.clone()), &[12, 10, 21]);
    let long = LargeListArray::new(item(&texts()), OffsetBuffer::from_lengths([2, 3]), texts(), None);
    check(Arc::new(long), &[12, 21]);
    let views = |offsets: Vec<i32>, sizes: Vec<i32>| {
        Arc::new(ListViewArray::new(item(&texts()), offsets.into(), sizes.into(), texts(), None))
    };
    check(views(vec![0, 2, 0], vec![5, 3, 5]), &[23, 21, 23]);
    let pairs = FixedSizeListArray::new(item(&texts()), 2, texts().slice(0, 4), None);
    check(Arc::new(pairs), &[12, 14]);
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
    let fields = Fields::from(vec![Field::new("k", DataType::Utf8, true), Field::new("v", DataType::Int32, true)]);
    let structs = StructArray::new(fields.clone(), vec![texts(), numbers], None);
    check(Arc::new(structs.clone()), &[102, 102, 105, 101, 108]);
    let keys = StringArray::from(vec!["k"; 5]);
    let fields = Fields::from(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Int32, true)]);
    let entries = StructArray::new(fields.clone(), vec![Arc::new(keys), Arc::clone(structs.column(1))], None);
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    check(Arc::new(MapArray::new(field, ends, entries, None, false)), &[2014, 10, 3016]);
}

#[test]
fn what_takes_no_memory_is_measured_without_any() {
    let rows = i32::MAX as usize;
    let nulls: ArrayRef = Arc::new(NullArray::new(rows));
    let ends = OffsetBuffer::new(vec![0, i32::MAX].into());
    let list: ArrayRef = Arc::new(ListArray::new(item(&nulls), ends.clone(), Arc::clone(&nulls), None));
    assert_eq!(widths(&list, &Lengths).total(), rows + 10);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
    let run: ArrayRef = Arc::new(RunArray::<Int32Type>::try_new(&Int32Array::from(vec![i32::MAX]), &text).unwrap());
    assert_eq!(widths(&run, &Lengths).total(), rows << 20);
    let list: ArrayRef = Arc::new(ListArray::new(item(&run), ends, Arc::clone(&run), None));
    assert_eq!(widths(&list, &Lengths).total(), (rows << 20) + 10);
    let fields =
        Fields::from(vec![Field::new("a", run.data_type().clone(), true), Field::new("b", DataType::Null, true)]);
    let both: ArrayRef = Arc::new(StructArray::new(fields, vec![run, nulls], None));
    assert!(widths(&both, &Lengths).total() >= rows << 20);
}

#[test]
fn sums_that_are_too_large_stay_too_large() {
    let widths = Widths::of([usize::MAX, 1, 2].into_iter());
    assert_eq!([0, 1, 2].map(|row| widths.at(row)), [usize::MAX; 3]);
    assert_eq!((widths.total(), widths.between(1, 1), widths.parts(10).len()), (usize::MAX, 0, 3));
}
