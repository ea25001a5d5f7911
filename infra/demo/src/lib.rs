//! The demo: three streams that look like somebody's trade, and a Kafka broker inside the process to carry them.
//!
//! It exists so that a newcomer sees exact live views with nothing installed. [`generator`] speaks to any Kafka through
//! librdkafka, as any producer would; [`broker`] is one that needs no installation. Invariant: what is generated is a
//! function of seed and position alone, so it goes on where it was, and anyone can say what was sent.

mod error;

pub mod streams;

pub mod generator;

pub mod broker;

pub use error::{Error, Result};
pub use streams::DemoStream;
