//! Dashboards of the web console: `/v1/dashboards`.
//!
//! Invariant: a server keeps what it was given and does not run it: the SQL of a tile is a text until somebody asks it.

use serde::{Deserialize, Serialize};

use super::words::words;

/// The answer of `GET /v1/dashboards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardList {
    pub dashboards: Vec<DashboardEntry>,
}

/// A dashboard without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardEntry {
    pub name: String,
    pub version: u64,
    pub title: String,
}

/// The answer of `GET /v1/dashboards/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDashboard {
    pub name: String,
    /// Each save has a greater version than the one before.
    pub version: u64,
    pub dashboard: Dashboard,
}

/// The body of `PUT /v1/dashboards/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardChange {
    /// The version that the client has read and that the change replaces; 0 if there must be no such dashboard.
    pub version: u64,
    pub dashboard: Dashboard,
}

/// The parameters of `DELETE /v1/dashboards/{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DashboardDeletion {
    /// The version that the client has read.
    pub version: u64,
}

/// Tiles in their order, and how often they ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    pub title: String,
    /// The time between two queries of a tile.
    pub refresh_seconds: u32,
    pub tiles: Vec<Tile>,
}

/// A query, and how its answer is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    pub title: String,
    pub sql: String,
    pub kind: TileKind,
    /// The column along the axis; chosen by the types of the columns, if null.
    pub x: Option<String>,
    /// The columns that are drawn; chosen by the types of the columns, if empty.
    pub y: Vec<String>,
    /// The column whose values have a line each.
    pub by: Option<String>,
    /// True for a tile as wide as the dashboard.
    pub wide: bool,
}

words! {
    /// How an answer is drawn.
    pub enum TileKind {
        /// Lines over an axis of times or numbers.
        Time = "time",
        /// A bar for each row.
        Bars = "bars",
        /// All rows and columns.
        Table = "table",
        /// The first value.
        Number = "number",
    }
}
