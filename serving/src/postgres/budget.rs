//! Bytes that clients make the server keep: long messages, prepared statements and portals.
//!
//! Invariant: a connection has a limit of its own below that of all together, and a part of its own that no other
//! client can take, so that neither one client nor many of them leave nothing for the others.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;

/// Bytes of all connections together, beyond what each has of its own.
const ALL_BYTES: usize = 256 << 20;

/// Bytes of one connection.
const EACH_BYTES: usize = 16 << 20;

/// Bytes that a connection has of its own: they do not count in those of all.
const OWN_BYTES: usize = 128 << 10;

/// Long texts that are read at the same time.
const LONG_TEXTS: usize = 2;

/// The bytes of one connection; clones share the sum.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    sum: Arc<Mutex<usize>>,
    all: AllBudget,
}

/// The bytes of all connections of a door; clones share the sum.
#[derive(Debug, Clone)]
pub(super) struct AllBudget {
    sum: Arc<Mutex<usize>>,
    /// Places for long texts while they are read: their words and items take many times their bytes.
    long_texts: Arc<Semaphore>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Budget,
    bytes: usize,
}

impl AllBudget {
    pub(super) fn new() -> Self {
        Self { sum: Arc::default(), long_texts: Arc::new(Semaphore::new(LONG_TEXTS)) }
    }

    /// The budget of one connection.
    pub(super) fn one(&self) -> Budget {
        Budget { sum: Arc::default(), all: self.clone() }
    }
}

impl Budget {
    /// Errors: a failure if a limit is reached.
    pub(super) fn hold(&self, bytes: usize) -> Result<BudgetShare, Failure> {
        let mut share = BudgetShare { budget: self.clone(), bytes: 0 };
        share.resize(bytes)?;
        Ok(share)
    }

    /// Waits for a place to read a long text; `None` at the end of the server.
    pub(super) async fn long_text(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all.long_texts).acquire_owned().await.ok()
    }

    /// Exchanges `before` bytes for `after`.
    fn exchange(&self, before: usize, after: usize) -> Result<(), Failure> {
        let beyond = |sum: usize| sum.saturating_sub(OWN_BYTES);
        let mut sum = self.sum.lock();
        let wanted = (*sum - before).saturating_add(after);
        if after > before && wanted > EACH_BYTES {
            return Err(refusal("this connection", EACH_BYTES, "close some"));
        }
        let mut all = self.all.sum.lock();
        let wanted_of_all = (*all - beyond(*sum)).saturating_add(beyond(wanted));
        if after > before && wanted_of_all > ALL_BYTES {
            return Err(refusal("all clients", ALL_BYTES, "try again in a moment"));
        }
        (*sum, *all) = (wanted, wanted_of_all);
        Ok(())
    }
}

fn refusal(whose: &str, limit: usize, advice: &str) -> Failure {
    let mib = limit >> 20;
    let held = "messages, prepared statements, portals, cursors and settings";
    Failure::new("53200", format!("the {held} of {whose} take {mib} MiB, which is the limit; {advice}"))
}

impl BudgetShare {
    /// Makes the share one of `bytes`.
    ///
    /// Errors: a failure if a limit is reached; the share stays as it was.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), Failure> {
        self.budget.exchange(self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        // Giving back is never refused.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_does_not_take_all_and_what_is_dropped_is_free_again() {
        let all = AllBudget::new();
        let (first, second) = (all.one(), all.one());
        let most = first.hold(EACH_BYTES).unwrap();
        assert!(first.hold(1).unwrap_err().message.contains("of this connection"));
        second.hold(EACH_BYTES).unwrap();
        let mut share = second.hold(1).unwrap();
        assert!(share.resize(EACH_BYTES + 1).unwrap_err().message.contains("of this connection"));
        share.resize(EACH_BYTES).unwrap();
        share.resize(10).unwrap();
        drop((most, share));
        second.hold(1).unwrap();
        assert_eq!([&all.sum, &first.sum, &second.sum].map(|sum| *sum.lock()), [0; 3]);
    }

    #[test]
    fn many_connections_leave_each_one_its_own_part() {
        let all = AllBudget::new();
        let mut held = Vec::new();
        let failure = loop {
            match all.one().hold(EACH_BYTES) {
                Ok(share) => held.push(share),
                Err(failure) => break failure,
            }
        };
        assert_eq!((failure.state, failure.message.contains("of all clients")), ("53200", true));
        let left = ALL_BYTES - *all.sum.lock();
        let rest = all.one().hold(OWN_BYTES + left).unwrap();
        let late = all.one();
        let own = late.hold(OWN_BYTES).unwrap();
        assert!(late.hold(1).unwrap_err().message.contains("of all clients"));
        drop((held, rest, own));
        assert_eq!(*all.sum.lock(), 0);
    }
}
