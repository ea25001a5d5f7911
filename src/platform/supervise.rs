//! What a failure of a long-lived part means: start it again after a pause, or end the process.
//!
//! Invariant: [`pause`] is the only place where that is decided, and it looks at the fault alone.

use std::fmt;
use std::time::{Duration, Instant};

use thalweg_schemas::Fault;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// A part that ran this long before it failed starts counting its failures anew.
pub(super) const STEADY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks at something that its user has to mend, so that mending it is enough.
const USER_PAUSE: Duration = Duration::from_secs(15);

/// Why a part has stopped: the layers' errors, told alike.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) fault: Fault,
    sentence: String,
}

impl Stopped {
    pub(crate) fn user(sentence: String) -> Self {
        Self { fault: Fault::User, sentence }
    }

    pub(crate) fn broken(sentence: String) -> Self {
        Self { fault: Fault::Bug, sentence }
    }

    /// A part that did not end in time. Nothing is lost: what was held is still in Kafka.
    pub(crate) fn late(part: &str, allowed: Duration) -> Self {
        let allowed = humantime::format_duration(allowed);
        Self {
            fault: Fault::Transient,
            sentence: format!(
                "{part} did not end within {allowed}; what it held is read from Kafka again by the next start"
            ),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Stopped {}

macro_rules! stopped_from {
    ($($error:ty),*) => { $(
        impl From<$error> for Stopped {
            fn from(error: $error) -> Self {
                Self { fault: error.fault(), sentence: crate::terminal::sentence(&error.into()) }
            }
        }
    )* };
}
stopped_from!(
    thalweg_schemas::Error,
    thalweg_speed::Error,
    thalweg_batch::Error,
    thalweg_serving::Error,
    thalweg_demo::Error
);

/// How long to wait before the next attempt after `failures` in a row; `None`: there is none.
fn pause(fault: Fault, failures: u32) -> Option<Duration> {
    match fault {
        Fault::Bug => None,
        Fault::User => Some(USER_PAUSE),
        Fault::Transient => {
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
            Some(doubled.min(LONGEST_PAUSE))
        }
    }
}

/// Runs `attempt` again and again until it ends well, is cancelled, or breaks a promise. While it is down,
/// `failure` says why; whoever sees it work again clears that.
///
/// Errors: of a broken promise, and of the attempt that was running when `cancel` came.
pub(crate) async fn supervise<Attempt: Future<Output = Result<(), Stopped>>>(
    part: &str,
    cancel: &CancellationToken,
    failure: &watch::Sender<Option<String>>,
    mut attempt: impl FnMut() -> Attempt,
) -> Result<(), Stopped> {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let Err(stopped) = attempt().await else {
            return Ok(());
        };
        failures = if began.elapsed() > STEADY { 1 } else { failures + 1 };
        let next = pause(stopped.fault, failures).filter(|_| !cancel.is_cancelled());
        let Some(next) = next else {
            return Err(stopped);
        };
        let known = failure.send_replace(Some(stopped.to_string()));
        match stopped.fault {
            Fault::User if known.as_deref() != Some(&stopped.sentence) => error!(part, "{stopped}"),
            Fault::User => {}
            _ => warn!(part, again_in = ?next, "{stopped}"),
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(next) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_decide_the_pause() {
        let ms = |fault, failures| pause(fault, failures).map(|p| p.as_millis());
        assert_eq!(ms(Fault::Bug, 1), None);
        assert_eq!(ms(Fault::User, 1), Some(15_000));
        assert_eq!(ms(Fault::Transient, 1), Some(250));
        assert_eq!(ms(Fault::Transient, 3), Some(1_000));
        assert_eq!(ms(Fault::Transient, 1_000), Some(10_000));
    }

    fn stopped(fault: Fault) -> Stopped {
        Stopped { fault, sentence: "no".to_owned() }
    }

    #[tokio::test]
    async fn transient_failures_are_tried_again() {
        let (failure, seen) = watch::channel(None);
        let mut left = 2;
        let cancel = CancellationToken::new();
        let outcome = supervise("x", &cancel, &failure, || {
            left -= 1;
            std::future::ready(if left > 0 { Err(stopped(Fault::Transient)) } else { Ok(()) })
        });
        assert!(outcome.await.is_ok());
        assert_eq!(seen.borrow().as_deref(), Some("no"));
    }

    #[tokio::test]
    async fn a_broken_promise_is_not() {
        let (failure, _) = watch::channel(None);
        let cancel = CancellationToken::new();
        let outcome = supervise("x", &cancel, &failure, || async { Err(stopped(Fault::Bug)) });
        assert_eq!(outcome.await.unwrap_err().fault, Fault::Bug);
    }

    #[tokio::test]
    async fn a_failure_while_ending_is_reported() {
        let (failure, _) = watch::channel(None);
        let cancel = CancellationToken::new();
        let outcome = supervise("x", &cancel, &failure, || async {
            cancel.cancel();
            Err(stopped(Fault::Transient))
        });
        assert_eq!(outcome.await.unwrap_err().fault, Fault::Transient);
    }
}
