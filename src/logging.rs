//! Structured logs on stderr, as text or as one JSON object per line.
//!
//! Invariant: logging is set up once, by a long-running command, and never writes to stdout.

use std::io::IsTerminal;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::flags::Usage;

/// Libraries log warnings. The Delta kernel logs nothing: it reports a table that does not exist yet as an error, and
/// real failures are returned to the caller as errors.
const LIBRARIES: &str = "warn,buoyant_kernel=off,delta_kernel=off";

/// Installs the subscriber of this process, and the hook that tells of panics. `level` is a level for this program, or
/// directives such as `info,thalweg_speed=debug`.
///
/// Errors: [`Usage`] if `level` is not a valid filter.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(directives(level))
        .map_err(|e| Usage(format!("`{level}` is not a log level ({e}); use error, warn, info, debug or trace")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log on a full disk loses lines; reporting that on the same log would end the process.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !thalweg_speed::expects_panic() {
            tell(panic);
        }
    }));
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}

/// Directives without a target mean this program's own crates.
fn directives(level: &str) -> String {
    let own = level.split(',').map(|directive| match directive.contains('=') {
        true => directive.to_owned(),
        false => format!("thalweg={directive}"),
    });
    std::iter::once(LIBRARIES.to_owned()).chain(own).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_levels_are_for_our_own_crates() {
        let of = |level| directives(level).replace(LIBRARIES, "…");
        assert_eq!(of("info"), "…,thalweg=info");
        assert_eq!(of("info,rdkafka=debug"), "…,thalweg=info,rdkafka=debug");
        assert!(EnvFilter::try_new(directives("loud")).is_err());
        assert!(EnvFilter::try_new(directives("debug")).is_ok());
    }
}
