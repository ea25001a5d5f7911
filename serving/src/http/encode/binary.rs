//! Answers as an Arrow stream and as a Parquet file, piece by piece.
//!
//! Invariant: what the server sends of an answer that breaks off cannot be read as a whole answer. A Parquet file ends
//! with its footer. An Arrow stream may end between two messages for its readers, so each piece ends with the first
//! bytes of the next message, and a reader that comes to the end misses the rest of that message.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::{Error, Result};

/// The bytes with which every message of an Arrow stream begins, the end mark included.
const MESSAGE_BEGINS: [u8; 4] = [0xff; 4];

/// Bytes of a row group, about. Its pages are in memory until it is complete.
const ROW_GROUP_BYTES: usize = 8 << 20;

/// Names of an answer's columns, and what is written beside the rows.
pub(super) struct BinaryHead {
    /// All columns are nullable: the types are what readers rely on.
    schema: SchemaRef,
    /// By the name of the header that says the same.
    facts: Vec<(String, String)>,
}

impl BinaryHead {
    pub(super) fn new(schema: &Schema, facts: Vec<(String, String)>) -> Self {
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let metadata = schema.metadata().clone().into_iter().chain(facts.iter().cloned());
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata.collect());
        Self { schema: Arc::new(schema), facts }
    }
}

/// The rows of `batch` under the names of `schema`.
fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &rows)
}

/// Where an Arrow stream is written to.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    /// Bytes of the next message that are sent already.
    skip: usize,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.bytes.extend_from_slice(&bytes[skipped..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an Arrow stream.
pub(super) struct ArrowStream {
    writer: StreamWriter<Sink>,
    schema: SchemaRef,
}

impl ArrowStream {
    pub(super) fn begin(head: &BinaryHead, out: &mut Vec<u8>) -> Result<Self> {
        let refused = |error: ArrowError| Error::RefuseFormat {
            reason: format!("Arrow's stream has no place for a column of this answer: {error}; CAST it"),
        };
        let writer = StreamWriter::try_new(Sink::default(), &head.schema).map_err(refused)?;
        let mut stream = Self { writer, schema: Arc::clone(&head.schema) };
        out.append(&mut stream.writer.get_mut().bytes);
        out.extend_from_slice(&MESSAGE_BEGINS);
        Ok(stream)
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let batch = renamed(batch, &self.schema).map_err(Error::Encode)?;
        self.write(out, |writer| writer.write(&batch))?;
        out.extend_from_slice(&MESSAGE_BEGINS);
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.write(out, StreamWriter::finish)
    }

    /// Lets the writer write behind `out`, without the beginning of its first message.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut StreamWriter<Sink>) -> Result<(), ArrowError>,
    ) -> Result<()> {
        *self.writer.get_mut() = Sink { bytes: std::mem::take(out), skip: MESSAGE_BEGINS.len() };
        let worked = work(&mut self.writer);
        *out = std::mem::take(&mut self.writer.get_mut().bytes);
        worked.map_err(Error::Encode)
    }
}

/// Writes a Parquet file.
pub(super) struct ParquetFile {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
}

impl ParquetFile {
    /// Errors: [`Error::RefuseFormat`] if a column has a type that Parquet lacks; for some types, their first value
    /// tells.
    pub(super) fn new(head: &BinaryHead) -> Result<Self> {
        let facts = head.facts.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_key_value_metadata(Some(facts.collect()))
            .build();
        let writer =
            ArrowWriter::try_new(Vec::new(), Arc::clone(&head.schema), Some(properties)).map_err(|e| refused(&e))?;
        Ok(Self { writer, schema: Arc::clone(&head.schema) })
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let batch = renamed(batch, &self.schema).map_err(Error::Encode)?;
        self.writer.write(&batch).map_err(failed)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES || self.writer.memory_size() >= 4 * ROW_GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        self.take(out);
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(failed)?;
        self.writer.sync().map_err(Error::Serve)?;
        self.take(out);
        Ok(())
    }

    /// Bytes of the row group that is not complete, and of the buffers around it.
    pub(super) fn held(&self) -> usize {
        self.writer.memory_size()
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        let written = self.writer.inner_mut();
        if out.is_empty() {
            std::mem::swap(out, written);
        } else {
            out.append(written);
        }
    }
}

fn refused(error: &ParquetError) -> Error {
    let reason =
        format!("Parquet has no place for a column of this answer: {error}; CAST it, or ask for another format");
    Error::RefuseFormat { reason }
}

fn failed(error: ParquetError) -> Error {
    match error {
        // Some types are refused when their first value is written.
        ParquetError::NYI(_) => refused(&error),
        other => Error::Encode(ArrowError::ParquetError(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, IntervalMonthDayNanoArray, StringArray};
    use arrow::datatypes::IntervalMonthDayNano;
    use arrow::ipc::reader::StreamReader;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch() -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 2] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])), true),
            ("t", Arc::new(StringArray::from(vec!["a", "", "ü"])), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn head() -> BinaryHead {
        BinaryHead::new(&batch().schema(), vec![("thalweg-frontier".to_owned(), "{}".to_owned())])
    }

    /// The pieces of an answer of two batches.
    fn arrow() -> Vec<Vec<u8>> {
        let mut pieces = vec![Vec::new(); 4];
        let mut stream = ArrowStream::begin(&head(), &mut pieces[0]).unwrap();
        stream.batch(&batch(), &mut pieces[1]).unwrap();
        stream.batch(&batch().slice(1, 2), &mut pieces[2]).unwrap();
        stream.end(&mut pieces[3]).unwrap();
        pieces
    }

    fn read_arrow(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
        StreamReader::try_new(bytes, None)?.collect()
    }

    #[test]
    fn an_arrow_stream_is_read_as_a_whole_only() {
        let pieces = arrow();
        let whole = pieces.concat();
        let read = read_arrow(&whole).unwrap();
        assert_eq!(read.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(read[0].columns(), batch().columns());
        assert_eq!(read[0].schema().metadata()["thalweg-frontier"], "{}");
        let mut in_one = Vec::new();
        let mut stream = ArrowStream::begin(&head(), &mut in_one).unwrap();
        stream.batch(&batch(), &mut in_one).unwrap();
        stream.batch(&batch().slice(1, 2), &mut in_one).unwrap();
        stream.end(&mut in_one).unwrap();
        assert_eq!(in_one, whole);
        // Where one message ends and the next begins, the stream is cut by nobody but the network.
        let between: Vec<usize> = (1..4).map(|count| pieces[..count].concat().len()).collect();
        for end in 1..whole.len() {
            if !between.iter().any(|piece| (piece - MESSAGE_BEGINS.len()..*piece).contains(&end)) {
                assert!(read_arrow(&whole[..end]).is_err(), "{end} of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_parquet_file_is_read_as_a_whole_only() {
        let mut pieces = vec![Vec::new(); 3];
        let mut file = ParquetFile::new(&head()).unwrap();
        file.batch(&batch(), &mut pieces[0]).unwrap();
        assert!(file.held() > 0);
        file.batch(&batch(), &mut pieces[1]).unwrap();
        file.end(&mut pieces[2]).unwrap();
        let whole = pieces.concat();
        let read = |bytes: &[u8]| -> Result<Vec<RecordBatch>, ArrowError> {
            ParquetRecordBatchReaderBuilder::try_new(axum::body::Bytes::copy_from_slice(bytes))?.build()?.collect()
        };
        let rows: usize = read(&whole).unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 6);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} of {}", whole.len());
        }
    }

    #[test]
    fn types_without_a_place_in_parquet_are_refused() {
        let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]));
        let batch = RecordBatch::try_from_iter([("i", intervals)]).unwrap();
        let file = ParquetFile::new(&BinaryHead::new(&batch.schema(), Vec::new()));
        let written = file.and_then(|mut file| {
            file.batch(&batch, &mut Vec::new())?;
            file.end(&mut Vec::new())
        });
        let refused = written.err().unwrap();
        assert_eq!(refused.status(), 400, "{refused}");
    }
}
