//! The errors of queries that end without a result.
//!
//! Invariant: a client learns the number under which the log has a panic, and nothing else of it.

use std::sync::atomic::Ordering;

use thalweg_schemas::clock::WallClock;
use tokio::task::JoinError;

use super::Engine;
use crate::Error;

/// Characters of a query in the log entry of its panic.
pub(super) const LOGGED_CHARACTERS: usize = 200;

impl Engine {
    pub(super) fn timeout(&self) -> Error {
        Error::Timeout { seconds: self.config.query_timeout.as_secs_f64() }
    }

    /// The error of a task that ended without a result, which only a panic can cause.
    pub(super) fn panicked(&self, error: JoinError, sql: &str) -> Error {
        let number = self.panics.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number}", WallClock::System.now_ms());
        let reason = match error.try_into_panic() {
            Ok(panic) => text_of(panic.as_ref()),
            Err(error) => error.to_string(),
        };
        let begin: String = sql.chars().take(LOGGED_CHARACTERS).collect();
        tracing::error!(id, reason, sql = begin, "a query panicked");
        Error::Panic { id }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason".to_owned())
}
