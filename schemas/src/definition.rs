//! Definitions of streams and views: the statements that create them, and the values that the statements become.
//!
//! DataFusion's parser reads the statements, so users learn no new syntax. Invariant: every definition value is valid
//! by its text alone. The [`crate::catalog`] checks whether the names in a definition exist.

pub mod types;

pub mod message;
pub mod stream;
pub mod view;

pub mod kafka_options;

pub mod tokens;

mod depth;

pub mod pieces;

pub mod expression;

mod clauses;

mod shown;

pub mod statement;

mod time_patterns;

pub mod syntax;

pub mod repeats;

mod registry_options;

mod avro_options;
mod json_options;
mod protobuf_options;

mod column;
mod comment;
mod copy_from;
mod create_stream;
mod create_view;
pub mod open_stream;

pub(crate) mod alter_stream;

pub(crate) mod parse;

pub use create_stream::is_connection;
pub use parse::{parse, parse_pieces};
pub use statement::Statement;
