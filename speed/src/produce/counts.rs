//! What has become of the rows, for progress and for the report.
//!
//! Invariant: after the end, `sent` is `delivered` and the lost rows together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use thalweg_schemas::files::RowNotes;

use crate::Error;

/// Rows that were not delivered for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub reason: String,
    pub rows: u64,
    /// The number of the first of them in the file.
    pub first: u64,
}

/// How producing ended.
#[derive(Debug)]
pub struct Produced {
    /// True if all rows were read and sent: no request to stop came before.
    pub is_complete: bool,
    /// For a transaction: true if it was committed.
    pub is_committed: Option<bool>,
    /// Why not all rows were sent.
    pub failure: Option<Error>,
    /// Rows that were not delivered, by reason.
    pub lost: Vec<Loss>,
}

#[derive(Debug, Default)]
pub(super) struct RowCounts {
    pub(super) sent: AtomicU64,
    bytes: AtomicU64,
    delivered: AtomicU64,
    lost: AtomicU64,
    /// The number of the last row that was sent.
    last: AtomicU64,
    losses: Mutex<BTreeMap<String, (u64, u64)>>,
    pub(super) notes: Arc<RowNotes>,
    silence: Mutex<Option<String>>,
}

impl RowCounts {
    pub(super) fn send(&self, number: u64, bytes: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.last.store(number, Relaxed);
    }

    /// Counts a row that is not sent, and so is not under way.
    pub(super) fn would_send(&self, bytes: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.delivered.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn deliver(&self) {
        self.delivered.fetch_add(1, Relaxed);
        *self.silence.lock() = None;
    }

    pub(super) fn lose(&self, number: u64, reason: String) {
        let mut losses = self.losses.lock();
        let (rows, first) = losses.entry(reason).or_insert((0, number));
        *rows += 1;
        *first = number.min(*first);
        self.lost.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        let settled = self.delivered.load(Relaxed) + self.lost.load(Relaxed);
        self.sent.load(Relaxed).saturating_sub(settled)
    }

    pub(super) fn losses(&self) -> Vec<Loss> {
        let losses = self.losses.lock();
        let mut losses: Vec<Loss> = losses
            .iter()
            .map(|(reason, (rows, first))| Loss { reason: reason.clone(), rows: *rows, first: *first })
            .collect();
        losses.sort_by_key(|loss| loss.first);
        losses
    }

    /// Keeps what librdkafka says while nothing is delivered.
    pub(super) fn silent(&self, reason: String) {
        *self.silence.lock() = Some(reason);
    }
}

/// The progress of producing, readable at any time.
#[derive(Debug, Clone, Default)]
pub struct ProduceCounts(pub(super) Arc<RowCounts>);

impl ProduceCounts {
    /// Rows that were passed on to Kafka's client.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Relaxed)
    }

    /// The bytes of keys and payloads of the rows that were sent.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// Rows that Kafka has acknowledged.
    pub fn delivered(&self) -> u64 {
        self.0.delivered.load(Relaxed)
    }

    /// Rows whose delivery is not known yet.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }

    /// Rows that did not fit and were left out.
    pub fn skipped(&self) -> u64 {
        self.0.notes.skipped()
    }

    /// The number of the last row in the file that was sent.
    pub fn last_row(&self) -> u64 {
        self.0.last.load(Relaxed)
    }

    /// Why the first of the skipped rows did not fit.
    pub fn skips(&self) -> Vec<String> {
        self.0.notes.skips()
    }

    /// What the user should know of the file. A note is given once.
    pub fn take_notes(&self) -> Vec<String> {
        self.0.notes.take_notes()
    }

    /// What Kafka's client said last, if nothing was delivered since.
    pub fn silence(&self) -> Option<String> {
        self.0.silence.lock().clone()
    }
}
