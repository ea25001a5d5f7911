//! Advice that only the program can give: what a user of the command line can do about an error of a layer.
//!
//! Invariant: a layer's sentence is complete without it; layers know no flags.

use thalweg_schemas::Error as SharedError;
use thalweg_speed::Error as SpeedError;

/// What to do about `error`, as far as flags and settings go.
pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(SpeedError::FindBrokers { .. }), _) => {
            Some("for all streams, give --kafka bootstrap.servers=HOST:PORT, or [kafka] in thalweg.toml")
        }
        (_, Some(SharedError::OpenFolder { .. })) => Some("--data-dir or --warehouse name another place"),
        _ => None,
    }
}
