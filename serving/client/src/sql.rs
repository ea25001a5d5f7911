//! SQL for people: statements, scripts and the shell; answers as tables, CSV or JSON.
//!
//! Invariant: stdout contains only the rows; their count, time and frontier go to stderr.

mod split;
mod words;

mod ask;
mod names;
mod pager;
mod render;

mod commands;
mod complete;
mod describe;
mod editor;
mod excerpt;
mod script;
mod session;
mod shell;

pub use ask::Wishes;
pub use render::OutputFormat;
pub use script::SqlScript;
pub use session::Session;
pub use shell::run as prompt;
