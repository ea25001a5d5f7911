//! The platform put together: settings, a process of each role, and the commands.
//!
//! All layers start, stop and report here. Modules are in reading order: each imports only what is listed above it.
//! Invariant: nothing here decides what an answer, an archive or a run is; that is the layers' own.

mod terminal;

mod config;

mod flags;
mod logging;

mod signals;

mod client;

mod platform;

mod commands;

mod cli;
mod exit;

pub use exit::run;
