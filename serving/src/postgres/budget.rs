//! Bytes that clients make the server keep: long messages, prepared statements and portals.
//!
//! Invariant: a connection has a limit of its own below that of all together, so that one client does not take all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;

/// Bytes of all connections together.
const ALL_BYTES: usize = 256 << 20;

/// Bytes of one connection.
const EACH_BYTES: usize = 16 << 20;

/// Long texts that are cut into statements at the same time.
const LONG_TEXTS: usize = 2;

/// A sum of bytes with a limit; clones share the sum.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    sum: Arc<AtomicUsize>,
    limit: usize,
    /// What the bytes count in too.
    of_all: Option<Arc<Budget>>,
    /// Places for long texts while they are cut into statements: their words take many times their bytes.
    long_texts: Arc<Semaphore>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Budget,
    bytes: usize,
    _of_all: Option<Box<BudgetShare>>,
}

impl Budget {
    /// The budget of all connections of a door.
    pub(super) fn all() -> Self {
        Self { sum: Arc::default(), limit: ALL_BYTES, of_all: None, long_texts: Arc::new(Semaphore::new(LONG_TEXTS)) }
    }

    /// The budget of one connection, within this one.
    pub(super) fn one(&self) -> Self {
        Self { sum: Arc::default(), limit: EACH_BYTES, of_all: Some(Arc::new(self.clone())), ..self.clone() }
    }

    /// Errors: a failure if a limit is reached.
    pub(super) fn hold(&self, bytes: usize) -> Result<BudgetShare, Failure> {
        let of_all = self.of_all.as_ref().map(|all| all.hold(bytes)).transpose()?.map(Box::new);
        let within = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(BudgetShare { budget: self.clone(), bytes, _of_all: of_all }),
            Err(_) => Err(Failure::new("53200", self.refusal())),
        }
    }

    /// Waits for a place to read a long text; `None` at the end of the server.
    pub(super) async fn long_text(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.long_texts).acquire_owned().await.ok()
    }

    fn refusal(&self) -> String {
        let mib = self.limit >> 20;
        match self.of_all {
            Some(_) => format!(
                "the messages, prepared statements and portals of this connection take {mib} MiB, which is the limit; \
                 close some"
            ),
            None => format!(
                "the messages, prepared statements and portals of all clients take {mib} MiB, which is the limit; try \
                 again in a moment"
            ),
        }
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.sum.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_does_not_take_all_and_what_is_dropped_is_free_again() {
        let all = Budget::all();
        let (first, second) = (all.one(), all.one());
        let most = first.hold(EACH_BYTES).unwrap();
        assert!(first.hold(1).unwrap_err().message.contains("of this connection"));
        second.hold(EACH_BYTES).unwrap();
        let rest = all.hold(ALL_BYTES - EACH_BYTES).unwrap();
        assert!(second.hold(1).unwrap_err().message.contains("of all clients"));
        drop((most, rest));
        second.hold(1).unwrap();
        assert_eq!([&all, &first, &second].map(|budget| budget.sum.load(Ordering::Relaxed)), [0; 3]);
    }
}
