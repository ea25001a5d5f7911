//! The batch layer: the master dataset of every stream, and the batch views that are computed from it.
//!
//! Modules are in the order in which data meets them: an epoch lands in the [`archive`]; a [`run`] reads one pinned
//! version of it up to a cut and publishes states to a [`view_table`], one run of a view at a time by its [`lease`];
//! the [`schedule`] decides when, and [`run_requests`] ask for a run when another process is short of memory;
//! [`follow`] tells what is there, whoever wrote it; the [`audit`] proves that both layers agree. This is the only
//! crate that knows Delta tables: no type of theirs leaves it.

pub mod error;

mod log;

mod files;

pub mod archive;
pub mod view_table;

mod decide;
pub mod lease;
pub mod run;

pub mod follow;
mod promote;
pub mod run_requests;
pub mod schedule;

pub mod audit;

#[cfg(test)]
mod testing;

pub use archive::Archive;
pub use error::{Error, Result};
pub use follow::{follow_masters, follow_published};
pub use promote::promote;
pub use run::{BatchConfig, Progress, run_view, run_views};
pub use schedule::{Downstream, schedule};
pub use view_table::ViewTable;
