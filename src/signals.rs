//! SIGTERM and SIGINT: the first asks a process to end in good order, the second ends it at once.
//!
//! Invariant: a signal that comes while the process is starting is not lost.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;

/// Exit code of a process that a second signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Both signals, listened for from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ready at the first signal; from then on the next one ends the process at once.
    pub(crate) async fn first(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            terminal::err(
                "error: a second signal; what was held is read from Kafka again by the next start",
            );
            std::process::exit(INTERRUPTED);
        });
    }
}
