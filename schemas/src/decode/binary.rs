//! Values of binary formats on their way into columns: what readers of several formats share.
//!
//! Invariant: a number that a column takes is the number that was written, or the nearest one in a REAL or DOUBLE.

use arrow::array::{ArrowPrimitiveType, PrimitiveBuilder};
use arrow::datatypes::Schema;

use super::columns::{ColumnBuilder, Struct, ValueError, refused_value};
use super::numbers::{self, NumberError};
use super::times::{self, TimeError};
use crate::definition::message::TimestampUnit;

/// A bug: a plan has no source that its column cannot take.
pub(super) const UNPLANNED: ValueError = ValueError::Borrowed("the plan does not fit the column");

/// Why a record was refused: the column or field, and the reason.
#[derive(Debug)]
pub(super) enum RecordError {
    /// The value of this column.
    Column(usize, ValueError),
    /// A field that no column takes.
    Field(String, ValueError),
    /// The value as a whole.
    Whole(ValueError),
}

impl RecordError {
    /// The reason why a message is a reject.
    pub(super) fn of_message(self, columns: &Schema) -> ValueError {
        match self {
            Self::Column(at, why) => refused_value(columns.field(at), &why),
            Self::Field(name, why) => format!("the field `{name}` cannot be read: {why}").into(),
            Self::Whole(why) => why,
        }
    }

    /// The reason why a value of a STRUCT is refused.
    pub(super) fn of_struct(self, object: &Struct) -> ValueError {
        match self {
            Self::Column(at, why) => format!("`{}`: {why}", object.name(at)).into(),
            Self::Field(name, why) => format!("`{name}`: {why}").into(),
            Self::Whole(why) => why,
        }
    }
}

/// Appends null for a value that is refused.
pub(super) fn refuse(column: &mut ColumnBuilder, why: ValueError) -> Result<(), ValueError> {
    column.append_null();
    Err(why)
}

/// Appends a value, or null for one that is refused.
pub(super) fn put<P: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<P>,
    value: Result<P::Native, ValueError>,
) -> Result<(), ValueError> {
    match value {
        Ok(value) => {
            builder.append_value(value);
            Ok(())
        }
        Err(why) => {
            builder.append_null();
            Err(why)
        }
    }
}

/// A number as one of a narrower type.
pub(super) fn fit<N, T: TryFrom<N>>(number: N) -> Result<T, ValueError> {
    T::try_from(number).map_err(|_| numbers::explain(NumberError::Range).into())
}

/// A time, with the reason why it is none in words.
pub(super) fn time<T>(found: Result<T, TimeError>, unit: TimestampUnit) -> Result<T, ValueError> {
    found.map_err(|error| times::explain(error, unit))
}

/// A number with `from` decimal places as that of a DECIMAL with `to` of them.
pub(super) fn decimal(value: i128, from: u32, precision: u8, to: i8) -> Result<i128, ValueError> {
    let explain = |error| ValueError::Borrowed(numbers::explain(error));
    let value = numbers::rescaled(value, from, to.unsigned_abs().into()).map_err(explain)?;
    match value.unsigned_abs() < 10u128.pow(precision.into()) {
        true => Ok(value),
        false => Err(explain(NumberError::Range)),
    }
}

/// As [`numbers::big_endian`], with the reason in words.
pub(super) fn big_endian(digits: &[u8]) -> Result<i128, ValueError> {
    numbers::big_endian(digits).map_err(|error| numbers::explain(error).into())
}
