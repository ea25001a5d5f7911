//! The commands of the command line, one module each: its flags and its output, but no decision of a layer.
//!
//! Invariant: every command has an example in its `--help`.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod infer;
pub(crate) mod init;

pub(crate) mod audit;
pub(crate) mod status;

pub(crate) mod sql;

pub(crate) mod load;
pub(crate) mod produce;
pub(crate) mod rejects;

pub(crate) mod demo;

mod process;

pub(crate) mod batch;
pub(crate) mod serve;
pub(crate) mod speed;
pub(crate) mod up;
