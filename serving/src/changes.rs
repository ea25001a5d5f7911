//! Changes of a view between two frontiers: the groups whose row is not the same at both.
//!
//! ```text
//!  rows of [F1, F2) ─ update ─▶ touched groups
//!  states at F1, states at F2 ─ of touched groups ─ finish ─▶ rows before, rows after ─▶ deletes, upserts
//! ```
//!
//! [`token`] says where a client stands. [`held`] keeps a view at one frontier, [`tables`] plans both sides of a step,
//! [`step`] compares them, [`feed`] makes each step once however many listen, [`listener`] is one client's way
//! through resets and steps, and [`query`] shows them as rows.
//!
//! Invariant: a client that applies the deletes and upserts of a step to the rows at the step's start has the rows at
//! its end. A client that cannot be given steps is told to begin anew, with all rows at one frontier.

mod token;

mod held;

mod tables;

mod step;

mod feed;

mod listener;

mod query;

pub(crate) use self::feed::ChangeFeeds;
pub(crate) use self::listener::{ChangeEvent, ListenRequest, Selection, listen};
pub(crate) use self::query::{ChangedRows, read as read_query};
pub(crate) use self::step::ChangeKind;
pub(crate) use self::token::ResumeToken;

#[cfg(test)]
mod tests;
