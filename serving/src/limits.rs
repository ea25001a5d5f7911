//! Limits of queries: what one query may take, and the threads on which queries compute.
//!
//! [`allowance`] is what a query may still take. [`guard`] puts a check between all operators of its plan, [`growth`]
//! checks functions whose values can be far larger than their arguments, [`memory`] counts bytes for one query and for
//! all. [`text`], [`relations`] and [`weight`] look at a query before it runs. [`places`] are how many
//! run at the same time, [`lanes`] the threads on which they do.
//!
//! Invariant: nothing here decides what an answer is. A limit ends a query with an error, or lets it go on.

pub(crate) mod memory;

pub(crate) mod lanes;

pub(crate) mod allowance;

pub(crate) mod growth;

pub(crate) mod slices;

pub(crate) mod guard;

pub(crate) mod text;

pub(crate) mod relations;
pub(crate) mod weight;

pub(crate) mod places;
