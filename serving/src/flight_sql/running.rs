//! Queries that run, by the ids of their tickets, so that another call can cancel them.
//!
//! Invariant: a query is listed exactly while its answer is under way.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The running queries; clones share them.
#[derive(Clone, Default)]
pub(super) struct RunningFlights(Arc<Mutex<HashMap<Vec<u8>, Vec<CancellationToken>>>>);

/// A listed query; dropping it takes it off the list.
pub(super) struct ListedFlight {
    all: RunningFlights,
    id: Vec<u8>,
    pub(super) cancelled: CancellationToken,
}

impl RunningFlights {
    /// Lists a query. A ticket may be used twice at once.
    pub(super) fn list(&self, id: &[u8]) -> ListedFlight {
        let cancelled = CancellationToken::new();
        self.0.lock().entry(id.to_vec()).or_default().push(cancelled.clone());
        ListedFlight { all: self.clone(), id: id.to_vec(), cancelled }
    }

    /// Cancels the queries of a ticket. False if none runs.
    pub(super) fn cancel(&self, id: &[u8]) -> bool {
        let running = self.0.lock();
        let found = running.get(id);
        found.into_iter().flatten().for_each(CancellationToken::cancel);
        found.is_some()
    }
}

impl Drop for ListedFlight {
    fn drop(&mut self) {
        // Marks this entry, which is gone for good.
        self.cancelled.cancel();
        let mut running = self.all.0.lock();
        if let Some(of_ticket) = running.get_mut(&self.id) {
            of_ticket.retain(|token| !token.is_cancelled());
            if of_ticket.is_empty() {
                running.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_can_be_cancelled_while_it_runs() {
        let running = RunningFlights::default();
        assert!(!running.cancel(b"a"));
        let (one, two, other) = (running.list(b"a"), running.list(b"a"), running.list(b"b"));
        drop(one);
        assert!(!two.cancelled.is_cancelled());
        assert!(running.cancel(b"a") && two.cancelled.is_cancelled() && !other.cancelled.is_cancelled());
        drop(two);
        assert!(!running.cancel(b"a") && running.cancel(b"b"));
    }
}
