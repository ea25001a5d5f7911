//! The fingerprint that single-object encoding puts before a value: CRC-64-AVRO of the schema's parsing canonical form
//! (<https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints>).
//!
//! Invariant: schemas that differ in docs, defaults, aliases, the order of properties or blanks have one fingerprint.

use std::collections::HashSet;

use super::schema::{AvroSchema, AvroShape, TypeId};

/// The fingerprint of no bytes.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

/// The fingerprint of a schema.
pub(super) fn fingerprint(schema: &AvroSchema) -> u64 {
    let mut canonical = String::new();
    write(schema, schema.root, &mut canonical, &mut HashSet::new());
    rabin(canonical.as_bytes())
}

fn rabin(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |sum, byte| {
        let mut low = (sum ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
        }
        (sum >> 8) ^ low
    })
}

fn write(schema: &AvroSchema, of: TypeId, out: &mut String, known: &mut HashSet<TypeId>) {
    let shape = &schema.get(of).shape;
    if let AvroShape::Record { name, .. } | AvroShape::Enum { name, .. } | AvroShape::Fixed { name, .. } = shape
        && !known.insert(of)
    {
        out.push_str(&quoted(name));
        return;
    }
    match shape {
        AvroShape::Record { name, fields } => {
            out.push_str(&format!("{{\"name\":{},\"type\":\"record\",\"fields\":[", quoted(name)));
            for (at, field) in fields.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                out.push_str(&format!("{comma}{{\"name\":{},\"type\":", quoted(&field.name)));
                write(schema, field.of, out, known);
                out.push('}');
            }
            out.push_str("]}");
        }
        AvroShape::Enum { name, symbols } => {
            let symbols: Vec<String> = symbols.iter().map(|symbol| quoted(symbol)).collect();
            let symbols = symbols.join(",");
            out.push_str(&format!("{{\"name\":{},\"type\":\"enum\",\"symbols\":[{symbols}]}}", quoted(name)));
        }
        AvroShape::Fixed { name, size } => {
            out.push_str(&format!("{{\"name\":{},\"type\":\"fixed\",\"size\":{size}}}", quoted(name)));
        }
        AvroShape::Array(items) => {
            out.push_str("{\"type\":\"array\",\"items\":");
            write(schema, *items, out, known);
            out.push('}');
        }
        AvroShape::Map(values) => {
            out.push_str("{\"type\":\"map\",\"values\":");
            write(schema, *values, out, known);
            out.push('}');
        }
        AvroShape::Union(branches) => {
            for (at, branch) in branches.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                write(schema, *branch, out, known);
            }
            out.push(']');
        }
        _ => out.push_str(&quoted(schema.name(of))),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use arrow_avro::schema::{AvroSchema as Theirs, Fingerprint, FingerprintAlgorithm};

    use super::*;

    #[test]
    fn fingerprints_are_those_of_others() {
        // From the specification's own test data.
        for (text, expect) in [
            (r#""null""#, 0x63dd_24e7_cc25_8f8a),
            (r#"{"type": "boolean"}"#, 0x9f42_fc78_a4d4_f764),
            (r#""int""#, 0x7275_d51a_3f39_5c8f),
            (r#""string""#, 0x8f01_4872_6345_03c7),
        ] {
            assert_eq!(fingerprint(&AvroSchema::parse(text, &[]).unwrap()), expect, "{text}");
        }
        for text in [
            r#"{"type":"record","name":"A","namespace":"x.y","doc":"\"d\"","fields":[
                {"name":"a","type":["null","long"],"default":null,"doc":"n"},{"name":"b","type":"B.C"}]}"#,
            r#"{"fields":[{"type":{"items":{"type":"string","avro.java.string":"String"},"type":"array"},"name":"t"},
                {"name":"m","type":{"type":"map","values":{"type":"bytes","logicalType":"decimal","precision":9}}},
                {"name":"e","type":{"type":"enum","name":"n.E","symbols":["A","B"],"default":"A"}},
                {"name":"f","type":{"type":"fixed","name":"F","size":16}},{"name":"g","type":"F"}],
                "aliases":["Old"],"name":"R","type":"record"}"#,
        ] {
            let ours = AvroSchema::parse(text, &[]).map(|schema| fingerprint(&schema));
            let theirs = Theirs::new(text.to_owned()).fingerprint(FingerprintAlgorithm::Rabin);
            match (ours, theirs) {
                (Ok(ours), Ok(Fingerprint::Rabin(theirs))) => assert_eq!(ours, theirs, "{text}"),
                // The first schema names a type that nothing defines, which only we look for.
                (Err(why), _) => assert!(why.contains("`B.C` is not defined"), "{why}"),
                (ours, theirs) => panic!("{text}: {ours:?} {theirs:?}"),
            }
        }
    }
}
