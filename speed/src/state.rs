//! The state of one stream in memory: segments of every view, rows that are not archived yet, and the health of the
//! partitions.
//!
//! Invariant: the master dataset above B and the tail of the Kafka log are enough to rebuild all of this state.

pub(crate) mod select;
pub(crate) mod update;

pub(crate) mod compaction;
pub(crate) mod retention;

pub(crate) mod failed_views;
pub(crate) mod view_state;

pub(crate) mod epochs;
pub(crate) mod health;
pub(crate) mod row_source;

pub(crate) mod rebuild;

pub(crate) mod views;

pub(crate) mod stream_state;
