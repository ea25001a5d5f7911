//! The archive's loop: receives epochs, sends outcomes and announces every new version, those of other processes
//! included.
//!
//! Invariant: epochs are committed in the order of arrival, and each epoch is answered before the next one starts.
//! The loop ends when all senders are gone, so that the last epochs of a stopping speed layer are archived.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_schemas::Fault;
use thalweg_schemas::realtime::epoch::{EpochOutcome, EpochRequest};
use thalweg_schemas::warehouse::versions::MasterVersion;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Archive;
use crate::Result;

/// How often an archive without epochs is looked at. Other processes commit amendments.
const LOOK: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Commits the requested epochs until all senders are gone. While storage fails, `failure` holds the reason, and the
/// commit is retried with growing pauses until `cancel`. `landed` receives the duration of each commit.
///
/// Errors: a fault that a retry cannot fix, or the last storage error after `cancel`. The epoch's reply is dropped.
pub async fn serve(
    mut archive: Archive,
    mut requests: mpsc::Receiver<EpochRequest>,
    versions: watch::Sender<Arc<MasterVersion>>,
    failure: watch::Sender<Option<String>>,
    landed: impl Fn(Duration),
    cancel: CancellationToken,
) -> Result<()> {
    loop {
        let next = tokio::time::timeout(LOOK, requests.recv()).await;
        let Ok(request) = next else {
            look(&mut archive, &versions).await?;
            continue;
        };
        let Some(EpochRequest { epoch, reply }) = request else { return Ok(()) };
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
            // The first failure is one line for the operator; repeated failures are logged for debugging.
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
        // A sender that no longer waits reads the outcome from the table after its restart.
        let _ = reply.send(outcome);
        archive.maintain().await;
    }
}

/// Announces what others have committed. A failure that may pass is left to the next look.
///
/// Errors: a fault that a retry cannot fix.
async fn look(archive: &mut Archive, versions: &watch::Sender<Arc<MasterVersion>>) -> Result<()> {
    match archive.latest().await {
        Ok(version) => {
            versions.send_if_modified(|known| {
                let is_newer = version.version > known.version;
                if is_newer {
                    *known = version;
                }
                is_newer
            });
            Ok(())
        }
        Err(error) if error.fault() == Fault::Transient => Ok(()),
        Err(error) => Err(error),
    }
}
