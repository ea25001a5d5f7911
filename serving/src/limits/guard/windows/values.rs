//! The values of one window function, and the memory that they take.
//!
//! Invariant: what is reserved is at least what values take that were made and not handed on.

use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;

use crate::limits::allowance::Allowance;
use crate::limits::slices;

/// Bytes that are reserved at a time.
const STEP: usize = 64 << 10;

/// The bytes of a value beside its contents.
const VALUE: usize = size_of::<ScalarValue>();

/// The values that one function has made and that were not handed on.
#[derive(Debug, Default)]
pub(in crate::limits::guard) struct WindowValues(OnceLock<Counter>);

#[derive(Debug)]
struct Counter {
    allowance: Arc<Allowance>,
    held: Mutex<MadeValues>,
}

#[derive(Debug)]
struct MadeValues {
    reservation: MemoryReservation,
    bytes: usize,
    values: usize,
}

impl WindowValues {
    /// Values count in `allowance` from now on.
    pub(super) fn bind(&self, allowance: &Arc<Allowance>) {
        self.0.get_or_init(|| {
            let reservation = allowance.reserve("values of window functions");
            let held = Mutex::new(MadeValues { reservation, bytes: 0, values: 0 });
            Counter { allowance: Arc::clone(allowance), held }
        });
    }

    /// Counts `copies` of a value, and the copy of each in the column.
    ///
    /// Errors: they do not fit, or the time is over.
    pub(super) fn made(&self, value: &ScalarValue, copies: usize) -> Result<()> {
        let Some(counter) = self.0.get() else { return Ok(()) };
        counter.allowance.check()?;
        let bytes = bytes_of(value).saturating_mul(copies).saturating_mul(2).saturating_add(VALUE);
        let mut held = counter.held.lock();
        held.bytes = held.bytes.saturating_add(bytes);
        held.values += copies;
        if held.bytes > held.reservation.size() {
            held.reservation.try_resize(held.bytes.saturating_add(STEP))?;
        }
        Ok(())
    }

    pub(super) fn reserve_state(&self) -> Option<MemoryReservation> {
        Some(self.0.get()?.allowance.reserve("the state of a window function"))
    }

    /// Frees the values of `rows` rows: their part of all values.
    pub(in crate::limits::guard) fn hand_on(&self, rows: usize) {
        let Some(counter) = self.0.get() else { return };
        let mut held = counter.held.lock();
        let values = rows.min(held.values);
        if values == 0 {
            return;
        }
        let each = held.bytes / held.values;
        held.values -= values;
        held.bytes = if held.values == 0 { 0 } else { held.bytes - each * values };
        let surplus = held.reservation.size().saturating_sub(held.bytes);
        if surplus > STEP {
            held.reservation.shrink(surplus);
        }
    }
}

/// Bytes of the contents of a value, without what lies around them in shared buffers.
fn bytes_of(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len)
        }
        ScalarValue::List(list) => slices::column_bytes(&(Arc::clone(list) as ArrayRef)),
        ScalarValue::Struct(fields) => slices::column_bytes(&(Arc::clone(fields) as ArrayRef)),
        other => other.data_type().primitive_width().unwrap_or_else(|| other.size()),
    }
}
