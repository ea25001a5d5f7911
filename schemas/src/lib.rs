//! The contract that the layers share: names and frontiers, stream and view definitions, decoding, the state
//! algebra, segments and their tiling, and the pinned versions that readers ask for.
//!
//! Modules are in the order in which data meets them. Nothing here talks to Kafka, Delta or a client: I/O goes
//! through an [`object_store`] handle or a DataFusion plan only.

pub mod complaint;
pub mod error;
pub mod frontier;
pub mod name;
pub mod nearest;

pub mod canonical;
pub mod catalog;
pub mod ddl;
pub mod stream;
pub mod view;

pub mod decode;

pub mod algebra;
pub mod session;
pub mod threads;

pub mod warehouse;

pub mod dataset;
pub mod epoch;
pub mod files;

pub mod remote;
pub mod segment;
pub mod snapshot;
pub mod tile;

pub use error::{Error, Fault, Result};
pub use frontier::{Frontier, Offset, Partition};
pub use name::{StreamName, ViewId, ViewName};
