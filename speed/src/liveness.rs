//! When a stream works again: what clears the failure that had stopped it.
//!
//! Invariant: rows from the archive clear nothing, because they do not show that Kafka's log continues them.

use std::sync::Arc;

use thalweg_schemas::error::restart::STEADY;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Ready once the stream whose snapshots these are works.
pub(crate) async fn works(mut snapshots: watch::Receiver<Option<Arc<StreamSnapshot>>>) {
    let mut steady = std::pin::pin!(sleep(STEADY));
    loop {
        let works = tokio::select! {
            Ok(()) = snapshots.changed() => snapshots.borrow_and_update().as_deref().is_some_and(knows_kafka),
            () = &mut steady => {
                steady.as_mut().reset(Instant::now() + STEADY);
                snapshots.borrow().as_deref().is_some_and(reads_nothing)
            }
        };
        if works {
            return;
        }
    }
}

/// Kafka has answered, or is waited for.
fn knows_kafka(snapshot: &StreamSnapshot) -> bool {
    snapshot.has_reached_kafka() || snapshot.waiting.is_some()
}

/// A worker to which its group assigns nothing reaches nothing: that it runs is all there is to see.
fn reads_nothing(snapshot: &StreamSnapshot) -> bool {
    snapshot.frontier.is_empty()
}
