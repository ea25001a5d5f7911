//! Our reader of Protobuf beside prost-reflect: random messages that prost-reflect writes are read back, and messages
//! with changed bytes are refused by both, or read as prost-reflect reads them.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};

use super::protobuf::{framed, schema};
use super::{messages, show, with_options};
use crate::decode::{Decoder, SchemaId};
use crate::definition::stream::REJECT;

/// Every kind of field, in both syntaxes of presence. The two are linked in one schema.
const FIELDS: &str = "double f1 = 1; float f2 = 2; int32 f3 = 3; int64 f4 = 4; uint32 f5 = 5; uint64 f6 = 6; sint32 f7 = 7;
    sint64 f8 = 8; fixed32 f9 = 9; fixed64 f10 = 10; sfixed32 f11 = 11; sfixed64 f12 = 12; bool f13 = 13; string f14 = 14;
    bytes f15 = 15; E f16 = 16; optional int32 f17 = 17; optional string f18 = 18; optional bool f19 = 19; N f20 = 20;
    oneof o { int64 f21 = 21; string f22 = 22; N f23 = 23; bytes f24 = 2000; }
    repeated int32 f25 = 25; repeated sint64 f26 = 26; repeated string f27 = 27; repeated N f28 = 28; repeated double f29 = 29;
    repeated bool f30 = 30; repeated fixed32 f31 = 536870911; repeated E f32 = 32; map<string, N> f33 = 33; map<int32, bytes> f34 = 34;
    map<bool, sint32> f35 = 35;";

fn text() -> String {
    format!(
        "syntax = \"proto3\"; package p; message M {{ {FIELDS} int32 unread = 40; N unread_n = 41; }}
         message N {{ int32 g1 = 1; optional string g2 = 2; N g3 = 3; repeated uint64 g4 = 4; }} enum E {{ A = 0; B = 1; C = -5; }}"
    )
}

const N: &str = "STRUCT<g1 INT, g2 STRING, g3 STRUCT<g1 INT, g2 STRING, g3 STRUCT<g1 INT, g4 DECIMAL(20,0)[]>, g4 DECIMAL(20,0)[]>, g4 DECIMAL(20,0)[]>";

fn columns() -> String {
    format!(
        "f1 DOUBLE, f2 REAL, f3 INT, f4 BIGINT, f5 BIGINT, f6 DECIMAL(20,0), f7 INT, f8 BIGINT, f9 BIGINT,
         f10 DECIMAL(20,0), f11 INT, f12 BIGINT, f13 BOOLEAN, f14 STRING, f15 BYTEA, f16 STRING, f17 INT, f18 STRING, f19 BOOLEAN,
         f20 {N}, f21 BIGINT, f22 STRING, f23 {N}, f24 BYTEA, f25 INT[], f26 BIGINT[], f27 STRING[], f28 {N}[], f29 DOUBLE[],
         f30 BOOLEAN[], f31 BIGINT[], f32 STRING[], f33 STRUCT<key STRING, value {N}>[], f34 STRUCT<key INT, value BYTEA>[],
         f35 STRUCT<key BOOLEAN, value INT>[]"
    )
}

fn message() -> MessageDescriptor {
    let mut file = protox_parse::parse("m.proto", &text()).unwrap();
    file.source_code_info = None;
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file).unwrap();
    pool.get_message_by_name("p.M").unwrap()
}

/// Fills fields of a message by what a seed says.
fn fill(of: &MessageDescriptor, random: &mut Seeded, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        if random.below(3) == 0 || depth > 4 {
            continue;
        }
        let kind = field.kind();
        let value = if field.is_map() {
            let entry = kind.as_message().unwrap();
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let pairs = (0..random.below(4)).map(|_| {
                let key = match one(&key, random, depth) {
                    Value::String(text) => MapKey::String(text),
                    Value::I32(n) => MapKey::I32(n),
                    Value::Bool(b) => MapKey::Bool(b),
                    other => panic!("{other:?}"),
                };
                (key, one(&value, random, depth))
            });
            Value::Map(pairs.collect())
        } else if field.is_list() {
            Value::List((0..random.below(4)).map(|_| one(&kind, random, depth)).collect())
        } else {
            one(&kind, random, depth)
        };
        message.set_field(&field, value);
    }
    message
}

/// A generator of numbers that is a pure function of its seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// Numbers of all sizes.
    fn number(&mut self) -> u64 {
        let bits = self.below(65);
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(6)).map(|_| self.next() as u8).collect()
    }
}

fn one(kind: &Kind, random: &mut Seeded, depth: u32) -> Value {
    let n = random.number();
    let signed = if random.below(2) == 0 { n.cast_signed() } else { n.cast_signed().wrapping_neg() };
    match kind {
        Kind::Double => Value::F64(signed as f64 / 8.0),
        Kind::Float => Value::F32(signed as f32 / 8.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(signed as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(signed),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(n as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(n),
        Kind::Bool => Value::Bool(n & 1 == 1),
        Kind::String => {
            Value::String((0..random.below(4)).map(|_| ["a", "ü", "雪", "\""][random.below(4) as usize]).collect())
        }
        Kind::Bytes => Value::Bytes(random.bytes().into()),
        Kind::Enum(_) => Value::EnumNumber([0, 1, -5, 7, signed as i32][random.below(5) as usize]),
        Kind::Message(of) => Value::Message(fill(of, random, depth + 1)),
    }
}

/// A message as the formatter of Arrow shows our rows: the columns of `wanted`, each with its type's own.
fn expected(message: &DynamicMessage) -> Vec<String> {
    let fields: Vec<_> = message.descriptor().fields().filter(|field| !field.name().starts_with("unread")).collect();
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for field in fields {
        by_name.insert(field.name().to_owned(), shown_field(message, &field, 0));
    }
    let order = columns();
    let names = (1..=35).map(|n| format!("f{n}"));
    names.filter(|name| order.contains(&format!("{name} "))).map(|name| by_name[&name].clone()).collect()
}

fn shown_field(message: &DynamicMessage, field: &prost_reflect::FieldDescriptor, depth: usize) -> String {
    if field.supports_presence() && !message.has_field(field) {
        return "null".to_owned();
    }
    let value = message.get_field(field);
    let kind = field.kind();
    match value.as_ref() {
        Value::List(items) => {
            format!("[{}]", items.iter().map(|v| shown(v, &kind, depth)).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let of = kind.as_message().unwrap().map_entry_value_field().kind();
            let mut entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| {
                    let key = match key {
                        MapKey::String(text) => text.clone(),
                        MapKey::I32(n) => n.to_string(),
                        MapKey::Bool(b) => b.to_string(),
                        other => panic!("{other:?}"),
                    };
                    format!("{{key: {key}, value: {}}}", shown(value, &of, depth))
                })
                .collect();
            entries.sort();
            format!("[{}]", entries.join(", "))
        }
        value => shown(value, &kind, depth),
    }
}

fn shown(value: &Value, kind: &Kind, depth: usize) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::I32(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::F32(x) => formatted(&Float32Array::from(vec![*x]), 0),
        Value::F64(x) => formatted(&Float64Array::from(vec![*x]), 0),
        Value::String(text) => text.clone(),
        Value::Bytes(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        Value::EnumNumber(n) => {
            kind.as_enum().unwrap().get_value(*n).map_or(n.to_string(), |value| value.name().to_owned())
        }
        Value::Message(message) => {
            // The third level has two of the fields, and no level below.
            let names: &[&str] = if depth < 2 { &["g1", "g2", "g3", "g4"] } else { &["g1", "g4"] };
            let fields = names.iter().map(|name| {
                let field = message.descriptor().get_field_by_name(name).unwrap();
                format!("{name}: {}", shown_field(message, &field, depth + 1))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => panic!("{other:?}"),
    }
}

/// A value as the tests show it.
fn formatted(array: &dyn Array, row: usize) -> String {
    ArrayFormatter::try_new(array, &FormatOptions::default().with_null("null")).unwrap().value(row).to_string()
}

/// Our row, with the entries of maps in order.
fn ours(decoder: &Decoder, payload: &[u8]) -> Result<Vec<String>, String> {
    let decoded = decoder.decode(&messages([framed(7, &[0], payload).as_slice()])).unwrap();
    let row = show(&decoded).remove(0);
    if let Some(reason) = row.strip_prefix("reject: ") {
        return Err(reason.to_owned());
    }
    let end = decoded.rows.schema().index_of(REJECT).unwrap();
    let columns = decoded.rows.columns()[3..end].iter();
    let value = |column: &ArrayRef| {
        let is_map = matches!(column.data_type(), DataType::List(item)
            if matches!(item.data_type(), DataType::Struct(fields) if fields[0].name() == "key"));
        if !is_map {
            return formatted(column, 0);
        }
        let entries = column.as_list::<i32>().value(0);
        let mut entries: Vec<String> = (0..entries.len()).map(|at| formatted(&entries, at)).collect();
        entries.sort();
        format!("[{}]", entries.join(", "))
    };
    Ok(columns.map(value).collect())
}

fn decoder() -> Decoder {
    let decoder = Decoder::new(&with_options(&columns(), "'format' 'protobuf'")).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema(&text())));
    decoder
}

/// True for reasons for which only we refuse: numbers that lose bits, and maps whose entries are written as something
/// else, which prost-reflect reads as if they were messages.
fn is_stricter(why: &str) -> bool {
    let is_map = ["f33", "f34", "f35"].iter().any(|map| why.contains(&format!("the value of `{map}`")));
    let is_other = why.contains("Entry") || why.contains("a group ends that did not begin");
    why.contains("a number that is declared with 32 bits has more") || is_map && is_other
}

/// Checks a payload against what prost-reflect says of it.
fn compare(decoder: &Decoder, of: &MessageDescriptor, payload: &[u8]) -> Result<(), TestCaseError> {
    let theirs = DynamicMessage::decode(of.clone(), payload);
    match (ours(decoder, payload), theirs) {
        (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, expected(&theirs)),
        // They look at the texts of messages that no column takes.
        (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("UTF-8"), "only we read {payload:?}: {error}"),
        (Err(why), Ok(_)) => {
            prop_assert!(is_stricter(&why), "only we refuse {payload:?}: {why}")
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_prost_writes_is_read(seed in any::<u64>()) {
        let (decoder, of) = (decoder(), message());
        for more in 0..5 {
            let message = fill(&of, &mut Seeded(seed ^ more), 0);
            let payload = message.encode_to_vec();
            prop_assert_eq!(ours(&decoder, &payload), Ok(expected(&message)));
        }
    }

    #[test]
    fn messages_one_behind_the_other_are_merged(seed in any::<u64>()) {
        let (decoder, of) = (decoder(), message());
        let mut random = Seeded(seed);
        let parts: Vec<u8> = (0..3).flat_map(|_| fill(&of, &mut random, 2).encode_to_vec()).collect();
        compare(&decoder, &of, &parts)?;
    }

    #[test]
    fn changed_bytes_are_refused_or_read_as_others_read_them(seed in any::<u64>(), changes in 1..4usize) {
        let (decoder, of) = (decoder(), message());
        let mut random = Seeded(seed);
        let written = fill(&of, &mut random, 2).encode_to_vec();
        for _ in 0..20 {
            let mut changed = written.clone();
            for _ in 0..changes {
                if changed.is_empty() {
                    break;
                }
                let at = random.below(changed.len() as u64) as usize;
                match random.below(4) {
                    0 => changed.truncate(at),
                    1 => changed[at] ^= 1 << random.below(8),
                    2 => changed[at] = random.next() as u8,
                    _ => changed.insert(at, random.next() as u8),
                }
            }
            compare(&decoder, &of, &changed)?;
        }
    }

    #[test]
    fn any_bytes_are_a_row_or_a_reject(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
        compare(&decoder(), &message(), &payload)?;
    }
}
