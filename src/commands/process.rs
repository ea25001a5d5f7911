//! A process of one role, from its settings to its end by a signal: what such commands have in common.
//!
//! Invariant: the line on stdout comes once the process listens; exit code 0 means that all of it ended in order.

use std::process::ExitCode;

use anyhow::Result;

use crate::config::Settings;
use crate::platform::{Opened, Platform};
use crate::signals::Signals;
use crate::{logging, terminal};

/// Runs what `start` starts, with the line that says so. `lost` is what a second signal leaves behind.
pub(super) async fn run(
    settings: &Settings,
    lost: &'static str,
    start: impl AsyncFnOnce(Opened) -> Result<(Platform, String)>,
) -> Result<ExitCode> {
    logging::start(&settings.log_level, settings.log_format)?;
    let signals = Signals::listen()?;
    let (platform, line) = start(Opened::open(settings).await?).await?;
    terminal::out(&line)?;
    platform.until(signals.first(lost)).await?;
    Ok(ExitCode::SUCCESS)
}
