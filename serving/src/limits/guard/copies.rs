//! The memory of inputs that an operator joins to one batch, which are there twice while it does.
//!
//! A guard below the operator reserves the second copy. The operator has dropped the first one when it hands its first
//! batch on, and the guard above it frees the reservation then.
//!
//! Invariant: a reservation is freed at the latest with the plan.

use std::collections::BTreeMap;

use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;

/// The reservations for the copies of one operator's input, by its partition.
#[derive(Debug, Default)]
pub(super) struct CopyReservations(Mutex<BTreeMap<usize, MemoryReservation>>);

impl CopyReservations {
    /// Keeps `reservation` until the operator hands a batch on.
    pub(super) fn keep(&self, partition: usize, reservation: MemoryReservation) {
        self.0.lock().insert(partition, reservation);
    }

    /// Frees the copies of one partition, or of the single one that all partitions of the operator's output share.
    pub(super) fn free(&self, partition: usize) {
        let mut copies = self.0.lock();
        if copies.remove(&partition).is_none() && copies.len() == 1 {
            copies.remove(&0);
        }
    }
}
