//! The contract that the layers share, and not only schemas: names and frontiers, definitions, decoding, the state
//! algebra, the catalog and the warehouse, and the values that layers hand to each other.
//!
//! Modules are in reading order: each imports only what is listed above it. Nothing here talks to Kafka, Delta or a
//! client: I/O goes through an [`object_store`] handle or a DataFusion plan only. The clock and the machine's name are
//! all that is read of the surroundings.

pub mod frontier;
pub mod names;

pub mod error;

pub mod clock;
pub mod host;

pub mod warehouse;

pub mod engine;

pub mod definition;

pub mod decode;

pub mod algebra;

pub mod catalog;
pub mod check;

pub mod shared;

pub mod realtime;

pub mod api;

pub use error::{Error, Fault, Result};
pub use frontier::{Frontier, Offset, Partition};
pub use names::{StreamName, ViewId, ViewName};
pub use shared::Shared;
