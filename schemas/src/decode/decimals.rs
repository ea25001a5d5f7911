//! Numbers that arrow's DECIMAL parser gets wrong without saying so are found here, before it sees them.
//!
//! It counts digits in a byte and exponents in 16 bits, and wraps: `1e65537` would be read as 10. Long mantissas with
//! an exponent wrap as well. Numbers of that kind are no sensible DECIMAL, so their messages are rejects.
//!
//! Invariant: a message that passes has no such number in a DECIMAL column; one in any other column does no harm.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;

/// Digits that fit into 64 bits: with an exponent no intermediate value of the parser can wrap.
const DIGITS_WITH_EXPONENT: usize = 19;
/// Exponents of more digits say nothing that a DECIMAL could hold.
const EXPONENT_DIGITS: usize = 3;
/// Without an exponent digits beyond the scale are dropped one by one, so more are harmless, up to a byte's range.
const DIGITS: usize = 200;

/// What the guard makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The parser can be trusted with it.
    Harmless,
    /// A DECIMAL column has a number that the parser gets wrong.
    Dangerous,
    /// It is no row of this stream, whatever its numbers are.
    Broken,
}

/// Looks for dangerous numbers in the DECIMAL columns of a stream.
#[derive(Debug)]
pub(super) struct DecimalGuard {
    /// The columns that hold decimals, these as text.
    texts: SchemaRef,
}

impl DecimalGuard {
    /// `None` if no column holds a DECIMAL.
    pub(super) fn new(columns: &SchemaRef) -> Option<Self> {
        let fields: Vec<Field> = columns
            .fields()
            .iter()
            .filter(|f| holds_decimal(f.data_type()))
            .map(|f| as_text(f))
            .collect();
        let texts = SchemaRef::from(Schema::new(fields));
        (!texts.fields().is_empty()).then_some(Self { texts })
    }

    /// Looks at a message that is UTF-8.
    ///
    /// Errors: only what no message can cause.
    pub(super) fn look(&self, text: &[u8]) -> Result<Sight, ArrowError> {
        // An escape may hide anything.
        if !text.contains(&b'\\') && !is_dangerous(text) {
            return Ok(Sight::Harmless);
        }
        // Something in the message looks dangerous; only now it pays to find out whether it is in such a column.
        let mut decoder = ReaderBuilder::new(self.texts.clone())
            .with_batch_size(1)
            .with_coerce_primitive(true)
            .build_decoder()?;
        Ok(match decoder.decode(text).and_then(|_| decoder.flush()) {
            Ok(Some(batch)) if batch.columns().iter().any(|c| any_dangerous(c)) => Sight::Dangerous,
            Ok(_) => Sight::Harmless,
            Err(_) => Sight::Broken,
        })
    }
}

fn any_dangerous(array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Utf8 => array
            .as_string::<i32>()
            .iter()
            .flatten()
            .any(|text| is_dangerous(text.as_bytes())),
        DataType::List(_) => any_dangerous(array.as_list::<i32>().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().any(|c| any_dangerous(c)),
        _ => false,
    }
}

fn holds_decimal(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(..) => true,
        DataType::List(item) => holds_decimal(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| holds_decimal(f.data_type())),
        _ => false,
    }
}

/// The field with every DECIMAL in it replaced by text.
fn as_text(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Decimal128(..) => DataType::Utf8,
        DataType::List(item) => DataType::List(as_text(item).into()),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| as_text(f)).collect()),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

/// True if a run of the characters that numbers are made of could be a number that the parser gets wrong.
fn is_dangerous(text: &[u8]) -> bool {
    text.split(|b| !matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        .filter(|run| run.len() > EXPONENT_DIGITS)
        .any(|run| {
            let digits = |part: &[u8]| part.iter().filter(|b| b.is_ascii_digit()).count();
            match run.iter().position(|b| matches!(b, b'e' | b'E')) {
                Some(e) => {
                    digits(&run[..e]) > DIGITS_WITH_EXPONENT || digits(&run[e..]) > EXPONENT_DIGITS
                }
                None => digits(run) > DIGITS,
            }
        })
}
