//! Names and values of the headers of queries and their answers.
//!
//! Invariant: names are lower case, as HTTP libraries expect of constants.

/// In an answer: the frontier of every stream that the query reads, as JSON of [`super::sql::Frontiers`].
pub const FRONTIER: &str = "thalweg-frontier";

/// In a request: the frontiers that the answer must cover, as JSON of [`super::sql::Frontiers`].
pub const MIN_FRONTIER: &str = "thalweg-min-frontier";

/// In a request: [`ALLOW`] if the answer may be below earlier answers, otherwise [`REFUSE`]. In an answer: [`TRUE`]
/// if the answer may be below earlier ones.
pub const STALE: &str = "thalweg-stale";

/// In a request: [`ALLOW`] if the batch layer alone may answer for partitions that no worker holds, otherwise
/// [`REFUSE`]. In an answer: these partitions, as JSON of [`super::sql::Partial`].
pub const PARTIAL: &str = "thalweg-partial";

/// In a request: [`MERGED`], [`BATCH`] or [`SPEED`], the schema of views that are named without one.
pub const SOURCE: &str = "thalweg-source";

/// In a request: [`TRUE`] if the answer brings its certificate. In an answer: JSON of
/// [`super::certificate::Certificate`].
pub const CERTIFICATE: &str = "thalweg-certificate";

/// In a request: [`TRUE`] if states of views may answer aggregates of streams, otherwise [`FALSE`].
pub const ROLLUPS: &str = "thalweg-rollups";

pub const MERGED: &str = "merged";
pub const BATCH: &str = "batch";
pub const SPEED: &str = "speed";
pub const ALLOW: &str = "allow";
pub const REFUSE: &str = "refuse";
pub const TRUE: &str = "true";
pub const FALSE: &str = "false";

/// Every header that this project defines.
pub const ALL: [&str; 7] = [FRONTIER, MIN_FRONTIER, STALE, PARTIAL, SOURCE, CERTIFICATE, ROLLUPS];
