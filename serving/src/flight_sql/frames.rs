//! An answer as messages of Flight: one with the schema and what is known of the whole answer, then one for each batch.
//!
//! Invariant: no message is much larger than [`FRAME_BYTES`], unless one row is.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use serde::Serialize;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::{Frontiers, Partial};
use thalweg_schemas::{ViewId, ViewName};
use tonic::codegen::Bytes;

use super::wire;
use crate::{Error, Result};

/// The metadata with the ids of the views that are read, by name.
const VIEWS: &str = "thalweg-views";

/// Bytes of the largest message: half of the limit that clients have by default.
pub(super) const FRAME_BYTES: usize = 2 << 20;

/// What is known of an answer before its rows: as JSON in the metadata of its first message, and of a flight.
#[derive(Debug, Serialize)]
pub(super) struct AnswerHead<'a> {
    pub(super) frontier: &'a Frontiers,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stale: bool,
    #[serde(skip_serializing_if = "Partial::is_empty")]
    pub(super) partial: &'a Partial,
    /// The ids of the views that are read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) views: &'a BTreeMap<ViewName, ViewId>,
}

impl AnswerHead<'_> {
    pub(super) fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
        Ok(json.into())
    }

    /// The same as metadata of a schema, under the names of the headers of HTTP.
    pub(super) fn to_metadata(&self) -> Result<HashMap<String, String>> {
        let json = |value: serde_json::Result<String>| value.map_err(|e| Error::Serve(std::io::Error::other(e)));
        let mut facts = vec![(headers::FRONTIER, json(serde_json::to_string(self.frontier))?)];
        if self.stale {
            facts.push((headers::STALE, headers::TRUE.to_owned()));
        }
        if !self.partial.is_empty() {
            facts.push((headers::PARTIAL, json(serde_json::to_string(self.partial))?));
        }
        if !self.views.is_empty() {
            facts.push((VIEWS, json(serde_json::to_string(self.views))?));
        }
        Ok(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
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

    /// The first message of an answer.
    ///
    /// Errors: [`Error::Serve`], never in practice.
    pub(super) fn first_of(&self, head: &AnswerHead<'_>) -> Result<FlightData> {
        let schema = self.schema.as_ref().clone().with_metadata(head.to_metadata()?);
        Ok(FlightData::from(SchemaAsIpc::new(&schema, &self.options)).with_app_metadata(head.to_bytes()?))
    }

    /// The messages of a batch.
    ///
    /// Errors: [`Error::Encode`].
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>> {
        cut(batch).into_iter().map(|piece| self.piece(&piece.batch)).collect()
    }

    /// The message of a piece.
    ///
    /// Errors: [`Error::Encode`].
    pub(super) fn piece(&mut self, piece: &RecordBatch) -> Result<FlightData> {
        let sent = wire::sent(piece, &self.schema).map_err(Error::Encode)?;
        let context = &mut self.context;
        let encoded = self.generator.encode(&sent, &mut self.dictionaries, &self.options, context);
        let (_, message) = encoded.map_err(Error::Encode)?;
        Ok(message.into())
    }
}

/// A part of a batch that becomes one message.
pub(super) struct FramePiece {
    pub(super) batch: RecordBatch,
    /// Bytes of the message.
    pub(super) bytes: usize,
}

/// The pieces of a batch. They are cut before values that rows share are written out.
pub(super) fn cut(batch: &RecordBatch) -> Vec<FramePiece> {
    let rows = wire::row_bytes(batch);
    let piece = |(from, to): (usize, usize)| {
        let batch = batch.slice(from, to - from);
        FramePiece { batch, bytes: rows.between(from, to) }
    };
    rows.parts(FRAME_BYTES).into_iter().map(piece).collect()
}

/// A schema as clients read it outside of a stream.
///
/// Errors: [`Error::Encode`].
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(Error::Encode)?;
    Ok(bytes)
}
