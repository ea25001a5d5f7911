//! Detects that a stream works again, so that its recorded failure can be cleared.
//!
//! Invariant: rows from the archive do not clear a failure, because they do not show that Kafka's log continues the
//! archive.

use std::sync::Arc;

use thalweg_schemas::error::restart::STEADY;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Returns once the stream of `snapshots` works.
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

/// True if Kafka has answered, or if the stream is waiting for Kafka.
fn knows_kafka(snapshot: &StreamSnapshot) -> bool {
    snapshot.has_reached_kafka() || snapshot.waiting.is_some()
}

/// True if the worker reads no partition, because its group assigns none. Such a worker never reaches Kafka's log; it
/// counts as working as long as it runs.
fn reads_nothing(snapshot: &StreamSnapshot) -> bool {
    snapshot.frontier.is_empty()
}
