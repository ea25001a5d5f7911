//! The batch layer: the master dataset of every stream, and the batch views that are computed from it.
//!
//! The modules are in the order of the data flow. The [`archive`] commits epochs to the master dataset. A [`run`]
//! reads one pinned version of the master dataset up to a cut and publishes states to a [`view_table`]; a [`lease`]
//! allows one run of a view at a time. The [`schedule`] decides when views run, and [`run_requests`] ask for a run
//! when another process is short of memory. [`load`] enters history from files, and
//! [`retry`] rejects that can be read today. [`follow`] announces the versions in the warehouse, including versions of
//! other processes, and [`failed_runs`] tell replicas why a view stands still. The [`audit`] compares both layers.
//!
//! Invariant: only this crate uses Delta tables, and no Delta type leaves this crate.

pub mod error;

mod log;

mod files;

pub mod archive;
pub mod view_table;

mod decide;
pub mod failed_runs;
pub mod lease;
pub mod run;

pub mod load;
pub mod retry;

pub mod follow;
mod promote;
pub mod run_requests;
pub mod schedule;

pub mod audit;

#[cfg(test)]
mod testing;

pub use archive::Archive;
pub use error::{Error, Result};
pub use failed_runs::follow_failures;
pub use follow::{follow_masters, follow_published};
pub use load::{LoadPlan, LoadProgress, load};
pub use promote::promote;
pub use retry::{RetryProgress, RetryScope, retry_rejects};
pub use run::{BatchConfig, Progress, run_view, run_views};
pub use schedule::{Downstream, RunEvent, schedule};
pub use view_table::ViewTable;
