//! The batches of one operator, each looked at before it is handed on.
//!
//! Invariant: after an error the stream ends, and its reservation is freed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};

use super::{Counted, Cut, Duty};
use crate::limits::allowance::Allowance;
use crate::limits::slices;

/// Batches smaller than this are not counted.
const COUNTED_FROM: usize = 64 << 10;

/// Bytes that an unnested row takes beside its values: indices of rows and elements, and an element of a number.
const UNNESTED_WIDTH: usize = 32;

/// Rows that come out of one piece of a batch of lists, at most, if its first row alone has not more.
const UNNESTED_ROWS: usize = 64 << 10;

pub(super) struct GuardStream {
    input: SendableRecordBatchStream,
    partition: usize,
    // Freed before the allowance, whose end is the end of the query.
    reservation: MemoryReservation,
    /// What the operator above makes of lists or texts before a guard sees it.
    ahead: MemoryReservation,
    /// The second copy of all batches, if the operator above makes one.
    copy: MemoryReservation,
    allowance: Arc<Allowance>,
    duty: Duty,
    fixed_width: Option<usize>,
    /// What is left of a batch that is cut, and the row at which the rest begins.
    rest: Option<(RecordBatch, usize)>,
    ended: bool,
}

impl GuardStream {
    pub(super) fn new(
        input: SendableRecordBatchStream,
        partition: usize,
        allowance: Arc<Allowance>,
        duty: Duty,
    ) -> Self {
        let fixed_width = slices::fixed_width(&input.schema());
        let reservation = allowance.reserve("batches under way");
        let ahead = allowance.reserve("what is made of a batch");
        let copy = allowance.reserve("a copy of batches");
        Self { input, partition, reservation, ahead, copy, allowance, duty, fixed_width, rest: None, ended: false }
    }

    /// Counts a new batch.
    ///
    /// Errors: the batch does not fit.
    fn look_at(&self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let bytes = match self.fixed_width {
            Some(width) => width * rows,
            None => slices::bytes(batch),
        };
        if let Some(error) = self.allowance.too_wide(rows, bytes, self.allowance.batch_bytes()) {
            return Err(error);
        }
        let counted = if bytes < COUNTED_FROM { 0 } else { bytes };
        match self.duty.counted {
            Counted::Nothing => {}
            Counted::Last => self.reservation.try_resize(counted)?,
            Counted::All => self.reservation.try_grow(bytes)?,
        }
        if self.duty.copied.is_some() {
            self.copy.try_grow(bytes)?;
        }
        if !self.duty.joined.is_empty() && bytes >= COUNTED_FROM {
            let joined = self.joined_bytes(batch);
            if let Some(error) = self.allowance.too_wide(rows, joined, self.allowance.batch_bytes()) {
                return Err(error);
            }
            match self.duty.counted {
                // The operator above computes over all batches at once.
                Counted::All => self.ahead.try_grow(joined)?,
                Counted::Nothing | Counted::Last => self.ahead.try_resize(joined)?,
            }
        }
        self.look_ahead(batch)
    }

    /// The bytes of the values that the operator above joins. Each is there once in the result, and once in the buffer
    /// that grows to hold the result.
    fn joined_bytes(&self, batch: &RecordBatch) -> usize {
        let columns = self.duty.joined.iter().filter_map(|column| batch.columns().get(*column));
        columns.map(slices::column_bytes).fold(0, usize::saturating_add).saturating_mul(2)
    }

    /// Looks ahead to the join above: its batches repeat the widest row of this input.
    fn look_ahead(&self, batch: &RecordBatch) -> Result<()> {
        let Some((join, side)) = &self.duty.join else {
            return Ok(());
        };
        let width = join.raise(*side, self.fixed_width.unwrap_or_else(|| slices::widest(batch)));
        if let Some(error) = self.allowance.too_wide_a_join(join.number, width) {
            return Err(error);
        }
        // Without smaller batches, only an output that cannot be held at all ends the query.
        let bytes = width.saturating_mul(self.allowance.join_rows(join.number));
        if bytes > self.allowance.row_bytes() {
            return self.allowance.exhausted("a join of wide rows", bytes);
        }
        Ok(())
    }

    /// The next piece of the batch that is cut.
    ///
    /// Errors: what the operator above makes of the piece does not fit.
    fn piece(&mut self) -> Result<Option<RecordBatch>> {
        let Some((batch, from)) = self.rest.take() else {
            return Ok(None);
        };
        let rows = match &self.duty.cut {
            Cut::Rows(most) => (batch.num_rows() - from).min(*most),
            Cut::Lists(lists) => {
                let width = slices::widest_beside(&batch, lists).saturating_add(UNNESTED_WIDTH);
                let limit = (self.allowance.batch_bytes() / width).clamp(1, UNNESTED_ROWS);
                let (rows, made) = slices::until(&batch, from, lists, limit);
                let elements = slices::bytes(&batch.slice(from, rows));
                self.ahead.try_resize(made.saturating_mul(width).saturating_add(elements))?;
                rows
            }
        };
        if from == 0 && rows >= batch.num_rows() {
            return Ok(Some(batch));
        }
        let piece = batch.slice(from, rows);
        if from + rows < batch.num_rows() {
            self.rest = Some((batch, from + rows));
        }
        Ok(Some(piece))
    }
}

impl Stream for GuardStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Err(error) = self.allowance.check() {
            return self.end(Some(Err(error)));
        }
        match self.piece() {
            Ok(None) => {}
            Ok(piece) => return Poll::Ready(piece.map(Ok)),
            Err(error) => return self.end(Some(Err(error))),
        }
        let next = ready!(self.input.poll_next_unpin(context));
        if let Some(made) = self.duty.made.take() {
            made.free(self.partition);
        }
        match next {
            Some(Ok(batch)) => {
                // They count as a batch from now on.
                self.duty.values.iter().for_each(|values| values.hand_on(batch.num_rows()));
                if let Err(error) = self.look_at(&batch) {
                    return self.end(Some(Err(error)));
                }
                if batch.num_rows() == 0 {
                    return Poll::Ready(Some(Ok(batch)));
                }
                self.rest = Some((batch, 0));
                match self.piece() {
                    Ok(piece) => Poll::Ready(piece.map(Ok)),
                    Err(error) => self.end(Some(Err(error))),
                }
            }
            other => self.end(other),
        }
    }
}

impl GuardStream {
    fn end(&mut self, last: Option<Result<RecordBatch>>) -> Poll<Option<Result<RecordBatch>>> {
        self.ended = true;
        self.rest = None;
        self.ahead.free();
        if let Some(copied) = self.duty.copied.take()
            && last.is_none()
        {
            copied.keep(self.partition, self.copy.take());
        }
        self.copy.free();
        // What the operator above keeps, it keeps until it is dropped together with this stream.
        if self.duty.counted != Counted::All || last.is_some() {
            self.reservation.free();
        }
        Poll::Ready(last)
    }
}

impl RecordBatchStream for GuardStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
