//! Conditions that protect others: `b <> 0 AND a / b > 1` never divides by zero, and `CASE` evaluates one branch.
//!
//! The engine evaluates both sides of an AND for all rows of a batch, unless few of the rows need the second one. Its
//! rules turn a CASE of conditions into ANDs and ORs, change the order of conditions, and move them below joins. So an
//! error would depend on how rows are cut into batches, and the layers would disagree.
//!
//! What may fail is therefore put into a CASE that the engine keeps as it is, behind the conditions that protect it:
//! values before the plan is optimised (`values.rs`), and conditions of WHERE and ON while it is (`rules.rs`).
//!
//! Invariant: what a condition protects is evaluated for the rows that need it, and for no other, on every cut of rows
//! into batches. Exceptions are in docs/engine-faults.md.

mod fallible;

mod given;

mod conditions;
mod values;

mod rules;

pub(super) use rules::{GuardedPlanner, Rule, rules};
pub(super) use values::{protect, protect_cases};

#[cfg(test)]
mod tests;
