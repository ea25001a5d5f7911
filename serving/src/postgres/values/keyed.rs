//! Values that many rows share: dictionaries and runs. They are encoded through the keys and never spread out, since a
//! batch that is small may hold one long text for each of its rows.

use arrow::array::{Array, ArrayRef, AsArray, RunArray};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, RunEndIndexType};
use arrow::error::ArrowError;
use bytes::BytesMut;

use super::value::EncodedValues;

/// Bytes of the items of a batch's lists after they are spread out.
const SPREAD_BYTES: usize = 256 << 20;

/// The values of a column, and which of them each row has.
pub(super) struct KeyedValues {
    pub(super) keys: Vec<usize>,
    pub(super) values: Box<dyn EncodedValues>,
}

impl KeyedValues {
    fn of(&self, row: usize) -> usize {
        self.keys.get(row).copied().unwrap_or_default()
    }
}

/// The number of each row's value, and the values; `None` for an array whose rows have values of their own.
pub(super) fn keyed(array: &ArrayRef) -> Option<(Vec<usize>, ArrayRef)> {
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        let values = dictionary.values();
        let keys = if values.is_empty() { Vec::new() } else { dictionary.normalized_keys() };
        return Some((keys, ArrayRef::clone(values)));
    }
    runs::<Int16Type>(array).or_else(|| runs::<Int32Type>(array)).or_else(|| runs::<Int64Type>(array))
}

fn runs<R: RunEndIndexType>(array: &ArrayRef) -> Option<(Vec<usize>, ArrayRef)> {
    let runs = array.as_any().downcast_ref::<RunArray<R>>()?;
    let keys = (0..runs.len()).map(|row| runs.get_physical_index(row));
    Some((keys.collect(), ArrayRef::clone(runs.values())))
}

/// Checks the items of lists: a row writes all of its items at once.
///
/// Errors: for values that many items share and that are too long for that.
pub(super) fn refuse_spread(items: &ArrayRef) -> Result<(), ArrowError> {
    let Some((keys, values)) = keyed(items) else { return Ok(()) };
    let spread = keys.iter().map(|key| length(&values, *key)).fold(0, usize::saturating_add);
    match spread <= SPREAD_BYTES {
        true => Ok(()),
        false => Err(ArrowError::InvalidArgumentError(format!(
            "the items of lists take {spread} bytes when each is written, which is more than {SPREAD_BYTES}"
        ))),
    }
}

fn length(values: &ArrayRef, at: usize) -> usize {
    match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(at).len(),
        DataType::LargeUtf8 => values.as_string::<i64>().value(at).len(),
        DataType::Utf8View => values.as_string_view().value(at).len(),
        DataType::Binary => values.as_binary::<i32>().value(at).len(),
        DataType::LargeBinary => values.as_binary::<i64>().value(at).len(),
        DataType::BinaryView => values.as_binary_view().value(at).len(),
        _ => values.get_array_memory_size() / values.len().max(1),
    }
}

impl EncodedValues for KeyedValues {
    fn text(&self, row: usize, out: &mut BytesMut) {
        self.values.text(self.of(row), out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        self.values.binary(self.of(row), out)
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        self.values.json(self.of(row), out);
    }
}
