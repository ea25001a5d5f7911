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
    /// Whether the part held no message yet.
    is_idle: bool,
}

impl Stopped {
    fn new(fault: Fault, sentence: String) -> Self {
        Self { fault, sentence, is_idle: false }
    }

    pub(crate) fn user(sentence: String) -> Self {
        Self::new(Fault::User, sentence)
    }

    pub(crate) fn broken(sentence: String) -> Self {
        Self::new(Fault::Bug, sentence)
    }

    /// The same reason, of a part that had not begun to hold messages.
    pub(crate) fn while_idle(self) -> Self {
        Self { is_idle: true, ..self }
    }

    /// Returns whether the part could be ended now and nothing were lost.
    pub(crate) fn loses_nothing(&self) -> bool {
        self.is_idle && self.fault != Fault::Bug
    }

    /// The error of a part that did not end in time. No message is lost: the unarchived ones are still in Kafka.
    pub(crate) fn late(part: &str, allowed: Duration) -> Self {
        let allowed = humantime::format_duration(allowed);
        let sentence =
            format!("{part} did not end within {allowed}; what it held is read from Kafka again by the next start");
        Self::new(Fault::Transient, sentence)
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
                Self::new(error.fault(), crate::advice::sentence(&error.into()))
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
