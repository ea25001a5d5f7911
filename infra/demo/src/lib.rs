//! The demo: three streams of realistic events, and a Kafka broker inside the process that stores them.
//!
//! The demo shows a newcomer exact live views without any installation. The [`generator`] sends messages to any Kafka
//! through librdkafka. The [`broker`] is a Kafka that needs no installation.
//!
//! Invariant: a generated message depends on seed, position and the position's time alone. So a restarted generator
//! continues at its last position without any state of its own.

mod error;

pub mod streams;

pub mod generator;

pub mod broker;

pub use error::{Error, Result};
pub use streams::DemoStream;
