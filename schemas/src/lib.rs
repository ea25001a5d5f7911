//! The contract between the layers: names and frontiers, definitions, decoding and encoding, the state algebra, the
//! catalog, the warehouse, and the values that layers exchange. The crate holds more than schemas.
//!
//! Modules are in reading order: each module imports only modules listed above it. Invariant: this crate does not talk
//! to Kafka, Delta or a client. I/O goes only through an [`object_store`] handle or a DataFusion plan. Of its
//! surroundings the crate reads only the clock, the machine's name, and the values that settings refer to.

pub mod frontier;
pub mod names;

pub mod error;

pub mod clock;
pub mod host;
pub mod reference;

pub mod warehouse;

pub mod engine;

pub mod definition;

pub mod decode;

pub mod encode;

pub mod files;

pub mod algebra;

pub mod catalog;
pub mod check;

pub mod shared;

pub mod failure;
pub mod realtime;

pub mod api;

pub use error::{Error, Fault, Result};
pub use frontier::{Frontier, Offset, Partition};
pub use names::{StreamName, ViewId, ViewName};
pub use shared::Shared;
