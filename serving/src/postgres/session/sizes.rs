//! The bytes of what a session keeps, and how many of each kind it keeps.

use arrow::datatypes::Schema;

use super::super::failure::Failure;
use crate::parameters::Parameter;

/// Bytes that count for a statement or a portal beside its text and its values.
pub(super) const HELD: usize = 512;

/// Prepared statements of a session.
pub(super) const STATEMENTS: usize = 4096;

/// Portals and cursors of a session.
pub(super) const PORTALS: usize = 1024;

/// Savepoints of a transaction block.
pub(super) const SAVEPOINTS: usize = 1024;

/// Errors: a failure if there is no place beside `count` of at most `most`.
pub(super) fn check(count: usize, most: usize, kind: &str, advice: &str) -> Result<(), Failure> {
    match count < most {
        true => Ok(()),
        false => Err(Failure::new("54000", format!("a session has at most {most} {kind}; {advice}"))),
    }
}

pub(super) fn values(values: &[Parameter]) -> usize {
    let inner = values.iter().map(|value| match value {
        Parameter::Typed(value) => value.size(),
        Parameter::Text(text) => text.len(),
        Parameter::Null => 0,
    });
    std::mem::size_of_val(values) + inner.sum::<usize>()
}

pub(super) fn columns(schema: &Schema) -> usize {
    schema.fields().size()
}
