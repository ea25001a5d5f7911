//! Structured logs on stderr, as text or as one JSON object a line.
//!
//! Invariant: set up once, by the command that runs long; stdout is never written to.

use std::io::IsTerminal;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::cli::Usage;
use crate::config::LogFormat;

/// Installs the subscriber of this process.
///
/// Errors: [`Usage`] if `level` is no filter.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|e| {
        Usage(format!(
            "`{level}` is not a log level ({e}); use error, warn, info, debug or trace"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}
