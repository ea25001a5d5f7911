//! The log: what a partition holds, in segment files of record batches.
//!
//! ```text
//!  log/<topic id>/<partition>/00000000000000000000.log   batches, one after the other, as producers sent them
//!                             00000000000000081234.log   the next segment, named by its first offset
//!                             start                      the first offset, once records were deleted
//! ```
//!
//! Batches stay bytes: only their headers are read, so compressed ones pass untouched. An append is written before it
//! is acknowledged and so survives the end of the process; it is forced to disk only when its segment is full, so the
//! end of the machine may take the newest with it. Files are opened for each use, so a thousand partitions hold no
//! descriptors. Invariant: offsets are dense, and what readers see was written whole.

pub(crate) mod batch;
mod records;
mod segment;
mod sequences;

mod recovery;

mod partition;
mod read;

pub(crate) use batch::Flaw;
pub(crate) use partition::{AppendError, PartitionLog};
pub(crate) use read::{ReadError, Slice};
