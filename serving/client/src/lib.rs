//! The client of a running server: its HTTP API, the SQL shell and the status screen.
//!
//! Modules are in reading order: each imports only modules listed above it. Invariant: a client knows of a server what
//! `schemas::api` says, and nothing else. Errors are for the person at the terminal, so they are `anyhow`'s.

pub mod terminal;

mod http;

pub mod status;

pub mod sql;

pub use http::{Client, NotAnAddress, Refused};
