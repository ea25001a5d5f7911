//! The arguments of a call, read where they are.
//!
//! Invariant: a scalar is one value for all rows. Columns are not copied.

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, LargeStringArray, OffsetSizeTrait, StringArray, StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

/// An argument that is a text. Anything else has no texts.
pub(super) enum TextArgument<'a> {
    One(Option<&'a str>),
    Short(&'a StringArray),
    Long(&'a LargeStringArray),
    Views(&'a StringViewArray),
}

impl<'a> TextArgument<'a> {
    pub(super) fn of(argument: &'a ColumnarValue) -> Self {
        match argument {
            ColumnarValue::Scalar(scalar) => Self::One(scalar.try_as_str().flatten()),
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Utf8 => Self::Short(array.as_string()),
                DataType::LargeUtf8 => Self::Long(array.as_string()),
                DataType::Utf8View => Self::Views(array.as_string_view()),
                _ => Self::One(None),
            },
        }
    }

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::One(text) => *text,
            Self::Short(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Long(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Views(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }

    /// The bytes of a text; 0 for NULL.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        self.get(row).map_or(0, |text| text.len() as u64)
    }
}

/// An argument of any type.
pub(super) struct Values {
    array: ArrayRef,
    is_one: bool,
}

impl Values {
    pub(super) fn of(argument: &ColumnarValue) -> Result<Self> {
        Ok(Self { array: argument.to_array(1)?, is_one: matches!(argument, ColumnarValue::Scalar(_)) })
    }

    fn row(&self, row: usize) -> usize {
        if self.is_one { 0 } else { row }
    }

    pub(super) fn data_type(&self) -> &DataType {
        self.array.data_type()
    }

    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.array.is_valid(self.row(row))
    }

    /// The bytes of a value.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        let row = self.row(row);
        bytes_between(&self.array, row, row + 1)
    }

    /// The elements of a list, and of the lists in it.
    pub(super) fn leaves(&self, row: usize) -> Leaves {
        let row = self.row(row);
        Leaves::of(&self.array, row, row + 1)
    }

    /// The elements of a list; `None` if the value is no list.
    pub(super) fn elements(&self, row: usize) -> Option<u64> {
        let row = self.row(row);
        match self.array.data_type() {
            DataType::List(_) => Some(self.array.as_list::<i32>().value_length(row).unsigned_abs().into()),
            DataType::LargeList(_) => Some(self.array.as_list::<i64>().value_length(row).unsigned_abs()),
            DataType::FixedSizeList(_, length) => Some(length.unsigned_abs().into()),
            _ => None,
        }
    }
}

/// The elements of a list that are no lists.
pub(super) struct Leaves {
    pub(super) count: u64,
    /// The longest text of an element that is not a text itself.
    pub(super) text_width: u64,
}

/// The longest text of a number, a point in time or an interval.
const NUMBER_TEXT: u64 = 128;

impl Leaves {
    fn of(values: &ArrayRef, from: usize, to: usize) -> Self {
        let within = |ends: Between, elements: &ArrayRef| Self::of(elements, ends.from, ends.to);
        match values.data_type() {
            DataType::List(_) => {
                let lists = values.as_list::<i32>();
                within(between(lists.value_offsets(), from, to), lists.values())
            }
            DataType::LargeList(_) => {
                let lists = values.as_list::<i64>();
                within(between(lists.value_offsets(), from, to), lists.values())
            }
            DataType::FixedSizeList(_, length) => {
                let length = usize::try_from(*length).unwrap_or(0);
                Self::of(values.as_fixed_size_list().values(), from * length, to * length)
            }
            other => {
                let text_width = match other {
                    text if text.is_string() => 0,
                    number if number.is_integer() || matches!(number, DataType::Boolean) => 20,
                    _ => NUMBER_TEXT,
                };
                Self { count: (to - from) as u64, text_width }
            }
        }
    }
}

/// An argument that is a whole number, or that a cast makes one.
pub(super) struct Numbers {
    numbers: Int64Array,
    is_one: bool,
}

impl Numbers {
    pub(super) fn of(argument: &ColumnarValue) -> Result<Self> {
        Self::of_values(&Values::of(argument)?)
    }

    pub(super) fn of_values(values: &Values) -> Result<Self> {
        // A Date64 has milliseconds; as a Date32 it has days.
        let array = match values.data_type() {
            DataType::Date64 => cast(&values.array, &DataType::Date32)?,
            _ => values.array.clone(),
        };
        let array = match array.data_type() {
            DataType::Date32 => cast(&array, &DataType::Int32)?,
            _ => array,
        };
        let numbers = cast(&array, &DataType::Int64)?;
        Ok(Self { numbers: numbers.as_primitive::<Int64Type>().clone(), is_one: values.is_one })
    }

    pub(super) fn get(&self, row: usize) -> Option<i64> {
        let row = if self.is_one { 0 } else { row };
        self.numbers.is_valid(row).then(|| self.numbers.value(row))
    }

    /// The number; 0 for NULL and for negative numbers.
    pub(super) fn count(&self, row: usize) -> u64 {
        self.get(row).map_or(0, |number| u64::try_from(number).unwrap_or(0))
    }
}

/// The bytes of a scalar that a function writes out for every row; 0 for a number.
pub(super) fn scalar_bytes(scalar: &ScalarValue) -> Result<u64> {
    if let Some(text) = scalar.try_as_str() {
        return Ok(text.map_or(0, |text| text.len() as u64));
    }
    if scalar.data_type().primitive_width().is_some() {
        return Ok(0);
    }
    Ok(bytes_between(&scalar.to_array()?, 0, 1))
}

/// The bytes of the values from `from` to `to`, copied to an array of their own.
pub(super) fn bytes_between(values: &ArrayRef, from: usize, to: usize) -> u64 {
    let rows = (to - from) as u64;
    match values.data_type() {
        DataType::Boolean | DataType::Null => rows,
        DataType::Utf8 => between(values.as_string::<i32>().value_offsets(), from, to).bytes(),
        DataType::LargeUtf8 => between(values.as_string::<i64>().value_offsets(), from, to).bytes(),
        DataType::Binary => between(values.as_binary::<i32>().value_offsets(), from, to).bytes(),
        DataType::LargeBinary => between(values.as_binary::<i64>().value_offsets(), from, to).bytes(),
        DataType::Utf8View => view_bytes(&values.as_string_view().views()[from..to]),
        DataType::BinaryView => view_bytes(&values.as_binary_view().views()[from..to]),
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            between(lists.value_offsets(), from, to).bytes_in(lists.values())
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            between(lists.value_offsets(), from, to).bytes_in(lists.values())
        }
        DataType::Map(_, _) => {
            let maps = values.as_map();
            let entries: ArrayRef = std::sync::Arc::new(maps.entries().clone());
            between(maps.value_offsets(), from, to).bytes_in(&entries)
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            bytes_between(values.as_fixed_size_list().values(), from * length, to * length)
        }
        DataType::Struct(_) => {
            let columns = values.as_struct().columns().iter();
            columns.map(|column| bytes_between(column, from, to)).fold(rows, u64::saturating_add)
        }
        other => match other.primitive_width() {
            Some(width) => rows.saturating_mul(width as u64),
            None => values.slice(from, to - from).to_data().get_slice_memory_size().unwrap_or(0) as u64,
        },
    }
}

/// The elements of some values, and the bytes of the values' ends.
struct Between {
    from: usize,
    to: usize,
    ends: u64,
}

fn between<O: OffsetSizeTrait>(ends: &[O], from: usize, to: usize) -> Between {
    Between { from: ends[from].as_usize(), to: ends[to].as_usize(), ends: ((to - from) * size_of::<O>()) as u64 }
}

impl Between {
    fn bytes(&self) -> u64 {
        self.ends + (self.to - self.from) as u64
    }

    fn bytes_in(&self, elements: &ArrayRef) -> u64 {
        self.ends.saturating_add(bytes_between(elements, self.from, self.to))
    }
}

/// The lower half of a view begins with the length.
fn view_bytes(views: &[u128]) -> u64 {
    views.iter().map(|view| (*view as u32) as u64 + size_of::<u128>() as u64).sum()
}
