//! The speed layer: from a Kafka topic to epochs for the archive and realtime segments for readers.
//!
//! ```text
//!  Kafka ─▶ consumer (thread) ─▶ Messages ─▶ ingest ─┬─▶ epochs ─▶ archive
//!                                                    └─▶ segments ─▶ StreamSnapshot ─▶ readers
//! ```
//!
//! Which partitions are read is fixed, or follows from a consumer group: then they come and go while the loop runs
//! (`membership`, `gain`, `change`). Modules are in the order in which data meets them. Nothing here is worth keeping: all
//! state is rebuilt from the master dataset and the tail of the Kafka log. This is the only crate that knows rdkafka, and it
//! does not know how the archive is stored.

mod clock;
mod config;
mod error;
mod secrets;

mod assignment;
mod change;
mod consumer;
mod identity;
mod source;

mod gain;
mod members;
mod membership;

mod epochs;
mod health;
mod held;
mod levels;
mod rebuild;
mod retain;
mod select;
mod update;

mod budget;
mod current;
mod ingest;
mod run;

pub mod flight;

pub use change::{Change, Gained, Lost};
pub use clock::Clock;
pub use config::{Assignment, SpeedConfig};
pub use error::{Error, Result};
pub use ingest::{Ended, Start, ingest};
pub use members::members;
pub use rebuild::rebuild_range;
pub use run::{Links, record_origins, run};
pub use source::{Command, Drained, Feed, Link, Source};
