//! The reason why a part has stopped: one type for the errors of all layers.
//!
//! Invariant: the fault comes from the layer; no error is judged here.

use std::fmt;
use std::time::Duration;

use thalweg_schemas::Fault;

/// Why a part of the process has stopped.
#[derive(Debug)]
pub struct Stopped {
    pub(crate) fault: Fault,
    sentence: String,
}

impl Stopped {
    pub(crate) fn user(sentence: String) -> Self {
        Self { fault: Fault::User, sentence }
    }

    pub(crate) fn broken(sentence: String) -> Self {
        Self { fault: Fault::Bug, sentence }
    }

    /// The error of a part that did not end in time. No message is lost: the unarchived ones are still in Kafka.
    pub(crate) fn late(part: &str, allowed: Duration) -> Self {
        let allowed = humantime::format_duration(allowed);
        Self {
            fault: Fault::Transient,
            sentence: format!(
                "{part} did not end within {allowed}; what it held is read from Kafka again by the next start"
            ),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Stopped {}

macro_rules! stopped_from {
    ($($error:ty),*) => { $(
        impl From<$error> for Stopped {
            fn from(error: $error) -> Self {
                Self { fault: error.fault(), sentence: crate::advice::sentence(&error.into()) }
            }
        }
    )* };
}
stopped_from!(
    thalweg_schemas::Error,
    thalweg_speed::Error,
    thalweg_batch::Error,
    thalweg_serving::Error,
    thalweg_demo::Error
);
