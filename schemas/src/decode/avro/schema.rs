//! Avro schemas: from their JSON to a table of types in which names are resolved.
//!
//! The table follows the specification of Avro 1.12 (<https://avro.apache.org/docs/1.12.0/specification/>): names and
//! namespaces, references to types that were defined before or are being defined, logical types that are ignored where
//! they do not fit their type.
//!
//! Invariant: every [`TypeId`] of a schema is the place of a type in its table. A union holds no union.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::writers::ReferencedSchema;
use crate::definition::message::TimestampUnit;

/// The most types that a schema has, a guard against schemas that were made to harm.
const MOST_TYPES: usize = 200_000;

/// The place of a type in the table of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TypeId(usize);

/// A schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AvroSchema {
    types: Vec<AvroType>,
    pub(super) root: TypeId,
}

/// A type, and what its values mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AvroType {
    pub(super) shape: AvroShape,
    pub(super) logical: Option<LogicalType>,
}

/// How values are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AvroShape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed { name: String, size: usize },
    Enum { name: String, symbols: Vec<String> },
    Array(TypeId),
    Map(TypeId),
    Record { name: String, fields: Vec<AvroField> },
    Union(Vec<TypeId>),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AvroField {
    pub(super) name: String,
    pub(super) of: TypeId,
}

/// What values mean beyond their shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogicalType {
    Decimal {
        precision: u32,
        scale: u32,
    },
    Date,
    /// The time of a day, in this unit.
    Time(TimestampUnit),
    /// A time since 1970, in this unit, in UTC or without a time zone.
    Timestamp(TimestampUnit),
    Uuid,
    /// Months, days and milliseconds.
    Duration,
}

const PRIMITIVES: [(&str, AvroShape); 8] = [
    ("null", AvroShape::Null),
    ("boolean", AvroShape::Boolean),
    ("int", AvroShape::Int),
    ("long", AvroShape::Long),
    ("float", AvroShape::Float),
    ("double", AvroShape::Double),
    ("bytes", AvroShape::Bytes),
    ("string", AvroShape::Text),
];

impl AvroSchema {
    /// The schema in `text`, which may name types of `references`. A reference may name types of those before it.
    ///
    /// Errors: why the text is no schema, as the end of a sentence.
    pub(super) fn parse(text: &str, references: &[ReferencedSchema]) -> Result<Self, String> {
        let mut table = SchemaTable::default();
        for reference in references {
            table.read(&json(&reference.text)?, "")?;
        }
        let root = table.read(&json(text)?, "")?;
        let undefined = |shape: &AvroShape| matches!(shape, AvroShape::Union(branches) if branches.is_empty());
        match table.types.iter().any(|found| undefined(&found.shape)) {
            true => Err("a union has no branches".into()),
            false => Ok(Self { types: table.types, root }),
        }
    }

    pub(super) fn get(&self, id: TypeId) -> &AvroType {
        &self.types[id.0]
    }

    /// The name of a type as errors and the fields for the branches of a union have it: `long`, or `User` for
    /// `com.example.User`.
    pub(super) fn name(&self, id: TypeId) -> &str {
        match &self.get(id).shape {
            AvroShape::Fixed { name, .. } | AvroShape::Enum { name, .. } | AvroShape::Record { name, .. } => {
                name.rsplit('.').next().unwrap_or(name)
            }
            AvroShape::Array(_) => "array",
            AvroShape::Map(_) => "map",
            AvroShape::Union(_) => "union",
            primitive => PRIMITIVES.iter().find(|(_, shape)| shape == primitive).map_or("", |(name, _)| name),
        }
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))
}

/// The types that were read so far.
#[derive(Default)]
struct SchemaTable {
    types: Vec<AvroType>,
    /// By full name.
    named: HashMap<String, TypeId>,
}

impl SchemaTable {
    fn add(&mut self, shape: AvroShape, logical: Option<LogicalType>) -> Result<TypeId, String> {
        if self.types.len() >= MOST_TYPES {
            return Err(format!("it has more than {MOST_TYPES} types"));
        }
        self.types.push(AvroType { shape, logical });
        Ok(TypeId(self.types.len() - 1))
    }

    /// Reads a schema within `namespace`.
    fn read(&mut self, schema: &Value, namespace: &str) -> Result<TypeId, String> {
        match schema {
            Value::String(name) => self.find(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace));
                let branches: Vec<TypeId> = branches.collect::<Result<_, _>>()?;
                if branches.iter().any(|branch| matches!(self.types[branch.0].shape, AvroShape::Union(_))) {
                    return Err("a union holds a union".into());
                }
                self.add(AvroShape::Union(branches), None)
            }
            Value::Object(object) => self.read_object(object, namespace),
            _ => Err("a type is neither a name, nor an object, nor a list of branches".into()),
        }
    }

    fn find(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some((_, shape)) = PRIMITIVES.iter().find(|(primitive, _)| *primitive == name) {
            return self.add(shape.clone(), None);
        }
        let full = full_name(name, namespace);
        let found = self.named.get(&full).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| format!("`{full}` is not defined"))
    }

    fn read_object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // An object around a type adds nothing but properties.
            Some(inner) => return self.read(inner, namespace),
            None => return Err("a type has no `type`".into()),
        };
        match kind {
            "record" | "error" => self.read_record(object, namespace),
            "enum" => {
                let (name, _) = declared(object, namespace)?;
                let symbols = texts(object, "symbols", &name)?;
                let id = self.add(AvroShape::Enum { name: name.clone(), symbols }, None)?;
                self.define(name, id)
            }
            "fixed" => {
                let (name, _) = declared(object, namespace)?;
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| i32::try_from(size).ok());
                let size = size.ok_or_else(|| format!("`{name}` has no size below 2 GiB"))?;
                let shape = AvroShape::Fixed { name: name.clone(), size: size.unsigned_abs() as usize };
                let logical = logical(object, &shape);
                let id = self.add(shape, logical)?;
                self.define(name, id)
            }
            "array" => {
                let items = object.get("items").ok_or("an array has no `items`")?;
                let items = self.read(items, namespace)?;
                self.add(AvroShape::Array(items), None)
            }
            "map" => {
                let values = object.get("values").ok_or("a map has no `values`")?;
                let values = self.read(values, namespace)?;
                self.add(AvroShape::Map(values), None)
            }
            name => {
                let id = self.find(name, namespace)?;
                let found = &self.types[id.0];
                match logical(object, &found.shape) {
                    // A type that is only named keeps its own meaning.
                    Some(meaning) if !self.named.values().any(|named| *named == id) => {
                        self.types[id.0].logical = Some(meaning);
                    }
                    _ => {}
                }
                Ok(id)
            }
        }
    }

    fn read_record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, String> {
        let (name, namespace) = declared(object, namespace)?;
        // The name comes first, because fields may be of the record itself.
        let id = self.add(AvroShape::Record { name: name.clone(), fields: Vec::new() }, None)?;
        self.define(name.clone(), id)?;
        let Some(Value::Array(declarations)) = object.get("fields") else {
            return Err(format!("the record `{name}` has no list of `fields`"));
        };
        let mut fields: Vec<AvroField> = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            let field = declaration.get("name").and_then(Value::as_str);
            let field = field.ok_or_else(|| format!("a field of `{name}` has no name"))?;
            let of = declaration.get("type").ok_or_else(|| format!("the field `{field}` of `{name}` has no type"))?;
            let of = self.read(of, &namespace)?;
            fields.push(AvroField { name: field.to_owned(), of });
        }
        let mut names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the record `{name}` has two fields `{}`", twice[0]));
        }
        self.types[id.0].shape = AvroShape::Record { name, fields };
        Ok(id)
    }

    fn define(&mut self, name: String, id: TypeId) -> Result<TypeId, String> {
        match self.named.insert(name.clone(), id) {
            None => Ok(id),
            Some(_) => Err(format!("`{name}` is defined twice")),
        }
    }
}

/// The full name of what `object` defines, and its namespace.
fn declared(object: &Map<String, Value>, enclosing: &str) -> Result<(String, String), String> {
    let name = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or("a record, an enum or a fixed has no name")?;
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let full = full_name(name, namespace);
    let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    Ok((full, namespace))
}

fn full_name(name: &str, namespace: &str) -> String {
    match namespace.is_empty() || name.contains('.') {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn texts(object: &Map<String, Value>, key: &str, name: &str) -> Result<Vec<String>, String> {
    let list = object.get(key).and_then(Value::as_array);
    let texts = list.and_then(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| format!("`{name}` has no list of `{key}`"))
}

/// The logical type of `object`; `None` if there is none, or if it does not fit `shape`, as the specification has it.
fn logical(object: &Map<String, Value>, shape: &AvroShape) -> Option<LogicalType> {
    use TimestampUnit::{Microseconds, Milliseconds, Nanoseconds};
    let name = object.get("logicalType")?.as_str()?;
    Some(match (name, shape) {
        ("decimal", AvroShape::Bytes | AvroShape::Fixed { .. }) => {
            let number = |key: &str| object.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
            let (precision, scale) = (number("precision")?, object.get("scale").map_or(Some(0), |_| number("scale"))?);
            if precision == 0 || scale > precision {
                return None;
            }
            LogicalType::Decimal { precision, scale }
        }
        ("date", AvroShape::Int) => LogicalType::Date,
        ("time-millis", AvroShape::Int) => LogicalType::Time(Milliseconds),
        ("time-micros", AvroShape::Long) => LogicalType::Time(Microseconds),
        ("timestamp-millis" | "local-timestamp-millis", AvroShape::Long) => LogicalType::Timestamp(Milliseconds),
        ("timestamp-micros" | "local-timestamp-micros", AvroShape::Long) => LogicalType::Timestamp(Microseconds),
        ("timestamp-nanos" | "local-timestamp-nanos", AvroShape::Long) => LogicalType::Timestamp(Nanoseconds),
        ("uuid", AvroShape::Text | AvroShape::Fixed { size: 16, .. }) => LogicalType::Uuid,
        ("duration", AvroShape::Fixed { size: 12, .. }) => LogicalType::Duration,
        _ => return None,
    })
}
