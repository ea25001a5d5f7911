//! Parquet files.
//!
//! Invariant: columns that the stream does not have are not read.

use std::fs::File;
use std::sync::Arc;

use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::format::FileRows;
use super::rows::{RowReader, readable, widened};
use crate::Result;

/// Rows that are read together.
const ROWS: usize = 4096;

/// Reads a file.
///
/// Errors: the file cannot be read, or a row does not fit.
pub(super) fn read(file: File, mut rows: RowReader, pass: &mut dyn FnMut(FileRows) -> bool) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| rows.bad().refuse(e.to_string()))?;
    let schema = builder.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let matched = rows.match_names(&names)?;
    // What each column is read as; all of them, because a column that differs makes texts of the whole row.
    let mut columns: Vec<(usize, DataType)> = Vec::new();
    for (field, to) in schema.fields().iter().zip(&matched) {
        let Some(to) = to else { continue };
        let found = readable(&typed(field.data_type(), rows.columns().field(*to).data_type()));
        let found = found.map_err(|why| rows.bad().refuse(format!("column `{}`: {why}", field.name())))?;
        columns.push((*to, found));
    }
    if columns.iter().any(|(to, found)| found != rows.columns().field(*to).data_type()) {
        columns.iter_mut().for_each(|(_, found)| *found = widened(found));
    }
    let wanted = matched.iter().enumerate().filter(|(_, to)| to.is_some()).map(|(from, _)| from);
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let batches = builder.with_projection(mask).with_batch_size(ROWS).build();
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut before = 0;
    for batch in batches.map_err(|e| rows.bad().refuse(e.to_string()))? {
        let batch = batch.map_err(|e| rows.bad().refuse(e.to_string()))?;
        let mut arrays = Vec::with_capacity(columns.len());
        for ((to, data_type), array) in columns.iter().zip(batch.columns()) {
            let name = rows.columns().field(*to).name();
            let array = cast_with_options(array, data_type, &options);
            let array =
                array.map_err(|e| rows.bad().refuse_row(before + 1, format!("column `{name}` from here: {e}")))?;
            arrays.push((*to, array));
        }
        let Some(encoded) = rows.take_batch(&arrays, batch.num_rows(), before)? else { return Ok(()) };
        before += batch.num_rows() as u64;
        if !pass(encoded) {
            return Ok(());
        }
    }
    Ok(())
}

/// The type of a column of a file, as the stream's column `to` says it where the file does not: a column without any
/// value may have no type, and texts may be bytes.
fn typed(found: &DataType, to: &DataType) -> DataType {
    match (found, to) {
        (DataType::Null, _) => to.clone(),
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView, DataType::Utf8) => DataType::Utf8,
        (DataType::List(item) | DataType::LargeList(item), DataType::List(inner)) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(typed(item.data_type(), inner.data_type()))))
        }
        (DataType::Struct(fields), DataType::Struct(inner)) => {
            let typed = fields.iter().map(|field| {
                let known = inner.iter().find(|known| known.name().eq_ignore_ascii_case(field.name()));
                let data_type = known.map_or(DataType::Utf8, |known| known.data_type().clone());
                field.as_ref().clone().with_data_type(typed(field.data_type(), &data_type))
            });
            DataType::Struct(typed.collect())
        }
        _ => found.clone(),
    }
}
