//! SIGTERM and SIGINT: the first one asks for an orderly end, the second one ends the process.
//!
//! Invariant: from the moment that it listens, no signal is missed.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal;

/// Exit code of a process that a second signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ready at the first signal; from then on the next one ends the process at once, saying what that means.
    pub(crate) async fn first(mut self, lost: &'static str) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            terminal::err(&format!("error: a second signal; {lost}"));
            std::process::exit(INTERRUPTED);
        });
    }
}
