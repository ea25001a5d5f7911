//! The archive's loop: epochs come in, outcomes go back, every new version is announced.
//!
//! Invariant: epochs are committed in the order in which they come, each answered before the next is begun. The loop
//! ends when nobody can send any more, so that what a stopping speed layer still holds is archived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_schemas::Fault;
use thalweg_schemas::realtime::epoch::{EpochOutcome, EpochRequest};
use thalweg_schemas::warehouse::versions::MasterVersion;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Archive;
use crate::Result;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Commits what is requested until the senders are gone. While storage fails, `failure` says why, and it tries again,
/// ever more slowly, unless `cancel` says that nobody can wait any longer. `landed` is told how long each commit took.
///
/// Errors: what trying again cannot mend, or what failed last when it was cancelled. The epoch's reply is dropped.
pub async fn serve(
    mut archive: Archive,
    mut requests: mpsc::Receiver<EpochRequest>,
    versions: watch::Sender<Arc<MasterVersion>>,
    failure: watch::Sender<Option<String>>,
    landed: impl Fn(Duration),
    cancel: CancellationToken,
) -> Result<()> {
    while let Some(EpochRequest { epoch, reply }) = requests.recv().await {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let outcome = loop {
            let error = match archive.commit(&epoch).await {
                Ok(outcome) => break outcome,
                Err(error) => error,
            };
            if error.fault() != Fault::Transient || cancel.is_cancelled() {
                return Err(error);
            }
            let reason = error.to_string();
            // One line tells it; the attempts that follow are for who looks closer.
            if failure.borrow().as_ref() == Some(&reason) {
                tracing::debug!(stream = %epoch.stream, reason, ?pause, "the epoch is not archived yet");
            } else {
                tracing::warn!(stream = %epoch.stream, reason, "the epoch is not archived yet; it is tried again");
                failure.send_replace(Some(reason));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if failure.send_replace(None).is_some() {
            tracing::info!(stream = %epoch.stream, "archiving works again");
        }
        if matches!(outcome, EpochOutcome::Landed(_)) {
            landed(began.elapsed());
        }
        let (EpochOutcome::Landed(version) | EpochOutcome::Fenced(version)) = &outcome;
        versions.send_replace(Arc::clone(version));
        // A sender that has stopped waiting reads the outcome from the table when it comes back.
        let _ = reply.send(outcome);
        archive.maintain().await;
    }
    Ok(())
}
