//! What the project says of itself, checked: files, crates, documents, modules, imports and names.
//!
//! It exists because such rules hold only while something fails when they do not. Every check is a pure function over
//! (path, text) pairs with made-up inputs beside it that it must refuse, and one test that runs it on the project.
//! Invariant: the crate has no dependency and reads files only, so it is built and done before anything else is built.

#![cfg(test)]

mod project;

mod manifest;
mod tokens;

mod syntax;

mod modules;

mod crates;
mod documents;
mod files;

mod circles;
mod names;
mod order;
