//! The paths of a server.
//!
//! Invariant: paths below `/v1` are for clients; other paths are for browsers, orchestrators and scrapers.

/// `POST` with [`super::sql::SqlRequest`] or SQL, `GET` with SQL: [`super::sql::SqlAnswer`] or another format.
pub const SQL: &str = "/v1/sql";
/// `GET`: [`super::streams::StreamList`].
pub const STREAMS: &str = "/v1/streams";
/// `GET`: the rows of a stream, as an answer to SQL.
pub const STREAM_ROWS: &str = "/v1/streams/{stream}";
/// `GET`: [`super::views::ViewList`].
pub const VIEWS: &str = "/v1/views";
/// `GET`: the rows of a view, as an answer to SQL.
pub const VIEW_ROWS: &str = "/v1/views/{view}";
/// `GET`: the changes of a view as server-sent events.
pub const VIEW_CHANGES: &str = "/v1/views/{view}/changes";
/// `GET`: [`super::process::ProcessStatus`].
pub const PROCESS: &str = "/v1/process";
/// `POST` with [`super::audits::AuditQuery`]: [`super::audits::AuditList`].
pub const AUDIT: &str = "/v1/audit";
/// `POST` with [`super::runs::RunQuery`]: [`super::runs::RunList`].
pub const BATCH_RUN: &str = "/v1/batch/run";
/// `GET`: [`super::dashboards::DashboardList`].
pub const DASHBOARDS: &str = "/v1/dashboards";
/// `GET`: [`super::dashboards::SavedDashboard`]. `PUT` with [`super::dashboards::DashboardChange`]:
/// [`super::dashboards::DashboardEntry`]. `DELETE` with [`super::dashboards::DashboardDeletion`].
pub const DASHBOARD: &str = "/v1/dashboards/{name}";
/// `GET`: [`super::process::ProbeAnswer`].
pub const HEALTHZ: &str = "/healthz";
/// `GET`: [`super::process::ProbeAnswer`].
pub const READYZ: &str = "/readyz";
/// `GET`: this interface as an OpenAPI document.
pub const OPENAPI: &str = "/v1/openapi.json";
/// `GET`: OpenMetrics text.
pub const METRICS: &str = "/metrics";
/// `GET`: the web console.
pub const CONSOLE: &str = "/";
/// `GET`: a file of the web console.
pub const ASSET: &str = "/assets/{file}";
