//! The output of `\d`, `\dt`, `\dv` and `\df`: streams, views, their columns and definitions, and functions.
//!
//! Invariant: all information comes from the server at the time of the command.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use thalweg_schemas::api::paths;
use thalweg_schemas::api::sql::SqlAnswer;
use thalweg_schemas::api::streams::{StreamList, StreamStatus};
use thalweg_schemas::api::views::{ViewList, ViewStatus};

use super::ask;
use super::complete::unquoted;
use super::names::PUBLIC;
use super::render;
use crate::http::Client;
use crate::terminal;

async fn all_streams(client: &Client) -> Result<Vec<StreamStatus>> {
    let StreamList { streams, .. } = client.get(paths::STREAMS).await?;
    Ok(streams)
}

async fn all_views(client: &Client) -> Result<Vec<ViewStatus>> {
    let ViewList { views, .. } = client.get(paths::VIEWS).await?;
    Ok(views)
}

/// Lists streams, then views.
pub(super) async fn all(client: &Client) -> Result<String> {
    let streams = all_streams(client).await?;
    let views = all_views(client).await?;
    if streams.is_empty() {
        return Ok("no streams; CREATE EXTERNAL TABLE … STORED AS KAFKA makes one".to_owned());
    }
    let row = |name: &dyn Display, kind: &str, of: String, status: &dyn Display| {
        vec![name.to_string(), kind.to_owned(), of, status.to_string()]
    };
    let streams = streams.iter().map(|s| row(&s.name, "stream", format!("topic {}", s.topic), &s.status));
    let views = views.iter().map(|v| row(&v.name, "view", format!("stream {}", v.stream), &v.status));
    let rows: Vec<Vec<String>> = streams.chain(views).collect();
    Ok(table(&["name", "kind", "of", "status"], &[], &rows))
}

pub(super) async fn streams(client: &Client, part: Option<String>) -> Result<String> {
    let streams = all_streams(client).await?.into_iter();
    let rows: Vec<Vec<String>> = streams
        .filter(|s| holds(s.name.as_str(), part.as_deref()))
        .map(|s| {
            let cells: [&dyn Display; 6] = [&s.name, &s.topic, &s.status, &s.lag, &s.rows, &s.rejects];
            cells.map(|cell| cell.to_string()).into()
        })
        .collect();
    Ok(or_none(&rows, "streams", part.as_deref()).unwrap_or_else(|| {
        let head = ["stream", "topic", "status", "lag", "rows", "rejects"];
        table(&head, &[3, 4, 5], &rows)
    }))
}

pub(super) async fn views(client: &Client, part: Option<String>) -> Result<String> {
    let views = all_views(client).await?.into_iter();
    let rows: Vec<Vec<String>> = views
        .filter(|v| holds(v.name.as_str(), part.as_deref()))
        .map(|v| {
            let age = v.age_seconds.map(|s| Duration::from_secs(s.max(0.0) as u64));
            let age = age.map(|age| humantime::format_duration(age).to_string());
            let rows = v.batch_rows.map(|rows| rows.to_string());
            let rest = [age, rows].map(Option::unwrap_or_default);
            [v.name.to_string(), v.stream.to_string(), v.status.to_string()].into_iter().chain(rest).collect()
        })
        .collect();
    Ok(or_none(&rows, "views", part.as_deref()).unwrap_or_else(|| {
        let head = ["view", "stream", "status", "batch age", "batch rows"];
        table(&head, &[3, 4], &rows)
    }))
}

/// Lists names, kinds and signatures of functions; a single function also gets its description.
pub(super) async fn functions(client: &Client, part: Option<String>) -> Result<String> {
    let wanted = part.as_deref().unwrap_or_default().to_lowercase();
    let sql = format!(
        "SELECT DISTINCT routine_name AS name, lower(function_type) AS kind, syntax_example AS call, description \
         FROM information_schema.routines WHERE routine_name LIKE {} ORDER BY name, kind",
        literal(&format!("%{}%", wanted.replace('_', "\\_"))),
    );
    let mut answer = ask::ask(client, &sql).await?;
    let none = format!("no function's name holds `{wanted}`");
    match answer.rows.as_slice() {
        [] => Ok(none),
        [_] => Ok(render::body(&answer, true)),
        _ => {
            answer.columns.truncate(3);
            answer.rows.iter_mut().for_each(|row| row.truncate(3));
            Ok(render::body(&answer, false))
        }
    }
}

/// Shows columns and definition of a stream or view; names in `batch.`, `speed.` and `rejects.` have columns of their
/// own.
///
/// Errors: the name does not exist.
pub(super) async fn one(client: &Client, name: &str) -> Result<String> {
    let (schema, bare) = match name.split_once('.') {
        Some((schema, bare)) => (unquoted(schema), unquoted(bare)),
        None => (PUBLIC.to_owned(), unquoted(name)),
    };
    let sql = format!(
        "SELECT column_name, thalweg_type, is_nullable FROM information_schema.columns \
         WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        literal(&schema),
        literal(&bare),
    );
    let columns = ask::ask(client, &sql).await?;
    let streams = all_streams(client).await?;
    let views = all_views(client).await?;
    let stream = streams.iter().find(|s| s.name.as_str() == bare);
    let view = views.iter().find(|v| v.name.as_str() == bare);
    if columns.rows.is_empty() && (schema != PUBLIC || (stream.is_none() && view.is_none())) {
        bail!("there is no stream or view `{name}`; \\d lists them");
    }
    let mut parts = Vec::new();
    if let Some(view) = view {
        parts.push(about_view(&schema, view));
    } else if let Some(stream) = stream {
        parts.push(about_stream(&schema, stream, &views));
    }
    if !columns.rows.is_empty() {
        parts.push(columns_table(&columns));
    }
    if let Some(sql) = view.map(|v| &v.sql).or(stream.map(|s| &s.sql)) {
        parts.push(format!("{};", sql.trim().trim_end_matches(';')));
    }
    Ok(parts.join("\n\n"))
}

fn about_view(schema: &str, view: &ViewStatus) -> String {
    let side = match schema {
        "batch" => ", what its batch layer holds",
        "speed" => ", what its speed layer holds",
        _ => "",
    };
    let ViewStatus { name, stream, status, .. } = view;
    let mut text = format!("view {name} of stream {stream}{side}: {status}");
    if let Some(failure) = &view.failure {
        text.push_str(&format!("\n{}. {}", failure.sentence(), failure.advice()));
    }
    for warning in &view.warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    text
}

fn about_stream(schema: &str, stream: &StreamStatus, views: &[ViewStatus]) -> String {
    let side = if schema == "rejects" { ", what could not be decoded" } else { "" };
    let StreamStatus { name, topic, status, .. } = stream;
    let mut text = format!("stream {name} of topic {topic}{side}: {status}");
    if let Some(failure) = &stream.failure {
        text.push_str(&format!("\n{failure}"));
    }
    let over: Vec<&str> = views.iter().filter(|v| v.stream == *name).map(|v| v.name.as_str()).collect();
    if !over.is_empty() {
        text.push_str(&format!("\nviews: {}", over.join(", ")));
    }
    text
}

fn columns_table(columns: &SqlAnswer) -> String {
    let rows: Vec<Vec<String>> = columns
        .rows
        .iter()
        .map(|row| {
            let text = |i: usize| row.get(i).map(ask::text).unwrap_or_default();
            let nullable = if text(2) == "NO" { "not null" } else { "" };
            vec![text(0), text(1), nullable.to_owned()]
        })
        .collect();
    table(&["column", "type", ""], &[], &rows)
}

fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = (0..head.len()).map(|i| right.contains(&i)).collect();
    let head: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    terminal::table(&head, &right, rows)
}

fn holds(name: &str, part: Option<&str>) -> bool {
    part.is_none_or(|part| name.to_lowercase().contains(&part.to_lowercase()))
}

fn or_none(rows: &[Vec<String>], what: &str, part: Option<&str>) -> Option<String> {
    match part {
        _ if !rows.is_empty() => None,
        Some(part) => Some(format!("no {what} whose name holds `{part}`")),
        None => Some(format!("no {what}")),
    }
}

/// Returns a text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(literal("a' OR 'b"), "'a'' OR ''b'");
    }

    #[test]
    fn lists_can_be_narrowed() {
        assert!(holds("device_minutes", None));
        assert!(holds("device_minutes", Some("MIN")));
        assert!(!holds("device_minutes", Some("hour")));
        let rows = [vec!["a".to_owned()]];
        assert_eq!(or_none(&rows, "views", None), None);
        assert!(or_none(&[], "views", Some("x")).unwrap().contains("`x`"));
    }
}
