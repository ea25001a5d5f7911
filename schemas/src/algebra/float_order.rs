//! Floating-point numbers as integers in total order, so that min and max do not depend on the order of rows.
//!
//! DataFusion's grouped min and max compare floats with `<`, which is false for NaN, so their result depends on the
//! position of a NaN. Over integer keys, min and max are exact and associative: -0.0 is below 0.0, and NaN is above
//! everything, as in PostgreSQL and DuckDB.
//!
//! Invariant: `FromKey(ToKey(x))` is x bit for bit, except that all NaNs become one NaN.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Returns the key of a number. The order of keys is the total order of numbers (IEEE 754, 5.10).
fn key(number: f64) -> i64 {
    let bits = if number.is_nan() { f64::NAN } else { number }.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Returns the number of a key. The exchange of bits in `key` is its own inverse.
fn number(key: i64) -> f64 {
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

/// Converts a float column to keys, or keys back to the float type `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FloatKey {
    signature: Signature,
    to: DataType,
}

impl FloatKey {
    /// Converts floats of any width to keys.
    pub(super) fn to_key() -> Self {
        Self::new(DataType::Int64)
    }

    /// Converts keys to floats of type `float`.
    pub(super) fn from_key(float: DataType) -> Self {
        Self::new(float)
    }

    fn new(to: DataType) -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable), to }
    }
}

impl ScalarUDFImpl for FloatKey {
    fn name(&self) -> &str {
        match self.to {
            DataType::Int64 => "float_to_key",
            _ => "float_from_key",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [column] = &ColumnarValue::values_to_arrays(&args.args)?[..] else {
            return exec_err!("{} takes one column", self.name());
        };
        let converted: ArrayRef = if self.to == DataType::Int64 {
            let wide = cast(column, &DataType::Float64)?;
            let wide = wide.as_primitive::<Float64Type>();
            Arc::new(wide.unary::<_, Int64Type>(key))
        } else {
            let keys = column.as_primitive::<Int64Type>();
            let wide: ArrayRef = Arc::new(keys.unary::<_, Float64Type>(number));
            cast(&wide, &self.to)?
        };
        Ok(ColumnarValue::Array(converted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_total_order_and_come_back() {
        let ordered = [
            f64::NEG_INFINITY,
            -1e300,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            f64::MIN_POSITIVE,
            1.5,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(ordered.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        for x in ordered {
            assert_eq!(number(key(x)).to_bits(), x.to_bits());
        }
        assert_eq!(key(-f64::NAN), key(f64::NAN));
    }
}
