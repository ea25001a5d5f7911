//! SIGTERM and SIGINT: the first signal starts an orderly shutdown, the second one ends the process at once.
//!
//! Invariant: no signal is missed after the listener is installed.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use thalweg_client::terminal;

/// The exit code after a second signal: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A listener for SIGTERM and SIGINT.
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

    /// Returns at the first signal. After that the next signal ends the process at once and prints `lost`.
    pub(crate) async fn first(mut self, lost: &'static str) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            terminal::err(&format!("error: a second signal; {lost}"));
            std::process::exit(INTERRUPTED);
        });
    }
}
