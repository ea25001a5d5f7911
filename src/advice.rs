//! Advice on errors of a layer for users of the command line; only the program knows its flags and settings.
//!
//! Invariant: a layer's message is complete without the advice; layers know no flags.

use thalweg_schemas::Error as SharedError;
use thalweg_speed::Error as SpeedError;

/// Returns advice about `error` in terms of flags and settings.
pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(SpeedError::FindBrokers { table, .. }), _) if table == "[kafka]" => {
            Some("give --kafka bootstrap.servers=HOST:PORT, or [kafka] in thalweg.toml")
        }
        (_, Some(SharedError::OpenFolder { .. })) => Some("--data-dir or --warehouse name another place"),
        _ => None,
    }
}
