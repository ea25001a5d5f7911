//! Runs a process of one role, from its settings until a signal; shared by the commands of all roles.
//!
//! Invariant: the line on stdout appears once the process listens; exit code 0 means that every part ended in order.

use std::process::ExitCode;

use anyhow::Result;
use thalweg_client::terminal;
use thalweg_serving::Access;
use tracing::warn;

use crate::config::Settings;
use crate::flags::Usage;
use crate::logging;
use crate::platform::{Opened, Platform};
use crate::signals::Signals;

/// Who may do what over HTTP.
///
/// Errors: [`Usage`] if strangers could come in.
pub(super) fn access(settings: &Settings, definitions: bool) -> Result<Access> {
    settings.access(definitions).map_err(|e| Usage(e.to_string()).into())
}

/// Logs what an operator should know of the door.
pub(super) fn tell(settings: &Settings) {
    if settings.http_open && !settings.http_addr.ip().is_loopback() {
        warn!(address = %settings.http_addr, "http_open: everybody who reaches the address may query and change definitions");
    }
}

/// Runs the process that `start` starts with the ports that are `opened`, and prints its start line. `lost` is the
/// message for a second signal.
pub(super) async fn run(
    settings: &Settings,
    lost: &'static str,
    opened: impl Future<Output = Result<Opened>>,
    start: impl AsyncFnOnce(Opened) -> Result<(Platform, String)>,
) -> Result<ExitCode> {
    logging::start(&settings.log_level, settings.log_format)?;
    let signals = Signals::listen()?;
    let (platform, line) = start(opened.await?).await?;
    terminal::out(&line)?;
    platform.until(signals.first(lost)).await?;
    Ok(ExitCode::SUCCESS)
}
