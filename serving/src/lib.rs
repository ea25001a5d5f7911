//! The serving layer: SQL over streams and views, each query at one frontier per stream, and the protocols around it.
//!
//! The realtime side is in this process, or in [`workers`]. A query passes these modules: [`sources`] hold what the
//! other layers publish; [`pin`] takes one immutable view of the sources; [`tables`] turns the pin into logical plans
//! (batch states and realtime segments under one `finish`); [`rollups`] answers aggregates of rows from states;
//! [`names`] gives the plans their SQL names, and [`pg_catalog`] shows them to clients of PostgreSQL; [`engine`] plans
//! and runs the query under limits; [`http`], [`postgres`] and [`flight_sql`] serve clients at the [`doors`].
//!
//! Invariant: a query reads no source after its pin, so an answer always agrees with its frontier.

mod access;

pub mod error;

mod activity;

mod options;
mod parameters;

pub mod workers;

mod limits;

mod recent;
mod widths;

mod metrics;

pub mod sources;

mod pin;
mod tables;

mod planned_table;

mod measures;
mod rollups;

mod status;

mod system;

mod names;

mod pg_catalog;

mod identity;

mod answer;
mod statements;

mod engine;

mod changes;

mod dashboards;
mod http;

mod postgres;

mod flight_sql;

mod doors;

pub use access::{Access, AccessDenied, AccessToken, DoorTls, HttpLimits, Origins};
pub use doors::{Doors, serve};
pub use error::{Error, Result};
pub use http::{Probes, probe};
pub use metrics::Metrics;
pub use sources::{BatchRequest, Call, CallError, Realtime, ServingConfig, ShownSetting, Sources};
pub use workers::{Workers, WorkersAt, WorkersConfig, discover};

#[cfg(test)]
mod fixture;
