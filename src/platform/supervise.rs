//! Restarts a long-lived part after a failure.
//!
//! Invariant: [`Failures`] alone decides whether and when there is a next attempt.

use std::time::{Duration, Instant};

use thalweg_schemas::Fault;
use thalweg_schemas::error::restart::Failures;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::stopped::Stopped;

/// Runs `attempt` repeatedly until it succeeds, is cancelled, or fails by a bug. While the part is down, `failure`
/// holds the reason; the code that sees the part work again clears it.
///
/// Errors: a failure by a bug, and the failure of the attempt that was running at `cancel` if that may have lost
/// something.
pub(crate) async fn supervise<E: Into<Stopped>, Attempt: Future<Output = Result<(), E>>>(
    part: &str,
    cancel: &CancellationToken,
    failure: &watch::Sender<Option<String>>,
    mut attempt: impl FnMut() -> Attempt,
) -> Result<(), Stopped> {
    let mut failures = Failures::default();
    loop {
        let began = Instant::now();
        let Err(failed) = attempt().await else {
            return Ok(());
        };
        let stopped: Stopped = failed.into();
        if cancel.is_cancelled() {
            return if stopped.loses_nothing() { Ok(()) } else { Err(stopped) };
        }
        let Some(pause) = failures.count(stopped.fault, began.elapsed()) else {
            return Err(stopped);
        };
        tell(part, failure, &stopped, pause);
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Publishes the reason why the part is down, and logs it. A failure that the user must fix is logged once.
fn tell(part: &str, failure: &watch::Sender<Option<String>>, stopped: &Stopped, pause: Duration) {
    let sentence = stopped.to_string();
    let known = failure.send_replace(Some(sentence.clone()));
    match stopped.fault {
        Fault::User if known == Some(sentence) => {}
        Fault::User => error!(part, "{stopped}"),
        _ => warn!(part, again_in = ?pause, "{stopped}"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn transient() -> Stopped {
        Stopped::late("x", Duration::ZERO)
    }

    #[tokio::test]
    async fn transient_failures_are_tried_again() {
        let (failure, seen) = watch::channel(None);
        let mut left = 2;
        let cancel = CancellationToken::new();
        let outcome = supervise("x", &cancel, &failure, || {
            left -= 1;
            ready(if left > 0 { Err(transient()) } else { Ok(()) })
        });
        assert!(outcome.await.is_ok());
        assert_eq!(*seen.borrow(), Some(transient().to_string()));
    }

    #[tokio::test]
    async fn a_broken_promise_is_not() {
        let (failure, _) = watch::channel(None);
        let cancel = CancellationToken::new();
        let broken = || ready(Err(Stopped::broken("no".to_owned())));
        let outcome = supervise("x", &cancel, &failure, broken);
        assert_eq!(outcome.await.unwrap_err().fault, Fault::Bug);
    }

    /// The outcome of a part that fails by `stopped` while it is ended.
    async fn fails_while_ending(stopped: Stopped) -> Option<Fault> {
        let (failure, _) = watch::channel(None);
        let cancel = CancellationToken::new();
        let mut failed = Some(stopped);
        let outcome = supervise("x", &cancel, &failure, || {
            cancel.cancel();
            ready(Err(failed.take().unwrap()))
        });
        outcome.await.err().map(|stopped| stopped.fault)
    }

    #[tokio::test]
    async fn a_failure_while_ending_is_reported_unless_nothing_was_held() {
        assert_eq!(fails_while_ending(transient()).await, Some(Fault::Transient));
        assert_eq!(fails_while_ending(transient().while_idle()).await, None);
        assert_eq!(fails_while_ending(Stopped::user("no".to_owned()).while_idle()).await, None);
        assert_eq!(fails_while_ending(Stopped::broken("no".to_owned()).while_idle()).await, Some(Fault::Bug));
    }
}
