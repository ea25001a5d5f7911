//! The assembled platform: settings, a process of each role, and the commands.
//!
//! All layers start, stop and report here. Modules are in reading order: each imports only modules listed above it.
//! Invariant: this crate decides nothing about answers, archives or runs; the layers decide.
//!
//! [`run`] is the program. A test starts any role in its own process: [`Settings::from_table`]; [`Platform::up`],
//! `speed`, `serve` or `batch`; [`Platform::address`] to ask it over HTTP, and [`Platform::until`] to end it.

mod advice;

mod allocator;

mod config;

mod flags;
mod logging;

mod signals;

mod proposal;

mod platform;

mod commands;

mod cli;
mod exit;

pub use config::Settings;
pub use exit::run;
pub use platform::{Addresses, Platform, Stopped};
