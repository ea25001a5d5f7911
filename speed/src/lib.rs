//! The speed layer: from a Kafka topic to epochs for the archive and realtime segments for readers.
//!
//! ```text
//!  Kafka ─▶ consumer (thread) ─▶ Messages ─▶ ingest ─┬─▶ epochs ─▶ archive
//!                                                    └─▶ segments ─▶ StreamSnapshot ─▶ readers
//! ```
//!
//! The configuration fixes the partitions that a process reads, or a consumer group assigns and revokes them while
//! the loop runs (`group`). The other way, `produce` sends the rows of a file. Modules are in reading order: each
//! module imports only modules listed above it. All state is disposable: the master dataset and the tail of the Kafka
//! log are enough to rebuild it. This is the only layer that knows rdkafka, and it does not know how the archive is
//! stored.

mod error;

mod budget;
mod connections;

mod schema_cache;

mod config;

mod registry;
mod schema_source;

mod kafka;

mod group;

mod liveness;
mod session;

mod state;

mod ingest;

mod run;

mod produce;
mod reread;
mod sample;

pub mod flight;

pub use config::{Assignment, SpeedConfig};
pub use connections::{KafkaConnections, Properties};
pub use error::{Error, Result};
pub use group::change::{Assigned, AssignmentChange, Revoked};
pub use group::discovery::{members, workers};
pub use ingest::ingest;
pub use kafka::channel::{BatchSender, BrokerStatus, ConsumerCommand, Drained, Source};
pub use kafka::headers::expects_panic;
pub use produce::{Loss, ProduceCounts, ProducePlan, Produced, RowsFrom, produce};
pub use reread::Rereading;
pub use run::{record_origins, run};
pub use sample::{newest_messages, newest_schema};
pub use schema_cache::{SchemaCache, unknown_registry_property};
pub use session::{Ended, Start, Upstream};
pub use state::rebuild::rebuild_range;
