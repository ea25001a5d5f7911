//! The log: the records of a partition, in segment files of record batches.
//!
//! ```text
//!  log/<topic id>/<partition>/00000000000000000000.log   batches, one after the other, as producers sent them
//!                             00000000000000081234.log   the next segment, named by its first offset
//!                             start                      the first offset, once records were deleted
//! ```
//!
//! Only the headers of batches are read, so compressed batches are stored unchanged. An append is written before it
//! is acknowledged, and so survives the end of the process. A segment is synced to disk only when it is full, so the
//! newest appends may be lost if the machine stops. A file is opened for each use, so a thousand partitions hold no
//! descriptors.
//!
//! Invariant: offsets have no gaps, and readers see only completely written batches.

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
