//! What the speed layer holds of a stream: segments of every view, rows that are not archived, and the health of both.
//!
//! Invariant: all of it can be rebuilt from the master dataset above B and the tail of the Kafka log.

pub(crate) mod select;
pub(crate) mod update;

pub(crate) mod compaction;
pub(crate) mod retention;

pub(crate) mod view_state;

pub(crate) mod epochs;
pub(crate) mod health;
pub(crate) mod rebuild;

pub(crate) mod views;

pub(crate) mod stream_state;
