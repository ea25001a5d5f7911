//! The catalog that clients of PostgreSQL read: the schemas `pg_catalog` and `information_schema`, their functions, and
//! the words of PostgreSQL that a query may use.
//!
//! [`system`] knows the columns of PostgreSQL's own tables and the rows that every database has. [`objects`] are the
//! streams and views under stable [`oids`], [`live`] and [`information`] show them as rows, [`functions`] answer
//! questions about them, and [`words`] and [`statements`] rewrite what the planner does not take.
//!
//! Invariant: only a statement that reads nothing but these two schemas is rewritten by [`statements`]. Every other
//! query keeps its meaning to the letter.

mod types;

mod system;

mod oids;

mod objects;

mod settings;

mod snapshot;

mod rows;

mod live;

mod information;

mod calls;

mod patterns;

mod words;

mod formats;

mod bodies;

mod functions;

mod schemas;

mod empty;

mod statements;

mod prepare;

pub(crate) use prepare::PgCatalog;
#[cfg(test)]
pub(crate) use types::pg_type;

#[cfg(test)]
mod tests;
