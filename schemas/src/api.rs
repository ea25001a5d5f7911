//! The HTTP API: every value that crosses between a server and its clients. Both sides use the same types, so the
//! compiler finds the place where they would disagree; `docs/http.md` describes them for other clients.
//!
//! Invariant: a key or a word keeps its meaning. What is added later is an optional key, or a word that older clients
//! read as `Unknown`; keys that a client does not know are ignored.

mod words;

pub mod headers;
pub mod paths;

pub mod error;

pub mod sql;

pub mod runs;

pub mod audits;

pub mod process;
pub mod streams;
pub mod views;

#[cfg(test)]
mod tests;
