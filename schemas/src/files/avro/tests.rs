//! Container files of every codec, resolved to the stream's columns, and files that are damaged.

use std::io::Write;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::*;
use crate::definition::{self, Statement};
use crate::files::{BadRows, FileFormat, OpenedRows, RowNotes};

const SYNC: [u8; 16] = *b"0123456789abcdef";
const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"int"},{"name":"Name","type":["null","string"]},
    {"name":"more","type":{"type":"array","items":"long"}}]}"#;

fn zigzag(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn text(text: &[u8]) -> Vec<u8> {
    [zigzag(text.len() as i64), text.to_vec()].concat()
}

fn row(id: i64, name: Option<&str>) -> Vec<u8> {
    let name = name.map_or(zigzag(0), |name| [zigzag(1), text(name.as_bytes())].concat());
    [zigzag(id), name, zigzag(2), zigzag(7), zigzag(8), zigzag(0)].concat()
}

fn head_of(schema: &str, codec: Option<&str>) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    let codec = codec.map(|codec| [text(b"avro.codec"), text(codec.as_bytes())].concat());
    head.extend(zigzag(1 + i64::from(codec.is_some())));
    head.extend([text(b"avro.schema"), text(schema.as_bytes())].concat());
    head.extend(codec.unwrap_or_default());
    head.extend(zigzag(0));
    head.extend(SYNC);
    head
}

fn block_of(count: i64, bytes: &[u8]) -> Vec<u8> {
    [zigzag(count), text(bytes), SYNC.to_vec()].concat()
}

fn compressed(codec: &str, bytes: &[u8]) -> Vec<u8> {
    match codec {
        "deflate" => {
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
            deflate.write_all(bytes).unwrap();
            deflate.finish().unwrap()
        }
        "zstandard" => zstd::encode_all(bytes, 3).unwrap(),
        "snappy" => {
            let mut block = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
            block.extend(crc32fast::hash(bytes).to_be_bytes());
            block
        }
        _ => bytes.to_vec(),
    }
}

/// The rows of a file, one line each, or the error.
fn read_as(columns: &str, file: &[u8], skip: bool, limit: Option<u64>) -> std::result::Result<Vec<String>, String> {
    let sql = format!("CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION 's' OPTIONS ('format' 'csv')");
    let Statement::CreateStream { definition, .. } = definition::parse(&sql).unwrap().remove(0) else {
        panic!("{sql}")
    };
    let notes = Arc::new(RowNotes::default());
    let bad = BadRows { file: "f.avro".into(), format: FileFormat::Avro, skip, notes };
    let reader = RowReader::new(&definition, bad, limit).map_err(|e| e.to_string())?;
    let mut shown = Vec::new();
    let mut pass = |rows: FileRows| {
        let options = FormatOptions::default().with_null("null");
        for (row, number) in rows.numbers.iter().enumerate() {
            let value = |column| ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
            let values: Vec<String> = rows.rows.columns().iter().map(|column| value(column.as_ref())).collect();
            shown.push(format!("{number}: {}", values.join("|")));
        }
        true
    };
    let bytes: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(file.to_vec()));
    crate::files::read(OpenedRows::Bytes(bytes), FileFormat::Avro, reader, &mut pass).map_err(|e| e.to_string())?;
    Ok(shown)
}

#[track_caller]
fn refused(file: &[u8], part: &str) {
    let error = read_as("id INT", file, true, None).unwrap_err();
    assert!(error.contains(part) && error.contains("f.avro"), "{error}");
}

#[test]
fn blocks_of_every_codec_are_read() {
    for codec in [None, Some("null"), Some("deflate"), Some("snappy"), Some("zstandard")] {
        let mut file = head_of(SCHEMA, codec);
        for ids in [0..3, 3..3, 3..5] {
            let rows: Vec<u8> = ids.clone().flat_map(|id| row(id, (id != 1).then_some("x"))).collect();
            file.extend(block_of(ids.count() as i64, &compressed(codec.unwrap_or("null"), &rows)));
        }
        let expect = ["1: 0|x|[7, 8]", "2: 1|null|[7, 8]", "3: 2|x|[7, 8]", "4: 3|x|[7, 8]", "5: 4|x|[7, 8]"];
        assert_eq!(read_as("id BIGINT, name STRING, more BIGINT[]", &file, false, None).unwrap(), expect, "{codec:?}");
        let some = read_as("other DATE, id DOUBLE", &file, false, Some(2)).unwrap();
        assert_eq!(some, ["1: null|0.0", "2: null|1.0"]);
    }
    assert_eq!(read_as("id INT", &head_of(SCHEMA, None), false, None).unwrap(), [""; 0]);
    let values = [head_of("\"long\"", None), block_of(2, &[zigzag(5), zigzag(-1)].concat())].concat();
    assert_eq!(read_as("v INT", &values, false, None).unwrap(), ["1: 5", "2: -1"]);
}

#[test]
fn rows_that_do_not_fit_are_told_or_left_out() {
    let file = [head_of(SCHEMA, None), block_of(3, &[row(1, None), row(300, None), row(2, None)].concat())].concat();
    let error = read_as("id TINYINT", &file, false, None).unwrap_err();
    assert!(error.contains("row 2") && error.contains("out of range"), "{error}");
    assert_eq!(read_as("id TINYINT", &file, true, None).unwrap(), ["1: 1", "3: 2"]);
    let error = read_as("id INT, name STRING NOT NULL", &file, false, None).unwrap_err();
    assert!(error.contains("row 1") && error.contains("NOT NULL"), "{error}");
    let error = read_as("name DATE", &file, false, None).unwrap_err();
    assert!(error.contains("written as"), "{error}");
    let error = read_as("other INT", &file, false, None).unwrap_err();
    assert!(error.contains("no column is one of the stream's"), "{error}");
}

#[test]
fn damaged_files_end_with_the_block() {
    let good = row(1, Some("x"));
    let with = |block: Vec<u8>| [head_of(SCHEMA, None), block_of(1, &good), block].concat();
    refused(b"", "ends before its first block");
    refused(b"Obj", "ends before its first block");
    refused(b"PAR1 and more", "no object container file");
    refused(&head_of(SCHEMA, None)[..60], "ends before its first block");
    refused(&head_of("{", None), "its schema");
    refused(&head_of(SCHEMA, Some("lzma")), "compressed by lzma");
    refused(&[MAGIC.to_vec(), zigzag(0), SYNC.to_vec()].concat(), "it has no schema");
    refused(&[MAGIC.to_vec(), zigzag(1), zigzag(i64::MAX)].concat(), "longer than 16 MiB");
    refused(&[MAGIC.to_vec(), vec![0xff; 12]].concat(), "more than 64 bits");
    refused(&with(block_of(1, &good)[..9].to_vec()), "block 2 is damaged: the file ends within it");
    refused(&with([zigzag(1), text(&good), vec![b'x'; 16]].concat()), "no sync marker");
    refused(&with(block_of(2, &good)), "block 2 is damaged: the message ends too early");
    refused(&with(block_of(1, &[good.clone(), vec![0]].concat())), "1 bytes are left behind the last value");
    refused(&with(block_of(-1, &good)), "its size is negative");
    refused(&with([zigzag(1), zigzag(1 << 40)].concat()), "longer than 256 MiB");
    refused(&with([zigzag(1), zigzag(100), good.clone()].concat()), "the file ends within it");
    refused(&with(block_of(1 << 40, &[])), "block 2 is damaged");
    for codec in ["deflate", "snappy", "zstandard"] {
        let mut block = compressed(codec, &good);
        block.pop();
        refused(&[head_of(SCHEMA, Some(codec)), block_of(1, &block)].concat(), "block 1 is damaged");
    }
    // A record of nulls takes no bytes: a block cannot claim as many as it likes.
    let nothing = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"null"}]}"#;
    refused(&[head_of(nothing, None), block_of(1 << 40, &[])].concat(), "block 1 is damaged");
}
