//! Schemas of Protobuf: from linked descriptors to a table of messages that is made for reading.
//!
//! Invariant: every [`MessageId`] and [`EnumId`] of a schema is a place in its tables, and the fields of a message are
//! in the order of their numbers.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::super::writers::RegisteredSchema;
use super::editions::written_name;
use super::files;
use super::wire::{RawValue, WireType};
use crate::definition::message::ProtobufOptions;

/// The most messages that a schema has, a guard against schemas that were made to harm.
const MOST_MESSAGES: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MessageId(pub(super) usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EnumId(usize);

/// A schema.
#[derive(Debug)]
pub(super) struct ProtoSchema {
    messages: Vec<ProtoMessage>,
    enums: Vec<ProtoEnum>,
    /// The messages of the schema's own file that are in no other, in its order.
    pub(super) top: Vec<MessageId>,
}

/// A type of messages.
#[derive(Debug)]
pub(super) struct ProtoMessage {
    /// With its package.
    pub(super) name: String,
    pub(super) fields: Vec<ProtoField>,
    /// The places of the fields with the numbers 1, 2, … as far as nearly all of them are used.
    dense: Vec<Option<u32>>,
    /// The messages that are declared within, in the order of the file.
    children: Vec<MessageId>,
    pub(super) is_map_entry: bool,
    /// True if the message or one that it can hold has a required field.
    pub(super) needs_fields: bool,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct ProtoField {
    pub(super) name: String,
    pub(super) json_name: String,
    pub(super) number: u32,
    pub(super) of: ProtoType,
    pub(super) is_repeated: bool,
    pub(super) is_required: bool,
    /// The oneof that the field is a member of, by its place in the message.
    pub(super) oneof: Option<usize>,
    pub(super) absent: AbsentValue,
}

/// What a field without a value has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AbsentValue {
    Null,
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A text or bytes; a message without fields.
    Bytes(Vec<u8>),
}

impl AbsentValue {
    pub(super) fn raw(&self) -> Option<RawValue<'_>> {
        Some(match self {
            Self::Null => return None,
            Self::Varint(number) => RawValue::Varint(*number),
            Self::Fixed64(bits) => RawValue::Fixed64(*bits),
            Self::Fixed32(bits) => RawValue::Fixed32(*bits),
            Self::Bytes(bytes) => RawValue::Bytes(bytes),
        })
    }
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtoType {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Text,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    Group(MessageId),
}

impl ProtoType {
    /// How values are written.
    pub(super) fn wire(self) -> WireType {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => WireType::Fixed64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => WireType::Fixed32,
            Self::Text | Self::Bytes | Self::Message(_) => WireType::Bytes,
            Self::Group(_) => WireType::GroupStart,
            _ => WireType::Varint,
        }
    }

    /// True if a list of values may be written one behind the other.
    pub(super) fn is_packable(self) -> bool {
        !matches!(self.wire(), WireType::Bytes | WireType::GroupStart)
    }

    pub(super) fn message(self) -> Option<MessageId> {
        match self {
            Self::Message(id) | Self::Group(id) => Some(id),
            _ => None,
        }
    }
}

/// An enum: the first name of each number.
#[derive(Debug)]
pub(super) struct ProtoEnum {
    /// With its package.
    pub(super) name: String,
    symbols: HashMap<i32, String>,
}

impl ProtoEnum {
    pub(super) fn symbol(&self, number: i32) -> Option<&str> {
        self.symbols.get(&number).map(String::as_str)
    }
}

impl ProtoMessage {
    /// The place of the field with a number.
    pub(super) fn place(&self, number: u32) -> Option<usize> {
        match self.dense.get(number as usize) {
            Some(place) => place.map(|place| place as usize),
            None => self.fields.binary_search_by_key(&number, |field| field.number).ok(),
        }
    }

    /// The field with a number. Messages of known types have fixed fields.
    pub(super) fn field(&self, number: u32) -> Option<&ProtoField> {
        self.place(number).map(|place| &self.fields[place])
    }
}

impl ProtoSchema {
    /// The schema of a registry.
    ///
    /// Errors: why the text is no schema, as the end of a sentence.
    pub(super) fn registered(schema: &RegisteredSchema) -> Result<Self, String> {
        let file = files::link(&schema.text, &schema.references)?;
        Self::of(file.messages())
    }

    /// The schema of a definition; `None` if it has none.
    ///
    /// Errors: why the text is no schema, as the end of a sentence.
    pub(super) fn own(options: &ProtobufOptions) -> Result<Option<Self>, String> {
        match (&options.schema, &options.descriptor) {
            (Some(text), _) => Self::of(files::link(text, &[])?.messages()).map(Some),
            (None, Some(set)) => {
                let pool: DescriptorPool = files::link_set(set)?;
                let files: Vec<_> = pool.files().collect();
                Self::of(files.iter().flat_map(prost_reflect::FileDescriptor::messages)).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The table of `top`, and of all messages that they lead to.
    fn of(top: impl Iterator<Item = MessageDescriptor>) -> Result<Self, String> {
        let mut table = MessageTable::default();
        let top = top.map(|message| table.add(message)).collect::<Result<Vec<_>, _>>()?;
        let mut next = 0;
        while let Some(message) = table.found.get(next).cloned() {
            let read = table.read(&message)?;
            table.messages.push(read);
            next += 1;
        }
        let mut schema = Self { messages: table.messages, enums: table.enums, top };
        schema.mark_needs();
        Ok(schema)
    }

    /// Marks the messages that can hold required fields, from those that have some to those that hold them.
    fn mark_needs(&mut self) {
        let mut holders: Vec<Vec<usize>> = vec![Vec::new(); self.messages.len()];
        let mut open = Vec::new();
        for (at, message) in self.messages.iter_mut().enumerate() {
            for held in message.fields.iter().filter_map(|field| field.of.message()) {
                holders[held.0].push(at);
            }
            if message.fields.iter().any(|field| field.is_required) {
                message.needs_fields = true;
                open.push(at);
            }
        }
        while let Some(at) = open.pop() {
            for holder in &holders[at] {
                if !std::mem::replace(&mut self.messages[*holder].needs_fields, true) {
                    open.push(*holder);
                }
            }
        }
    }

    pub(super) fn get(&self, id: MessageId) -> &ProtoMessage {
        &self.messages[id.0]
    }

    pub(super) fn get_enum(&self, id: EnumId) -> &ProtoEnum {
        &self.enums[id.0]
    }

    /// The number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The message with a full name.
    pub(super) fn find(&self, name: &str) -> Option<MessageId> {
        self.messages.iter().position(|message| message.name == name && !message.is_map_entry).map(MessageId)
    }

    /// The message at the end of a path of indexes, each within the one before.
    pub(super) fn at_path(&self, path: &[i64]) -> Option<MessageId> {
        let (first, rest) = path.split_first()?;
        let place = |at: &i64| usize::try_from(*at).ok();
        let mut found = *self.top.get(place(first)?)?;
        for at in rest {
            found = *self.get(found).children.get(place(at)?)?;
        }
        Some(found).filter(|id| !self.get(*id).is_map_entry)
    }

    /// The type as errors have it.
    pub(super) fn type_name(&self, of: ProtoType) -> &str {
        match of {
            ProtoType::Double => "double",
            ProtoType::Float => "float",
            ProtoType::Int32 => "int32",
            ProtoType::Int64 => "int64",
            ProtoType::Uint32 => "uint32",
            ProtoType::Uint64 => "uint64",
            ProtoType::Sint32 => "sint32",
            ProtoType::Sint64 => "sint64",
            ProtoType::Fixed32 => "fixed32",
            ProtoType::Fixed64 => "fixed64",
            ProtoType::Sfixed32 => "sfixed32",
            ProtoType::Sfixed64 => "sfixed64",
            ProtoType::Bool => "bool",
            ProtoType::Text => "string",
            ProtoType::Bytes => "bytes",
            ProtoType::Enum(id) => &self.get_enum(id).name,
            ProtoType::Message(id) | ProtoType::Group(id) => &self.get(id).name,
        }
    }
}

/// The messages that were found so far; those of `messages` were read.
#[derive(Default)]
struct MessageTable {
    found: Vec<MessageDescriptor>,
    ids: HashMap<String, MessageId>,
    messages: Vec<ProtoMessage>,
    enums: Vec<ProtoEnum>,
    enum_ids: HashMap<String, EnumId>,
}

impl MessageTable {
    fn add(&mut self, message: MessageDescriptor) -> Result<MessageId, String> {
        if let Some(id) = self.ids.get(message.full_name()) {
            return Ok(*id);
        }
        if self.found.len() >= MOST_MESSAGES {
            return Err(format!("it has more than {MOST_MESSAGES} messages"));
        }
        let id = MessageId(self.found.len());
        self.ids.insert(message.full_name().to_owned(), id);
        self.found.push(message);
        Ok(id)
    }

    fn add_enum(&mut self, of: &EnumDescriptor) -> EnumId {
        if let Some(id) = self.enum_ids.get(of.full_name()) {
            return *id;
        }
        let mut symbols = HashMap::new();
        for value in &of.enum_descriptor_proto().value {
            symbols.entry(value.number()).or_insert_with(|| value.name().to_owned());
        }
        let id = EnumId(self.enums.len());
        self.enums.push(ProtoEnum { name: of.full_name().to_owned(), symbols });
        self.enum_ids.insert(of.full_name().to_owned(), id);
        id
    }

    fn read(&mut self, message: &MessageDescriptor) -> Result<ProtoMessage, String> {
        let children = message.child_messages().map(|child| self.add(child)).collect::<Result<Vec<_>, _>>()?;
        let mut fields = message.fields().map(|field| self.field(message, &field)).collect::<Result<Vec<_>, _>>()?;
        fields.sort_by_key(|field| field.number);
        let last =
            fields.iter().map(|field| field.number as usize).take_while(|number| *number < 4 * fields.len() + 16);
        let mut dense = vec![None; last.last().map_or(0, |last| last + 1)];
        for (place, field) in (0..).zip(&fields) {
            if let Some(slot) = dense.get_mut(field.number as usize) {
                *slot = Some(place);
            }
        }
        Ok(ProtoMessage {
            name: message.full_name().to_owned(),
            fields,
            dense,
            children,
            is_map_entry: message.is_map_entry(),
            needs_fields: false,
        })
    }

    fn field(&mut self, message: &MessageDescriptor, field: &FieldDescriptor) -> Result<ProtoField, String> {
        let of = match field.kind() {
            Kind::Double => ProtoType::Double,
            Kind::Float => ProtoType::Float,
            Kind::Int32 => ProtoType::Int32,
            Kind::Int64 => ProtoType::Int64,
            Kind::Uint32 => ProtoType::Uint32,
            Kind::Uint64 => ProtoType::Uint64,
            Kind::Sint32 => ProtoType::Sint32,
            Kind::Sint64 => ProtoType::Sint64,
            Kind::Fixed32 => ProtoType::Fixed32,
            Kind::Fixed64 => ProtoType::Fixed64,
            Kind::Sfixed32 => ProtoType::Sfixed32,
            Kind::Sfixed64 => ProtoType::Sfixed64,
            Kind::Bool => ProtoType::Bool,
            Kind::String => ProtoType::Text,
            Kind::Bytes => ProtoType::Bytes,
            Kind::Enum(found) => ProtoType::Enum(self.add_enum(&found)),
            Kind::Message(found) if field.is_group() => ProtoType::Group(self.add(found)?),
            Kind::Message(found) => ProtoType::Message(self.add(found)?),
        };
        let is_repeated = field.is_list() || field.is_map();
        let has_default = field.field_descriptor_proto().default_value.is_some();
        let absent = match (message.is_map_entry(), of) {
            // An entry without a key or value has their defaults.
            (true, ProtoType::Message(_)) => AbsentValue::Bytes(Vec::new()),
            (true, _) => default_value(&field.default_value(), of),
            _ if is_repeated || of.message().is_some() => AbsentValue::Null,
            _ if field.supports_presence() && !has_default => AbsentValue::Null,
            _ if field.is_required() || field.containing_oneof().is_some() => AbsentValue::Null,
            _ => default_value(&field.default_value(), of),
        };
        Ok(ProtoField {
            name: written_name(field.name()).to_owned(),
            json_name: written_name(field.json_name()).to_owned(),
            number: field.number(),
            of,
            is_repeated,
            is_required: field.is_required(),
            oneof: field
                .containing_oneof()
                .filter(|oneof| !oneof.is_synthetic())
                .and_then(|_| usize::try_from(field.field_descriptor_proto().oneof_index()).ok()),
            absent,
        })
    }
}

/// A default as a message would write it.
fn default_value(value: &Value, of: ProtoType) -> AbsentValue {
    let zigzag = |n: i64| (n << 1 ^ n >> 63).cast_unsigned();
    match (value, of) {
        (Value::Bool(value), _) => AbsentValue::Varint(u64::from(*value)),
        (Value::I32(n), ProtoType::Sint32) => AbsentValue::Varint(zigzag(i64::from(*n))),
        (Value::I32(n), ProtoType::Sfixed32) => AbsentValue::Fixed32(n.cast_unsigned()),
        (Value::I32(n) | Value::EnumNumber(n), _) => AbsentValue::Varint(i64::from(*n).cast_unsigned()),
        (Value::I64(n), ProtoType::Sint64) => AbsentValue::Varint(zigzag(*n)),
        (Value::I64(n), ProtoType::Sfixed64) => AbsentValue::Fixed64(n.cast_unsigned()),
        (Value::I64(n), _) => AbsentValue::Varint(n.cast_unsigned()),
        (Value::U32(n), ProtoType::Fixed32) => AbsentValue::Fixed32(*n),
        (Value::U32(n), _) => AbsentValue::Varint(u64::from(*n)),
        (Value::U64(n), ProtoType::Fixed64) => AbsentValue::Fixed64(*n),
        (Value::U64(n), _) => AbsentValue::Varint(*n),
        (Value::F32(n), _) => AbsentValue::Fixed32(n.to_bits()),
        (Value::F64(n), _) => AbsentValue::Fixed64(n.to_bits()),
        (Value::String(text), _) => AbsentValue::Bytes(text.clone().into_bytes()),
        (Value::Bytes(bytes), _) => AbsentValue::Bytes(bytes.to_vec()),
        _ => AbsentValue::Null,
    }
}
