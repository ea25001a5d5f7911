//! The schema registry of a connection: a client of the REST interface that Confluent's registry has, and others too.
//!
//! The settings of a connection name the registry beside the brokers, in the properties of Confluent's clients:
//! `schema.registry.url` (several, with commas), `schema.registry.basic.auth.user.info`,
//! `schema.registry.bearer.auth.token` and `schema.registry.ssl.ca.location`.
//!
//! Invariant: a schema never changes under its id, so one that was fetched is kept for the life of the process. No
//! error or log contains a credential.

use std::collections::{BTreeMap, HashSet};
use std::error::Error as _;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use thalweg_schemas::decode::{ReferencedSchema, RegisteredSchema, SchemaId, SchemaKind};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::reference::look_up;

use crate::config::SpeedConfig;
use crate::connections::table_of;
use crate::schema_cache::{AUTHORITY, FetchedSchema, KNOWN, SchemaCache, TOKEN, URL, USER_INFO};
use crate::{Error, Result};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const LARGEST_ANSWER: usize = 16 << 20;
/// The most schemas that one schema refers to, directly or not.
const MOST_REFERENCES: usize = 1000;

/// The client of one registry.
#[derive(Debug, Clone)]
pub(crate) struct SchemaRegistry {
    client: Client,
    /// The properties as the settings write them: what one connection may see is not shown to another.
    written: String,
    urls: Vec<Url>,
    /// Name and password.
    user: Option<(String, Option<String>)>,
    token: Option<String>,
    cache: SchemaCache,
}

/// Why a schema cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfetched {
    /// A sentence, without credentials.
    pub(crate) reason: String,
    /// True if the registry answers that it has no such schema: no process can have read messages with it.
    pub(crate) is_unknown: bool,
}

/// What a registry answers for a schema.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaAnswer {
    schema: String,
    /// Left out for Avro.
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<SchemaReference>,
}

#[derive(Debug, Deserialize)]
struct SchemaReference {
    name: String,
    subject: String,
    version: i64,
}

/// The schemas that a schema refers to, or why messages with it are rejects.
type FetchedReferences = Result<Vec<ReferencedSchema>, String>;

fn too_many() -> String {
    format!("the schema refers to more than {MOST_REFERENCES} others")
}

/// The newest version of a subject.
#[derive(Debug, Deserialize)]
struct VersionAnswer {
    id: u32,
}

/// What a registry answers if it has no schema.
#[derive(Debug, Default, Deserialize)]
struct RegistryRefusal {
    #[serde(default)]
    error_code: u32,
}

impl SchemaRegistry {
    /// The registry of the stream's connection. No request is sent yet.
    ///
    /// Errors: [`Error::FindConnection`], [`Error::FindRegistry`], [`Error::ConfigureRegistry`], [`Error::Secret`].
    pub(crate) fn open(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Self> {
        let written = config.kafka.of(stream)?;
        let table = table_of(stream);
        let property = |name: &str| -> Result<Option<String>> {
            let Some(value) = written.get(name) else { return Ok(None) };
            let found = look_up(value).map_err(|reason| Error::Secret {
                stream: stream.name.clone(),
                table: table.clone(),
                property: name.to_owned(),
                reference: value.clone(),
                reason,
            })?;
            Ok(Some(found).filter(|found| !found.is_empty()))
        };
        let refuse = |property: &str, reason: &str| Error::ConfigureRegistry {
            stream: stream.name.clone(),
            table: table.clone(),
            property: property.to_owned(),
            reason: reason.to_owned(),
        };
        let lacks = || Error::FindRegistry { stream: stream.name.clone(), table: table.clone() };
        let urls = property(URL)?.ok_or_else(lacks)?;
        let urls: Option<Vec<Url>> = urls.split(',').map(|url| base(url.trim())).collect();
        let urls = urls.filter(|urls| !urls.is_empty());
        let urls = urls.ok_or_else(|| refuse(URL, "it is no address like http://registry:8081"))?;
        // As librdkafka, the client goes straight to the address that the settings name.
        let mut client = Client::builder().no_proxy().timeout(ANSWER).connect_timeout(ANSWER / 2);
        if let Some(path) = property(AUTHORITY)? {
            let pem = std::fs::read(&path).map_err(|e| refuse(AUTHORITY, &format!("{path} cannot be read: {e}")))?;
            let trusted = Certificate::from_pem_bundle(&pem).ok().filter(|list| !list.is_empty());
            let trusted = trusted.ok_or_else(|| refuse(AUTHORITY, &format!("{path} holds no certificate in PEM")))?;
            client = trusted.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let user = property(USER_INFO)?.map(|info| match info.split_once(':') {
            Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
            None => (info, None),
        });
        Ok(Self {
            client: client.build().map_err(|_| refuse(URL, "no client can be made for it"))?,
            written: KNOWN.map(|key| written.get(key).map_or("", String::as_str)).join("\n"),
            urls,
            user,
            token: property(TOKEN)?,
            cache: config.schemas.clone(),
        })
    }

    /// The registry of a stream whose messages name their schemas by ids; `None` for other streams.
    ///
    /// Errors: those of [`Self::open`].
    pub(crate) fn needed(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Option<Self>> {
        stream.needs_registry().then(|| Self::open(config, stream)).transpose()
    }

    /// The schema with an id.
    ///
    /// Errors: why the registry does not give it now.
    pub(crate) async fn fetch(&self, id: SchemaId) -> Result<FetchedSchema, Unfetched> {
        let key = (self.written.clone(), id);
        if let Some(known) = self.cache.get(&key) {
            return Ok(known);
        }
        let mut failed = Unfetched { reason: String::new(), is_unknown: false };
        for url in &self.urls {
            match self.fetch_from(url, id).await {
                Ok(fetched) => {
                    self.cache.keep(key, fetched.clone());
                    return Ok(fetched);
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// The id of the newest schema of a subject.
    ///
    /// Errors: why the registry does not give it now.
    pub(crate) async fn newest(&self, subject: &str) -> Result<u32, Unfetched> {
        let mut failed = Unfetched { reason: String::new(), is_unknown: false };
        for url in &self.urls {
            match self.ask::<VersionAnswer>(url, &["subjects", subject, "versions", "latest"]).await {
                Ok(found) => return Ok(found.id),
                Err(why) if why.is_unknown => {
                    let reason = format!("the registry at {} has no subject `{subject}`", shown(url));
                    return Err(Unfetched { reason, ..why });
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn fetch_from(&self, url: &Url, id: SchemaId) -> Result<FetchedSchema, Unfetched> {
        let found: Result<SchemaAnswer, Unfetched> = match id {
            SchemaId::Number(number) => self.ask(url, &["schemas", "ids", &number.to_string()]).await,
            SchemaId::Guid(guid) => self.ask(url, &["schemas", "guids", &guid.to_string()]).await,
        };
        let found = found.map_err(|failed| match failed.is_unknown {
            true => {
                let reason = format!(
                    "the registry at {} has no schema {id}; was it deleted, or does the producer use another registry?",
                    shown(url)
                );
                Unfetched { reason, ..failed }
            }
            false => failed,
        })?;
        self.with_references(url, found, &format!("schema {id}")).await
    }

    /// A schema with those that it refers to. `name` is what errors call it.
    async fn with_references(&self, url: &Url, found: SchemaAnswer, name: &str) -> Result<FetchedSchema, Unfetched> {
        let kind = SchemaKind::of_registry(found.schema_type.as_deref());
        let references = match kind {
            SchemaKind::Protobuf => self.imports(url, found.references, name).await?,
            _ => self.types(url, found.references, name).await?,
        };
        Ok(references.map(|references| RegisteredSchema { kind, text: found.schema, references }))
    }

    /// The schemas whose types a schema of Avro uses, each after those that it uses itself.
    async fn types(&self, url: &Url, of: Vec<SchemaReference>, name: &str) -> Result<FetchedReferences, Unfetched> {
        let mut references = Vec::new();
        let mut seen = HashSet::new();
        // A schema is put aside until its own references were read.
        let mut open = vec![(None, of)];
        while let Some((done, mut rest)) = open.pop() {
            let Some(next) = (!rest.is_empty()).then(|| rest.remove(0)) else {
                references.extend(done);
                continue;
            };
            open.push((done, rest));
            if !seen.insert((next.subject.clone(), next.version)) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                return Ok(Err(too_many()));
            }
            let referred = self.referred(url, &next, name).await?;
            let referenced = ReferencedSchema { name: next.name, text: referred.schema };
            open.push((Some(referenced), referred.references));
        }
        Ok(Ok(references))
    }

    /// The files that a schema of Protobuf imports. A file has one text under its name: the schema's own reference
    /// counts, then those of its references; of several at one distance, the newest version.
    async fn imports(&self, url: &Url, of: Vec<SchemaReference>, name: &str) -> Result<FetchedReferences, Unfetched> {
        let mut references: Vec<ReferencedSchema> = Vec::new();
        let mut level = of;
        while !level.is_empty() {
            let mut next: BTreeMap<String, SchemaReference> = BTreeMap::new();
            for reference in level.drain(..) {
                if references.iter().any(|known| known.name == reference.name) {
                    continue;
                }
                let newest = next.get(&reference.name).is_none_or(|other| other.version < reference.version);
                if newest {
                    next.insert(reference.name.clone(), reference);
                }
            }
            for reference in next.into_values() {
                if references.len() == MOST_REFERENCES {
                    return Ok(Err(too_many()));
                }
                let referred = self.referred(url, &reference, name).await?;
                references.push(ReferencedSchema { name: reference.name, text: referred.schema });
                level.extend(referred.references);
            }
        }
        Ok(Ok(references))
    }

    /// The schema that a reference names. `name` is what errors call the schema that refers to it.
    async fn referred(&self, url: &Url, reference: &SchemaReference, name: &str) -> Result<SchemaAnswer, Unfetched> {
        let version = reference.version.to_string();
        let path = ["subjects", &reference.subject, "versions", &version];
        self.ask::<SchemaAnswer>(url, &path).await.map_err(|failed| {
            let of = format!("version {version} of the subject `{}`, which {name} refers to", reference.subject);
            // The schema itself is there, so a process may have read its messages before.
            Unfetched { reason: format!("{of}: {}", failed.reason), is_unknown: false }
        })
    }

    /// Asks for a document below `url`.
    ///
    /// Errors: why there is none.
    async fn ask<T: for<'de> Deserialize<'de>>(&self, url: &Url, path: &[&str]) -> Result<T, Unfetched> {
        let mut asked = url.clone();
        if let Ok(mut segments) = asked.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let at = shown(url);
        let away = |reason: String| Unfetched { reason: format!("the registry at {at} {reason}"), is_unknown: false };
        let answered = self.authorized(self.client.get(asked)).send().await;
        let mut answer = answered.map_err(|error| away(format!("does not answer: {}", cause(&error))))?;
        let status = answer.status();
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(None) => break,
                Ok(Some(_)) if body.len() > LARGEST_ANSWER => {
                    return Err(away(format!("answers with more than {} MiB", LARGEST_ANSWER >> 20)));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Err(away(format!("broke off: {}", cause(&error)))),
            }
        }
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|_| {
                let kind = if kind.is_empty() { "something else" } else { &kind };
                away(format!("answers with {kind} and no schema; is {URL} the address of its interface?"))
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(away(format!("refuses the credentials ({status}); see {USER_INFO} and {TOKEN}")))
            }
            StatusCode::NOT_FOUND => {
                let refusal: RegistryRefusal = serde_json::from_slice(&body).unwrap_or_default();
                match refusal.error_code {
                    0 => Err(away(format!("answers 404; is {URL} the address of its interface?"))),
                    code => Err(Unfetched { is_unknown: true, ..away(format!("does not have it ({code})")) }),
                }
            }
            other => Err(away(format!("answers {other}"))),
        }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, &self.user) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((name, password))) => request.basic_auth(name, password.as_ref()),
            (None, None) => request,
        }
    }
}

fn base(url: &str) -> Option<Url> {
    Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// An address without the credentials that it may hold.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let hidden = shown.set_username("").and_then(|()| shown.set_password(None));
    if hidden.is_err() {
        return "its address".to_owned();
    }
    shown.set_query(None);
    shown.as_str().trim_end_matches('/').to_owned()
}

/// The innermost cause, because the outer ones repeat the address with its credentials.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("nothing came within {} s", ANSWER.as_secs());
    }
    let mut source = error.source();
    while let Some(inner) = source.and_then(std::error::Error::source) {
        source = Some(inner);
    }
    source.map_or_else(|| "the connection failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests;
