//! The HTTP API: every value that crosses between a server and its clients. Both sides use the same types, so the
//! compiler finds a disagreement. `docs/http.md` describes the values for other clients.
//!
//! Invariant: a key or a word keeps its meaning. A later version only adds optional keys, or words that older clients
//! read as `Unknown`. Clients ignore keys that they do not know.

mod words;

pub mod headers;
pub mod paths;

pub mod error;

pub mod certificate;
mod parameters;
pub mod sql;

mod not_understood;
pub mod runs;

pub mod audits;

pub mod process;
pub mod streams;
pub mod views;

pub mod dashboards;

pub use not_understood::NotUnderstood;
pub use parameters::SqlValue;

#[cfg(test)]
mod tests;
