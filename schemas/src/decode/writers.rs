//! The schemas that wrote the messages of a stream, by what each message says of its writer. Binary formats share them.
//!
//! A registry is asked outside of the decoder: what a message names and nobody has fetched yet is *unknown*, and its
//! message waits. Decision 0021 says why.
//!
//! Invariant: what is known of a writer never changes, so a message is read in the same way whenever it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::error::ArrowError;
use parking_lot::RwLock;
use uuid::Uuid;

use super::columns::ValueError;
use super::messages::Messages;
use crate::{Offset, Partition};

/// What a message calls its schema in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    Number(u32),
    Guid(Uuid),
}

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(id) => id.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

/// The language of a schema in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaKind {
    Avro,
    Protobuf,
    /// One that no stream reads, as the registry names it.
    Other(String),
}

impl SchemaKind {
    /// The language that a registry names; it leaves out the name of Avro.
    pub fn of_registry(name: Option<&str>) -> Self {
        match name.unwrap_or("AVRO") {
            name if name.eq_ignore_ascii_case("AVRO") => Self::Avro,
            name if name.eq_ignore_ascii_case("PROTOBUF") => Self::Protobuf,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencedSchema {
    /// What the other one calls it: the path of an import, in Protobuf.
    pub name: String,
    pub text: String,
}

/// A schema of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    pub kind: SchemaKind,
    pub text: String,
    /// The schemas that the text refers to, directly or not, each after those that it refers to itself.
    pub references: Vec<ReferencedSchema>,
}

impl RegisteredSchema {
    /// A schema that refers to no other.
    pub fn alone(kind: SchemaKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), references: Vec::new() }
    }

    /// Errors: the schema is in another language than this one, as a sentence.
    pub(crate) fn expect(&self, wanted: SchemaKind) -> Result<(), String> {
        if self.kind == wanted {
            return Ok(());
        }
        let kind = match &self.kind {
            SchemaKind::Avro => "AVRO",
            SchemaKind::Protobuf => "PROTOBUF",
            SchemaKind::Other(name) => name,
        };
        Err(format!("the schema is one of {kind}, and the stream reads {wanted:?}"))
    }
}

/// What says who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WriterName {
    Registered(SchemaId),
    Fingerprint(u64),
    /// The one writer of a stream without framing.
    Only,
}

impl std::fmt::Display for WriterName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered(id) => write!(f, " (schema {id})"),
            Self::Fingerprint(fingerprint) => write!(f, " (schema {fingerprint:016x})"),
            Self::Only => Ok(()),
        }
    }
}

/// A writer, or why its messages cannot be read.
pub(super) type KnownWriter<W> = Arc<Result<W, String>>;

/// The writers that are known so far.
#[derive(Debug)]
pub(super) struct Writers<W>(RwLock<HashMap<WriterName, KnownWriter<W>>>);

impl<W> Writers<W> {
    /// The writers that the definition of a stream has, and the ids that it refuses.
    pub(super) fn new(own: Vec<(WriterName, W)>, refused: &BTreeSet<u32>) -> Self {
        let own = own.into_iter().map(|(name, writer)| (name, Arc::new(Ok(writer))));
        let refused = refused.iter().map(|id| {
            let why = "the definition of the stream refuses the schema".to_owned();
            (WriterName::Registered(SchemaId::Number(*id)), Arc::new(Err(why)))
        });
        Self(RwLock::new(own.chain(refused).collect()))
    }

    /// Adds the writer with an id, or why there is none.
    pub(super) fn learn(&self, id: SchemaId, writer: Result<W, String>) {
        self.0.write().insert(WriterName::Registered(id), Arc::new(writer));
    }

    /// By partition, the first message whose writer is not known, of messages that name it by its id.
    pub(super) fn unknown(&self, messages: &Messages) -> BTreeMap<Partition, (Offset, SchemaId)> {
        let mut unknown = BTreeMap::new();
        let writers = self.0.read();
        let mut known = None;
        for at in 0..messages.len() {
            let Ok(RegisteredFrame { id, .. }) = registered_frame(messages, at) else { continue };
            if known == Some(id) {
                continue;
            }
            if writers.contains_key(&WriterName::Registered(id)) {
                known = Some(id);
            } else {
                let (partition, offset) = (messages.partitions()[at], messages.offsets()[at]);
                unknown.entry(Partition(partition)).or_insert((Offset(offset), id));
            }
        }
        unknown
    }

    /// The writer of a message.
    ///
    /// Errors: a bug in this program: its schema was not fetched.
    pub(super) fn get(&self, name: WriterName) -> Result<KnownWriter<W>, ArrowError> {
        let known = self.0.read().get(&name).map(Arc::clone);
        match (known, name) {
            (Some(writer), _) => Ok(writer),
            (None, WriterName::Fingerprint(_)) => Ok(Arc::new(Err("the stream has no such schema".to_owned()))),
            (None, _) => Err(ArrowError::SchemaError(format!("a schema was not fetched{name}"))),
        }
    }
}

/// The payload of message `at`.
///
/// Errors: it has none.
pub(super) fn payload(messages: &Messages, at: usize) -> Result<&[u8], ValueError> {
    match messages.has_payload(at) {
        true => Ok(messages.payload(at)),
        false => Err("the message is empty".into()),
    }
}

/// The header that names the schema of a message's value.
const HEADER: &str = "__value_schema_id";

/// A message in Confluent's wire format, or one whose header names its schema.
#[derive(Debug)]
pub(super) struct RegisteredFrame<'a> {
    pub(super) id: SchemaId,
    /// What follows the id in the header; `None` if the id is in the payload.
    pub(super) header: Option<&'a [u8]>,
    /// What follows the id in the payload, or all of the payload.
    pub(super) payload: &'a [u8],
}

/// Takes message `at` apart.
///
/// Errors: it names no schema.
pub(super) fn registered_frame(messages: &Messages, at: usize) -> Result<RegisteredFrame<'_>, ValueError> {
    let payload = payload(messages, at)?;
    if let Some(header) = messages.header(at, HEADER) {
        let (id, rest) = header_id(header).ok_or_else(no_header_id)?;
        return Ok(RegisteredFrame { id, header: Some(rest), payload });
    }
    match payload {
        [] => Err("the message is empty".into()),
        [0, rest @ ..] => match rest.split_first_chunk() {
            Some((id, payload)) => {
                Ok(RegisteredFrame { id: SchemaId::Number(u32::from_be_bytes(*id)), header: None, payload })
            }
            None => Err("the message ends within the id of its schema".into()),
        },
        _ => Err("the message does not begin with a zero byte and the id of its schema".into()),
    }
}

/// Why a header is refused.
pub(super) fn no_header_id() -> ValueError {
    format!("the header `{HEADER}` holds no id of a schema").into()
}

/// The id of a schema that a header holds, and what follows it.
fn header_id(header: &[u8]) -> Option<(SchemaId, &[u8])> {
    match header.split_first()? {
        (0, rest) => rest.split_first_chunk().map(|(id, rest)| (SchemaId::Number(u32::from_be_bytes(*id)), rest)),
        (1, rest) => rest.split_first_chunk().map(|(id, rest)| (SchemaId::Guid(Uuid::from_bytes(*id)), rest)),
        _ => None,
    }
}
