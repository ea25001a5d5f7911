//! Rows of a table of the catalog, written with the columns that matter. The others have the value that PostgreSQL has
//! for an object that does not use them.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;

use super::system::SystemTable;
use super::types;

/// A value for a column, whose type the column decides.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Cell::Int(number.into())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::Int(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Cell::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

/// Rows under way.
pub(super) struct CatalogRows<'a> {
    table: &'a SystemTable,
    columns: Vec<Vec<ScalarValue>>,
}

impl<'a> CatalogRows<'a> {
    pub(super) fn of(table: &'a SystemTable) -> Self {
        Self { table, columns: vec![Vec::new(); table.columns.len()] }
    }

    /// Adds a row with these columns.
    ///
    /// Errors: a value that the column's type cannot hold.
    pub(super) fn push<const N: usize>(&mut self, values: [(&str, Cell); N]) -> EngineResult<()> {
        for ((name, type_name, not_null), column) in self.table.columns.iter().zip(&mut self.columns) {
            let wanted = types::arrow_type(type_name);
            let given = values.iter().find(|(given, _)| given == name).map_or(&Cell::Null, |(_, value)| value);
            let value = match given {
                Cell::Null if *not_null => unused(&wanted)?,
                given => scalar(given, &wanted)?,
            };
            column.push(value);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> EngineResult<RecordBatch> {
        let fields = self.table.arrow.fields().iter();
        let columns = self.columns.into_iter().zip(fields).map(|(values, field)| match values.is_empty() {
            true => Ok(new_empty_array(field.data_type())),
            false => ScalarValue::iter_to_array(values),
        });
        let columns = columns.collect::<EngineResult<Vec<ArrayRef>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.table.arrow), columns)?)
    }
}

fn scalar(cell: &Cell, wanted: &DataType) -> EngineResult<ScalarValue> {
    match cell {
        Cell::Null => ScalarValue::try_from(wanted),
        Cell::Bool(value) => ScalarValue::Boolean(Some(*value)).cast_to(wanted),
        Cell::Int(value) => ScalarValue::Int64(Some(*value)).cast_to(wanted),
        Cell::Float(value) => ScalarValue::Float64(Some(*value)).cast_to(wanted),
        Cell::Text(text) => ScalarValue::Utf8(Some(text.clone())).cast_to(wanted),
    }
}

/// Zero, false or the empty text.
fn unused(wanted: &DataType) -> EngineResult<ScalarValue> {
    match wanted {
        DataType::Utf8 => Ok(ScalarValue::from("")),
        DataType::Boolean => Ok(ScalarValue::Boolean(Some(false))),
        DataType::List(item) => Ok(ScalarValue::List(ScalarValue::new_list_nullable(&[], item.data_type()))),
        other => ScalarValue::new_zero(other),
    }
}
