//! An answer as messages of Flight: one with the schema and what is known of the whole answer, then one for each batch.
//!
//! Invariant: no message is much larger than [`FRAME_BYTES`], unless one row is.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use serde::Serialize;
use thalweg_schemas::api::sql::{Frontiers, Partial};
use tonic::codegen::Bytes;

use super::wire;
use crate::{Error, Result};

/// Bytes of the largest message: half of the limit that clients have by default.
pub(super) const FRAME_BYTES: usize = 2 << 20;

/// What is known of an answer before its rows, as JSON in the metadata of its first message.
#[derive(Debug, Serialize)]
pub(super) struct AnswerHead<'a> {
    pub(super) frontier: &'a Frontiers,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stale: bool,
    #[serde(skip_serializing_if = "Partial::is_empty")]
    pub(super) partial: &'a Partial,
}

impl AnswerHead<'_> {
    pub(super) fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
        Ok(json.into())
    }
}

/// Encodes one answer.
pub(super) struct FrameEncoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl FrameEncoder {
    /// An encoder of answers with the engine's `schema`.
    pub(super) fn new(schema: &Schema) -> Self {
        Self::exact(wire::sent_schema(schema))
    }

    /// An encoder of batches that have this schema, which clients read as it is.
    pub(super) fn exact(schema: SchemaRef) -> Self {
        let mut context = IpcWriteContext::default();
        // Messages of an answer are about equally long: the next one need not grow step by step.
        context.set_reserve_scratch(true);
        Self {
            schema,
            options: IpcWriteOptions::default(),
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(true),
            context,
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The first message.
    pub(super) fn first(&self, metadata: Bytes) -> FlightData {
        FlightData::from(SchemaAsIpc::new(&self.schema, &self.options)).with_app_metadata(metadata)
    }

    /// The messages of a batch.
    ///
    /// Errors: [`Error::Encode`].
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>> {
        let batch = wire::sent(batch, &self.schema).map_err(Error::Encode)?;
        let mut messages = Vec::new();
        self.pieces(&batch, &mut messages).map_err(Error::Encode)?;
        Ok(messages)
    }

    fn pieces(&mut self, batch: &RecordBatch, into: &mut Vec<FlightData>) -> Result<(), ArrowError> {
        let rows = batch.num_rows();
        if rows > 1 && wire::bytes(batch) > FRAME_BYTES {
            self.pieces(&batch.slice(0, rows / 2), into)?;
            return self.pieces(&batch.slice(rows / 2, rows - rows / 2), into);
        }
        let context = &mut self.context;
        let (_, message) = self.generator.encode(batch, &mut self.dictionaries, &self.options, context)?;
        into.push(message.into());
        Ok(())
    }
}

/// A schema as clients read it outside of a stream.
///
/// Errors: [`Error::Encode`].
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(Error::Encode)?;
    Ok(bytes)
}
