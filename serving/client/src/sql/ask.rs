//! Sends SQL and receives its answer.
//!
//! Invariant: an answer is complete or an error. Dropping a request closes its connection, which makes the server end
//! the query.

use anyhow::{Context, Result};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use thalweg_schemas::api::sql::SqlAnswer;
use thalweg_schemas::api::{headers, paths};

use crate::http::Client;

/// Options of a request besides its SQL.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The answer may lie below earlier ones while a stream has not caught up.
    pub stale: bool,
    /// The answer must cover this frontier, as JSON.
    pub min_frontier: Option<String>,
    /// The answer may leave out the partitions that no speed worker holds.
    pub partial: bool,
    /// The layers that answer for views without a schema; `None`: both.
    pub source: Option<String>,
    /// Texts in the places of `$1`, `$2`, …
    pub params: Vec<String>,
}

/// An answer whose rows have not been read yet.
pub(super) struct Begun {
    response: Response,
    /// The frontier of the answer in words; `None` if the answer reads no stream.
    pub(super) standing: Option<String>,
}

/// Errors: [`crate::http::Refused`] if the server refuses the request.
pub(super) async fn begin(client: &Client, sql: &str, accept: &'static str, wishes: &Wishes) -> Result<Begun> {
    let request = client.request(Method::POST, paths::SQL)?.header(ACCEPT, accept);
    let mut request = if wishes.params.is_empty() {
        request.header(CONTENT_TYPE, "text/plain").body(sql.to_owned())
    } else {
        request.json(&json!({ "sql": sql, "params": wishes.params }))
    };
    if let Some(source) = &wishes.source {
        request = request.header(headers::SOURCE, source);
    }
    if wishes.stale {
        request = request.header(headers::STALE, headers::ALLOW);
    }
    if wishes.partial {
        request = request.header(headers::PARTIAL, headers::ALLOW);
    }
    if let Some(frontier) = &wishes.min_frontier {
        request = request.header(headers::MIN_FRONTIER, frontier);
    }
    let response = client.send(request).await?;
    let given = response.headers();
    let stale = if given.contains_key(headers::STALE) { " (stale: later events may be in Kafka)" } else { "" };
    let header = |name| given.get(name).and_then(|value| value.to_str().ok());
    let partial = header(headers::PARTIAL).map_or_else(String::new, |partitions| {
        format!("; partial: no speed worker holds {partitions}; there it stands where the batch layer does")
    });
    let standing = header(headers::FRONTIER)
        .filter(|frontier| *frontier != "{}")
        .map(|frontier| format!("exact at {frontier}{stale}{partial}"));
    Ok(Begun { response, standing })
}

/// Returns the complete answer.
pub(super) async fn ask(client: &Client, sql: &str) -> Result<SqlAnswer> {
    begin(client, sql, "application/json", &Wishes::default()).await?.answer(client).await
}

impl Begun {
    pub(super) async fn answer(self, client: &Client) -> Result<SqlAnswer> {
        client.json(self.response).await
    }

    /// Returns the next bytes from the server; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>> {
        self.response.chunk().await.context("the answer broke off")
    }
}

/// Returns a cell as text: the content of a [`Value::String`], and every other value as JSON.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
