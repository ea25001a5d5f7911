//! Prepared statements and portals: statements with values, and how far the client has read their answers.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;
use pgwire::api::Type;
use tokio::time::Instant;

use super::super::budget::BudgetShare;
use super::super::commands::ClientStatement;
use super::super::failure::Failure;
use super::super::rows::EncodedBatch;
use super::super::types::{self, Formats};
use crate::answer::Batches;
use crate::engine::Description;
use crate::parameters::Parameter;

/// A statement that the client has prepared.
pub(super) struct PreparedStatement {
    /// `None` for an empty text.
    pub(super) statement: Option<ClientStatement>,
    /// The types that the client gives to placeholders; `None` where the query decides.
    pub(super) types: Vec<Option<Type>>,
    /// What the engine says of the statement, once it was asked.
    described: Mutex<Option<(Arc<Description>, BudgetShare)>>,
    /// What the client was told of, and the version of the catalog at that time.
    told: Mutex<Option<(Arc<Description>, u64)>>,
    _held: BudgetShare,
}

impl PreparedStatement {
    pub(super) fn new(statement: Option<ClientStatement>, types: Vec<Option<Type>>, held: BudgetShare) -> Self {
        Self { statement, types, described: Mutex::default(), told: Mutex::default(), _held: held }
    }

    pub(super) fn description(&self) -> Option<Arc<Description>> {
        self.described.lock().as_ref().map(|(known, _)| Arc::clone(known))
    }

    /// Keeps what the engine says.
    pub(super) fn describe(&self, described: Arc<Description>, held: BudgetShare) {
        *self.described.lock() = Some((described, held));
    }

    /// Forgets what the engine said: definitions may have changed.
    pub(super) fn ask_again(&self) {
        self.described.lock().take();
    }

    /// Notes what the client is told of.
    pub(super) fn tell(&self, described: Arc<Description>, catalog: u64) {
        *self.told.lock() = Some((described, catalog));
    }
}

/// A statement with its values.
pub(super) struct Portal {
    pub(super) prepared: Arc<PreparedStatement>,
    pub(super) values: Vec<Parameter>,
    pub(super) formats: Formats,
    pub(super) answer: PortalAnswer,
    /// True for a cursor that outlives its transaction.
    pub(super) hold: bool,
    /// True once it was run.
    pub(super) has_run: bool,
    /// What counts for the values, and for the columns.
    pub(super) values_held: Option<BudgetShare>,
    pub(super) columns_held: Option<BudgetShare>,
}

/// How far an answer is read.
pub(super) enum PortalAnswer {
    NotAsked,
    Open(Box<OpenAnswer>),
    /// Read to its end; its columns stay known.
    Read(SchemaRef),
    /// Its time was over before it was read.
    Overdue,
    /// Reading it failed, and nobody knows which rows are next.
    Failed,
}

/// An answer that is being read.
pub(super) struct OpenAnswer {
    pub(super) schema: SchemaRef,
    pub(super) batches: Batches,
    /// Where encoded bytes count that wait for the client.
    pub(super) memory: Option<Arc<MemoryReservation>>,
    pub(super) current: Option<EncodedBatch>,
    /// True if the current batch is encoded on a thread for blocking work.
    pub(super) is_large: bool,
    /// The end of the query's time; `None` for an answer of the session.
    pub(super) until: Option<Instant>,
}

impl Portal {
    pub(super) fn new(prepared: Arc<PreparedStatement>, values: Vec<Parameter>, formats: Formats) -> Self {
        Self {
            prepared,
            values,
            formats,
            answer: PortalAnswer::NotAsked,
            hold: false,
            has_run: false,
            values_held: None,
            columns_held: None,
        }
    }

    /// The end of the time of the query that is under way.
    pub(super) fn until(&self) -> Option<Instant> {
        match &self.answer {
            PortalAnswer::Open(open) => open.until,
            _ => None,
        }
    }

    /// Ends the query, whose time is over.
    pub(super) fn expire(&mut self) {
        self.answer = PortalAnswer::Overdue;
    }

    /// The columns, once they are known.
    pub(super) fn schema(&self) -> Option<&SchemaRef> {
        match &self.answer {
            PortalAnswer::Open(open) => Some(&open.schema),
            PortalAnswer::Read(schema) => Some(schema),
            PortalAnswer::NotAsked | PortalAnswer::Overdue | PortalAnswer::Failed => None,
        }
    }

    /// Checks that the answer, in definitions of the version `catalog`, has the columns that the client was told of.
    ///
    /// Errors: [`Failure::other_columns`], each time until the client prepares the statement anew or asks for its
    /// columns.
    pub(super) fn check_columns(&self, schema: &SchemaRef, catalog: u64) -> Result<(), Failure> {
        types::check_count(schema)?;
        if !self.formats.fit(schema.fields().len()) {
            return Err(Failure::protocol(format!(
                "there are {} formats for {} columns; a format is 0 or 1",
                self.formats.0.len(),
                schema.fields().len()
            )));
        }
        let Some((told, version)) = self.prepared.told.lock().clone() else { return Ok(()) };
        let Some(told) = &told.columns else { return Ok(()) };
        let of = |schema: &SchemaRef| -> Vec<Type> {
            schema.fields().iter().map(|field| types::shown(field.data_type())).collect()
        };
        let names =
            |schema: &SchemaRef| -> Vec<String> { schema.fields().iter().map(|field| field.name().clone()).collect() };
        // Without a new definition, a column keeps its name.
        match of(told) == of(schema) && (version == catalog || names(told) == names(schema)) {
            true => Ok(()),
            false => Err(Failure::other_columns()),
        }
    }
}
