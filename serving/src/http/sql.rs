//! Queries over HTTP: SQL in a body or a query string, and rows of one view or stream; answers in every format.
//!
//! Invariant: GET reads only. Whatever form a query has, its answer has the same head, formats and entity tag.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{HeaderMap, Uri, Version, header};
use axum::response::Response;
use thalweg_schemas::{Error as SharedError, StreamName, ViewName};

use super::answers::{self, AskedQuery, ClientAbilities};
use super::guard::Caller;
use super::kept::KeptAnswers;
use super::reply::KnownTags;
use super::request::{self, QueryWishes, bad};
use super::rows::{self, RowsRequest};
use super::values;
use crate::access::AccessDenied;
use crate::engine::{Engine, RequestText};
use crate::parameters::Parameter;
use crate::{Error, Result};

/// The parameters of `GET /v1/sql`.
const PARAMETERS: [&str; 2] = ["query", "params"];

/// The name in a path, or the reason why it is malformed.
pub(super) type PathName = std::result::Result<Path<String>, PathRejection>;

/// What all queries have of the connection and the server.
pub(super) struct Around {
    engine: Arc<Engine>,
    kept: Arc<KeptAnswers>,
    client: ClientAbilities,
    given: HeaderMap,
    uri: Uri,
}

impl<S> axum::extract::FromRequestParts<S> for Around
where
    S: Send + Sync,
    Arc<Engine>: axum::extract::FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self> {
        let engine = <Arc<Engine> as axum::extract::FromRef<S>>::from_ref(state);
        let kept = parts.extensions.get::<Arc<KeptAnswers>>().cloned();
        let kept = kept.ok_or_else(|| Error::Serve(std::io::Error::other("no answers can be kept")))?;
        let client =
            ClientAbilities { ends_unseen: parts.version < Version::HTTP_11, ..ClientAbilities::of(&parts.headers) };
        Ok(Self { engine, kept, client, given: parts.headers.clone(), uri: parts.uri.clone() })
    }
}

pub(super) async fn run(
    around: Around,
    Extension(caller): Extension<Caller>,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = request::received(body)?;
    let mut parameters = request::parameters(&around.uri, &[])?;
    let mut wishes = request::wishes(&mut parameters, &around.given)?;
    wishes.options.definitions = caller.definitions;
    let (sql, values) = request::body(around.given.get(header::CONTENT_TYPE), &body, &mut wishes.options)?;
    answer(around, wishes, RequestText::Sql(sql), values).await
}

pub(super) async fn read(around: Around) -> Result<Response> {
    let mut parameters = request::parameters(&around.uri, &PARAMETERS)?;
    let mut wishes = request::wishes(&mut parameters, &around.given)?;
    wishes.options.definitions = Some(AccessDenied::ReadingMethod);
    let sql = request::take(&mut parameters, "query");
    let sql = sql.ok_or_else(|| bad("the parameter `query` is missing; write ?query=SELECT …".to_owned()))?;
    let values = match request::take(&mut parameters, "params") {
        Some(text) => values::of_text(&text)?,
        None => Vec::new(),
    };
    answer(around, wishes, RequestText::Sql(sql), values).await
}

pub(super) async fn view(around: Around, name: PathName) -> Result<Response> {
    let Path(name) = name.map_err(|rejection| bad(rejection.body_text()))?;
    let name = ViewName::new(&name).map_err(SharedError::from)?;
    let catalog = Arc::clone(&around.engine.sources.shared.catalog.borrow());
    if !catalog.views.contains_key(&name) {
        return Err(Error::Shared(SharedError::FindDefinition { kind: "view", name: name.to_string() }));
    }
    table(around, name.to_string()).await
}

pub(super) async fn stream(around: Around, name: PathName) -> Result<Response> {
    let Path(name) = name.map_err(|rejection| bad(rejection.body_text()))?;
    let name = StreamName::new(&name).map_err(SharedError::from)?;
    let catalog = Arc::clone(&around.engine.sources.shared.catalog.borrow());
    if !catalog.streams.contains_key(&name) && !catalog.kept_streams.contains_key(&name) {
        return Err(Error::Shared(SharedError::FindDefinition { kind: "stream", name: name.to_string() }));
    }
    table(around, name.to_string()).await
}

async fn table(around: Around, name: String) -> Result<Response> {
    let mut parameters = request::parameters(&around.uri, &rows::PARAMETERS)?;
    let mut wishes = request::wishes(&mut parameters, &around.given)?;
    wishes.options.definitions = Some(AccessDenied::ReadingMethod);
    let rows = RowsRequest::read(vec![name], &mut parameters)?;
    let request = RequestText::Parts { text: rows.text(), statement: Box::new(move || rows.statement()) };
    answer(around, wishes, request, Vec::new()).await
}

async fn answer(around: Around, wishes: QueryWishes, text: RequestText, values: Vec<Parameter>) -> Result<Response> {
    let Around { engine, kept, client, given, .. } = around;
    let QueryWishes { format, options } = wishes;
    let within = engine.config.http.client_within;
    let opened = engine.open(text, values, options).await?;
    answers::answer(&kept, AskedQuery { opened, format, client, known: KnownTags::of(&given), within }).await
}
