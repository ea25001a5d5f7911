//! Definitions of streams and views: the statements that make them, and the values that statements are read into.
//!
//! DataFusion's parser reads the statements, so there is no syntax to learn. Invariant: a definition that exists is
//! valid by its text alone; whether the names in it exist is for the [`crate::catalog`] to say.

pub mod types;

pub mod stream;
pub mod view;

pub mod tokens;

pub mod pieces;

mod clauses;

pub mod statement;

mod column;
mod create_stream;
mod create_view;

pub(crate) mod parse;

pub use parse::{parse, parse_pieces};
pub use statement::Statement;
